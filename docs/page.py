"""Takes the README's picture of the web page, docs/page.png: `make docs/page.png`.

`python docs/page.py FOLDER` takes it at phone and desktop width, light and dark, into FOLDER.
"""

import re
import subprocess
import sys
from pathlib import Path

from pictures import record
from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "serve"))
from browser import chromium

SERVE = [sys.executable, "-c", "from alora_gguf.cli import main; raise SystemExit(main())", "serve", "--demo", "--port", "0", "--ctx", "4096"]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SAID = [
    "The ferry to Saint Maren leaves at nine and takes two hours. Bicycles travel free. How long does the ferry take?",
    "What does the ticket cost?",
]


def talk(page: Page, url: str) -> None:
    """The same conversation each time: greedy, as nobody else asks."""
    page.route(
        "**/v1/chat/completions", lambda route: route.continue_(post_data={"temperature": 0, "max_tokens": 60, **route.request.post_data_json})
    )
    page.goto(url)
    for said in SAID:
        page.get_by_label("Message").fill(said)
        page.get_by_label("Message").press("Enter")
        page.get_by_role("button", name="Send").wait_for()
        for button in page.locator("button.intrinsic").all():
            button.click()
        expect(page.locator("[aria-busy=true]")).to_have_count(0, timeout=60_000)


def main() -> None:
    server = subprocess.Popen(SERVE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
    try:
        url = next(found[1] for line in server.stderr if (found := re.search(r"listening on (\S+)", line)))
        with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium()) as browser:
            shots = {"page": (DESKTOP, "light", Path(__file__).parent)}
            if sys.argv[1:]:
                shots = {f"{size['width']}-{scheme}": (size, scheme, Path(sys.argv[1])) for size in (DESKTOP, PHONE) for scheme in ("light", "dark")}
            for name, (size, scheme, folder) in shots.items():
                page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
                talk(page, url)
                page.screenshot(path=folder / f"{name}.png")
            if not sys.argv[1:]:
                record("page.png")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

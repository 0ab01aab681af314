"""Takes the README's picture of the web page, docs/page.png: `make docs/page.png`.

`python docs/page.py FOLDER` takes the page at phone and desktop width, light and dark, into FOLDER: a conversation with cards, one
with a document and Markdown, the list of conversations, the settings, and what is there at first.
"""

import re
import subprocess
import sys
from pathlib import Path

from pictures import record
from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "serve"))
from browser import CHAT, chromium, pieces, streamed

SERVE = [sys.executable, "-c", "from alora_gguf.cli import main; raise SystemExit(main())", "serve", "--demo", "--port", "0", "--ctx", "4096"]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
TIMETABLE = b"The ferry to Saint Maren leaves at 9:00 and at 14:30. It takes two hours. Bicycles travel free. " * 8
MARKDOWN = """There are **two** ferries a day, and *both* take bicycles:

| leaves | arrives |
|---|---|
| 9:00 | 11:00 |
| 14:30 | 16:30 |

To see them as a list:

```python
for leaves, arrives in timetable("Saint Maren"):
    print(f"{leaves} to {arrives}")
```

1. Come `15` minutes before.
2. Bring the [ticket](https://example.org).
"""


def talk(page: Page, url: str) -> None:
    """The same conversations each time: the examples, greedy, as nobody else asks. The first is the one that is open."""
    page.route(CHAT, lambda route: route.continue_(post_data={"temperature": 0, "max_tokens": 60, **route.request.post_data_json}))
    page.goto(url)
    page.locator("#examples button").first.wait_for()
    page.locator("button.intrinsic").first.wait_for()
    for n in reversed(range(page.get_by_role("list", name="Examples").get_by_role("button").count())):
        page.locator("#new").click()
        page.locator("#examples button").nth(n).click()
        settle(page)


def settle(page: Page) -> None:
    """Waits until each example that is open has its answer and its cards."""
    expect(page.locator(".card").first).to_be_visible(timeout=300_000)
    expect(page.locator("[aria-busy=true]")).to_have_count(0, timeout=300_000)


def more(page: Page, path: Path) -> None:
    """What else there is to see, each beside `path`."""
    shot = lambda what: page.screenshot(path=f"{path}-{what}.png")
    page.route(CHAT, lambda route: route.fulfill(content_type="text/event-stream", body=streamed(*pieces(MARKDOWN), prompt=340, cached=300)))
    page.locator("#new").click()
    shot("first")
    page.locator("#files").set_input_files([{"name": "timetable.txt", "mimeType": "text/plain", "buffer": TIMETABLE}])
    page.get_by_label("Message", exact=True).fill("When do the ferries leave?")
    page.get_by_label("Message", exact=True).press("Enter")
    expect(page.locator("article.assistant li")).to_have_count(2)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    shot("markdown")
    if page.locator("#open-shelf").is_visible():
        page.locator("#open-shelf").click()
        shot("list")
        page.keyboard.press("Escape")
    page.locator("#open-settings").click()
    shot("settings")


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
                if sys.argv[1:]:
                    more(page, folder / name)
            if not sys.argv[1:]:
                record("page.png")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

"""The fixtures of the web page's tests: a server on a tiny model, a browser, and pages in it."""

import re

import pytest
from browser import Talk, chromium
from live import running

playwright = pytest.importorskip("playwright.sync_api")
without_browser = pytest.mark.skipif(chromium() is None, reason="expected Chromium, got none: apt install chromium")
playwright.expect.set_options(timeout=60_000)

IO_YAML = """
model: ~
response_format: '{"type": "string", "enum": ["yes", "no"]}'
transformations:
  - {type: likelihood, categories_to_values: {"yes": 1.0, "no": 0.0}, input_path: []}
  - {type: nest, input_path: [], field_name: yes_likelihood}
instruction: ~
parameters: {max_completion_tokens: 12}
sentence_boundaries: ~
"""
ABOUT = {"asked": "Says <b>whether</b> it is so."}


@pytest.fixture(scope="module")
def site(tiny_base, tmp_path_factory):
    """An intrinsic that judges the user's message, with an io.yaml; one that judges answers; an ordinary LoRA; and one to load."""
    from tiny import random_adapter

    folder = tmp_path_factory.mktemp("page")
    (folder / "more").mkdir()
    for seed, (name, invocation, role) in enumerate(
        [("asked", [901, 902], "user"), ("answered", [903], "assistant"), ("plain", [], None), ("more/late", [904], None)]
    ):
        random_adapter(tiny_base, folder / f"{name}.gguf", invocation, seed, invoked_after=role, description=ABOUT.get(name))
    (folder / "asked.io.yaml").write_text(IO_YAML)
    args = [arg for name in ("asked", "answered", "plain") for arg in ("--adapter", folder / f"{name}.gguf")]
    with running(
        folder / "log", "--model", tiny_base, "--name", "tiny", "--ctx", 2048, *args, "--adapters-from", folder / "more", more=folder / "more"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def chrome():
    with playwright.sync_playwright() as p, p.chromium.launch(executable_path=chromium()) as browser:
        yield browser


@pytest.fixture
def open_page(chrome, site):
    """Opens the page. No test may make a request of another origin, an error in a script, or one of the Content-Security-Policy."""
    contexts, requests, errors = [], [], []

    def open_page(url=site.url, context=None, **options):
        if context is None:
            contexts.append(context := chrome.new_context(**{"reduced_motion": "reduce", "viewport": {"width": 1280, "height": 800}, **options}))
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Security Policy" in message.text else None)
        talk = Talk(page)
        page.goto(url)
        return talk

    yield open_page
    for context in contexts:
        context.close()
    assert requests and all(re.match(r"(blob:)?http://127\.0\.0\.1:\d+/", url) for url in requests)
    assert not errors

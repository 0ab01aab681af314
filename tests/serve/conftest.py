"""The servers that the tests share: on a tiny random model, the demo, and one for the web page, with a browser."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

for folder in ("serve", "engine"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))

IO_YAML = """
model: ~
response_format: |
  {"type": "string", "enum": ["answerable", "unanswerable"]}
transformations:
  - type: likelihood
    categories_to_values: {"answerable": 1.0, "unanswerable": 0.0}
    input_path: []
  - type: nest
    input_path: []
    field_name: "likelihood"
instruction: "<judge> {last_message}"
docs_as_message: string
parameters:
  max_completion_tokens: 12
sentence_boundaries: ~
"""
PAGE_IO_YAML = """
model: ~
response_format: '{"type": "string", "enum": ["yes", "no"]}'
transformations:
  - {type: likelihood, categories_to_values: {"yes": 1.0, "no": 0.0}, input_path: []}
  - {type: nest, input_path: [], field_name: yes_likelihood}
instruction: ~
parameters: {max_completion_tokens: 12}
sentence_boundaries: ~
"""


@pytest.fixture(scope="session")
def tiny_base(base_q4, tmp_path_factory) -> Path:
    from tiny import llama

    return llama(base_q4, tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_adapters(tiny_base, tmp_path_factory) -> dict[str, Path]:
    """Two intrinsics and an ordinary LoRA; the folder `more` has one that no server has at its start."""
    from tiny import random_adapter

    folder = tmp_path_factory.mktemp("tiny-adapters")
    (folder / "more").mkdir()
    made = {
        name: random_adapter(tiny_base, folder / f"{name}.gguf", invocation, seed)
        for seed, (name, invocation) in enumerate({"first": [901, 902], "second": [903], "plain": []}.items())
    }
    random_adapter(tiny_base, folder / "more" / "late.gguf", [904], 9)
    return made


@pytest.fixture(scope="session")
def server(tiny_base, tiny_adapters, tmp_path_factory):
    """On the tiny model, with its adapters, folders to load from, and the names that the conformance bodies ask for."""
    from live import running

    args = [arg for path in tiny_adapters.values() for arg in ("--adapter", path)]
    names = [arg for name in ("tiny", "original-model-name", "dummy-model-1b") for arg in ("--name", name)]
    more = tiny_adapters["first"].parent / "more"
    with running(
        tmp_path_factory.mktemp("server") / "log",
        "--model",
        tiny_base,
        "--ctx",
        2048,
        *args,
        *names,
        "--adapters-from",
        more,
        base=tiny_base,
        more=more,
        **tiny_adapters,
    ) as server:
        yield server


@pytest.fixture(scope="session")
def judge(base_q4, repo, tmp_path_factory) -> Path:
    """The repository's adapter as PEFT's folder, with an io.yaml of all that matters to a server."""
    from alora_gguf.runtime.vocab import load_vocab

    folder = tmp_path_factory.mktemp("peft") / "judge"
    shutil.copytree(repo / "tests" / "adapters" / "answerability", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    with load_vocab(base_q4) as vocab:
        config["alora_invocation_tokens"] = vocab.tokenize("<judge>")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "io.yaml").write_text(IO_YAML)
    return folder


@pytest.fixture(scope="session")
def demo(judge, tmp_path_factory):
    """`alora serve --demo`, with `judge`, and a folder to load adapters from."""
    from live import running

    more = tmp_path_factory.mktemp("demo-adapters")
    with running(
        tmp_path_factory.mktemp("demo") / "log",
        "--demo",
        "--ctx",
        4096,
        "--adapter",
        judge,
        "--name",
        "smol",
        "--adapters-from",
        more,
        more=more,
        judge=judge,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def site(tiny_base, tmp_path_factory):
    """An intrinsic that judges the user's message, with an io.yaml; one that judges answers; an ordinary LoRA; and one to load."""
    from live import running
    from tiny import random_adapter

    folder = tmp_path_factory.mktemp("page")
    about = {"asked": "Says <b>whether</b> it is so."}
    (folder / "more").mkdir()
    for seed, (name, invocation, role) in enumerate(
        [("asked", [901, 902], "user"), ("answered", [903], "assistant"), ("plain", [], None), ("more/late", [904], None)]
    ):
        random_adapter(tiny_base, folder / f"{name}.gguf", invocation, seed, invoked_after=role, description=about.get(name))
    (folder / "asked.io.yaml").write_text(PAGE_IO_YAML)
    args = [arg for name in ("asked", "answered", "plain") for arg in ("--adapter", folder / f"{name}.gguf")]
    with running(
        folder / "log", "--model", tiny_base, "--name", "tiny", "--ctx", 2048, *args, "--adapters-from", folder / "more", more=folder / "more"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def chrome():
    from browser import chromium
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with sync_playwright() as p, p.chromium.launch(executable_path=chromium()) as browser:
        yield browser


@pytest.fixture
def open_page(chrome, site):
    """Opens the page. No test may make a request of another origin, an error in a script, or one of the Content-Security-Policy."""
    from browser import Talk

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

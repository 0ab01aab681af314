"""The web page, in a real Chromium, against a running server."""

import json
import re

import pytest
from browser import chromium
from live import running

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(chromium() is None, reason="expected Chromium, got none: apt install chromium")

expect = playwright.expect
expect.set_options(timeout=60_000)
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
ENDLESS = {"structured_outputs": {"grammar": 'root ::= ("on " | "off ") root'}, "max_tokens": 1500}
ABOUT = {"asked": "Says <b>whether</b> it is so."}
HOSTILE = "<img src=x onerror=document.pwned=1><script>document.pwned=1</script>"


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

    def open_page(url=site.url, **options):
        contexts.append(context := chrome.new_context(**{"reduced_motion": "reduce", **options}))
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Security Policy" in message.text else None)
        page.goto(url)
        return Talk(page)

    yield open_page
    for context in contexts:
        context.close()
    assert requests and all(re.match(r"http://127\.0\.0\.1:\d+/", url) for url in requests)
    assert not errors


class Talk:
    """A conversation on the page. `more` are fields that its requests get on their way: a short answer, or a certain one."""

    def __init__(self, page):
        self.page = page
        self.more = {"max_tokens": 12}
        self.bodies = []
        page.route("**/v1/chat/completions", self._pass)

    def _pass(self, route):
        self.bodies.append(route.request.post_data_json)
        route.continue_(post_data={**self.more, **self.bodies[-1]})

    def send(self, text):
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.get_by_label("Message", exact=True).press("Enter")

    def streamed(self, act):
        """(text, result, usage) of the answer that `act` makes the page ask for, when all of it is on the page."""
        with self.page.expect_response("**/v1/chat/completions") as caught:
            act()
        chunks = [json.loads(line[6:]) for line in caught.value.text().splitlines() if line.startswith("data: {")]
        self.rest()
        choices = [c for chunk in chunks for c in chunk["choices"]]
        return "".join(c["delta"].get("content", "") for c in choices), choices[-1].get("result"), chunks[-1]["usage"]

    def ask(self, text):
        return self.streamed(lambda: self.send(text))

    def invoke(self, name):
        return self.streamed(self.button(name).click)

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def message(self, role, index=-1):
        return self.page.locator(f"article.{role}").nth(index)

    def rest(self):
        """Waits until nothing is under way."""
        expect(self.page.locator("[aria-busy=true]")).to_have_count(0)
        expect(self.button("Send")).to_be_visible()

    @property
    def rows(self):
        return self.page.locator("#calls li")


def test_a_conversation_streams(open_page):
    talk = open_page()
    talk.page.evaluate("""() => {
        document.lengths = [];
        const look = () => document.lengths.push(document.querySelector("article.assistant .text")?.textContent.length ?? 0);
        new MutationObserver(look).observe(document.getElementById("thread"), {subtree: true, childList: true});
    }""")
    text, _, usage = talk.ask("Say something odd about whales.")
    expect(talk.message("user").locator(".text")).to_have_text("Say something odd about whales.")
    assert talk.message("assistant").locator(".text").text_content() == text != ""
    lengths = talk.page.evaluate("document.lengths")
    assert lengths == sorted(lengths) and len(set(lengths)) > 3
    talk.ask("And about ferries?")
    assert talk.bodies[-1]["messages"] == [
        {"role": "user", "content": "Say something odd about whales."},
        {"role": "assistant", "content": text},
        {"role": "user", "content": "And about ferries?"},
    ]


def test_cards_are_under_the_message_that_they_judge(open_page):
    talk = open_page()
    expect(talk.button("asked")).to_be_disabled()
    assert not talk.button("plain").count()  # not an intrinsic
    titles = [talk.button(name).get_attribute("title") for name in ("asked", "answered")]
    assert titles == ["Says <b>whether</b> it is so.\nJudges your last message", "Judges the model's last answer"]
    text, _, _ = talk.ask("Is it raining?")
    _, result, _ = talk.invoke("asked")
    card = talk.message("user").get_by_role("listitem").filter(has_text="asked")
    meter = card.get_by_role("meter", name="yes likelihood")
    assert float(meter.get_attribute("aria-valuenow")) == result["yes_likelihood"]
    expect(card).to_contain_text(f"{int(100 * result['yes_likelihood'] + 0.5)}%")
    assert talk.bodies[-1]["messages"] == [{"role": "user", "content": "Is it raining?"}]
    said, result, _ = talk.invoke("answered")
    assert result is None
    assert said.strip() in talk.message("assistant").get_by_role("listitem").filter(has_text="answered").text_content()
    assert talk.bodies[-1]["messages"][-1] == {"role": "assistant", "content": text}
    assert (talk.message("user").locator(".card").count(), talk.message("assistant").locator(".card").count()) == (1, 1)
    talk.invoke("asked")  # in place of the first
    assert talk.message("user").locator(".card").count() == 1


def test_the_strip_says_what_the_server_does(open_page):
    talk = open_page()
    usages = [
        talk.ask("Count the stones of the page's own wall.")[2],
        talk.invoke("answered")[2],
        talk.ask("And of another?")[2],
        talk.invoke("asked")[2],
    ]
    sums = [0, 0]
    for row, name, usage in zip(talk.rows.all(), ("answer", "answered", "answer", "asked"), usages, strict=True):
        total = usage["total_tokens"]
        computed = total - usage["prompt_tokens_details"]["cached_tokens"]
        expect(row).to_contain_text(f"Computed {computed} of {total} tokens")
        expect(row.locator(".name")).to_have_text(name)
        assert re.search(r"first token [\d.]+ m?s", row.text_content())
        widths = [float(i.evaluate("e => e.style.width.slice(0, -1)")) for i in row.locator(".bar i").all()]
        assert widths[0] / sum(widths) == pytest.approx((total - computed) / total, abs=1e-3)
        sums = [sums[0] + computed, sums[1] + total]
    assert all(usage["prompt_tokens_details"]["cached_tokens"] > 0 for usage in usages[1:])
    expect(talk.page.locator("#total")).to_have_text(f"Computed {sums[0]} of {sums[1]} tokens")


def test_stop(open_page, site):
    cancelled = lambda: float((re.search(r'generations_total\{finish_reason="cancelled"\} (\S+)', site.call("GET", "/metrics")[2]) or [0, 0])[1])
    before = cancelled()
    talk = open_page()
    talk.more = ENDLESS
    talk.send("Never end.")
    expect(talk.message("assistant").locator(".text")).not_to_be_empty()
    talk.button("Stop").click()
    talk.rest()
    expect(talk.message("assistant")).to_contain_text("stopped")
    expect(talk.rows.first).to_contain_text("stopped after")
    expect(talk.rows.first).to_contain_text("Computed")
    said = talk.message("assistant").locator(".text").text_content()
    talk.more = {"max_tokens": 4}
    talk.ask("Go on.")
    assert talk.bodies[-1]["messages"][1] == {"role": "assistant", "content": said}
    assert cancelled() == before + 1


def test_a_call_that_fails_is_a_line_and_the_conversation_goes_on(open_page):
    talk = open_page()
    text, _, _ = talk.ask("First.")
    talk.send("word " * 3000)
    line = talk.message("user").locator(".error")
    expect(line).to_contain_text("expected at most 2048 tokens")
    talk.page.context.set_offline(True)
    talk.send("Second.")
    expect(talk.message("user").locator(".error")).to_contain_text("The server cannot be reached")
    talk.button("answered").click()
    expect(talk.message("assistant").locator(".card .error")).to_contain_text("The server cannot be reached")
    talk.page.context.set_offline(False)
    talk.streamed(talk.message("user").get_by_role("button", name="Try again").click)
    assert talk.bodies[-1]["messages"] == [
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": text},
        {"role": "user", "content": "Second."},
    ]
    expect(talk.message("user").locator(".error")).to_have_count(0)
    talk.invoke("answered")
    expect(talk.message("assistant").locator(".card .error")).to_have_count(0)


def test_what_looks_like_html_is_text(open_page, site):
    load = {"lora_name": HOSTILE, "lora_path": str(site.files["more"] / "late.gguf")}
    assert site.call("POST", "/v1/load_lora_adapter", load)[0] == 200
    try:
        talk = open_page()
        talk.more = {"structured_outputs": {"grammar": f"root ::= {json.dumps(HOSTILE)}"}, "max_tokens": 100}
        assert talk.ask(HOSTILE)[0] == HOSTILE == talk.invoke(HOSTILE)[0]
        for place in (
            talk.message("user").locator(".text"),
            talk.message("assistant").locator(".text"),
            talk.page.locator(".card h3"),
            talk.page.locator(".card .said"),
            talk.rows.last.locator(".name"),
        ):
            expect(place).to_have_text(HOSTILE)
        assert talk.page.locator("img").count() == 0 and talk.page.locator("script").count() == 1
        assert talk.page.evaluate("document.pwned") is None
    finally:
        site.call("POST", "/v1/unload_lora_adapter", {"lora_name": HOSTILE})


def test_by_keyboard_alone(open_page):
    talk = open_page()
    focused = lambda: talk.page.evaluate(
        "[document.activeElement.id || document.activeElement.textContent, getComputedStyle(document.activeElement).outlineStyle]"
    )
    press = talk.page.keyboard.press
    expect(talk.page.get_by_label("Message", exact=True)).to_be_focused()
    talk.page.locator("a, button, input, textarea").first.focus()
    order = [focused()]
    for _ in range(5):
        press("Tab")
        order.append(focused())
    assert [name for name, _ in order[:3]] == ["Skip to the message field", "new", "thread"] and order[-1][0] == "input"  # between: two examples
    assert all(outline == "solid" for _, outline in order[:-1])  # the field around the input shows its focus
    talk.page.keyboard.type("One line")
    press("Shift+Enter")
    talk.page.keyboard.type("and another")
    talk.streamed(lambda: press("Enter"))
    assert talk.bodies[-1]["messages"][-1]["content"] == "One line\nand another"
    assert focused()[0] == "input"
    press("Shift+Tab")
    assert focused()[0] == "asked"
    press("Shift+Tab")
    assert focused()[0] == "answered"
    talk.streamed(lambda: press("Enter"))
    assert talk.message("assistant").locator(".card").count() == 1
    talk.more = ENDLESS
    talk.send("Never end.")
    expect(talk.message("assistant").locator(".text")).not_to_be_empty()
    press("Escape")
    talk.rest()
    expect(talk.message("assistant")).to_contain_text("stopped")
    assert focused()[0] == "input"


def test_a_new_conversation(open_page):
    talk = open_page()
    talk.ask("First.")
    talk.more = ENDLESS
    talk.send("Never end.")
    expect(talk.message("assistant").locator(".text")).not_to_be_empty()
    talk.page.get_by_role("button", name="New conversation").click()
    talk.rest()
    assert talk.page.locator("article").count() == talk.rows.count() == 0
    expect(talk.page.get_by_role("heading", name="A conversation")).to_be_visible()
    talk.more = {"max_tokens": 4}
    talk.page.get_by_role("button", name="When does the ferry leave?").click()
    talk.streamed(talk.button("Send").click)
    assert len(talk.bodies[-1]["messages"]) == 1
    assert (talk.page.locator("article").count(), talk.rows.count()) == (2, 1)


@pytest.mark.parametrize(
    "options",
    [{"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}, {"viewport": {"width": 320, "height": 640}, "color_scheme": "dark"}],
    ids=["desktop-light", "phone-dark"],
)
def test_axe_finds_nothing(open_page, options):
    from axe_playwright_python.sync_playwright import Axe

    talk = open_page(bypass_csp=True, **options)  # axe is a script of another place
    found = [Axe().run(talk.page)]
    talk.ask("Is it raining?")
    talk.invoke("asked")
    talk.page.context.set_offline(True)
    talk.send("And now?")
    expect(talk.message("user").locator(".error")).to_be_visible()
    if options["viewport"]["width"] < 400:
        talk.button("Calls").click()
        expect(talk.rows.first).to_be_visible()
    found.append(Axe().run(talk.page))
    assert [violation for run in found for violation in run.response["violations"]] == []
    assert talk.page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]


def test_nothing_from_elsewhere_may_come_in(chrome, site):
    policy = site.call("GET", "/")[1]["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    with chrome.new_page() as page:
        page.goto(site.url)
        assert page.evaluate("fetch('http://localhost:9/').then(() => 'came', error => error.name)") == "TypeError"
        assert page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>' } catch (error) { return error.name } }") == "TypeError"


def test_a_server_with_a_key(open_page, tiny_base, tmp_path):
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 512, "--api-key", "sesame") as server:
        talk = open_page(server.url)
        key = talk.page.get_by_label("This server asks for an API key")
        key.fill("wrong")
        key.press("Enter")
        expect(talk.page.get_by_text("The server does not know this key.")).to_be_visible()
        key.fill("sesame")
        key.press("Enter")
        expect(key).to_be_hidden()
        assert talk.ask("Hello.")[0]

"""The web page, in a real Chromium, against a running server: what is said, asked and shown."""

import hashlib
import json
import re

import pytest
from browser import CHAT, chromium, pieces, streamed
from live import running

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(chromium() is None, reason="expected Chromium, got none: apt install chromium")
expect = playwright.expect
ENDLESS = {"structured_outputs": {"grammar": 'root ::= ("on " | "off ") root'}, "max_tokens": 1500}
HOSTILE = "<img src=x onerror=document.pwned=1><script>document.pwned=1</script>"
MARKDOWN = """Do **this**, then *that* with `code`, or [read](https://example.org/a_b) 2 * 3 snake_case it:

1. one
   - an **inner** one
2. two

- first

# A title

```python
def f(x):
    return x ** 2  # *not* emphasis
```

| a | b |
|---|--:|
| `1` | 2 |

> said
"""
ENDINGS = """
- **A sentence.** With [`code`](https://example.org) and `a[b]`, *so*, ~~not~~ and __so__.

Then:

    indented: {"a": ["b"]} and **more**

~~~
`a` and ```
~~~

Then 2 * 3, 4*5, _so_.

***both*** [a](b) ![c](https://example.org/d.png)
"""


def test_a_conversation_streams(open_page):
    talk = open_page()
    talk.more = {"structured_outputs": {"regex": "[a-z]{2}( [a-z]{2}){150}"}, "max_tokens": 600}
    talk.page.evaluate("""() => {
        document.lengths = [];
        const look = () => document.lengths.push(document.querySelector("article.assistant .text")?.textContent.length ?? 0);
        new MutationObserver(look).observe(document.getElementById("thread"), {subtree: true, childList: true});
    }""")
    text, _, usage = talk.ask("Say something odd about whales.")
    expect(talk.message("user").locator(".text")).to_have_text("Say something odd about whales.")
    assert text != ""
    lengths = talk.page.evaluate("document.lengths")
    assert lengths == sorted(lengths) and len(set(lengths)) > 3
    assert talk.message("assistant").locator(".text").text_content() == text
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


def test_all_intrinsics_at_once(open_page):
    talk = open_page()
    talk.ask("Is it raining?")
    talk.button("All intrinsics").click()
    talk.rest()
    assert sorted(body["model"] for body in talk.bodies[1:]) == ["answered", "asked"]
    assert (talk.message("user").locator(".card").count(), talk.message("assistant").locator(".card").count()) == (1, 1)


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
    assert talk.bodies[-1]["messages"][1]["content"].strip() == said.strip()
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


def test_what_had_no_answer_is_asked_again_behind_what_was_said_since(open_page):
    talk = open_page()
    expect(talk.button("asked")).to_be_visible()
    talk.page.context.set_offline(True)
    talk.send("Lost.")
    expect(talk.message("user").locator(".error")).to_be_visible()
    talk.page.context.set_offline(False)
    text, _, _ = talk.ask("Second.")
    assert talk.bodies[-1]["messages"] == [{"role": "user", "content": "Second."}]
    talk.streamed(talk.button("Try again").click)
    assert talk.bodies[-1]["messages"] == [
        {"role": "user", "content": "Second."},
        {"role": "assistant", "content": text},
        {"role": "user", "content": "Lost."},
    ]
    assert talk.page.locator("article > .text").all_text_contents()[::2] == ["Second.", "Lost."]


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
        assert talk.page.locator("article img").count() == 0 and talk.page.locator("script").count() == 1
        assert talk.page.evaluate("document.pwned") is None
    finally:
        site.call("POST", "/v1/unload_lora_adapter", {"lora_name": HOSTILE})


def test_by_keyboard_alone(open_page):
    talk = open_page()
    focused = lambda: talk.page.evaluate(
        "[document.activeElement.id || document.activeElement.ariaLabel || document.activeElement.textContent, getComputedStyle(document.activeElement).outlineStyle]"
    )
    press = talk.page.keyboard.press
    expect(talk.input).to_be_focused()
    expect(talk.page.locator("#examples button").first).to_be_visible()
    talk.page.locator("a, button, input, textarea").first.focus()
    order = [focused()]
    while order[-1][0] != "input":
        press("Tab")
        order.append(focused())
    names = [name for name, _ in order]
    assert names[:5] == ["Skip to the message field", "open-settings", "new", "import", "thread"] and len(names) == 7 + n_examples(talk)
    assert all(outline == "solid" for _, outline in order[:-1])  # the field around the input shows its focus
    talk.page.keyboard.type("One line")
    press("Shift+Enter")
    talk.page.keyboard.type("and another")
    talk.streamed(lambda: press("Enter"))
    assert talk.bodies[-1]["messages"][-1]["content"] == "One line\nand another"
    assert focused()[0] == "input"
    for name in ("decide", "asked", "answered", "All intrinsics"):
        press("Shift+Tab")
        assert focused()[0] == name
    press("Tab")
    talk.streamed(lambda: press("Enter"))
    assert talk.message("assistant").locator(".card").count() == 1
    talk.more = ENDLESS
    talk.send("Never end.")
    expect(talk.message("assistant").locator(".text")).not_to_be_empty()
    press("Escape")
    talk.rest()
    expect(talk.message("assistant")).to_contain_text("stopped")
    assert focused()[0] == "input"
    talk.more = {"max_tokens": 4}

    talk.button("Edit the message").last.focus()  # edit, and change one's mind
    press("Enter")
    assert focused()[0] == "Edited message"
    press("Escape")
    assert focused()[0] == "Edit the message"
    press("Enter")
    talk.page.keyboard.type(" Or do.")
    talk.streamed(lambda: press("Enter"))
    assert talk.bodies[-1]["messages"][-1]["content"] == "Never end. Or do."
    talk.button("Version before").focus()
    press("Enter")
    expect(talk.message("user").locator(".text")).to_have_text("Never end.")
    assert focused()[0] == "Version behind"

    talk.page.context.set_offline(True)
    talk.button("asked").click()
    again = talk.card("asked").get_by_role("button", name="Try again")
    again.focus()
    press("Enter")
    expect(again).to_be_visible()
    assert talk.card("asked").evaluate("card => card.contains(document.activeElement)")
    talk.page.context.set_offline(False)

    talk.button("Decide…").focus()
    press("Enter")
    assert focused()[0] == "decider-asks"
    talk.page.keyboard.type("Which?")
    press("Tab")
    talk.page.keyboard.type("this")
    press("Enter")
    talk.page.keyboard.type("that")
    press("Tab")
    press("Tab")
    press("Enter")
    expect(talk.card("Which?").get_by_role("meter")).to_have_count(2)
    talk.rest()
    assert focused()[0] == "decide"
    talk.button("Settings").focus()
    press("Enter")
    assert focused()[0] == "system"
    press("Escape")
    assert focused()[0] == "open-settings"
    talk.button("Rename the conversation").focus()
    press("Enter")
    talk.page.keyboard.type("By hand")
    press("Enter")
    expect(talk.kept).to_have_text(["By hand"])
    assert focused()[0] == "Rename the conversation"
    talk.button("Delete the conversation").focus()
    press("Enter")
    expect(talk.kept).to_have_count(0)
    assert focused()[0] == "Undo"
    press("Enter")
    expect(talk.kept).to_have_text(["By hand"])


def n_examples(talk) -> int:
    return talk.page.locator("#examples button").count()


def test_on_a_phone_the_list_opens_and_closes(open_page):
    talk = open_page(viewport={"width": 390, "height": 844})
    talk.ask("First.")
    expect(talk.kept).to_be_hidden()
    talk.button("Conversations").press("Enter")
    expect(talk.kept).to_have_text(["First."])
    talk.page.keyboard.press("Tab")
    talk.page.keyboard.press("Escape")
    expect(talk.kept).to_be_hidden()
    expect(talk.button("Conversations")).to_be_focused()
    talk.button("Conversations").click()
    talk.kept.click()
    expect(talk.kept).to_be_hidden()
    expect(talk.message("user").locator(".text")).to_have_text("First.")


def test_no_keyboard_opens_where_a_finger_points_elsewhere(open_page):
    talk = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    expect(talk.button("asked")).to_be_visible()
    expect(talk.input).not_to_be_focused()
    talk.input.tap()
    talk.input.fill("First.")
    talk.streamed(talk.button("Send").tap)
    talk.streamed(talk.button("Ask again").tap)
    expect(talk.input).not_to_be_focused()
    talk.button("New conversation").tap()
    talk.button("Conversations").tap()
    talk.kept.tap()
    expect(talk.page.locator("article")).to_have_count(2)
    expect(talk.input).not_to_be_focused()


def test_examples_are_sent_when_they_are_chosen(open_page):
    talk = open_page()
    example = talk.page.request.get(f"{talk.page.url}examples.json").json()[-1]
    talk.more = {"max_tokens": 4}
    talk.page.get_by_role("button", name=example["say"]).click()
    expect(talk.page.locator("article.assistant")).to_have_count(1)
    talk.rest()
    assert [m["content"] for m in talk.bodies[-1]["messages"]] == [example["say"]]
    talk.page.route("**/examples.json", lambda route: route.fulfill(json=[{"say": "Is it so?", "ask": {"answered": True, "unknown": False}}]))
    talk.page.reload()
    talk.button("New conversation").click()
    talk.button("Is it so?").click()
    expect(talk.message("assistant").locator(".card h3")).to_have_text("answered")
    talk.rest()
    assert [body["model"] for body in talk.bodies[1:]] == ["tiny", "answered"]


def test_markdown(open_page):
    talk = open_page(permissions=["clipboard-read", "clipboard-write"])
    talk.said = streamed(*pieces(MARKDOWN + f"\n{HOSTILE} [x](javascript:alert(1)) ![seen](https://example.org/i.png) [mail](mailto:a@b.example)"))
    talk.ask("Show.")
    shown = talk.message("assistant").locator(".text")
    expect(shown.locator("strong")).to_have_text(["this", "inner"])
    expect(shown.locator("ol > li")).to_have_count(2)
    expect(shown.get_by_role("heading", level=3)).to_have_text("A title")
    assert [td.text_content() for td in shown.locator("th, td").all()] == ["a", "b", "1", "2"]
    links = {a.text_content(): (a.get_attribute("href"), a.get_attribute("rel")) for a in shown.locator("a").all()}
    away = "noopener noreferrer"
    assert links == {"read": ("https://example.org/a_b", away), "seen": ("https://example.org/i.png", away), "mail": ("mailto:a@b.example", away)}
    expect(shown).to_contain_text(HOSTILE)
    assert not shown.locator("img, script, style, iframe").count() and talk.page.evaluate("document.pwned") is None
    code = shown.locator("pre code").text_content()
    assert code == "def f(x):\n    return x ** 2  # *not* emphasis\n"
    talk.button("Copy code").click()
    expect(talk.button("Copy code")).to_have_text("Copied")
    assert talk.page.evaluate("navigator.clipboard.readText()") == code
    talk.button("Copy the answer").click()
    expect(talk.button("Copy the answer")).to_have_text("Copied")
    assert talk.page.evaluate("navigator.clipboard.readText()").startswith(MARKDOWN)


def test_markdown_that_comes_does_not_flicker(open_page):
    """Whatever has come, what is shown begins as the whole will; a block that has ended stays the element that it is; and the end is
    what is made of the whole at once."""
    talk = open_page()
    found = talk.page.evaluate(
        """async (text) => {
            const { Markdown } = await import("./markdown.js");
            const shown = (node) => node.textContent.replace(/\\s+/g, "");
            const whole = document.createElement("div"), root = document.createElement("div"), odd = [];
            new Markdown(whole).show(text, true);
            const markdown = new Markdown(root), first = [];
            for (let n = 1; n <= text.length; n++) {
                markdown.show(text.slice(0, n), false);
                if (!shown(whole).startsWith(shown(root))) odd.push(text.slice(0, n).slice(-40) + " -> " + shown(root).slice(-40));
                for (const [i, block] of [...root.children].slice(0, -1).entries()) if ((first[i] ??= block) !== block) odd.push(`block ${i} at ${n}`);
            }
            markdown.show(text, true);
            if (root.innerHTML !== whole.innerHTML) odd.push(root.innerHTML);
            return [odd, whole.children.length];
        }""",
        MARKDOWN + ENDINGS,
    )
    assert found == [[], 13]


def test_what_runs_from_right_to_left(open_page):
    """Each part as its own first words; code never."""
    talk = open_page()
    parts = ["# כותרת", "שלום: Saint Maren!", "1. ראשון", "> ציטוט", "| מחיר |\n|---|\n| 14 |", "```\nprint(1)\n```", "And this."]
    talk.said = streamed(*pieces("\n\n".join(parts)))
    talk.ask("מה?")
    direction = "nodes => nodes.map(node => getComputedStyle(node).direction)"
    assert talk.page.locator("article.assistant > .text > *").evaluate_all(direction) == ["rtl"] * 5 + ["ltr"] * 2
    assert talk.page.locator("article.assistant li, article.user > .text, #conversations .open").evaluate_all(direction) == ["rtl"] * 3
    talk.input.fill("מה?")
    assert talk.input.evaluate("node => getComputedStyle(node).direction") == "rtl"


def test_what_intrinsics_find_is_for_people(open_page):
    """No JSON and no long numbers, whatever an io.yaml makes of an answer."""
    talk = open_page()
    shapes = {
        "a number": 0.98765432101,
        "several": {"risk_likelihood": 0.0001, "kept": True, "why": "as it is", "n": 3, "score": 1},
        "sentences": {"sentences": ["One.", "Two."]},
        "none": [],
        "citations": [{"doc_id": 0, "text": "One."}, {"doc_id": 1, "text": "Two."}],
        "wide": [{"response_begin": 0, "response_end": 12, "citation_text": "One.", "citation_doc_id": "a", "more": {"deep": 0.5}}],
        "deep": {"a": {"b": {"c": 12.3456789}}},
        "words": "just so",
        "null": None,
    }
    shown = talk.page.evaluate(
        """async (shapes) => {
            const { shownResult } = await import("./result.js"), { Card } = await import("./card.js");
            const card = new Card("risk");
            card.show({ text: '{"risk": "hi', stopped: true });
            return Object.fromEntries(Object.entries(shapes).map(([name, value]) => {
                const root = document.createElement("div");
                root.append(...shownResult(value, "risk"));
                const meters = [...root.querySelectorAll("[role=meter]")].map((m) => [m.ariaLabel, m.ariaValueText, Number(m.ariaValueNow)]);
                if (name === "null") root.append(card.root);
                return [name, {text: root.textContent, meters, rows: root.querySelectorAll("tr, li").length}];
            }));
        }""",
        shapes,
    )
    assert not any(re.search(r'[{}\[\]"]|\d\.\d{4}', about["text"]) for about in shown.values())
    assert shown["a number"]["meters"] == [["probability", "99%", 0.98765432101]]
    assert shown["several"]["meters"] == [["likelihood", "under 1%", 0.0001], ["score", "100%", 1]]
    assert (shown["sentences"]["rows"], shown["citations"]["rows"], shown["wide"]["rows"]) == (2, 3, 1)
    assert shown["wide"]["meters"] == [["deep", "50%", 0.5]]
    assert (shown["none"]["text"], shown["words"]["text"]) == ("nothing", "just so")
    assert re.sub(r"\s+", " ", shown["null"]["text"]) == "nothingriskstopped Try again"  # and beside it what had not come whole
    assert shown["deep"]["text"].endswith("12.35")


def test_thoughts_are_folded_tool_calls_shown_and_warnings_said(open_page):
    talk = open_page()
    call = {"index": 0, "id": "c1", "function": {"name": "look_up", "arguments": ""}}
    more = [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in ('{"place":', ' "Bern"}')]
    talk.said = streamed(
        {"reasoning_content": "First I "}, {"reasoning_content": "look."}, {"tool_calls": [call]}, *more, warnings=["two turns were left out"]
    )
    talk.ask("Where?")
    answer = talk.message("assistant")
    thought = answer.locator("details")
    assert not thought.evaluate("e => e.open")
    thought.locator("summary").press("Enter")
    expect(thought.locator(".inside")).to_have_text("First I look.")
    expect(answer.get_by_role("list", name="Calls of tools").get_by_role("listitem")).to_have_text('look_up "place": "Bern"')
    expect(answer).to_contain_text("two turns were left out")
    talk.ask("And?")
    kept = talk.bodies[-1]["messages"][1]
    assert kept["reasoning_content"] == "First I look." and kept["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"place": "Bern"}'}}
    ]


def test_an_answer_that_was_cut_says_so_and_goes_on(open_page):
    talk = open_page()
    talk.more = {"max_tokens": 6, "structured_outputs": {"regex": "[a-z]{30}"}}
    text, _, _ = talk.ask("Say it.")
    expect(talk.message("assistant")).to_contain_text("Cut:")
    talk.page.route("**/v1/completions", lambda route: route.continue_(post_data={**route.request.post_data_json, "max_tokens": 6}))
    with talk.page.expect_request("**/v1/completions") as caught:
        talk.button("Continue the answer").click()
    talk.rest()
    n_chat = talk.page.request.post(f"{talk.page.url}tokenize", data={"messages": talk.bodies[-1]["messages"]}).json()["count"]
    n_text = talk.page.request.post(f"{talk.page.url}tokenize", data={"content": text, "add_special": False}).json()["count"]
    assert len(caught.value.post_data_json["prompt"]) == n_chat + n_text
    talk.more = {"max_tokens": 4}
    talk.ask("Go on.")
    said = talk.bodies[-1]["messages"][1]["content"]
    assert said.startswith(text) and len(said) > len(text)


def test_the_gauge(open_page):
    talk = open_page()
    usage = talk.ask("First.")[2]
    expect(talk.page.locator("#gauge-words")).to_have_text(f"{usage['total_tokens']} of 2,048 tokens")
    talk.said = streamed({"content": "Long."}, prompt=1800)
    talk.ask("Second.")
    expect(talk.page.locator("#gauge-words")).to_have_text("1,801 of 2,048 tokens: nearly full")


@pytest.mark.parametrize(
    "options",
    [{"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}, {"viewport": {"width": 320, "height": 640}, "color_scheme": "dark"}],
    ids=["desktop-light", "phone-dark"],
)
def test_axe_finds_nothing(open_page, options):
    from axe_playwright_python.sync_playwright import Axe

    talk = open_page(bypass_csp=True, **options)  # axe is a script of another place
    found = [Axe().run(talk.page)]
    talk.said = streamed({"reasoning_content": "Hm."}, *pieces(MARKDOWN), finish_reason="length")
    talk.ask("Show.")
    talk.said = None
    talk.attach(("notes.txt", "text/plain", b"It rains."))
    talk.ask("Is it raining?")
    talk.invoke("asked")
    talk.decide("Is it so? perhaps | by no means")
    talk.button("Edit the message").first.click()
    found.append(Axe().run(talk.page))
    talk.button("Cancel").click()
    for dialog in ("Settings", "Decide…"):
        talk.button(dialog).click()
        found.append(Axe().run(talk.page))
        talk.page.keyboard.press("Escape")
    talk.page.context.set_offline(True)
    talk.send("And now?")
    expect(talk.message("user").locator(".error")).to_be_visible()
    if options["viewport"]["width"] < 400:
        talk.button("Calls").click()
        expect(talk.rows.first).to_be_visible()
        talk.button("Conversations").click()
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


def test_the_library_is_as_it_was_published(repo):
    folder = repo / "alora_gguf" / "serve" / "page" / "vendor"
    sums = {name: digest for digest, name in (line.split() for line in (folder / "SHA256SUMS").read_text().splitlines())}
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != "SHA256SUMS"} == sums


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


def test_a_server_that_has_another_key_since(open_page):
    """And a key that no header can have."""
    talk = open_page()
    talk.ask("First.")
    refused = {"error": {"message": "Authorization: expected a bearer token that this server knows, got none; give the API key"}}

    def guard(route):
        known = route.request.headers.get("authorization") == "Bearer sesame"
        route.fallback() if known else route.fulfill(status=401, json=refused)

    for path in (CHAT, "**/v1/models"):
        talk.page.route(path, guard)
    talk.send("Second.")
    expect(talk.message("user").locator(".error")).to_contain_text("Authorization: expected a bearer token")
    key = talk.page.get_by_label("This server asks for an API key")
    for wrong in ("wrong", "“sesame”"):
        key.fill(wrong)
        key.press("Enter")
        expect(talk.page.get_by_text("The server does not know this key.")).to_be_visible()
    key.fill("sesame")
    key.press("Enter")
    expect(key).to_be_hidden()
    talk.streamed(talk.message("user").get_by_role("button", name="Try again").click)

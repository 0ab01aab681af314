"""The web page, in a real Chromium: conversations that are longer than the context, long prompts, and typed questions."""

import json
import re

import pytest
from browser import chromium, streamed

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(chromium() is None, reason="expected Chromium, got none: apt install chromium")
expect = playwright.expect
N_CTX = 2048
LEFT_OUT = re.compile(r"the oldest \d+ messages are left out")


def test_a_conversation_of_three_times_the_context(open_page):
    """Nothing ends; what is left out is said where that begins, once; and what is not is found in the cache."""
    talk = open_page()
    talk.more = {"max_tokens": 8}
    n_said, usages = 0, []
    while n_said < 3 * N_CTX:
        text = f"The ship with the number {len(usages)} came in. " * 40
        usages.append(talk.ask(text)[2])
        n_said += talk.count(text)
    assert not talk.page.locator("article .error").count() and talk.page.locator("article").count() == 2 * len(usages)
    assert all(body["on_full"] == "drop-oldest" and len(body["messages"]) == 2 * i + 1 for i, body in enumerate(talk.bodies))
    assert max(usage["total_tokens"] for usage in usages) <= N_CTX
    notes = [article.locator(".note", has_text=LEFT_OUT).all_text_contents() for article in talk.page.locator("article.assistant").all()]
    at = [i for i, lines in enumerate(notes) if lines]
    assert len(at) >= 2 and [len(lines) for lines in notes if lines] == [1] * len(at)
    assert len({notes[i][0] for i in at}) == len(at)
    for i, usage in enumerate(usages[1:], 1):  # all but the last question, unless something new is left out
        kept = usages[i - 1]["prompt_tokens"] if i not in at else 1
        assert usage["prompt_tokens_details"]["cached_tokens"] >= kept
    _, _, usage = talk.invoke("answered")
    assert usage["prompt_tokens_details"]["cached_tokens"] > N_CTX / 4
    expect(talk.message("assistant").locator(".card")).to_contain_text(LEFT_OUT)
    decided = talk.decide("The ship came in.")
    assert decided["usage"]["input_tokens_details"]["cached_tokens"] > N_CTX / 4
    expect(talk.card("The ship came in.")).to_contain_text(LEFT_OUT)
    talk.page.reload()
    expect(talk.message("assistant", at[0]).locator(".note").first).to_have_text(notes[at[0]][0])


def test_the_page_measures_once_for_all_messages(open_page):
    """Each time makes the browser lay out all of them: once for each message is too slow where there are many."""
    talk = open_page()
    messages = [{"role": role, "content": f"{role} {n}"} for n in range(100) for role in ("user", "assistant")]
    saved = {"name": "t.json", "mimeType": "application/json", "buffer": json.dumps(messages).encode()}
    talk.page.evaluate(
        """() => {
            const { get } = Object.getOwnPropertyDescriptor(Element.prototype, "scrollHeight");
            window.measured = 0;
            Object.defineProperty(document.getElementById("thread"), "scrollHeight", {get() { window.measured++; return get.call(this); }});
        }"""
    )
    talk.page.locator("#import-file").set_input_files(saved)
    expect(talk.page.locator("article")).to_have_count(200)
    talk.said = streamed({"content": "Yes."})
    talk.ask("And now?")
    expect(talk.page.locator("article")).to_have_count(202)
    assert 0 < talk.page.evaluate("measured") < 100


def test_what_cannot_fit_is_one_line_that_says_what_to_do(open_page):
    talk = open_page()
    talk.attach(("log.txt", "text/plain", b"All is well. " * 300))
    talk.send("word " * 1500)
    line = talk.message("user").locator(".error")
    expect(line).to_contain_text(
        re.compile(r"expected at most 2048 tokens, got \d+ in .*; shorten the message, take a document out, or give a larger")
    )
    talk.button("Remove log.txt").click()
    talk.streamed(talk.button("Try again").click)
    expect(line).to_have_count(0)


def test_it_says_how_much_of_a_long_prompt_is_read(open_page):
    talk = open_page()
    progress = {"choices": [{"index": 0, "delta": {}}], "prompt_progress": {"total": 6000, "cache": 0, "processed": 1200, "time_ms": 300}}
    head = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    begun = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in (head, progress))
    talk.page.evaluate(  # an answer of which some has come
        """begun => {
            const real = window.fetch;
            window.fetch = (url, options) => {
                if (!String(url).includes("chat/completions")) return real(url, options);
                const stream = new ReadableStream({start(into) { window.goOn = (text, over) => {
                    into.enqueue(new TextEncoder().encode(text));
                    if (over) into.close();
                }}});
                window.goOn(begun);
                return Promise.resolve(new Response(stream));
            };
        }""",
        begun,
    )
    talk.send("Long?")
    answer = talk.message("assistant")
    expect(answer).to_contain_text("Reading 1,200 of 6,000 tokens")
    bar = answer.get_by_role("progressbar", name="Reading the conversation")
    assert bar.evaluate("e => e.value / e.max") == 0.2
    talk.page.evaluate("text => window.goOn(text, true)", streamed({"content": "Yes."}))
    talk.rest()
    expect(bar).to_be_hidden()
    expect(answer.locator(".text")).to_have_text("Yes.")
    talk.button("answered").click()
    card = talk.message("assistant").locator(".card")
    expect(card.get_by_role("progressbar")).to_be_visible()
    talk.page.evaluate("text => window.goOn(text, true)", streamed({"content": "So."}))
    talk.rest()
    expect(card.locator(".said")).to_have_text("So.")


def test_typed_questions(open_page, tmp_path):
    talk = open_page()
    talk.send("/decide It rains.")  # about nothing
    expect(talk.page.get_by_role("alert")).to_have_text("Decide asks about what has been said: say something first.")
    expect(talk.input).to_have_value("/decide It rains.")
    _, _, usage = talk.ask("Is it raining?")
    expect(talk.page.get_by_role("alert")).to_have_count(0)
    made = talk.decide("It rains.")
    yes = made["answers"][0]["probability"]
    assert made["usage"]["input_tokens_details"]["cached_tokens"] >= usage["prompt_tokens"]
    card = talk.card("It rains.")
    shown = {m.get_attribute("aria-label"): float(m.get_attribute("aria-valuenow")) for m in card.get_by_role("meter").all()}
    assert shown == {"yes": yes, "no": pytest.approx(1 - yes)}
    expect(talk.rows.last).to_contain_text(f"of {made['usage']['total_tokens']} tokens")
    expect(talk.rows.last.locator(".name")).to_have_text("decide")

    talk.send("/decide")
    dialog = talk.page.get_by_role("dialog", name="Decide")
    dialog.get_by_label("Statement or question").fill("Who takes it?")
    dialog.get_by_label("Answers").fill("billing\n\n<b>sales</b>\n")
    made = talk.decided(dialog.get_by_role("button", name="Ask").click)
    card = talk.card("Who takes it?")
    found = {one["value"]: one["probability"] for one in made["answers"][0]["probabilities"]}
    assert {m.get_attribute("aria-label"): float(m.get_attribute("aria-valuenow")) for m in card.get_by_role("meter").all()} == found
    assert list(found) == ["billing", "<b>sales</b>"]
    expect(card.locator(".chosen")).to_contain_text(made["answers"][0]["choice"])
    expect(card.locator(".chosen")).to_contain_text("likeliest")
    before = talk.page.locator(".card").all_text_contents()
    talk.page.reload()
    expect(talk.page.locator(".card")).to_have_text(before)
    with talk.page.expect_download() as caught:
        talk.button("Save as Markdown").click()
    caught.value.save_as(tmp_path / "saved.md")
    assert "> **Who takes it?**: billing " in (tmp_path / "saved.md").read_text()
    talk.page.context.set_offline(True)
    talk.send("/decide It snows.")
    expect(talk.card("It snows.").locator(".error")).to_contain_text("The server cannot be reached")
    talk.page.context.set_offline(False)
    talk.decided(talk.card("It snows.").get_by_role("button", name="Try again").click)
    expect(talk.card("It snows.").get_by_role("meter")).to_have_count(2)
    assert len(talk.bodies) == 1  # none of it was said


def test_who_answers_typed_questions_and_what_of(open_page, site):
    """An adapter that was trained to, where there is one; documents, the system message and calls of tools are before it."""
    talk = open_page("about:blank")
    served = site.call("GET", "/v1/models")[2]
    assert [model.get("decides") for model in served["data"]] == [None, False, False, False]
    served["data"][3] |= {"decides": True, "intrinsic": False}
    talk.page.route("**/v1/models", lambda route: route.fulfill(json=served))
    talk.page.goto(site.url)
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"place": "Bern"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "In the west."},
        {"role": "assistant", "content": "West."},
    ]
    talk.page.locator("#import-file").set_input_files(
        {
            "name": "t.json",
            "mimeType": "application/json",
            "buffer": json.dumps({"messages": messages, "documents": [{"title": "Map", "text": "A map."}]}).encode(),
        }
    )
    expect(talk.message("assistant")).to_contain_text("West.")
    with talk.page.expect_request("**/v1/decisions") as caught:
        talk.decide("Where? west | east")
    body = caught.value.post_data_json
    assert body["model"] == served["data"][3]["id"] and body["documents"] == [{"title": "Map", "text": "A map."}]
    assert [item.get("type", item.get("role")) for item in body["input"]] == ["system", "user", "function_call", "function_call_output", "assistant"]
    expect(talk.card("Where?").get_by_role("meter")).to_have_count(2)


def test_a_line_is_the_question_that_the_terminal_makes_of_it(open_page):
    from alora_gguf.prompt.decisions.question import Choice, question_in

    lines = ["It rains.", "Does it rain?", "Who takes it? billing | sales", "this | that |those", "Who? What? a|b", "this | that?"]
    found = open_page().page.evaluate("async lines => lines.map((await import('./decision.js')).questionIn)", lines)
    for line, made in zip(lines, found, strict=True):
        question = question_in(line)
        assert made == {"asks": question.instructions, **({"options": list(question.options)} if isinstance(question, Choice) else {})}

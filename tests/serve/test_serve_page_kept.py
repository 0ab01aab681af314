"""The web page, in a real Chromium: what it keeps in the browser, and what goes in and out of it."""

import json
import re
import sys
from pathlib import Path

import pytest
from browser import chromium, streamed

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(chromium() is None, reason="expected Chromium, got none: apt install chromium")
expect = playwright.expect
ENDLESS = {"structured_outputs": {"grammar": 'root ::= ("on " | "off ") root'}, "max_tokens": 1500}


def texts(talk):
    return talk.page.locator("article > .text").all_text_contents()


def test_nothing_is_lost_when_the_page_is_loaded_again(open_page):
    talk = open_page()
    talk.ask("First.")
    _, result, _ = talk.invoke("asked")
    talk.invoke("answered")
    talk.attach(("notes.md", "text/markdown", b"It rains."))
    expect(talk.button("Remove notes.md")).to_be_visible()
    talk.button("Edit the message").click()
    talk.page.get_by_label("Edited message").fill("First, in other words.")
    talk.input.fill("What I was about to")
    before, rows = texts(talk), talk.rows.all_text_contents()
    talk.page.reload()
    expect(talk.page.locator("article")).to_have_count(2)
    expect(talk.button("asked")).to_be_enabled()
    assert (texts(talk), talk.rows.all_text_contents()) == (before, rows)
    meter = talk.message("user").get_by_role("meter", name="yes likelihood")
    assert float(meter.get_attribute("aria-valuenow")) == result["yes_likelihood"]
    assert talk.message("assistant").locator(".card").count() == 1
    expect(talk.button("Remove notes.md")).to_be_visible()
    expect(talk.input).to_have_value("What I was about to")
    expect(talk.page.get_by_label("Edited message")).to_have_value("First, in other words.")
    talk.button("Cancel").click()
    talk.page.reload()
    expect(talk.button("asked")).to_be_enabled()
    assert not talk.page.get_by_label("Edited message").count()
    talk.ask("Second.")
    assert [m["content"] for m in talk.bodies[-1]["messages"] if m["role"] == "user"] == ["First.", "Second."]


def test_an_answer_under_way_is_kept_as_far_as_it_came(open_page):
    talk = open_page()
    talk.more = ENDLESS
    talk.send("Never end.")
    expect(talk.kept).to_have_text(["Never end."])
    expect(talk.message("assistant").locator(".text")).not_to_be_empty()
    talk.page.reload()
    expect(talk.message("assistant")).to_contain_text("stopped")
    assert texts(talk)[1].startswith(("on", "of"))
    talk.more = {"max_tokens": 4}
    talk.streamed(talk.button("Ask again").click)
    assert [m["role"] for m in talk.bodies[-1]["messages"]] == ["user"]


def test_conversations_are_listed_opened_named_and_deleted(open_page):
    talk = open_page()
    talk.more = {"max_tokens": 4}
    talk.ask("The first question of the first conversation, which is longer than its name may be.")
    first = texts(talk)
    talk.button("New conversation").click()
    expect(talk.page.locator("article")).to_have_count(0)
    talk.input.fill("A draft")
    expect(talk.kept.first).to_have_text("A draft")  # listed before it is asked
    talk.button("New conversation").click()
    expect(talk.input).to_have_value("")
    talk.ask("Third.")
    expect(talk.kept).to_have_text(["Third.", "A draft", "The first question of the first conversation, which is long…"])
    expect(talk.kept.first).to_have_attribute("aria-current", "true")
    talk.kept.nth(1).click()
    expect(talk.input).to_have_value("A draft")
    talk.kept.nth(2).click()
    expect(talk.page.locator("article")).to_have_count(2)
    assert texts(talk) == first
    talk.button("Rename the conversation").click()
    name = talk.page.get_by_label("Name of the conversation")
    name.fill("Ours")
    name.evaluate("""field => {  // with it a word in another script is written, and not the name ended
        field.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", isComposing: true, bubbles: true, cancelable: true}));
    }""")
    expect(name).to_be_focused()
    name.press("Enter")
    expect(talk.kept.nth(2)).to_have_text("Ours")
    talk.button("Rename the conversation").click()
    name.fill("Theirs")
    name.press("Escape")
    expect(talk.kept).to_have_text(["Third.", "A draft", "Ours"])
    talk.button("Delete the conversation").click()
    expect(talk.kept).to_have_text(["Third.", "A draft"])
    expect(talk.page.locator("article")).to_have_count(0)
    talk.button("Undo").click()
    expect(talk.kept).to_have_text(["Third.", "A draft", "Ours"])
    expect(talk.page.locator("article")).to_have_count(2)
    talk.button("Delete the conversation").dblclick()
    expect(talk.kept).to_have_count(2)
    talk.button("Undo").click()
    expect(talk.page.locator("article")).to_have_count(2)
    talk.button("Delete the conversation").click()
    expect(talk.kept).to_have_count(2)
    talk.page.reload()
    expect(talk.kept).to_have_text(["Third.", "A draft"])


def test_a_new_conversation_ends_what_is_under_way_and_keeps_it(open_page):
    talk = open_page()
    talk.ask("First.")
    talk.more = ENDLESS
    talk.send("Never end.")
    expect(talk.message("assistant").locator(".text")).not_to_be_empty()
    talk.button("New conversation").click()
    talk.rest()
    assert talk.page.locator("article").count() == talk.rows.count() == 0
    expect(talk.page.get_by_role("heading", name="A conversation")).to_be_visible()
    talk.more = {"max_tokens": 4}
    talk.ask("Other.")
    assert len(talk.bodies[-1]["messages"]) == 1
    assert (talk.page.locator("article").count(), talk.rows.count()) == (2, 1)
    talk.kept.filter(has_text="First.").click()
    expect(talk.page.locator("article")).to_have_count(4)
    expect(talk.message("assistant")).to_contain_text("stopped")
    assert talk.rows.count() == 2


def test_two_tabs_of_one_browser(open_page):
    talk = open_page()
    talk.ask("First.")
    other = open_page(context=talk.page.context)
    expect(other.kept).to_have_text(["First."])
    other.kept.click()
    expect(other.page.locator("article")).to_have_count(2)
    other.ask("Second.")
    expect(talk.page.locator("article")).to_have_count(4)  # it goes on where the other is
    assert texts(talk) == texts(other)


def test_where_the_browser_keeps_nothing_it_says_so(open_page, site, chrome):
    with chrome.new_context(viewport={"width": 1280, "height": 800}) as context:
        areas = ("indexedDB", "localStorage", "sessionStorage")
        context.add_init_script("".join(f"Object.defineProperty(window, '{area}', {{get() {{ throw new Error('no') }}}});" for area in areas))
        talk = open_page(context=context)
        expect(talk.page.get_by_text("This browser keeps nothing for this page")).to_be_visible()
        talk.ask("First.")
        talk.button("New conversation").click()
        talk.kept.click()
        expect(talk.page.locator("article")).to_have_count(2)


def test_a_question_is_edited_and_an_answer_asked_again(open_page):
    talk = open_page()
    first, _, _ = talk.ask("One?")
    talk.ask("Two?")
    talk.button("Edit the message").first.click()
    field = talk.page.get_by_label("Edited message")
    expect(field).to_have_value("One?")
    field.fill("Another?")
    talk.streamed(lambda: field.press("Enter"))
    assert talk.bodies[-1]["messages"] == [{"role": "user", "content": "Another?"}]
    expect(talk.page.locator("article")).to_have_count(2)
    expect(talk.message("user")).to_contain_text("2 of 2")
    talk.button("Version before").click()  # what was said there is there still
    expect(talk.page.locator("article")).to_have_count(4)
    assert texts(talk)[0] == "One?" and texts(talk)[2] == "Two?"
    talk.streamed(talk.button("Ask again").first.click)
    assert talk.bodies[-1]["messages"] == [{"role": "user", "content": "One?"}]
    expect(talk.message("assistant")).to_contain_text("2 of 2")
    talk.page.reload()
    expect(talk.message("assistant")).to_contain_text("2 of 2")
    talk.button("Version before").nth(1).click()
    talk.ask("Three?")
    assert [m["content"] for m in talk.bodies[-1]["messages"]][::2] == ["One?", "Two?", "Three?"]
    assert talk.bodies[-1]["messages"][1]["content"] == first


def test_an_answer_that_fails_leaves_the_one_before(open_page):
    talk = open_page()
    text, _, _ = talk.ask("One?")
    talk.page.context.set_offline(True)
    talk.button("Ask again").click()
    expect(talk.message("assistant").locator(".error")).to_contain_text("The server cannot be reached")
    talk.page.context.set_offline(False)
    talk.ask("Two?")
    assert talk.bodies[-1]["messages"][1] == {"role": "assistant", "content": text}


def test_documents(open_page):
    talk = open_page()
    asked = []

    def extract(route):
        asked.append((route.request.url.partition("?")[2], route.request.post_data_buffer))
        if "broken" in route.request.url:
            error = {"message": "broken.pdf: expected a PDF, got something else; check the file", "type": "invalid_request_error"}
            route.fulfill(status=400, json={"error": error})
        else:
            route.fulfill(
                json={"title": "The timetable", "text": "The ferry leaves at nine.", "kind": "pdf", "pages": 40, "note": "page 3 has no text"}
            )

    talk.page.route("**/extract?*", extract)
    talk.attach(("notes.txt", "text/plain", "Wörter.".encode()), ("time table.pdf", "application/pdf", b"%PDF-1.7 ..."))
    listed = talk.page.get_by_role("list", name="Documents", exact=True).get_by_role("listitem")
    expect(listed).to_have_count(2)
    talk.rest()
    assert asked == [("name=time+table.pdf", b"%PDF-1.7 ...")]
    n = talk.page.request.post(f"{talk.page.url}tokenize", data={"content": "Wörter.", "add_special": False}).json()["count"]
    expect(listed.filter(has_text="notes.txt")).to_contain_text(f"{n} tokens")
    expect(listed.filter(has_text="The timetable")).to_have_text(re.compile(r"40 pages, \d+ tokens, page 3 has no text"))
    talk.ask("When?")
    documents = {d["title"]: d["text"] for d in talk.bodies[-1]["documents"]}
    assert documents == {"notes.txt": "Wörter.", "The timetable": "The ferry leaves at nine."}
    talk.invoke("asked")
    assert talk.bodies[-1]["documents"] == talk.bodies[-2]["documents"]
    talk.button("Remove notes.txt").click()
    expect(listed).to_have_count(1)
    talk.attach(("latin.txt", "text/plain", "Wörter.".encode("latin-1")), ("broken.pdf", "application/pdf", b"?"))
    talk.rest()
    assert sorted(name for name, _ in asked[1:]) == ["name=broken.pdf", "name=latin.txt"]  # another encoding is the server's
    expect(listed.filter(has_text="broken.pdf")).to_contain_text("expected a PDF, got something else")
    talk.button("Remove broken.pdf").click()
    talk.ask("And?")
    assert [d["title"] for d in talk.bodies[-1]["documents"]] == ["The timetable", "The timetable"]


def test_documents_are_dropped_and_pasted(open_page):
    talk = open_page()
    give = """([where, kind, name, text, type = "text/plain"]) => {
        const data = new DataTransfer();
        data.items.add(new File([text], name, {type}));
        data.setData("text/plain", "What stands beside it");
        const event = kind === "paste" ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
            : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
        return !document.querySelector(where).dispatchEvent(event);  // whether the page has taken it from the browser
    }"""
    assert talk.page.evaluate(give, ["#thread", "dragover", "a.txt", "a"])
    assert talk.page.evaluate(give, ["#thread", "drop", "a.txt", "A text."])
    assert talk.page.evaluate(give, ["#input", "paste", "b.txt", "Another."])
    assert not talk.page.evaluate(give, ["#input", "paste", "cells.png", "As a picture.", "image/png"])  # of what is pasted as text
    expect(talk.button("Remove a.txt")).to_be_visible()
    expect(talk.button("Remove b.txt")).to_be_visible()
    talk.ask("What?")
    assert sorted(d["text"] for d in talk.bodies[-1]["documents"]) == ["A text.", "Another."]
    assert talk.page.locator("#documents li").count() == 2


def test_a_document_that_is_too_long_says_so(open_page):
    talk = open_page()
    talk.attach(("long.txt", "text/plain", b"word " * 3000))
    expect(talk.page.locator("#documents li")).to_contain_text("more than the context of 2,048; attach a part of it")
    talk.button("Remove long.txt").click()
    talk.attach(("huge.txt", "text/plain", b"word " * (2 << 20)), ("huge.pdf", "application/pdf", b"%PDF-" + bytes(9 << 20)))
    expect(talk.page.locator("#documents .refused .size")).to_have_text(["body: expected at most 8388608 bytes, got more; send less"] * 2)
    talk.ask("What?")
    assert "documents" not in talk.bodies[-1]


def test_of_a_pdf_that_is_too_long_some_pages_are_taken(open_page):
    sys.path.insert(0, str(Path(__file__).parent.parent / "documents"))
    from made import pdf_of_pages

    talk = open_page()
    talk.attach(("report.pdf", "application/pdf", pdf_of_pages(12)))
    row = talk.page.locator("#documents li")
    expect(row).to_contain_text("12 pages")
    expect(row).to_contain_text("more than the context of 2,048; take some of its pages")
    pages = talk.page.get_by_label("Pages of report.pdf")
    pages.fill("40-50")
    pages.press("Enter")
    expect(row).to_contain_text("expected some of 1-12")
    pages.fill("2-3")
    pages.press("Enter")
    expect(row).to_contain_text("pages 2-3 of 12")
    assert not talk.page.locator("#documents .refused").count()
    talk.ask("What?")
    [document] = talk.bodies[-1]["documents"]
    assert document["title"] == "report.pdf" and "Chapter 3" in document["text"] and "Chapter 4" not in document["text"]
    talk.page.reload()
    expect(row).to_contain_text("pages 2-3 of 12")


def test_a_file_that_cannot_be_read_says_so(open_page, tmp_path):
    sys.path.insert(0, str(Path(__file__).parent.parent / "documents"))
    from made import pdf_of_pages

    talk = open_page()
    (tmp_path / "report.pdf").write_bytes(pdf_of_pages(12))
    talk.page.locator("#files").set_input_files(tmp_path / "report.pdf")
    row = talk.page.locator("#documents li")
    expect(row).to_contain_text("take some of its pages")
    (tmp_path / "report.pdf").unlink()
    talk.button("Take these").click()
    expect(row).to_contain_text("expected a file that can be read, got a folder or a file that has changed; attach it again")


def test_settings(open_page):
    talk = open_page()
    talk.more = {}
    talk.button("Settings").click()
    expect(talk.page.get_by_label("Thinking", exact=True)).to_be_hidden()  # this model's template has none
    for name, value in {"System message": "Be brief.", "Temperature": "0.73", "Top-p": "0.99", "Max tokens": "5"}.items():
        talk.page.get_by_label(name).fill(value)
    talk.button("Done").click()
    talk.page.reload()
    talk.ask("First.")
    body = talk.bodies[-1]
    assert {name: body[name] for name in ("temperature", "top_p", "max_tokens")} == {"temperature": 0.73, "top_p": 0.99, "max_tokens": 5}
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "First."}]
    talk.invoke("asked")
    assert talk.bodies[-1]["messages"] == body["messages"] and "temperature" not in talk.bodies[-1]  # an intrinsic has its own
    talk.button("Settings").click()
    talk.page.get_by_label("Temperature").fill("7")  # more than there is
    talk.page.keyboard.press("Escape")
    talk.ask("Second.")
    assert "temperature" not in talk.bodies[-1]
    talk.button("Settings").click()
    talk.button("Clear all").click()
    talk.page.keyboard.press("Escape")
    talk.more = {"max_tokens": 4}
    talk.ask("Third.")
    assert not {"temperature", "top_p", "max_tokens", "enable_thinking"} & set(talk.bodies[-1]) and talk.bodies[-1]["messages"][0]["role"] == "user"


def test_thinking_is_offered_where_the_template_has_it(open_page, site):
    talk = open_page("about:blank")
    served = site.call("GET", "/v1/models")[2]
    assert served["data"][0]["chat_template"] == dict.fromkeys(("thinking", "enable_thinking", "reasoning_effort", "documents", "tools"), False)
    served["data"][0]["chat_template"] |= {"thinking": True, "enable_thinking": True, "reasoning_effort": True}
    talk.page.route("**/v1/models", lambda route: route.fulfill(json=served))
    talk.page.goto(site.url)
    talk.said = streamed({"content": "Yes."})
    talk.ask("First.")
    assert not {"enable_thinking", "reasoning_effort"} & set(talk.bodies[-1])
    talk.button("Settings").click()
    talk.page.get_by_label("Thinking", exact=True).select_option("off")
    talk.page.get_by_label("Effort of thinking").select_option("low")
    talk.button("Done").click()
    talk.ask("Second.")
    assert (talk.bodies[-1]["enable_thinking"], talk.bodies[-1]["reasoning_effort"]) == (False, "low")


def test_a_conversation_is_saved_and_taken_in_again(open_page, site, tmp_path):
    talk = open_page()
    talk.more = {"max_tokens": 6}
    talk.attach(("notes.txt", "text/plain", b"It rains."))
    text, _, _ = talk.ask("Is it raining?")
    talk.invoke("asked")
    with talk.page.expect_download() as caught:
        talk.button("Save as JSON").click()
    assert caught.value.suggested_filename == "Is-it-raining.json"
    caught.value.save_as(tmp_path / "saved.json")
    request = json.loads((tmp_path / "saved.json").read_text())
    assert request == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Is it raining?"}, {"role": "assistant", "content": text}],
        "documents": [{"title": "notes.txt", "text": "It rains."}],
    }
    assert site.call("POST", "/v1/chat/completions", {**request, "max_tokens": 2})[0] == 200
    with talk.page.expect_download() as caught:
        talk.button("Save as Markdown").click()
    caught.value.save_as(tmp_path / "saved.md")
    saved = (tmp_path / "saved.md").read_text()
    assert (
        saved.startswith("# Is it raining?\n\nDocuments:\n\n- notes.txt\n\n## You\n\nIs it raining?\n\n> **asked**: yes likelihood ")
        and text in saved
    )
    talk.page.locator("#import-file").set_input_files(tmp_path / "saved.json")
    expect(talk.kept).to_have_count(2)
    expect(talk.button("Remove notes.txt")).to_be_visible()
    talk.ask("And now?")
    assert talk.bodies[-1]["messages"] == [*request["messages"], {"role": "user", "content": "And now?"}]


def test_tools_of_a_conversation_that_was_taken_in_are_shown_and_sent(open_page, tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"place": "Bern"}'}}
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    messages = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "In the west."},
    ]
    (tmp_path / "talk.json").write_text(json.dumps({"messages": messages, "tools": tools}))
    talk = open_page()
    talk.page.locator("#import-file").set_input_files(tmp_path / "talk.json")
    expect(talk.message("assistant")).to_contain_text('look_up "place": "Bern"')
    expect(talk.message("tool")).to_contain_text("In the west.")
    talk.said = streamed({"content": "West."})
    talk.ask("And?")
    assert talk.bodies[-1]["messages"][:3] == messages and talk.bodies[-1]["tools"] == tools


def test_what_is_no_conversation_is_refused_in_a_line(open_page):
    talk = open_page()
    said = {"messages": [{"role": "user", "content": "Hello."}]}
    call = {"role": "assistant", "tool_calls": [None]}
    odd_messages = [
        {"role": 1},
        None,
        {"role": "user", "content": [None]},
        call,
        {**call, "tool_calls": [{"id": "c"}]},
        {"role": "user", "content": 3},
    ]
    odd = [{}, 3, None, {"messages": []}, *({"messages": [one]} for one in odd_messages)]
    odd += [{**said, "documents": documents} for documents in (3, {}, [None], [{"title": "Map"}])] + [{**said, "tools": "look"}]
    for n, data in enumerate([b"no JSON", *(json.dumps(one).encode() for one in odd)]):
        take(talk, data, f"{n}.json")
        expect(talk.page.locator("#gone")).to_have_text(re.compile(rf"{n}\.json: expected .*, got something else; save a conversation as JSON"))
        assert talk.page.locator("article").count() == talk.kept.count() == 0
    take(talk, said)
    expect(talk.kept).to_have_text(["Hello."])
    expect(talk.page.locator("#gone")).to_be_empty()


def test_of_a_conversation_that_is_taken_in_only_what_was_said_counts(open_page):
    """As clients write it down: with content in parts, with what is null, and with fields that are none of the page's."""
    talk = open_page()
    nothing = dict.fromkeys(("tool_calls", "refusal", "reasoning_content", "name"))
    hostile = {"cards": {"asked": None}, "warnings": "none", "tokens": "many", "unanswered": "No.", "id": 1, "before": "me"}
    asked = {"role": "user", "content": [{"type": "text", "text": "Is it "}, {"type": "text", "text": "raining?"}]}
    take(
        talk, {"messages": [{**asked, **hostile}, {"role": "assistant", "content": "It is.", **nothing, **hostile}], "tools": None, "documents": None}
    )
    expect(talk.kept).to_have_text(["Is it raining?"])
    assert not talk.page.get_by_text("This browser keeps nothing").is_visible()
    talk.page.reload()
    assert texts(talk) == ["Is it raining?", "It is."]
    talk.said = streamed({"content": "Still."})
    talk.ask("And now?")
    assert talk.bodies[-1]["messages"][:2] == [asked, {"role": "assistant", "content": "It is."}]


def test_a_question_that_is_taken_in_can_be_answered_and_judged(open_page):
    talk = open_page()
    question = {"role": "user", "content": "Is it raining?"}
    take(talk, [question])
    expect(talk.kept).to_have_text(["Is it raining?"])
    talk.page.reload()
    talk.invoke("asked")
    talk.streamed(talk.button("Answer the message").click)
    assert [body["messages"] for body in talk.bodies] == [[question], [question]]
    expect(talk.page.locator("article")).to_have_count(2)
    expect(talk.button("Answer the message")).to_have_count(0)


def test_what_the_browser_has_no_room_for_lasts_as_long_as_the_page(open_page):
    talk = open_page()
    expect(talk.button("asked")).to_be_visible()  # until then it looks for what was open
    talk.page.evaluate(
        """() => {
            const { commit } = IDBTransaction.prototype, { setItem } = Storage.prototype;
            window.isFull = true;
            IDBTransaction.prototype.commit = function () {
                if (window.isFull) this.abort();
                else commit.call(this);
            };
            Storage.prototype.setItem = function (...given) {
                if (window.isFull) throw new DOMException("full", "QuotaExceededError");
                setItem.apply(this, given);
            };
        }"""
    )
    talk.ask("First.")
    expect(talk.page.locator("#forgets")).to_be_visible()
    talk.input.fill("What I was about to")
    talk.button("New conversation").click()
    expect(talk.input).to_have_value("")
    expect(talk.page.locator("article")).to_have_count(0)
    talk.kept.filter(has_text="First.").click()
    expect(talk.page.locator("article")).to_have_count(2)
    expect(talk.input).to_have_value("What I was about to")
    talk.page.evaluate("window.isFull = false")
    talk.ask("Second.")
    expect(talk.page.locator("#forgets")).to_be_hidden()
    talk.page.reload()
    expect(talk.page.locator("article")).to_have_count(4)


def take(talk, data, name="talk.json"):
    """Imports a file."""
    buffer = data if isinstance(data, bytes) else json.dumps(data).encode()
    talk.page.locator("#import-file").set_input_files({"name": name, "mimeType": "application/json", "buffer": buffer})

"""The web page, in a real Chromium: what happens while something else is under way, here or in another tab."""

import re

import pytest
from browser import CHAT, chromium, streamed

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(chromium() is None, reason="expected Chromium, got none: apt install chromium")
expect = playwright.expect
ENDLESS = {"structured_outputs": {"grammar": 'root ::= ("on " | "off ") root'}, "max_tokens": 1500}


class Held:
    """The page's requests of this address: from now on they wait until they are answered here."""

    def __init__(self, talk, where=CHAT):
        self._page, self._where = talk.page, where
        self._handler = lambda route: self.routes.append(route)
        self.routes = []
        talk.page.route(where, self._handler)

    def wait(self, n=1):
        while len(self.routes) < n:
            self._page.wait_for_timeout(20)

    def answer(self, *texts):
        """In the order in which they came."""
        for route, text in zip(self.routes, texts, strict=True):
            route.fulfill(status=200, content_type="text/event-stream", body=streamed({"content": text}))
        self.routes.clear()

    def end(self):
        self._page.unroute(self._where, self._handler)


def said(talk):
    return talk.page.locator("article > .text").all_text_contents()


def test_two_tabs_that_ask_at_once_keep_both(open_page):
    """In one conversation, of which neither tab hears of what the other says until its own answer is there."""
    talk = open_page()
    talk.ask("First.")
    other = open_page(context=talk.page.context)
    other.kept.click()
    expect(other.page.locator("article")).to_have_count(2)
    here, there = Held(talk), Held(other)
    talk.button("answered").click()  # until this has ended it does not follow the other
    here.wait()
    other.send("There.")
    there.wait()
    talk.send("Here.")
    here.wait(2)
    here.answer("So.", "Said here.")
    talk.rest()
    there.answer("Said there.")
    other.rest()
    expect(talk.message("assistant").locator(".text")).to_have_text("Said there.")  # the newest
    talk.page.reload()
    expect(talk.message("user")).to_contain_text("of 2")
    assert said(talk)[2:] == ["There.", "Said there."]
    talk.page.locator("[aria-label^=Version]:enabled").click()
    expect(talk.message("user").locator(".text")).to_have_text("Here.")
    assert said(talk)[2:] == ["Here.", "Said here."]


def test_two_tabs_of_which_one_goes_on_before_the_other_has_its_answer(open_page):
    talk = open_page()
    talk.ask("First.")
    other = open_page(context=talk.page.context)
    other.kept.click()
    here, there = Held(talk), Held(other)
    talk.send("Here.")
    here.wait()
    expect(other.message("user").locator(".text")).to_have_text("Here.")
    other.send("There.")
    there.wait()
    here.answer("Said here.")
    talk.rest()
    there.answer("Said there.")
    other.rest()
    talk.page.reload()
    expect(talk.message("assistant").locator(".text")).to_have_text("Said there.")
    talk.message("user").locator("[aria-label^=Version]:enabled").click()
    expect(talk.message("assistant").locator(".text")).to_have_text("Said here.")


def test_what_was_taken_out_stays_out(open_page):
    talk = open_page()
    talk.page.context.set_offline(True)
    talk.send("Lost.")
    expect(talk.message("user").locator(".error")).to_be_visible()
    talk.page.context.set_offline(False)
    talk.ask("Second.")
    talk.streamed(talk.button("Try again").click)  # behind what was said since
    talk.page.reload()
    expect(talk.page.locator("article")).to_have_count(4)
    assert said(talk)[::2] == ["Second.", "Lost."] and not talk.page.locator(".version").count()


def test_a_change_of_another_tab_ends_nothing_here(open_page):
    """It is looked at when it has been read from the store: until then there may be something under way."""
    talk = open_page()
    talk.ask("First.")
    waiting = Held(talk)
    talk.page.evaluate(
        """() => {
            const { get } = IDBObjectStore.prototype;
            window.reads = [];
            IDBObjectStore.prototype.get = function (key) {
                if (this.name !== "bodies" || this.transaction.mode !== "readonly") return get.call(this, key);
                const asked = get.call(this, key), late = {};
                asked.onsuccess = () => window.reads.push(() => late.onsuccess({target: asked}));
                return Object.defineProperty(late, "result", {get: () => asked.result});
            };
        }"""
    )
    other = open_page(context=talk.page.context)
    other.kept.click()
    expect(other.page.locator("article")).to_have_count(2)
    other.button("Rename the conversation").click()
    other.page.get_by_label("Name of the conversation").press("x")
    other.page.get_by_label("Name of the conversation").press("Enter")
    while not talk.page.evaluate("reads.length"):
        talk.page.wait_for_timeout(20)
    talk.send("Second.")
    waiting.wait()
    talk.page.evaluate("reads.forEach((read) => read())")
    waiting.answer("Still here.")
    expect(talk.message("assistant").locator(".text")).to_have_text("Still here.")
    expect(talk.page.locator("article")).to_have_count(4)


def test_stop_while_a_document_is_read(open_page):
    talk = open_page()
    waiting = Held(talk, "**/extract?*")
    talk.attach(("report.pdf", "application/pdf", b"%PDF-1.7 ..."))
    waiting.wait()
    talk.send("What does it say?")
    expect(talk.button("Stop")).to_be_visible()
    talk.page.keyboard.press("Escape")
    expect(talk.button("Send")).to_be_visible()
    expect(talk.message("user").locator(".error")).to_contain_text("Stopped before an answer came.")
    waiting.routes[0].fulfill(json={"title": "Report", "text": "All is well.", "kind": "pdf", "pages": 1})
    expect(talk.button("Remove Report")).to_be_visible()
    assert talk.bodies == []
    talk.streamed(talk.button("Try again").click)
    assert [document["title"] for document in talk.bodies[0]["documents"]] == ["Report"]


def test_a_document_that_is_read_while_another_conversation_is_open(open_page):
    talk = open_page()
    talk.more = {"max_tokens": 4}
    talk.ask("First.")
    talk.button("New conversation").click()
    talk.ask("Second.")
    waiting = Held(talk, "**/extract?*")
    talk.attach(("report.pdf", "application/pdf", b"%PDF-1.7 ..."))
    waiting.wait()
    talk.kept.filter(has_text="First.").click()
    expect(talk.page.locator("#documents li")).to_have_count(0)
    talk.kept.filter(has_text="Second.").click()
    expect(talk.page.locator("#documents li")).to_contain_text("reading…")
    waiting.routes[0].fulfill(json={"title": "Report", "text": "All is well.", "kind": "pdf", "pages": 1})
    expect(talk.button("Remove Report")).to_be_visible()
    talk.ask("What does it say?")
    assert [document["title"] for document in talk.bodies[-1]["documents"]] == ["Report"]
    talk.page.reload()
    expect(talk.button("Remove Report")).to_be_visible()


def test_documents_stand_in_the_order_in_which_they_were_given(open_page):
    talk = open_page()
    waiting = Held(talk, "**/extract?*")
    names = [f"{n}.pdf" for n in range(3)]
    talk.attach(*((name, "application/pdf", b"%PDF-1.7 ...") for name in names))
    waiting.wait(3)
    routes = {route.request.url[-5:]: route for route in waiting.routes}
    for name in (names[1], names[2], names[0]):
        routes[name].fulfill(json={"title": name, "text": "All is well.", "kind": "pdf", "pages": 1})
        expect(talk.button(f"Remove {name}")).to_be_visible()
    talk.ask("What?")
    assert [document["title"] for document in talk.bodies[-1]["documents"]] == names


def test_the_conversation_that_is_open_goes_on_when_it_is_chosen(open_page):
    talk = open_page()
    talk.more = ENDLESS
    talk.send("Never end.")
    expect(talk.message("assistant").locator(".text")).not_to_be_empty()
    talk.kept.click()
    before = len(said(talk)[1])
    expect(talk.message("assistant").locator(".text")).to_have_text(re.compile(rf".{{{before + 1}}}"))
    talk.button("Stop").click()
    talk.rest()


def test_asking_again_that_was_broken_off_leaves_the_answer_before(open_page):
    talk = open_page()
    text, _, _ = talk.ask("One?")
    waiting = Held(talk)
    talk.button("Ask again").click()
    waiting.wait()
    expect(talk.page.locator("article > .text").nth(1)).to_be_empty()
    talk.page.reload()
    expect(talk.message("assistant").locator(".text")).to_have_text(text)
    expect(talk.message("assistant").locator(".error")).to_contain_text("Stopped before an answer came.")
    waiting.end()
    talk.streamed(talk.button("Try again").click)
    expect(talk.message("assistant")).to_contain_text("2 of 2")


def test_going_on_that_fails_can_go_on(open_page):
    talk = open_page()
    talk.more = {"max_tokens": 6, "structured_outputs": {"regex": "[a-z]{30}"}}
    text, _, _ = talk.ask("Say it.")
    tokens = talk.page.locator("#gauge-words").text_content()
    talk.page.context.set_offline(True)
    talk.button("Continue the answer").click()
    expect(talk.message("assistant").locator(".error")).to_contain_text("The server cannot be reached")
    expect(talk.page.locator("#gauge-words")).to_have_text(tokens)
    talk.page.context.set_offline(False)
    with talk.page.expect_response("**/v1/completions"):
        talk.button("Continue the answer").click()
    talk.rest()
    expect(talk.message("assistant").locator(".error")).to_have_count(0)
    assert len(said(talk)[1]) > len(text) and said(talk)[1].startswith(text)


def test_an_intrinsic_is_asked_once_at_a_time(open_page):
    talk = open_page()
    talk.ask("One?")
    waiting = Held(talk)
    talk.button("asked").dblclick()
    talk.button("answered").click()
    waiting.wait(2)
    assert [route.request.post_data_json["model"] for route in waiting.routes] == ["asked", "answered"]
    waiting.answer("Yes.", "No.")
    talk.rest()
    assert [said.strip() for said in talk.page.locator(".card .said").all_text_contents()] == ["Yes.", "No."]


def test_what_an_intrinsic_finds_is_shown_on_the_card_that_is_there(open_page):
    """Also if the message has gone from the page and come again."""
    talk = open_page()
    talk.ask("One?")
    talk.streamed(talk.button("Ask again").click)
    waiting = Held(talk)
    talk.button("answered").click()
    waiting.wait()
    talk.button("Version before").click()
    expect(talk.message("assistant")).to_contain_text("1 of 2")
    talk.button("Version behind").click()
    card = talk.message("assistant").locator(".card")
    expect(card.locator(".said")).to_have_text("…")
    waiting.answer("So it is.")
    expect(card.locator(".said")).to_have_text("So it is.")

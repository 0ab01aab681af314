"""The Chromium that the system has, and a conversation on the web page in it."""

import json
import shutil
from collections.abc import Iterable
from typing import Any

CHAT = "**/v1/chat/completions"


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Talk:
    """A conversation on the page. `more` are fields that its requests get on their way: a short answer, or a certain one. With
    `said`, chunks as streamed() makes them, it is these that come in place of the server's."""

    def __init__(self, page):
        from playwright.sync_api import expect

        self.page, self._expect = page, expect
        self.more = {"max_tokens": 12}
        self.said: str | None = None
        self.bodies: list[dict[str, Any]] = []
        page.route(CHAT, self._pass)

    def _pass(self, route):
        self.bodies.append(route.request.post_data_json)
        if self.said is not None:
            route.fulfill(status=200, content_type="text/event-stream", body=self.said)
        else:
            route.continue_(post_data={**self.more, **self.bodies[-1]})

    @property
    def input(self):
        return self.page.get_by_label("Message", exact=True)

    def send(self, text):
        self.input.fill(text)
        self.input.press("Enter")

    def streamed(self, act):
        """(text, result, usage) of the answer that `act` makes the page ask for, when all of it is on the page."""
        with self.page.expect_response(CHAT) as caught:
            act()
        assert caught.value.ok, caught.value.text()
        chunks = [json.loads(line[6:]) for line in caught.value.text().splitlines() if line.startswith("data: {")]
        self.rest()
        choices = [c for chunk in chunks for c in chunk["choices"]]
        return "".join(c["delta"].get("content", "") for c in choices), choices[-1].get("result"), chunks[-1].get("usage")

    def ask(self, text):
        return self.streamed(lambda: self.send(text))

    def decided(self, act):
        """What the server says to the typed question that `act` asks, when it is on the page."""
        with self.page.expect_response("**/v1/decisions") as caught:
            act()
        assert caught.value.ok, caught.value.text()
        made = caught.value.json()
        self.rest()
        return made

    def decide(self, line):
        return self.decided(lambda: self.send(f"/decide {line}"))

    def card(self, title):
        """The last one of this title."""
        return self.page.locator(".card").filter(has=self.page.get_by_role("heading", name=title, exact=True)).last

    def count(self, text):
        """The tokens of a text."""
        return self.page.request.post(f"{self.page.url}tokenize", data={"content": text, "add_special": False}).json()["count"]

    def invoke(self, name):
        return self.streamed(self.button(name).click)

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def message(self, role, index=-1):
        return self.page.locator(f"article.{role}").nth(index)

    def rest(self):
        """Waits until nothing is under way."""
        self._expect(self.page.locator("[aria-busy=true]")).to_have_count(0)
        self._expect(self.button("Send")).to_be_visible()

    @property
    def rows(self):
        return self.page.locator("#calls li")

    @property
    def kept(self):
        """The names of the conversations in the list."""
        return self.page.locator("#conversations .open")

    def attach(self, *files: tuple[str, str, bytes]):
        """Files by name, type and what is in them."""
        self.page.locator("#files").set_input_files([{"name": name, "mimeType": kind, "buffer": data} for name, kind, data in files])


def streamed(*deltas: dict[str, Any], finish_reason="stop", prompt=20, cached=10, **last: Any) -> str:
    """An answer as events: these deltas, and then what the last chunk has beside its end."""
    chunks: list[dict[str, Any]] = []
    for n, delta in enumerate(deltas, 1):
        usage = {"prompt_tokens": prompt, "completion_tokens": n, "total_tokens": prompt + n, "prompt_tokens_details": {"cached_tokens": cached}}
        chunks.append({"choices": [{"index": 0, "delta": delta}], "usage": usage})
    result = {"result": last.pop("result")} if "result" in last else {}
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason, **result}], **last})
    return "".join(f"data: {data}\n\n" for data in (*map(json.dumps, chunks), "[DONE]"))


def pieces(text: str, n: int = 5) -> Iterable[dict[str, str]]:
    return ({"content": text[i : i + n]} for i in range(0, len(text), n))

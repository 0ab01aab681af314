"""Text that is read as it comes: a cursor, and what is read from it on. Where there is too little, it waits for more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import Any

from ...text import printable

_MARK = re.compile(r'["{}\[\]]')  # in JSON, outside of texts
_SCALAR = re.compile(r"[^\s,}\]]*")

Wait = Generator[None, None, Any]  # until there is more text


class NoCall(Exception):
    """What looked like a call is none."""


class Ended(Exception):
    """There is no more text."""


class Cursor:
    """Each of its methods is a generator, to be gone on with when there is more in `_text`, or no more comes and it has `_ended`."""

    def __init__(self) -> None:
        self._text = ""  # that is not settled
        self._at = 0  # how far it is read
        self._ended = False

    def _word(self, pattern: re.Pattern[str]) -> Wait:
        while True:
            found = pattern.match(self._text, self._at)
            assert found is not None  # of a pattern that matches nothing too
            if found.end() < len(self._text):
                self._at = found.end()
                return found[0]
            yield from self._wait()

    def _until(self, tag: str) -> Wait:
        """The text up to a tag; the cursor is at it."""
        begin = self._at
        while (at := self._text.find(tag, self._at)) < 0:
            self._at = max(self._at, len(self._text) - len(tag) + 1)
            yield from self._wait()
        self._at = at
        return self._text[begin:at]

    def _space(self) -> Wait:
        """Skips it; the character behind."""
        while True:
            while self._at < len(self._text) and self._text[self._at].isspace():
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            yield from self._wait()

    def _string(self) -> Wait:
        """A text of JSON."""
        begin = self._at
        yield from self._skip_string(lambda: None)
        try:
            return json.loads(self._text[begin : self._at])
        except ValueError as e:
            raise NoCall(f"no JSON: {printable(str(e), 80)}") from None

    def _skip_string(self, on_wait: Callable[[], None]) -> Wait:
        self._at += 1
        while True:
            quote = self._text.find('"', self._at)
            escape = self._text.find("\\", self._at, quote if quote >= 0 else len(self._text))
            if escape >= 0 and escape + 1 < len(self._text):
                self._at = escape + 2
            elif escape < 0 and quote >= 0:
                self._at = quote + 1
                return
            else:
                self._at = escape if escape >= 0 else len(self._text)
                on_wait()
                yield from self._wait()

    def _value(self, send: Callable[[str], None] | None) -> Wait:
        """Skips a value of JSON; of an object gives out pieces as they come."""
        sent = self._at
        depth = 0

        def give() -> None:
            nonlocal sent
            if send and self._at > sent:
                send(self._text[sent : self._at])
                sent = self._at

        first = self._text[self._at]
        if first not in '{["':
            yield from self._word(_SCALAR)
            return
        while True:
            found = _MARK.search(self._text, self._at)
            if not found:
                self._at = len(self._text)
                give()
                yield from self._wait()
                continue
            self._at = found.start()
            if found[0] == '"':
                yield from self._skip_string(give)
            else:
                self._at += 1
                depth += 1 if found[0] in "{[" else -1
            if depth <= 0:
                give()
                return

    def _wait(self) -> Wait:
        if self._ended:
            raise Ended
        yield

"""Whose turn it is in a conversation: one question at a time, whose answer becomes part of it once, or never."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..engine.call import Call
from ..engine.request import Request
from ..errors import PromptError


class Turn:
    """A question and its answer. Any thread may call it, also a signal handler or a destructor."""

    def __init__(self, turns: Turns, call: Call[Any], last: Turn | None):
        self.call: Call[Any] | None = call  # until it is decided what becomes of it
        self.has_ended = False  # its answer, or nobody waits for that
        self._turns = turns
        self._last = last
        self._answer: Request | None = None
        self._keep: Callable[[], None] | None = None
        self._done = False

    def follow_last(self) -> None:
        """Waits for the answer before, which was cancelled, and makes it part of what has been said."""
        if (last := self._last) is not None:
            with self._turns.changed:
                self._turns.changed.wait_for(lambda: last.has_ended)
            last.settle()
            self._last = None

    def answered_by(self, answer: Request, keep: Callable[[], None]) -> None:
        """`keep` makes the answer part of what has been said, if it did not fail."""
        self._answer, self._keep = answer, keep

    def end(self) -> None:
        """Its answer has ended."""
        with self._turns.changed:
            self.has_ended = True
            self._turns.changed.notify_all()

    def settle(self) -> None:
        """Keeps the answer, if it has ended and that was not decided before."""
        with self._turns.changed:
            if self.has_ended and not self._done:
                answer, keep = self._answer, self._keep
                self._finish()
                if answer is not None and keep is not None and answer.error is None:
                    keep()

    def drop(self) -> None:
        """Nothing is kept of it, and the next question may come at once."""
        with self._turns.changed:
            self._finish()
            self.end()

    def _finish(self) -> None:
        self._done = True
        self._answer = self._keep = self.call = None
        if self._turns.current is self:
            last = self._last
            self._turns.current = last if last is not None and not last._done else None


class Turns:
    """Those of one conversation. `current` is the one that may still become part of it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()  # of an RLock: a destructor may come here in the middle of the same thread's call
        self.current: Turn | None = None

    def begin(self, call: Call[Any]) -> Turn:
        """The turn of a call, which is dropped with it. Raises PromptError while another question is being answered."""
        with self.changed:
            self.settle()
            last = self.current
            if last is not None and last.call is not None and not last.call.cancelled:
                raise PromptError("conversation: expected one question at a time, got another that is being answered; wait, or close its stream")
            turn = Turn(self, call, last)
            call.on_drop = turn.drop  # before it is anybody's turn
            self.current = turn
            return turn

    def settle(self) -> None:
        """Keeps an answer that has ended, and that nobody has read to its end."""
        if (current := self.current) is not None:
            current.settle()

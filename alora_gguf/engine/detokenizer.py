"""Generated tokens to text: whole characters, up to a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..reply import CallHead, Chunk, TokenLogprob, ToolCall
from .held import Held, Part
from .thought import Thoughts

if TYPE_CHECKING:
    from ..prompt.thinking import Thinking
    from ..prompt.tools.calls import Event, ToolCalls


class TextUntilStop:
    """Text that ends before the first of the stop strings, which may come in chunks; the thought before it, and calls of tools in it.

    It comes in whole tokens, so that their texts always concatenate to it. `calls` reads the calls; without it there are none.
    """

    def __init__(self, stop: Sequence[str] = (), thinking: Thinking | None = None, *, in_thought: bool = False, calls: ToolCalls | None = None):
        self.text = ""
        self.reasoning = ""
        self.stopped = False
        self.stop_string: str | None = None  # the one that ended it
        self.n_tokens = 0  # that `text` and `reasoning` are made of
        self.logprobs: list[TokenLogprob] = []
        self._stop = stop
        self._held: list[Part] = []  # could be the beginning of a stop string
        self._calls = calls
        self._unread = Held()  # of the answer, that may be of a call
        self._thoughts = Thoughts(thinking, begun=in_thought)
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def is_thinking(self) -> bool:
        """Whether the next token is of the thought."""
        return self._thoughts.is_thinking

    @property
    def is_whole(self) -> bool:
        """Whether it does not end within a character."""
        return not self._utf8.getstate()[0]

    @property
    def calls(self) -> list[ToolCall]:
        """Those that are whole."""
        return self._calls.calls if self._calls else []

    @property
    def warnings(self) -> list[str]:
        return self._calls.warnings if self._calls else []

    @property
    def n_in_call(self) -> int | None:
        """How many tokens the call has so far that is being read; None: there is none, or it begins within a token."""
        return len(self._unread) if self._calls and self._calls.in_call and not self._unread.is_torn else None

    def push(self, token: bytes, logprob: TokenLogprob | None = None) -> list[Chunk]:
        """Takes a token's bytes; returns what is certain of the text so far and was not returned before."""
        chunks = self._divide(self._thoughts.push(self._utf8.decode(token), logprob))
        if self._calls is not None and self._calls.stopped:
            self.stopped = True
            return [*chunks, *self._release(sum(len(part.text) for part in self._held))]
        keep = 0 if self.is_whole else 1  # its last character is not whole
        held = "".join(part.text for part in self._held)
        found = [(i, s) for i, s in ((held.find(s), s) for s in self._stop) if i >= 0]
        if found:
            self.stopped = True
            end, self.stop_string = min(found, key=lambda one: one[0])
            return [*chunks, *self._release(end, cut=True)]
        return [*chunks, *self._release(len(held) - max((n for s in self._stop for n in range(1, len(s)) if held.endswith(s[:n])), default=0), keep)]

    def flush(self) -> list[Chunk]:
        """Returns what was held back: no more text comes."""
        rest = self._utf8.decode(b"", final=True)
        chunks = self._divide(self._thoughts.flush())
        if self._calls is not None and not self.stopped:
            chunks += self._read(self._calls.flush())
        if rest and not self.stopped and self._held:
            self._held[-1] = self._held[-1]._replace(text=self._held[-1].text + rest)
        return [*chunks, *self._release(sum(len(part.text) for part in self._held))]

    def _divide(self, parts: Sequence[Part]) -> list[Chunk]:
        """Keeps what is of the answer, and returns what is of the thought, or of calls."""
        thought = [part for part in parts if part.is_thought]
        self.n_tokens += sum(part.n_tokens for part in thought)
        chunk = _piece(thought, "reasoning")
        self.reasoning += chunk
        chunks = [chunk] if chunk or chunk.logprobs else []
        said = [part for part in parts if not part.is_thought]
        if self._calls is None:
            self._held += said
            return chunks
        for part in said:
            self._unread.push(part)
            chunks += self._read(self._calls.push(part.text))
        return chunks

    def _read(self, events: Sequence[Event]) -> list[Chunk]:
        """Keeps what is text, and returns what is of calls; what was said before a call comes before it."""
        chunks: list[Chunk] = []
        for event in events:
            if event.kind == "text":
                self._held += self._unread.take(event.n)
            elif event.kind == "gone":
                self._unread.drop(event.n)
            elif event.kind in ("head", "arguments"):
                chunks += self._release(sum(len(part.text) for part in self._held))
                chunks.append(_call_piece(event.text, event.head))
        if not self._unread and not self._held:
            self.n_tokens += self._unread.take_gone()
        return chunks

    def _release(self, n: int, keep: int = 0, *, cut: bool = False) -> list[Chunk]:
        """The held tokens, but the last `keep`, that lie in the next `n` characters; with `cut`, all up to there and no more."""
        parts = []
        while len(self._held) > keep and (len(self._held[0].text) <= n or (cut and n > 0)):
            part = self._held.pop(0)
            self.n_tokens += part.n_tokens
            parts.append(part._replace(text=part.text[:n]))
            n -= len(part.text)
        if cut:
            self._held.clear()
        certain = _piece(parts, "text")
        self.text += certain
        self.logprobs += certain.logprobs
        return [certain] if certain or certain.logprobs else []


def _call_piece(text: str, call: CallHead | None) -> Chunk:
    chunk = Chunk(text)
    chunk.kind = "tool_call"
    chunk.call = call
    return chunk


def _piece(parts: Sequence[Part], kind: str) -> Chunk:
    chunk = Chunk("".join(part.text for part in parts))
    chunk.logprobs = tuple(replace(part.logprob, text=part.text) for part in parts if part.logprob is not None)
    chunk.kind = kind
    return chunk

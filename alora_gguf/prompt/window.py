"""What a conversation leaves out where the context is too small for it: its oldest turns, whole."""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

from ..errors import ContextFullError, PromptError
from .messages import Message

ON_FULL = "error", "drop-oldest"
_STAYS = 0.5  # of the room: so the rest is computed anew once in many turns, and not with each
_MOST_KNOWN = 4096


def check_on_full(given: str) -> str:
    """Raises PromptError."""
    if given not in ON_FULL:
        raise PromptError(f"on_full: expected {' or '.join(ON_FULL)}, got {given!r:.40}")
    return given


def without_oldest(messages: Sequence[Message], n: int) -> list[Message]:
    """Without `n` of them, which stand behind the system's at the beginning. The last turn stays."""
    if n <= 0:
        return [*messages]
    start = _n_system(messages)
    last = max((i for i in _turns(messages) if i <= n), default=0)
    return [*messages[:start], *messages[start + last :]]


def system_messages(messages: Sequence[Message]) -> list[Message]:
    """Those at the beginning, which stay."""
    return [*messages[: _n_system(messages)]]


def first_kept(messages: Sequence[Message], n: int) -> Message | None:
    """The one that prompts begin with behind the system's, where `n` are left out. None: all of them are in prompts."""
    rest = messages[_n_system(messages) :]
    return rest[n] if 0 < n < len(rest) else None


def n_before(messages: Sequence[Message], first: Message | None) -> int:
    """How many are left out, where prompts begin with this one. 0 where it has been taken back, as there is room for the rest again."""
    return 0 if first is None else next((i for i, message in enumerate(messages[_n_system(messages) :]) if message is first), 0)


def n_to_drop(messages: Sequence[Message], n: int, n_tokens: Callable[[list[Message]], int], n_most: int) -> int:
    """How many to leave out, from `n` on: as few turns as leave `n_most` tokens; and then as many as leave half of that.

    n_tokens   of the prompt that messages are
    """
    if n_tokens(without_oldest(messages, n)) <= n_most:  # which checks what they are, too
        return n
    turns = [i for i in _turns(messages) if i > n]
    if not turns:
        return n
    at = bisect_left(turns, True, key=lambda i: n_tokens(without_oldest(messages, i)) <= n_most * _STAYS)
    return turns[min(at, len(turns) - 1)]


def dropped_line(n: int, since: str = "from here on") -> str:
    """What a reply says of it."""
    return f"context: the oldest {n} messages are left out {since}, to make room; documents and the system message stay"


def too_long(n: int, n_ctx: int) -> ContextFullError:
    """Where what has to stay is too much already."""
    return ContextFullError(
        f"context: expected at most {n_ctx} tokens, got {n} in the last turn, the system message and the documents; "
        "shorten the message, take a document out, or give a larger context (--ctx)"
    )


class _Left(NamedTuple):
    """tokens that were left out, so that `n_most` were not too few."""

    tokens: int
    n_most: int


class Windows:
    """How many messages were left out of conversations that come whole each time: what they begin with finds them again. Any thread may call it."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Hashable, bytes], _Left] = OrderedDict()
        self._lock = threading.Lock()

    def n_to_drop(self, messages: Sequence[Message], cache_salt: Hashable, n_tokens: Callable[[list[Message]], int], n_most: int) -> int:
        """As the function of this name, from what was left out of it before, unless it has become so short again that it was not needed."""
        counts: dict[int, int] = {}

        def count(kept: list[Message]) -> int:
            if len(kept) not in counts:
                counts[len(kept)] = n_tokens(kept)
            return counts[len(kept)]

        begins = {n: (cache_salt, digest) for n, digest in _digests(messages)}
        with self._lock:
            known = {n: self._known[key] for n, key in begins.items() if key in self._known}
        before = max(known, default=0)
        if known:
            whole = count(without_oldest(messages, before)) + known[before].tokens
            n_room = min(n_most, *(left.n_most for left in known.values()))
            left_out = {0: 0, **{n: left.tokens for n, left in known.items()}}
            before = min(n for n, tokens in left_out.items() if n == before or whole - tokens <= n_room)
        n = n_to_drop(messages, before, count, n_most)
        if n:
            left = known.get(n) or _Left(
                (known[before].tokens if before else 0) + count(without_oldest(messages, before)) - count(without_oldest(messages, n)), n_most
            )
            with self._lock:
                self._known[begins[n]] = left
                self._known.move_to_end(begins[n])
                while len(self._known) > _MOST_KNOWN:
                    self._known.popitem(last=False)
        return n


def _n_system(messages: Sequence[Message]) -> int:
    """Whatever else there is among them: who makes a prompt of them says what is none."""
    return next((i for i, m in enumerate(messages) if not isinstance(m, Mapping) or m.get("role") not in ("system", "developer")), len(messages))


def _turns(messages: Sequence[Message]) -> list[int]:
    """How many messages behind the system's stand before each turn, which begins with a user's."""
    rest = messages[_n_system(messages) :]
    return [i for i, message in enumerate(rest) if message["role"] == "user" and (i == 0 or rest[i - 1]["role"] != "user")]


def _digests(messages: Sequence[Message]) -> list[tuple[int, bytes]]:
    """Of what stands before each turn but the first, by how many messages that is."""
    start, turns, made = _n_system(messages), set(_turns(messages)), []
    digest = hashlib.sha256()
    for i, message in enumerate(messages):
        if i - start in turns and i > start:
            made.append((i - start, digest.digest()))
        digest.update(json.dumps(message, sort_keys=True, default=repr).encode("utf-8", "surrogatepass") + b"\n")
    return made

"""This engine through its public API: what a user waits for."""

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import Conversation, Model
from ..errors import BenchError
from ..reply import Reply
from .steps import likeliest
from .worker import Settings

TEXT = "The ferry to the island leaves at nine in the morning and takes two hours, and bicycles travel free of charge. "
N_MESSAGE_START = 4  # tokens that the template puts before a message: they may be in the cache from another turn


class Ours:
    def __init__(self, settings: Settings):
        self.model = Model(
            settings.model, n_ctx=settings.n_ctx, n_ubatch=settings.n_ubatch, n_batch=settings.n_ubatch, n_threads=settings.n_threads, flash_attn=True
        )
        self._files = settings.adapters
        for name, path in settings.adapters.items():
            self.model.load_adapter(path, name)
        self._links = tempfile.TemporaryDirectory(dir=settings.model.parent)
        self._numbers = itertools.count()
        self._chat: Conversation | None = None
        self._n_tokens = 0

    def conversation(self, n_tokens: int) -> list[int]:
        """The tokens of a conversation of exactly so many; it is the one that the other tasks with this number have."""
        return self.model.tokenize(self.model.render(self._conversation(n_tokens).messages))

    def first_token(self, n_tokens: int, name: str) -> float:
        """Milliseconds of an intrinsic's call on the conversation, up to its first token."""
        chat = self._conversation(n_tokens)
        with self._never_invoked([name]) as (fresh,):
            ms, reply = _timed(lambda: chat.invoke(fresh, max_tokens=1))
        _expect("tokens in the cache", n_tokens, reply.usage.cached_tokens)
        return ms

    def intrinsics(self, n_tokens: int, names: Sequence[str], max_tokens: int) -> float:
        """Milliseconds of so many intrinsics on the conversation, at once, to their ends."""
        chat = self._conversation(n_tokens)
        with self._never_invoked(names) as fresh:
            ms, replies = _timed(lambda: chat.invoke_all(fresh, max_tokens=max_tokens))
        for reply in replies.values():
            _expect("tokens in the cache", n_tokens, reply.usage.cached_tokens)
            _expect("tokens of an intrinsic", max_tokens, len(reply.tokens))
        return ms

    def next_turn(self, n_tokens: int, name: str, number: int, question: str) -> float:
        """Milliseconds to the first token of the base's next answer, after an intrinsic.

        The question is a word, another for each number, and then `question`.
        """
        with self.model.conversation(messages=self._conversation(n_tokens).messages) as chat:
            chat.invoke(name, max_tokens=1)
            ms, reply = _timed(lambda: chat.ask(self._word(number) + question, max_tokens=1))
        _expect("tokens in the cache", n_tokens, reply.usage.cached_tokens, N_MESSAGE_START)
        return ms

    def next_turn_tokens(self, n_tokens: int, number: int, question: str) -> list[int]:
        """The prompt of that turn."""
        messages = [*self._conversation(n_tokens).messages, _message(self._word(number) + question)]
        return self.model.tokenize(self.model.render(messages, add_generation_prompt=True))

    def one_at_a_time(self, n_chats: int, names: Sequence[str], n_tokens: int, max_tokens: int) -> float:
        """Milliseconds a token, each conversation's intrinsic after the other's."""
        return self._throughput(n_chats, names, n_tokens, max_tokens, 1)

    def at_once(self, n_chats: int, names: Sequence[str], n_tokens: int, max_tokens: int) -> float:
        """The same from as many threads as there are conversations."""
        return self._throughput(n_chats, names, n_tokens, max_tokens, n_chats)

    def answer(self, max_tokens: int, watch: Sequence[str]) -> float:
        """Milliseconds a token of the base's answer after its first one, with these intrinsics watching it."""
        return 1e3 / self._answer(max_tokens, watch).usage.tokens_per_second

    def judged(self, max_tokens: int, name: str) -> int:
        """How often the intrinsic judges that answer."""
        return len(self._answer(max_tokens, [name]).verdicts)

    def said(self, n_tokens: int, name: str) -> int:
        """The first token of what the intrinsic says on the conversation."""
        return self._conversation(n_tokens).invoke(name, max_tokens=1).tokens[0]

    def top(self, tokens: Sequence[int], name: str) -> dict[int, float]:
        """The log probabilities of the likeliest next tokens, with the adapter active from its invocation on."""
        return likeliest(self.model.logits([(tokens, name)])[0][-1])

    def forget(self) -> None:
        """Empties the cache: other cells in use would cost what comes next attention."""
        self.model.engine.loop.call(self.model.engine.cache.clear)
        self._n_tokens = 0

    def _throughput(self, n_chats: int, names: Sequence[str], n_tokens: int, max_tokens: int, n_threads: int) -> float:
        chats = [self.model.conversation(messages=[_message(self._content(i, n_tokens))]) for i in range(n_chats)]
        calls = list(zip(chats, itertools.cycle(names)))
        for chat, name in calls:
            chat.invoke(name, max_tokens=1)  # computes the conversation
        with ThreadPoolExecutor(n_threads) as threads:
            ms, replies = _timed(lambda: list(threads.map(lambda call: call[0].invoke(call[1], max_tokens=max_tokens), calls)))
        for reply in replies:
            _expect("tokens of an intrinsic", max_tokens, len(reply.tokens))
        return ms / (n_chats * max_tokens)

    def _answer(self, max_tokens: int, watch: Sequence[str]) -> Reply:
        self.forget()
        with self.model.conversation() as chat:
            reply = chat.ask(TEXT * 3 + "Tell me more about it.", watch=watch, max_tokens=max_tokens, temperature=0)
        _expect("tokens of an answer", max_tokens, len(reply.tokens))
        return reply

    @contextmanager
    def _never_invoked(self, names: Sequence[str]) -> Iterator[list[str]]:
        """The same adapters as other files, so that the conversation has nothing of theirs in the cache."""
        fresh = []
        for name in names:
            number = next(self._numbers)
            link = Path(self._links.name) / f"{number}.gguf"
            os.link(self._files[name], link)
            self.model.load_adapter(link, f"{name}, number {number}")
            fresh.append(f"{name}, number {number}")
        with self.model.conversation(messages=[_message("Hello")]) as other:
            other.invoke_all(fresh, max_tokens=1)  # what comes with loading is not a call's
        yield fresh
        for name in fresh:
            self.model.unload_adapter(name)

    def _conversation(self, n_tokens: int) -> Conversation:
        if n_tokens < self._n_tokens:
            self.forget()
        chat = self._chat
        if chat is None or n_tokens != self._n_tokens:
            overhead = len(self.model.tokenize(self.model.render([_message("")])))
            for n in range(n_tokens - overhead, n_tokens):
                chat = self.model.conversation(messages=[_message(self._content(0, n))])
                if len(self.model.tokenize(self.model.render(chat.messages))) == n_tokens:
                    break
            else:
                raise BenchError(f"a conversation of {n_tokens} tokens: expected one to come out, got none; try another number")
            self._chat, self._n_tokens = chat, n_tokens
            chat.invoke(next(iter(self._files)), max_tokens=1)  # computes it
        return chat

    def _content(self, number: int, n_tokens: int) -> str:
        """About so many tokens of text, others for each number."""
        text = f"{number} " * bool(number) + TEXT * (n_tokens // 16 + 1)
        return self.model.detokenize(self.model.tokenize(text, special=False)[:n_tokens])

    def _word(self, number: int) -> str:
        return self.model.detokenize([1000 + number])


def _message(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what it returns."""
    began = time.perf_counter()
    result = call()
    return (time.perf_counter() - began) * 1e3, result


def _expect(what: str, wanted: int, got: int, slack: int = 0) -> None:
    if not wanted <= got <= wanted + slack:
        raise BenchError(f"{what}: expected {wanted}, got {got}: the other side's work would not be equal; report it")

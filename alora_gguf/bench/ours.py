"""This engine through its public API: what a user waits for."""

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .. import Model
from ..errors import BenchError
from .steps import likeliest
from .worker import Settings

TEXT = "The ferry to the island leaves at nine in the morning and takes two hours, and bicycles travel free of charge. "
QUESTION = "And back?"


class Ours:
    def __init__(self, settings: Settings):
        self.model = Model(
            settings.model, n_ctx=settings.n_ctx, n_ubatch=settings.n_ubatch, n_batch=settings.n_ubatch,
            n_threads=settings.n_threads, flash_attn=True)
        for name, path in settings.adapters.items():
            self.model.load_adapter(path, name)
        self._chats: dict[int, object] = {}

    def conversation(self, n_tokens: int) -> list[int]:
        """The tokens of a conversation of exactly so many; it is the one that the other tasks with this number have."""
        return self.model.tokenize(self.model.render(self._chat(n_tokens).messages))

    def first_token(self, n_tokens: int, name: str) -> float:
        """Milliseconds of an intrinsic's call on the conversation, up to its first token."""
        return self._ms(lambda: self._chat(n_tokens).invoke(name, max_tokens=1))

    def said(self, n_tokens: int, name: str) -> int:
        """The first token of what the intrinsic says on the conversation."""
        return self._chat(n_tokens).invoke(name, max_tokens=1).tokens[0]

    def top(self, tokens: Sequence[int], name: str) -> dict[int, float]:
        """The log probabilities of the likeliest next tokens, with the adapter active from its invocation on."""
        return likeliest(self.model.logits([(tokens, name)])[0][-1])

    def intrinsics(self, n_tokens: int, names: Sequence[str], max_tokens: int) -> float:
        """Milliseconds of so many intrinsics on the conversation, at once, to their ends."""
        chat = self._chat(n_tokens)
        began = time.perf_counter()
        replies = chat.invoke_all(names, max_tokens=max_tokens)
        ms = (time.perf_counter() - began) * 1e3
        for name, reply in replies.items():
            _expect(f"adapter {name!r}", max_tokens, len(reply.tokens))
        return ms

    def next_turn(self, n_tokens: int, name: str) -> float:
        """Milliseconds to the first token of the base's next answer, after an intrinsic."""
        with self.model.conversation(messages=self._chat(n_tokens).messages) as chat:
            chat.invoke(name, max_tokens=1)
            return self._ms(lambda: chat.ask(QUESTION, max_tokens=1))

    def next_turn_tokens(self, n_tokens: int) -> list[int]:
        """The prompt of that turn."""
        messages = [*self._chat(n_tokens).messages, {"role": "user", "content": QUESTION}]
        return self.model.tokenize(self.model.render(messages, add_generation_prompt=True))

    def one_at_a_time(self, n_chats: int, names: Sequence[str], n_tokens: int, max_tokens: int) -> float:
        """Milliseconds a token, each conversation's intrinsic after the other's."""
        return self._throughput(n_chats, names, n_tokens, max_tokens, 1)

    def at_once(self, n_chats: int, names: Sequence[str], n_tokens: int, max_tokens: int) -> float:
        """The same from as many threads as there are conversations."""
        return self._throughput(n_chats, names, n_tokens, max_tokens, n_chats)

    def close_conversations(self) -> None:
        for chat in self._chats.values():
            chat.close()
        self._chats.clear()

    def _throughput(self, n_chats: int, names: Sequence[str], n_tokens: int, max_tokens: int, n_threads: int) -> float:
        chats = [self.model.conversation(messages=[{"role": "user", "content": self._content(i, n_tokens)}]) for i in range(n_chats)]
        for chat, name in zip(chats, itertools.cycle(names)):
            chat.invoke(name, max_tokens=1)  # computes the conversation
        call = lambda chat, name: len(chat.invoke(name, max_tokens=max_tokens).tokens)  # noqa: E731
        with ThreadPoolExecutor(n_threads) as threads:
            began = time.perf_counter()
            n = sum(threads.map(call, chats, itertools.islice(itertools.cycle(names), n_chats)))
            ms = (time.perf_counter() - began) * 1e3
        for chat in chats:
            chat.close()
        return ms / n

    def _chat(self, n_tokens: int):
        if n_tokens not in self._chats:
            self.close_conversations()  # other cells in use would cost this one attention
            overhead = len(self.model.tokenize(self.model.render([{"role": "user", "content": ""}])))
            for n in range(n_tokens - overhead, n_tokens):
                chat = self.model.conversation(messages=[{"role": "user", "content": self._content(0, n)}])
                if len(self.model.tokenize(self.model.render(chat.messages))) == n_tokens:
                    break
                chat.close()
            else:
                raise BenchError(f"a conversation of {n_tokens} tokens: expected one to come out, got none; try another number")
            self._chats[n_tokens] = chat
        return self._chats[n_tokens]

    def _content(self, number: int, n_tokens: int) -> str:
        """About so many tokens of text, others for each number."""
        text = f"{number} " * bool(number) + TEXT * (n_tokens // 16 + 1)
        return self.model.detokenize(self.model.tokenize(text, special=False)[:n_tokens])

    @staticmethod
    def _ms(call) -> float:
        began = time.perf_counter()
        reply = call()
        ms = (time.perf_counter() - began) * 1e3
        _expect("a call with max_tokens=1", 1, len(reply.tokens))
        return ms


def _expect(what: str, wanted: int, got: int) -> None:
    if got != wanted:
        raise BenchError(f"{what}: expected {wanted} tokens, got {got}: equal work needs as many; give another model")

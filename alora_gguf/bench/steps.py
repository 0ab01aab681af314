"""Step times, taken on a context: what the native code costs. The same tasks for our library and the unpatched one."""

import time
from collections.abc import Sequence

import numpy as np

from .worker import Settings

N_PAST = 32  # tokens of the base before the steps
N_WARM = 2  # steps before those that count


class Steps:
    """Tasks on a `context` with the methods of alora_gguf.context.Context; `Span` is its type of spans."""

    def __init__(self, context, Span):
        self.context = context
        self.Span = Span
        self._tokens: list[int] = []  # of the base, in the sequence _seq
        self._seq = context.acquire()

    def activate(self, seq_id: int, name: str | None, start: int) -> None:
        """From position `start` on, the adapter is active on the sequence."""
        raise NotImplementedError

    def decode(self, names: Sequence[str | None], n_steps: int) -> list[float]:
        """One sequence for each name, one token each in one batch: milliseconds of each step."""
        seqs = self._forks(names)
        ms = [self._timed([self.Span(seq, [1000 + i + step], N_PAST + step) for i, seq in enumerate(seqs)]) for step in range(N_WARM + n_steps)]
        self._release(seqs)
        return ms[N_WARM:]

    def alternate(self, names: Sequence[str], n_steps: int) -> list[float]:
        """The same, each sequence in a batch of its own, in turn: milliseconds of each decode."""
        seqs = self._forks(names)
        ms = [self._timed([self.Span(seq, [1000 + i + step], N_PAST + step)]) for step in range(N_WARM + n_steps) for i, seq in enumerate(seqs)]
        self._release(seqs)
        return ms[N_WARM * len(names) :]

    def prefill(self, n_tokens: int, name: str | None, n_active: int) -> float:
        """Milliseconds of one batch of `n_tokens`, of which the last `n_active` are adapted."""
        seq = self.context.acquire()
        self.activate(seq, name, n_tokens - n_active)
        ms = self._timed([self.Span(seq, words(n_tokens), 0)])
        self._release([seq])
        return ms

    def first_token(self, tokens: Sequence[int], new: Sequence[int], name: str | None = None) -> float:
        """Milliseconds to the logits after `new`, decoded on the cells of `tokens`, which are the base's."""
        self._compute(tokens)
        seq = self.context.acquire()
        began = time.perf_counter()
        self.context.fork(self._seq, seq, len(tokens))
        self.activate(seq, name, len(tokens))
        self._timed([self.Span(seq, new, len(tokens))])
        ms = (time.perf_counter() - began) * 1e3
        self._release([seq])
        return ms

    def lora_first_token(self, tokens: Sequence[int], name: str) -> float:
        """Milliseconds to the logits after `tokens`, all of them decoded and adapted: what an ordinary LoRA has to do."""
        self._compute([])
        seq = self.context.acquire()
        self.activate(seq, name, 0)
        began = time.perf_counter()
        self.context.logits(self._prefill(seq, tokens, 0), 1)
        ms = (time.perf_counter() - began) * 1e3
        self._release([seq])
        return ms

    def top(self, tokens: Sequence[int], name: str | None, start: int) -> dict[int, float]:
        """The log probabilities of the likeliest next tokens, with the adapter active from `start` on."""
        seq = self.context.acquire()
        self._prefill(seq, tokens[:start], 0)
        self.activate(seq, name, start)
        top = likeliest(self.context.logits(self._prefill(seq, tokens[start:], start), 1)[0])
        self._release([seq])
        return top

    def _forks(self, names: Sequence[str | None]) -> list[int]:
        self._compute(words(N_PAST))
        seqs = [self.context.acquire() for _ in names]
        for seq, name in zip(seqs, names):
            self.context.fork(self._seq, seq, N_PAST)
            self.activate(seq, name, N_PAST)
        return seqs

    def _compute(self, tokens: Sequence[int]) -> None:
        """Makes `tokens`, and nothing else, the base's sequence: other cells in use would cost the steps attention."""
        n = 0
        while n < min(len(tokens), len(self._tokens)) and tokens[n] == self._tokens[n]:
            n += 1
        self.context.truncate(self._seq, n)
        self._prefill(self._seq, tokens[n:], n)
        self._tokens = list(tokens)

    def _prefill(self, seq: int, tokens: Sequence[int], start: int) -> int:
        """Decodes any number of tokens; returns the batch index of the last one."""
        n, end = self.context.n_batch, 0
        for i in range(0, len(tokens), n):
            (end,) = self.context.decode([self.Span(seq, tokens[i : i + n], start + i)])
        return end

    def _timed(self, spans: Sequence) -> float:
        began = time.perf_counter()
        ends = self.context.decode(spans)
        self.context.logits(ends[-1], 1)
        return (time.perf_counter() - began) * 1e3

    def _release(self, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self.context.release(seq)


class OurSteps(Steps):
    def __init__(self, settings: Settings):
        from .. import Model
        from ..runtime.context import Span

        self.model = Model(
            settings.model, n_ctx=settings.n_ctx, n_ubatch=settings.n_ubatch, n_batch=settings.n_ubatch, n_threads=settings.n_threads, flash_attn=True
        )
        self.adapters = {name: self.model.load_adapter(path, name) for name, path in settings.adapters.items()}
        super().__init__(self.model.engine.context, Span)

    def activate(self, seq_id: int, name: str | None, start: int) -> None:
        if name:
            self.context.activate(seq_id, self.adapters[name].ptr, start)


def words(n: int) -> list[int]:
    """Tokens, none of them a control token, the same each time."""
    return [5000 + 37 * i % 40000 for i in range(n)]


def likeliest(logits: np.ndarray, n: int = 50) -> dict[int, float]:
    """The log probabilities of the `n` likeliest tokens, of float32 [n_vocab]."""
    logits = logits - logits.max()
    logprobs = logits - np.log(np.exp(logits).sum())
    return {int(token): float(logprobs[token]) for token in np.argsort(logprobs)[-n:]}

"""The decode loop: any number of branches, each on its own sequence, advance in one batch."""

import codecs
import time
from collections.abc import Generator, Sequence

from .context import Context, Span
from .errors import ContextFullError
from .reply import Reply, Usage
from .sampling import Sampler, SamplingParams
from .vocab import Vocab


class Branch:
    """One generation: the prompt that is still to be decoded on a sequence, then its own tokens.

    `tokens` are all tokens of the branch, of which the first `n_decoded` are in the cache.
    """

    def __init__(
        self, seq_id: int, prompt: Sequence[int], n_cached: int, params: SamplingParams, vocab: Vocab, t_start: float
    ):
        self.seq_id = seq_id
        self.tokens = list(prompt)
        self.n_prompt = len(prompt)
        self.n_cached = n_cached
        self.n_decoded = n_cached
        self.params = params
        self.finish_reason: str | None = None
        self.cancelled = False  # set from outside: ends before its next step
        self._vocab = vocab
        self._sampler = Sampler(params, self.tokens, vocab.n_tokens)
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = TextUntilStop(params.stop)
        self._t_start = self._t_first = self._t_last = t_start  # time.perf_counter(), in seconds

    @property
    def n_pending(self) -> int:
        return len(self.tokens) - self.n_decoded

    def span(self, n_max: int) -> Span:
        """The next tokens to decode, at most `n_max`; the last one of the branch asks for logits."""
        n = min(n_max, self.n_pending)
        chunk = self.tokens[self.n_decoded : self.n_decoded + n]
        return Span(self.seq_id, chunk, self.n_decoded, "last" if n == self.n_pending else "none")

    def advance(self, context: Context, index: int) -> str:
        """Samples the token after batch `index`, and returns the text that is now certain to be part of the reply."""
        token = self._sampler.sample(context.ptr, index)
        now = time.perf_counter()
        if len(self.tokens) == self.n_prompt:
            self._t_first = now
        if self._vocab.is_eog(token):
            return self.finish("stop")
        self.tokens.append(token)
        self._t_last = now
        piece = self._text.push(self._utf8.decode(self._vocab.token_bytes(token)))
        if self._text.stopped:
            return piece + self.finish("stop")
        if len(self.tokens) - self.n_prompt >= self.params.max_tokens:
            return piece + self.finish("length")
        return piece

    def finish(self, reason: str) -> str:
        """Ends the branch; returns the text that was held back."""
        self.finish_reason = reason
        self._sampler.free()
        if self._text.stopped:
            return ""
        return self._text.push(self._utf8.decode(b"", final=True)) + self._text.flush()

    @property
    def raw_text(self) -> str:
        """The text of all generated tokens, stop string included."""
        return self._text.raw

    def reply(self) -> Reply:
        n = len(self.tokens) - self.n_prompt
        seconds = self._t_last - self._t_first
        usage = Usage(
            prompt_tokens=self.n_prompt,
            cached_tokens=self.n_cached,
            completion_tokens=n,
            ttft_ms=(self._t_first - self._t_start) * 1e3,
            tokens_per_second=(n - 1) / seconds if n > 1 and seconds > 0 else 0.0,
        )
        return Reply(self._text.text, usage, self.finish_reason or "cancelled", self.tokens[self.n_prompt :])


def generate(context: Context, branches: Sequence[Branch]) -> Generator[tuple[Branch, str], None, None]:
    """Runs the branches to their ends, all in one batch a step; yields each piece of text as it comes.

    Closing the generator cancels what is left. Raises ContextFullError if a prompt does not fit; a
    context that fills up later ends the branches with finish_reason "length".
    """
    try:
        while running := [b for b in branches if b.finish_reason is None]:
            for branch in running:
                if branch.cancelled:
                    yield branch, branch.finish("cancelled")
            if running := [b for b in running if b.finish_reason is None]:
                with context.lock:
                    pieces = _step(context, running)
                yield from pieces
    finally:
        for branch in branches:
            if branch.finish_reason is None:
                branch.finish("cancelled")


def _step(context: Context, running: list[Branch]) -> list[tuple[Branch, str]]:
    spans, parts, room = [], [], context.n_batch
    for branch in running:
        if room:
            span = branch.span(room)
            room -= len(span.tokens)
            spans.append(span)
            parts.append(branch)
    try:
        ends = context.decode(spans)
    except ContextFullError:
        if all(len(b.tokens) > b.n_prompt for b in parts):
            return [(b, b.finish("length")) for b in running]
        raise
    pieces = []
    for branch, span, end in zip(parts, spans, ends):
        branch.n_decoded += len(span.tokens)
        if span.outputs == "last":
            pieces.append((branch, branch.advance(context, end)))
    return [(branch, piece) for branch, piece in pieces if piece]


class TextUntilStop:
    """Text that ends before the first of the stop strings, which may come in pieces."""

    def __init__(self, stop: Sequence[str]):
        self.text = ""
        self.raw = ""
        self.stopped = False
        self._stop = stop
        self._held = ""  # could be the beginning of a stop string

    def push(self, piece: str) -> str:
        """Returns what is certain of the text so far and was not returned before."""
        self.raw += piece
        self._held += piece
        found = [i for i in (self._held.find(s) for s in self._stop) if i >= 0]
        if found:
            self.stopped = True
            certain, self._held = self._held[: min(found)], ""
        else:
            n = max((n for s in self._stop for n in range(1, len(s)) if self._held.endswith(s[:n])), default=0)
            cut = len(self._held) - n
            certain, self._held = self._held[:cut], self._held[cut:]
        self.text += certain
        return certain

    def flush(self) -> str:
        """Returns what was held back: no more text comes."""
        held, self._held = self._held, ""
        self.text += held
        return held

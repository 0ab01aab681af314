"""One generation: a prompt, then the tokens that are sampled after it."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PromptError, ResultError, copied
from ..reply import Chunk, Reply, TokenLogprob, ToolCall, Usage
from ..runtime.constraint import Constraint
from ..runtime.context import Context, Span
from ..runtime.sampling import Sampler, SamplingParams
from ..runtime.vocab import Vocab
from ..runtime.workers import Job, Workers
from .adapter import Adapter
from .cache import Activation, Branch, Cache
from .detokenizer import TextUntilStop

if TYPE_CHECKING:
    from ..prompt.thinking import Thinking
    from ..prompt.tools.use import ToolUse

_log = logging.getLogger("alora_gguf")

_MOST_FORCED = 32  # tokens that are decoded at once: with logprobs each has a row of logits


class Request:
    """Made by whoever wants something generated, then given to the Loop, whose thread runs it.

    prompt        tokens; `activations` are active on them and on what is generated
    checkpoint    how many of the prompt's tokens others will share: where a memory that cannot roll
                  back keeps a state, beside that after all of it, which is the default
    background    it only gets time that it does not take from the others
    cache_salt    it shares cells with others of the same one only
    on_chunk      gets each Chunk of text, on the loop's thread: it puts it somewhere, and does no more
    on_end        is called once, on the loop's thread, and does no more than that either; `error` is set if it failed
    t_start       of the call, in seconds of time.perf_counter()
    result_of     makes the Reply's result of its text and logprobs, once the text is whole, on the thread that asks for it
    warnings      what the Reply says beside its text
    thinking      the strings around the model's thought, which is no part of the text; in_thought: the prompt ends within it
    tools         what the answer may do with tools; without it, it calls none

    `tokens` are the prompt, what was sampled, and what the constraint forces to come next, which is decoded together with
    what it follows. The first `n_known` of them are said.
    """

    kin: object = None  # what requests have in common that go into one batch, because nearly all of their cells are the same
    n_worth = 1  # cells that it waits for while another request computes them

    def __init__(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        vocab: Vocab,
        *,
        activations: Sequence[Activation] = (),
        checkpoint: int | None = None,
        background: bool = False,
        cache_salt: Hashable = None,
        on_chunk: Callable[[Chunk], Any] | None = None,
        on_end: Callable[[], None] | None = None,
        t_start: float | None = None,
        result_of: Callable[[str, list[TokenLogprob]], Any] | None = None,
        warnings: Sequence[str] = (),
        thinking: Thinking | None = None,
        in_thought: bool = False,
        tools: ToolUse | None = None,
    ):
        prompt = vocab.check(prompt)
        for a in activations:
            if not 0 <= a.start <= len(prompt):
                raise PromptError(f"adapter {a.adapter.name!r}: expected a start from 0 to {len(prompt)}, got {a.start}")
        self.tokens = prompt
        self.n_prompt = self.n_known = len(prompt)
        self.n_cached: int | None = None
        self.params = params
        self.activations = list(activations)
        self.checkpoint = min(len(prompt) if checkpoint is None else checkpoint, len(prompt))
        self.background = background
        self.cache_salt = cache_salt
        self.on_chunk: Callable[[Chunk], Any] = on_chunk or _nothing
        self.on_end: Callable[[], Any] = on_end or _nothing
        self.warnings = list(warnings)
        self.finish_reason: str | None = None
        self.end: int | None = None  # the token that ended it, which is none of `tokens`
        self.error: BaseException | None = None
        self.cancelled = False
        self.has_ended = False
        self.arrival = 0  # the loop numbers them
        self.served = 0.0  # when a step last had tokens of it
        self.branch: Branch | None = None
        self._n_read = 0  # of what it left
        self._keys: list[int] = []
        self._label = 0
        self._vocab = vocab
        with vocab.lifetime:
            self._sampler = Sampler(params, vocab, self.tokens, tools.constraint(vocab, params) if tools else None)
        self._of_calls = tools.constraint_of_calls(vocab) if tools and self._sampler.constraint is None else None
        self._text = TextUntilStop(params.stop or (), thinking, in_thought=in_thought, calls=tools.reader() if tools else None)
        self._stops = frozenset(_in_vocab("stop_token_ids", params.stop_token_ids, vocab))
        if thinking is None and params.thinking_budget is not None:
            raise PromptError("thinking_budget: expected a chat with a model that thinks, as its chat template says, got none; leave it out")
        self._n_thought = 0  # tokens
        self._written = range(0)  # which of the tokens are the tags that a spent budget writes
        self._written_tags: list[int] | None = None  # these, until they are written
        if thinking is not None and params.thinking_budget is not None:
            none_at_all = params.thinking_budget == 0 and not in_thought
            self._written_tags = vocab.tokenize_more(thinking.without if none_at_all else thinking.closing)
        self._tags = "\n".join([*(dataclasses.astuple(thinking) if thinking else ()), *([tools.format.tags] if tools else ())])
        self._result_of = result_of
        self._t_start = time.perf_counter() if t_start is None else t_start
        self._t_first = self._t_last = self._t_start

    def cancel(self, error: BaseException | None = None) -> None:
        """Ends it before its next token, as failed if there is an error; from any thread."""
        self.error = self.error or error
        self.cancelled = True

    @property
    def adapters(self) -> list[Adapter]:
        return [a.adapter for a in self.activations]

    # on the loop's thread

    def begin(self, cache: Cache, context: Context) -> bool:
        """Finds its place in the cache; False while another request computes what it can share."""
        if not self._keys:
            if context.rolls_back:  # else the state after the prompt is kept, and nothing behind it
                self._force()
            self._keys = cache.keys(self.tokens, self.activations, self.cache_salt)
            self._label = cache.label(self.activations, self.n_prompt, self.cache_salt)
        n_stop = len(self._keys) if context.rolls_back else self.checkpoint
        n_most = self.n_known - 1 if self.params.logprobs and self.n_known < len(self.tokens) else None
        self.branch = cache.begin(self._keys, self, n_stop, lambda other: self.background or not other.background, n_most, self.n_worth)
        if self.branch is None:
            return False
        if self.n_cached is None:
            self.n_cached = min(self.branch.ready_end, self.n_prompt)
        seq = self.place_seq
        context.deactivate(seq)
        for a in self.activations:
            context.activate(seq, a.adapter.handle, a.start, a.scale)
        return True

    def leave(self, cache: Cache) -> None:
        """Gives up its place, if it has one; what it computed stays there while there is room."""
        if self.branch is not None:
            self._n_read = self.branch.ready_end
            cache.end(self.branch)
            self.branch = None

    @property
    def place(self) -> Branch:
        """Its branch of the cache, from begin() on."""
        assert self.branch is not None
        return self.branch

    @property
    def place_seq(self) -> int:
        """The sequence that it computes on."""
        assert self.place.seq is not None
        return self.place.seq

    @property
    def n_pending(self) -> int:
        return self.place.end - self.place.ready_end

    @property
    def n_base(self) -> int:
        """How many of the pending tokens no adapter is active on."""
        start = min((a.start for a in self.activations if a.scale), default=self.place.end)
        return max(0, min(start, self.place.end) - self.place.ready_end)

    @property
    def is_sampling(self) -> bool:
        """Whether its prompt is done with."""
        return self.n_known > self.n_prompt

    def span(self, n: int) -> Span:
        """The next `n` tokens to decode; the last one of all asks for logits, and with logprobs those do that a forced one follows."""
        start = self.place.ready_end
        end = start + n
        first = self.n_known - 1 if self.params.logprobs else len(self.tokens) - 1
        return Span(self.place_seq, self.tokens[start:end], start, max(0, end - max(start, first)))

    def less(self, n: int) -> int:
        """With less than that of it where `n` tokens find no room and nobody else has any: of what is forced, one less. 0: it cannot be less."""
        return n - 1 if self.place.ready_end + n > self.n_known else 0

    def note(self, n: int) -> None:
        """So many of the pending tokens are decoded."""
        self.place.n_ready += n

    def look_ahead(self, workers: Workers) -> None:
        """Before its last token is decoded: has a worker look for what may follow."""
        self._sampler.look_ahead(workers, constrained=not self._text.is_thinking)

    def looked_for(self, workers: Workers) -> Job:
        """Where advance() said that a worker looks."""
        return self._constraint.look(workers)

    def too_slow(self) -> PromptError:
        return self._constraint.too_slow()

    @property
    def _constraint(self) -> Constraint:
        constraint = self._sampler.constraint
        assert constraint is not None  # else nothing is looked for
        return constraint

    def advance(self, logits: np.ndarray) -> bool:
        """Says what is forced, and samples the token after all that it has, by the span's float32 [n_outputs, n_vocab].

        False: a worker still looks for what may follow; then it has to be called again with the last of them.
        """
        for row in logits:
            if self.params.logprobs and self.n_known < len(self.tokens):
                self._say(self._logprob(row, self.tokens[self.n_known]))
            else:
                self._say_up_to(len(self.tokens))
                if self.finish_reason is None and not self._sample(row):
                    return False
            if self.finish_reason is not None:
                break
        return True

    def end_of_room(self) -> None:
        """No more of it can be decoded."""
        self._say_up_to(min(len(self.tokens), self.place.ready_end + 1))
        self.finish_reason = self.finish_reason or "length"

    def _sample(self, logits: np.ndarray) -> bool:
        if self._write_tags():  # of a memory that cannot roll back, before which nothing was forced
            self._say(self._logprob(logits, self.tokens[self.n_known]) if self.params.logprobs else None)
            return True
        token = self._sampler.sample(self._without_ends(logits), constrained=not self._text.is_thinking)
        if token is None:
            return False
        if token < 0 or self._vocab.is_eog(token):
            self._t_first = self._t_first if self.is_sampling else time.perf_counter()
            self.finish_reason = "stop"
            self.end = token if token >= 0 else None
            return True
        self._append([token])
        self._say(self._logprob(logits, token) if self.params.logprobs else None)
        if self.finish_reason is None:
            self._constrain_call()
            self._force()
            if not self.params.logprobs and (self._is_over or self._n_left <= 0):  # nothing that follows has to be computed
                self._say_up_to(len(self.tokens))
        return True

    def _constrain_call(self) -> None:
        """Where the model has begun to call a tool, the rest of the answer is what can follow."""
        if self._of_calls is not None and (n := self._text.n_in_call) is not None and self.n_known == len(self.tokens):
            self._sampler.constrain(self._of_calls, self.tokens[len(self.tokens) - n :])
            self._of_calls = None

    def _without_ends(self, logits: np.ndarray) -> np.ndarray:
        """float32 [n_vocab] in which no end is likely that may not come."""
        early = self.n_known - self.n_prompt < self.params.min_tokens
        if not early and not self.params.ignore_eos:
            return logits
        logits = logits.copy()
        logits[[*self._vocab.ends, *(self._stops if early else ())]] = -np.inf
        return logits

    def _force(self) -> None:
        """Appends what has to come next."""
        if not self._write_tags() and not self._text.is_thinking:
            self._append(self._sampler.take_forced(min(_MOST_FORCED, self._n_left)))

    def _write_tags(self) -> bool:
        """Appends what ends a thought for which no tokens are left, once; whether it did."""
        if self._written_tags is None:
            return False
        thinks_of_nothing = not self.params.thinking_budget and len(self.tokens) == self.n_prompt
        if not thinks_of_nothing and not (self._text.is_thinking and self._n_thought >= (self.params.thinking_budget or 0) and self._text.is_whole):
            return False
        tags, self._written_tags = self._written_tags[: self._n_left], None
        self._written = range(len(self.tokens), len(self.tokens) + len(tags))
        self._append(tags)
        self._sampler.write(tags)
        return bool(tags)

    def _append(self, tokens: Sequence[int]) -> None:
        self.tokens += tokens
        if self.branch is not None:
            keys = [self._label | token for token in tokens]
            self._keys += keys
            self.branch.keys += keys

    def _say_up_to(self, n: int) -> None:
        while self.n_known < n and self.finish_reason is None:
            self._say(None)

    def _say(self, logprob: TokenLogprob | None) -> None:
        """The next of the tokens becomes text."""
        self._t_last = time.perf_counter()
        self._t_first = self._t_first if self.is_sampling else self._t_last
        token = self.tokens[self.n_known]
        if token in self._stops:
            self.finish_reason, self.end = "stop", token
            return
        thought, self.n_known = self._text.is_thinking and self.n_known not in self._written, self.n_known + 1
        chunks = self._text.push(self._bytes(token), logprob)
        self._n_thought += thought and self._text.is_thinking
        if self._text.stopped:
            self.finish_reason = "stop"
        elif self.n_known - self.n_prompt >= self.params.max_tokens:
            self.finish_reason = "length"
        elif self.n_known == len(self.tokens) and self._is_over:
            self.finish_reason = "stop"
        for chunk in chunks:
            self.on_chunk(chunk)

    @property
    def _is_over(self) -> bool:
        return self._sampler.is_over and not self._text.is_thinking

    @property
    def _n_left(self) -> int:
        """How many tokens it may still have."""
        return self.params.max_tokens - (len(self.tokens) - self.n_prompt)

    def finish(self) -> None:
        """After its end, for whatever reason: gives out what was held back. What fails here fails this request."""
        try:
            self._sampler.free()
            del self.tokens[self.n_known :]
            for chunk in self._text.flush():
                self.on_chunk(chunk)
            self.warnings += self._text.warnings
        except BaseException as e:
            self.error = self.error or e
        on_end, self.on_chunk, self.on_end = self.on_end, _nothing, _nothing  # what waits for them knows the model, perhaps as the last
        self.has_ended = True
        try:
            on_end()
        except BaseException:
            _log.exception("the end of a call could not be told to whoever waits for it")

    # what came of it

    @property
    def progress(self) -> tuple[int, int]:
        """How many of the prompt's tokens are in the cache, and how many there are; from any thread."""
        branch = self.branch
        n = self.n_prompt if self.is_sampling else branch.ready_end if branch is not None else self._n_read
        return min(n, self.n_prompt), self.n_prompt

    @property
    def text(self) -> str:
        """What has been said, without what may be the beginning of a stop string."""
        return self._text.text

    @property
    def n_said(self) -> tuple[int, int]:
        """How many characters that is, and how many tokens prompt and text are up to there."""
        return len(self._text.text), self.n_prompt + self._text.n_tokens

    @property
    def generated(self) -> list[int]:
        """The tokens after the prompt, those of the thought and of a stop string too."""
        return self.tokens[self.n_prompt : self.n_known]

    @property
    def reasoning(self) -> str:
        """What it thought so far."""
        return self._text.reasoning

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Those that are whole."""
        return list(self._text.calls)

    def reply(self) -> Reply:
        """Raises the error that ended it, if one did, or ResultError."""
        if self.error is not None:
            raise copied(self.error)
        return self._reply(result=self._result if self.finish_reason else None)

    def outcome(self) -> Reply:
        """The same, with the error in it: after a ResultError there still is a text."""
        try:
            return self.reply()
        except ResultError as e:
            return self._reply(error=e)
        except Exception as e:
            return Reply("", self.usage, "error", error=e, warnings=list(self.warnings))

    @property
    def usage(self) -> Usage:
        n = self.n_known - self.n_prompt
        seconds = self._t_last - self._t_first
        return Usage(
            prompt_tokens=self.n_prompt,
            cached_tokens=self.n_cached or 0,
            completion_tokens=n,
            ttft_ms=(self._t_first - self._t_start) * 1e3,
            tokens_per_second=(n - 1) / seconds if n > 1 and seconds > 0 else 0.0,
            reasoning_tokens=self._n_thought,
        )

    def _reply(self, **more: Any) -> Reply:
        return Reply(
            self._text.text,
            self.usage,
            "tool_calls" if self.finish_reason == "stop" and self._text.calls else self.finish_reason or "cancelled",
            self.generated,
            self._text.logprobs,
            tool_calls=self.tool_calls,
            reasoning=self._text.reasoning,
            stop_string=self._text.stop_string,
            warnings=list(self.warnings),
            **more,
        )

    @cached_property
    def _result(self) -> Any:
        return self._result_of and self._result_of(self._text.text, self._text.logprobs)

    def _bytes(self, token: int) -> bytes:
        """What a token adds to the text; a control token only where it is of a thought's tags."""
        name = self._vocab.control_tokens.get(token) if self._tags else None
        return self._vocab.token_bytes(token, special=name is not None and name in self._tags)

    def _logprob(self, logits: np.ndarray, token: int) -> TokenLogprob:
        top = float(logits.max())
        total = top + float(np.log(np.exp(logits - top).sum(dtype=np.float64)))
        n = min(self.params.top_logprobs, len(logits))
        best: Sequence[int] = np.argpartition(logits, -n)[-n:].tolist() if n else []
        alternatives = sorted(((float(logits[i]) - total, int(i)) for i in best), key=lambda x: (-x[0], x[1]))
        return TokenLogprob(
            "", token, float(logits[token]) - total, tuple(TokenLogprob(self._vocab.token_text(i), i, logprob) for logprob, i in alternatives)
        )


def _in_vocab(name: str, tokens: Sequence[int], vocab: Vocab) -> Sequence[int]:
    """Raises PromptError for a token that there is not."""
    for token in tokens:
        if not 0 <= token < vocab.n_tokens:
            raise PromptError(f"{name}: expected tokens from 0 to {vocab.n_tokens - 1}, got {token}")
    return tokens


def _nothing(*_: Any) -> None:
    pass

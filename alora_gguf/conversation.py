"""A conversation with the base model, and the intrinsics that judge it, on one KV cache."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from .adapter import Adapter
from .context import Span
from .errors import NoInvocationError, PromptError
from .generate import Branch, generate
from .reply import Reply, Stream
from .sampling import SamplingParams
from .template import Message

if TYPE_CHECKING:
    from .model import Model

# New tokens before an invocation: up to so many ride along in each fork's batch; more are first
# computed once, in the conversation's own sequence, for all forks and the next turn.
_N_RIDE_ALONG = 16


class Conversation:
    """Made by Model.conversation. `messages` is what has been said.

    Its sequence in the cache holds the base model's cells of a prefix of `_tokens`, the tokens of
    `_text`. A call that fails leaves messages and cache as they were.
    """

    def __init__(self, model: "Model", messages: Sequence[Message]):
        self.messages: list[Message] = [dict(m) for m in messages]
        for i, message in enumerate(self.messages):
            _check_message(f"messages[{i}]", message)
        self._model = model
        self._context = model.context
        self._text = ""
        self._tokens: list[int] = []
        self._n_cached = 0
        self._in_call = threading.Lock()
        with self._context.lock:
            self._seq: int | None = self._context.acquire()

    # calls

    def add(self, role: str, content: str) -> None:
        """Adds a message that nobody answers. It is computed when it is needed."""
        message = {"role": role, "content": content}
        _check_message("message", message)
        self.messages.append(message)

    def ask(
        self, content: str, *, stream: bool = False, on_text: Callable[[str], Any] | None = None, **sampling: Any
    ) -> Reply | Stream[str, Reply]:
        """Adds a user's message and the base model's answer.

        `on_text` gets each piece of the answer as it comes; with `stream` the pieces are iterated
        over instead, and `.result` is the Reply. `sampling` is as in SamplingParams.
        Raises ContextFullError or PromptError.
        """
        t_start = time.perf_counter()
        params = SamplingParams.of(sampling)
        messages = [*self.messages, {"role": "user", "content": content}]
        _check_message("message", messages[-1])
        text, tokens = self._prompt(messages, add_generation_prompt=True)
        answer = self._answer(messages, text, tokens, params, t_start)
        return answer if stream else _drain(answer, on_text)

    def invoke(
        self, name: str, *, stream: bool = False, on_text: Callable[[str], Any] | None = None, **sampling: Any
    ) -> Reply | Stream[str, Reply]:
        """Runs an intrinsic on what has been said, on a fork of the cache; nothing is added.

        Greedy unless `sampling` says otherwise. Raises UnknownAdapterError, NoInvocationError,
        ContextFullError, SequenceLimitError.
        """
        results = self.invoke_all([name], stream=True, **sampling)

        def pieces():
            yield
            with closing(results):
                for _, piece in results:
                    yield piece

        one = Stream(pieces(), lambda: results.result[name], results.cancel)
        return one if stream else _drain(one, on_text)

    def invoke_all(
        self, names: Sequence[str], *, stream: bool = False, on_text: Callable[[str, str], Any] | None = None, **sampling: Any
    ) -> dict[str, Reply] | Stream[tuple[str, str], dict[str, Reply]]:
        """Runs several intrinsics at once, in one batch. As invoke; pieces come as (name, text)."""
        t_start = time.perf_counter()
        params = SamplingParams.of(sampling, temperature=0, max_tokens=64)
        adapters = [self._model.adapter(name) for name in dict.fromkeys(names)]
        for adapter in adapters:
            if not adapter.is_activated:
                raise NoInvocationError(
                    f"adapter {adapter.name!r}: expected invocation tokens, got an ordinary LoRA; "
                    "convert it with `alora-convert --invocation TEXT`")
        text, tokens = self._prompt(self.messages, add_generation_prompt=False)
        results = self._forks(adapters, text, tokens, params, t_start)
        return results if stream else _drain(results, on_text and (lambda item: on_text(*item)))

    def close(self) -> None:
        """Gives its cells and its sequence back."""
        if self._seq is not None and self._context.ptr:
            with self._context.lock:
                self._context.release(self._seq)
        self._seq = None

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        if getattr(self, "_seq", None) is not None:
            self.close()

    # prompts

    def _prompt(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> tuple[str, list[int]]:
        """The text and tokens of the messages; what is cached keeps its tokens, where the text allows."""
        text = self._model.render(messages, add_generation_prompt=add_generation_prompt)
        if self._text and text.startswith(self._text):
            return text, self._tokens + self._model.tokenize(text[len(self._text) :])
        vocab = self._model.vocab
        add_bos = vocab.add_bos and not text.startswith(vocab.detokenize([vocab.bos]))
        return text, vocab.tokenize(text, add_bos=add_bos)

    def _shared(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` are in this conversation's cells; at least one is left to decode."""
        n_max = min(self._n_cached, len(tokens) - 1)
        n = 0
        while n < n_max and tokens[n] == self._tokens[n]:
            n += 1
        return n if n == self._n_cached or self._context.memory_rolls_back else 0

    # computation

    @contextmanager
    def _busy(self):
        """One call at a time: two would decode over each other's cells."""
        if self._seq is None or not self._context.ptr:
            raise PromptError("conversation: expected an open one, got one that was closed; begin a new one")
        if not self._in_call.acquire(blocking=False):
            raise PromptError("conversation: expected no other call on it, got one in progress; exhaust or close its stream first")
        try:
            yield
        finally:
            self._in_call.release()

    def _answer(self, messages: list[Message], text: str, tokens: list[int], params: SamplingParams, t_start: float):
        branch: Branch

        def pieces():
            nonlocal branch
            with self._busy():
                with self._context.lock:
                    n = self._cut(self._shared(tokens))
                branch = Branch(self._seq, tokens, n, params, self._model.vocab, t_start)
                done = False
                try:
                    yield
                    with closing(generate(self._context, [branch])) as steps:
                        for _, piece in steps:
                            yield piece
                    done = True
                except GeneratorExit:
                    done = True  # what was said until then counts
                finally:
                    with self._context.lock:
                        self._keep(branch, text, messages) if done else self._cut(n)

        return Stream(pieces(), lambda: branch.reply(), lambda: setattr(branch, "cancelled", True))

    def _keep(self, branch: Branch, text: str, messages: list[Message]) -> None:
        """Makes the branch's tokens this conversation's own, and its text a message."""
        self._text, self._tokens, self._n_cached = text + branch.raw_text, branch.tokens, branch.n_decoded
        if len(branch.tokens) > branch.n_prompt or branch.finish_reason == "stop":
            self.messages = [*messages, {"role": "assistant", "content": branch.reply().text}]

    def _cut(self, n: int) -> int:
        """Cuts the cells back to the first `n` tokens, or to none if this memory cannot; returns how many are left."""
        if not n or not self._context.truncate(self._seq, n):
            self._context.clear(self._seq)
            n = 0
        self._n_cached = n
        return n

    def _forks(self, adapters: list[Adapter], text: str, tokens: list[int], params: SamplingParams, t_start: float):
        context = self._context
        branches: dict[Branch, str] = {}

        def pieces():
            seqs: list[int] = []
            with self._busy():
                try:
                    with context.lock:
                        if len(tokens) - self._shared(tokens) > _N_RIDE_ALONG:
                            self._extend(text, tokens)
                        for adapter in adapters:
                            prompt = tokens + adapter.invocation_tokens
                            n = self._shared(prompt)
                            seq = context.acquire()
                            seqs.append(seq)
                            if n:
                                context.fork(self._seq, seq, n)
                            context.activate(seq, adapter.ptr, len(tokens))
                            branches[Branch(seq, prompt, n, params, self._model.vocab, t_start)] = adapter.name
                    yield
                    with closing(generate(context, list(branches))) as steps:
                        for branch, piece in steps:
                            yield branches[branch], piece
                except GeneratorExit:
                    pass
                finally:
                    with context.lock:
                        for seq in seqs:
                            context.release(seq)

        def cancel():
            for branch in branches:
                branch.cancelled = True

        return Stream(pieces(), lambda: {name: branch.reply() for branch, name in branches.items()}, cancel)

    def _extend(self, text: str, tokens: list[int]) -> None:
        """Computes `tokens` in this conversation's own sequence."""
        n = kept = self._cut(self._shared(tokens))
        try:
            while n < len(tokens):
                chunk = tokens[n : n + self._context.n_batch]
                self._context.decode([Span(self._seq, chunk, n, "none")])
                n += len(chunk)
        except BaseException:
            self._cut(kept)
            raise
        self._text, self._tokens, self._n_cached = text, tokens, n


def _check_message(where: str, message: Message) -> None:
    if not (isinstance(message.get("role"), str) and isinstance(message.get("content"), str)):
        raise PromptError(f"{where}: expected role and content as text, got {message!r:.80}")


def _drain(stream: Stream, on_item: Callable[[Any], Any] | None):
    try:
        for item in stream:
            if on_item:
                on_item(item)
    except BaseException:
        stream.close()
        raise
    return stream.result

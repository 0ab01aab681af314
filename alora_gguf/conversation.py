"""A conversation with the base model, and the intrinsics that judge it, on one KV cache."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from .adapter import Adapter
from .context import Span
from .errors import ClosedError, NoInvocationError, PromptError
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
        _check_messages(messages)
        self.messages: list[Message] = [dict(m) for m in messages]
        self._model = model
        self._context = model.context
        self._text = ""
        self._tokens: list[int] = []
        self._n_cached = 0
        self._in_call = threading.Lock()
        self._closed = False
        with self._context.lock:
            self._seq: int | None = self._context.acquire()

    # calls

    def add(self, role: str, content: str) -> None:
        """Adds a message that nobody answers. It is computed when it is needed."""
        message = {"role": role, "content": content}
        _check_messages([message])
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
        answer = self._answer({"role": "user", "content": content}, SamplingParams.of(sampling), t_start)
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
            with closing(results):
                yield
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
        if isinstance(names, str):
            raise PromptError(f"names: expected a list of adapters' names, got {names!r}; use invoke() for one")
        adapters = [self._model.adapter(name) for name in dict.fromkeys(names)]
        for adapter in adapters:
            if not adapter.is_activated:
                raise NoInvocationError(
                    f"adapter {adapter.name!r}: expected invocation tokens, got an ordinary LoRA; "
                    "use an aLoRA, whose adapter_config.json has alora_invocation_tokens")
        results = self._forks(adapters, params, t_start)
        return results if stream else _drain(results, on_text and (lambda item: on_text(*item)))

    def close(self) -> None:
        """Gives its cells and its sequence back; those of a call in progress when that ends."""
        self._closed = True
        if self._in_call.acquire(blocking=False):
            if self._seq is not None:
                with self._context.lock:
                    self._context.release(self._seq)
            self._seq = None
            self._in_call.release()

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
        _check_messages(messages)
        text = self._model.render(messages, add_generation_prompt=add_generation_prompt)
        if self._text and text.startswith(self._text):
            tokens = self._tokens + self._model.tokenize(text[len(self._text) :])
        else:
            vocab = self._model.vocab
            tokens = vocab.tokenize(text, add_bos=vocab.add_bos and not text.startswith(vocab.detokenize([vocab.bos])))
        self._context.check_room(len(tokens))
        return text, tokens

    def _shared(self, tokens: Sequence[int], n_most: int) -> int:
        """How many of the first `n_most` of `tokens` are in this conversation's cells."""
        n_max = min(self._n_cached, n_most)
        n = 0
        while n < n_max and tokens[n] == self._tokens[n]:
            n += 1
        return n if n == self._n_cached or self._context.memory_rolls_back else 0

    # computation

    @contextmanager
    def _busy(self):
        """One call at a time: two would decode over each other's cells."""
        if not self._in_call.acquire(blocking=False):
            raise PromptError("conversation: expected no other call on it, got one in progress; exhaust or close its stream first")
        try:
            if self._closed:
                raise ClosedError("conversation: expected an open one, got one that was closed; begin a new one")
            self._context.check_open()
            yield
        finally:
            self._in_call.release()
            if self._closed:
                self.close()

    def _answer(self, message: Message, params: SamplingParams, t_start: float):
        branch: Branch

        def pieces():
            nonlocal branch
            with self._busy():
                text, tokens = self._prompt([*self.messages, message], add_generation_prompt=True)
                if not tokens:
                    raise PromptError("prompt: expected one or more tokens, got none; check the chat template")
                with self._context.lock:
                    n = self._cut(self._shared(tokens, len(tokens) - 1))
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
                        self._keep(branch, text, message) if done else self._cut(n)

        return Stream(pieces(), lambda: branch.reply(), lambda: setattr(branch, "cancelled", True))

    def _keep(self, branch: Branch, text: str, message: Message) -> None:
        """Makes the branch's tokens this conversation's own, and its text the answer to the message."""
        self._text, self._tokens, self._n_cached = text + branch.raw_text, branch.tokens, branch.n_decoded
        if len(branch.tokens) > branch.n_prompt or branch.finish_reason == "stop":
            self.messages += [message, {"role": "assistant", "content": branch.reply().text}]

    def _cut(self, n: int) -> int:
        """Cuts the cells back to the first `n` tokens, or to none if this memory cannot; returns how many are left."""
        if not n or not self._context.truncate(self._seq, n):
            self._context.clear(self._seq)
            n = 0
        self._n_cached = n
        return n

    def _forks(self, adapters: list[Adapter], params: SamplingParams, t_start: float):
        context = self._context
        branches: dict[Branch, str] = {}

        def pieces():
            seqs: list[int] = []
            with self._busy():
                text, tokens = self._prompt(self.messages, add_generation_prompt=False)
                try:
                    with context.lock:
                        n_reused = self._shared(tokens, len(tokens))
                        if len(tokens) - n_reused > _N_RIDE_ALONG:
                            self._extend(text, tokens)
                        n = self._shared(tokens, len(tokens))
                        for adapter in adapters:
                            seq = context.acquire()
                            seqs.append(seq)
                            if n:
                                context.fork(self._seq, seq, n)
                            context.activate(seq, adapter.ptr, len(tokens))
                            branch = Branch(seq, tokens + adapter.invocation_tokens, n, params, self._model.vocab, t_start)
                            branch.n_cached = n_reused if not branches else n  # what was computed just now, the first pays for
                            branches[branch] = adapter.name
                    yield
                    with closing(generate(context, list(branches))) as steps:
                        for branch, piece in steps:
                            yield branches[branch], piece
                except GeneratorExit:
                    pass
                finally:
                    with context.lock:
                        if branches:
                            self._adopt(next(iter(branches)), text, tokens)
                        for seq in seqs:
                            context.release(seq)

        def cancel():
            for branch in branches:
                branch.cancelled = True

        return Stream(pieces(), lambda: {name: branch.reply() for branch, name in branches.items()}, cancel)

    def _extend(self, text: str, tokens: list[int]) -> None:
        """Computes `tokens` in this conversation's own sequence."""
        n = kept = self._cut(self._shared(tokens, len(tokens)))
        try:
            while n < len(tokens):
                chunk = tokens[n : n + self._context.n_batch]
                self._context.decode([Span(self._seq, chunk, n, "none")])
                n += len(chunk)
        except BaseException:
            self._cut(kept)
            raise
        self._text, self._tokens, self._n_cached = text, tokens, n

    def _adopt(self, fork: Branch, text: str, tokens: list[int]) -> None:
        """Takes over what a fork computed of `tokens`: before its invocation the cells are the base's own."""
        n = self._shared(tokens, len(tokens))
        if n < len(tokens) <= fork.n_decoded and self._context.memory_rolls_back:
            self._context.fork(fork.seq_id, self._seq, len(tokens), self._cut(n))
            self._text, self._tokens, self._n_cached = text, tokens, len(tokens)


def _check_messages(messages: Sequence[Message]) -> None:
    for i, message in enumerate(messages):
        if not (isinstance(message, Mapping) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)):
            raise PromptError(f"messages[{i}]: expected role and content as text, got {message!r:.80}")


def _drain(stream: Stream, on_item: Callable[[Any], Any] | None):
    try:
        for item in stream:
            if on_item:
                on_item(item)
    except BaseException as e:
        stream.throw(e)  # the call fails with it
    return stream.result

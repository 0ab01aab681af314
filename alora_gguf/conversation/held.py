"""What a conversation holds, and what is made of it: prompts, requests of intrinsics, typed questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Any, NamedTuple

from ..engine.adapter import Adapter
from ..engine.cache import Activation
from ..engine.engine import Engine
from ..engine.request import Request
from ..errors import ClosedError, PromptError
from ..prompt import window
from ..prompt.builder import Setting
from ..prompt.io_yaml import documents_of, sampling_of
from ..prompt.messages import Message, check_messages, checked_variables
from ..prompt.token_history import Known
from ..prompt.tools.schemas import Schema, Tool, tools_of
from ..prompt.window import check_on_full, dropped_line, without_oldest
from ..reply import Decision
from ..runtime.sampling import SamplingParams
from .panel import Panel, Posed, Where
from .turn import Turns

_MOST_ASIDES = 64
_LEAST_ROOM = 32  # tokens of a question on documents, and of its answer
_ASIDE_SHARE, _LEAST_ASIDE = 8, 64  # room for what an intrinsic answers: one part of so many of the context; tokens


class Aside(NamedTuple):
    """What stands between a conversation's first `after` tokens and the start of an intrinsic: tokens of the base."""

    after: int
    tokens: tuple[int, ...]


class Held:
    """The state of a Conversation, which says what its attributes are; and besides

    engine      where it is computed
    asking      whose turn it is
    asides      how intrinsics were asked on it, those asked last at the end
    """

    def __init__(
        self,
        engine: Engine,
        messages: Sequence[Message],
        adapter: Adapter | None = None,
        cache_salt: Hashable = None,
        *,
        tools: Sequence[Tool] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        on_full: str = "error",
    ):
        check_messages(messages)
        self._messages: list[Message] = [dict(m) for m in messages]
        self.documents: list[dict[str, str]] = []
        self.notes: dict[str, Any] = {}
        self.chat_template_kwargs = checked_variables(chat_template_kwargs)
        self.tools = tools_of(tools)
        self.began = datetime.now()
        if adapter is not None and adapter.is_activated:
            raise PromptError(f"adapter {adapter.name!r}: expected an ordinary LoRA for a whole conversation, got an intrinsic; invoke() it")
        self.adapter = adapter
        self.cache_salt = cache_salt
        self.engine = engine
        self.asides: dict[Aside, None] = {}
        self.on_full = check_on_full(on_full)
        self._first: Message | None = None  # that prompts begin with, where some are left out
        self.asking = Turns()
        self._closed = False

    def __repr__(self) -> str:
        held = "" if self.adapter is None else f", with {self.adapter.name!r}"
        return f"<Conversation: {len(self._messages)} messages, {len(self.documents)} documents{held}>"

    @property
    def messages(self) -> list[Message]:
        """What has been said, with every answer that has ended."""
        self.asking.settle()
        return self._messages

    @messages.setter
    def messages(self, messages: list[Message]) -> None:
        self._messages = messages

    @property
    def n_dropped(self) -> int:
        """How many of the oldest messages behind the system's are in no prompt any more."""
        return window.n_before(self._messages, self._first)

    @n_dropped.setter
    def n_dropped(self, n: int) -> None:
        self._first = window.first_kept(self._messages, n)

    @property
    def n_ctx(self) -> int:
        """How many tokens it can have, as far as the model was trained."""
        return self.engine.n_ctx

    @property
    def can_have_more(self) -> bool:
        """Whether a larger context gives it more tokens than that."""
        return self.n_ctx < (self.engine.vocab.n_trained or self.n_ctx + 1)

    def check_open(self) -> None:
        if self._closed:
            raise ClosedError("conversation: expected an open one, got one that was closed; begin a new one")
        self.engine.check_open()

    def close(self) -> None:
        """Ends it: it takes no more calls. What it has in the cache stays until there is need for the room."""
        self._closed = True

    # what prompts are made of

    def keys(self, tokens: Sequence[int]) -> list[int]:
        """What the cache knows the cells of these tokens by."""
        return self.engine.cache.keys(tokens, self.activations(), self.cache_salt)

    def activations(self) -> list[Activation]:
        return [Activation(self.adapter, 0)] if self.adapter is not None else []

    def unread(self, more: Mapping[str, Any] | None) -> list[str]:
        """Warnings of what is nothing to the chat template."""
        return self.engine.template.unread({**self.chat_template_kwargs, **(more or {})})

    def variables(self, more: Mapping[str, Any] | None = None, tools: Sequence[Schema] | None = None) -> dict[str, Any]:
        """Of the chat template: its own and `more`, and the tools, which are its own too where none are given."""
        variables = {**self.chat_template_kwargs, **checked_variables(more)}
        tools = self.tools if tools is None else tools
        return {**variables, "tools": list(tools)} if tools and "tools" not in (more or {}) else variables

    def setting(self, variables: Mapping[str, Any]) -> Setting:
        return Setting(self.documents, variables, self.began, self.cache_salt)

    # prompts

    def cells(self) -> tuple[str, list[int]]:
        """The text of what has been said, and its tokens."""
        prompt = self.engine.prompts.chat(without_oldest(self.messages, self.n_dropped), self.setting(self.variables()), add_generation_prompt=False)
        return prompt.text, prompt.tokens

    def n_beside(self, documents: Sequence[Mapping[str, str]], n: int) -> int:
        """What a prompt has beside documents of `n` tokens at least: the system message, what the template writes, a short question and answer."""
        begin = window.system_messages(self.messages)
        try:
            prompt = self.engine.prompts.chat([*begin, {"role": "user", "content": ""}], self.setting(self.variables())._replace(documents=documents))
        except PromptError:  # as where there is no template
            return _LEAST_ROOM
        return max(0, len(prompt.tokens) - n) + _LEAST_ROOM

    def fork(
        self,
        adapter: Adapter,
        messages: Sequence[Message],
        *,
        documents: Sequence[str | Mapping[str, str]] | None = None,
        arguments: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        with_reasoning: bool = False,
        known: Known | None = None,
        background: bool = False,
        t_start: float | None = None,
    ) -> Request:
        """An intrinsic on messages, as a request that is not submitted yet. `known`: a text and its tokens."""
        self.check_open()
        prompts = self.engine.prompts
        setting = self.setting(self.variables(chat_template_kwargs))
        given = setting if documents is None else setting._replace(documents=documents)
        prompt = prompts.intrinsic(messages, adapter.intrinsic, given, arguments=arguments or {}, with_thoughts=with_reasoning, known=known)
        assert prompt.start is not None and prompt.n_shared is not None  # of an intrinsic
        if known is None and prompt.start > prompt.n_shared:
            self.note_aside(Aside(prompt.n_shared, tuple(prompt.tokens[prompt.n_shared : prompt.start])))
        if known is None and prompt.text:
            self.engine.history.remember(prompt.text, prompt.tokens[: prompt.n_shared], self.cache_salt)
        params = SamplingParams.of(dict(sampling or {}), **sampling_of(prompt.asked))
        if prompt.asked and prompt.asked.top_logprobs:  # its result needs them, whatever the caller asks for
            params = dataclasses.replace(params, logprobs=True, top_logprobs=max(params.top_logprobs, prompt.asked.top_logprobs))
        return Request(
            prompt.tokens,
            params,
            self.engine.vocab,
            checkpoint=(min(prompt.n_shared, prompt.start) if adapter.is_activated else prompt.n_shared) or None,
            background=background,
            cache_salt=self.cache_salt,
            # an ordinary LoRA takes the place of the one that the conversation is held with, as both are active from the first token on
            activations=[*(self.activations() if adapter.is_activated else ()), Activation(adapter, prompt.start)],
            t_start=t_start,
            result_of=prompt.result_of,
        )

    def panel(
        self,
        questions: Mapping[str, Posed],
        messages: Sequence[Message],
        on_decision: Callable[[str, Decision], None],
        on_end: Callable[[], None],
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        known: Known | None = None,
        **options: Any,
    ) -> Panel:
        """Typed questions about messages, which are not submitted yet. known: a text and its tokens; options: as Panel's."""
        self.check_open()
        where = Where(self.engine, list(messages), self.setting(self.variables(chat_template_kwargs)), self.activations(), known)
        return Panel(where, questions, on_decision, on_end, **options)

    def note_aside(self, aside: Aside) -> None:
        """That an intrinsic was asked so: save() keeps its cells too."""
        self.asides.pop(aside, None)
        self.asides[aside] = None
        for oldest in list(self.asides)[:-_MOST_ASIDES]:
            self.asides.pop(oldest, None)

    def submit(self, *requests: Request) -> None:
        self.engine.loop.submit(*requests)

    def forks(
        self,
        adapters: Sequence[Adapter],
        documents: Sequence[str | Mapping[str, str]] | None,
        arguments: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        t_start: float,
        chat_template_kwargs: Mapping[str, Any] | None,
        with_reasoning: bool,
    ) -> dict[Adapter, Callable[[], Request]]:
        """Intrinsics on what has been said: what makes the request of each. Raises PromptError for what none of them can do with."""
        sampling = {name: value for name, value in options.items() if name in SamplingParams.names()}
        SamplingParams.of(sampling)
        documents_of(documents)
        check_messages(self.messages)
        messages = without_oldest(self.messages, self.n_dropped)
        given = {**{name: value for name, value in options.items() if name not in sampling}, **(arguments or {})}
        taken = {adapter: adapter.io.arguments if adapter.io else [] for adapter in adapters}
        known = {name for names in taken.values() for name in names}
        for name in given:
            if name not in known:
                allowed = ", ".join(sorted(known | SamplingParams.names()))
                raise PromptError(f"{name}: expected one of {allowed}, got an unknown argument")

        fewer = cache(partial(self.fewer, chat_template_kwargs))

        def make(adapter: Adapter) -> Request:
            mine = {name: given[name] for name in taken[adapter] if name in given}
            of = partial(
                self.fork,
                adapter,
                documents=documents,
                arguments=mine,
                sampling=sampling,
                chat_template_kwargs=chat_template_kwargs,
                with_reasoning=with_reasoning,
                t_start=t_start,
            )
            fork, left_out = of(messages), []
            n_answer = min(fork.params.max_tokens, max(_LEAST_ASIDE, self.n_ctx // _ASIDE_SHARE))
            if fork.n_prompt + n_answer > self.n_ctx and (seen := fewer()):
                fork, left_out = of(seen[0]), seen[1]
            fork.warnings += [*adapter.warnings, *self.unread(chat_template_kwargs), *left_out]
            return fork

        return {adapter: partial(make, adapter) for adapter in adapters}

    # what is left out

    def n_to_drop(self, messages: Sequence[Message], setting: Setting, max_tokens: int) -> int:
        """How many messages an answer of so many tokens leaves out, of which it may be cut to a quarter of the context."""
        if self.on_full == "error":
            return self.n_dropped

        def n_tokens(kept: list[Message]) -> int:
            return len(self.engine.prompts.chat(kept, setting).tokens)

        fits_again = self.fits_again(messages, setting, max_tokens)
        return window.n_to_drop(messages, 0 if fits_again else self.n_dropped, n_tokens, self._n_most(max_tokens))

    def fits_again(self, messages: Sequence[Message], setting: Setting, max_tokens: int) -> bool:
        """Whether what was left out has room now beside such an answer, as after some /undo or in a larger context."""
        return self.n_dropped > 0 and len(self.engine.prompts.chat([*messages], setting).tokens) <= self._n_most(max_tokens)

    def _n_most(self, max_tokens: int) -> int:
        return self.n_ctx - min(max_tokens, self.n_ctx // 4)

    def fewer(self, chat_template_kwargs: Mapping[str, Any] | None) -> tuple[list[Message], list[str]] | None:
        """What intrinsics and typed questions see where the context has no room for them, and a line about it; None if it cannot be less.

        As many of the oldest turns are left out as leave half of the tokens, or half of the context. The conversation stays as it is.
        """
        if self.on_full == "error" or not self.messages:
            return None
        setting = self.setting(self.variables(chat_template_kwargs))

        def n_tokens(kept: list[Message]) -> int:
            return len(self.engine.prompts.chat(kept, setting).tokens)

        n_most = min(n_tokens(without_oldest(self.messages, self.n_dropped)) - 1, self.n_ctx)
        n = window.n_to_drop(self.messages, self.n_dropped, n_tokens, n_most)
        return (without_oldest(self.messages, n), [dropped_line(n, "for this")]) if n > self.n_dropped else None

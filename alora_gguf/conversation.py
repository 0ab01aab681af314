"""A conversation with the base model, and the intrinsics that judge it, on one KV cache."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from os import PathLike
from typing import TYPE_CHECKING, Any

from .adapter import Adapter
from .engine.cache import Activation
from .engine.channel import Channel
from .engine.request import Request
from .engine.text import Piece
from .errors import ClosedError, PromptError
from .intrinsic import IntrinsicRequest, documents_of
from .prompt.builder import Intrinsic, Prompt, Setting
from .prompt.messages import Message, check_messages, checked_variables
from .prompt.token_history import Known
from .reply import Reply, Stream, Verdict, drain
from .sampling import SamplingParams
from .watch import Watcher

if TYPE_CHECKING:
    from .model import Model


class Conversation:
    """Made by Model.conversation.

    messages    what has been said, in OpenAI's form
    documents   what it is about, with `text`, `doc_id` and perhaps `title`: they stand before the messages
    notes       values of JSON that a program keeps with it; save() writes them too
    chat_template_kwargs   what the chat template gets beside the messages, as `enable_thinking`
    began       the time that templates write which write one: a conversation keeps its date
    space       it shares cells with conversations of the same one only

    Any thread may call it. It owns no part of the cache: what it has computed is found there by what
    it is, and is computed again if it had to go. A call that fails leaves the messages as they were.
    """

    def __init__(
        self,
        model: Model,
        messages: Sequence[Message],
        adapter: Adapter | None = None,
        space: Hashable = None,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        began: datetime | None = None,
    ):
        check_messages(messages)
        self.messages: list[Message] = [dict(m) for m in messages]
        self.documents: list[dict[str, str]] = []
        self.notes: dict[str, Any] = {}
        self.chat_template_kwargs = checked_variables(chat_template_kwargs)
        self.began = datetime.now() if began is None else began
        if adapter is not None and adapter.is_activated:
            raise PromptError(f"adapter {adapter.name!r}: expected an ordinary LoRA for a whole conversation, got an intrinsic; invoke() it")
        self.adapter = adapter
        self.space = space
        self._model = model
        self._asking = threading.Lock()
        self._closed = False

    # calls

    def add(self, role: str, content: str | Sequence[Mapping[str, str]] | None = None, **fields: Any) -> None:
        """Adds a message that nobody answers. It is computed when it is needed.

        content   text, text parts, or None where `fields` say it all: as `tool_calls`, `tool_call_id`, `reasoning_content`, `name`

        Raises PromptError for what the chat template does not take.
        """
        message = {"role": role, "content": content, **fields}
        check_messages([message])
        self._model.template.fit([*self.messages, message])
        self.messages.append(message)

    def attach(self, text: str, title: str | None = None) -> None:
        """Adds a document. The base sees it, by the chat template or in a first message, and so does every intrinsic.

        What has been said is computed anew behind it. Raises ContextFullError if the documents alone are more than the context.
        """
        check_messages([{"role": "user", "content": text}])
        documents = documents_of([*self.documents, {"text": text, **({"title": title} if title else {})}])
        self._model.context.check_room(sum(len(self._model.tokenize(d["text"])) for d in documents))
        self.documents = documents

    def ask(
        self,
        content: str | Sequence[Mapping[str, str]],
        *,
        watch: Sequence[str] = (),
        watch_every: int | None = None,
        stream: bool = False,
        on_text: Callable[[Piece], Any] | None = None,
        on_verdict: Callable[[Verdict], Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> Reply | Stream[Piece | Verdict, Reply]:
        """Adds a user's message and the base model's answer.

        content                text, or text parts
        chat_template_kwargs   what the chat template gets for this answer, beside the conversation's own

        `on_text` gets each piece of the answer as it comes; with `stream` the pieces are iterated
        over instead, and `.result` is the Reply. `sampling` is as in SamplingParams.
        The intrinsics in `watch` judge what has been said at each sentence, or every `watch_every`
        tokens, and at the end: `on_verdict`, or the stream, gets each Verdict among the pieces.
        Raises ContextFullError or PromptError.
        """
        t_start = time.perf_counter()
        self._check_open()
        params = SamplingParams.of(sampling)
        if not (watch_every is None or isinstance(watch_every, int) and watch_every > 0):
            raise PromptError(f"watch_every: expected a number of tokens from 1 on, got {watch_every!r}")
        if isinstance(watch, str):
            raise PromptError(f"watch: expected a list of adapters' names, got {watch!r}")
        watching = [self._model.intrinsic(name) for name in dict.fromkeys(watch)]
        messages = [*self.messages, {"role": "user", "content": content}]
        prompt = self._prompt(messages, add_generation_prompt=True, more=chat_template_kwargs)
        channel: Channel[Piece | Verdict] = Channel()
        request = Request(
            prompt.tokens, params, self._model.vocab, activations=self._activations(), space=self.space, t_start=t_start,
            thinking=self._model.template.features.thinking, in_thought=prompt.thinks)
        watcher = Watcher(self, watching, watch_every, channel.put, channel.end) if watching else None

        def on_piece(piece: Piece) -> None:
            channel.put(piece)
            if watcher:
                watcher.on_piece(request, messages, prompt.text)

        def settle() -> None:
            """Makes the answer part of what has been said, if it did not fail, and lets the next question come."""
            try:
                if request.error is None:
                    self._keep(request, prompt, messages)
            finally:
                self._asking.release()

        def on_end() -> None:
            if stream:
                settle()
            watcher.on_answer_end(request, messages, prompt.text) if watcher else channel.end()

        def cancel(error: BaseException | None = None) -> None:
            request.cancel(error)
            if watcher:
                watcher.cancel()

        def result() -> Reply:
            reply = request.reply()
            return dataclasses.replace(reply, verdicts=list(watcher.verdicts)) if watcher else reply

        def on_item(item: Piece | Verdict) -> None:
            take = on_verdict if isinstance(item, Verdict) else on_text
            if take:
                take(item)

        request.on_piece, request.on_end = on_piece, on_end
        if not self._asking.acquire(blocking=False):
            raise PromptError("conversation: expected one question at a time, got another that is being answered; wait, or close its stream")
        try:
            self.submit(request)
        except BaseException:
            self._asking.release()
            raise
        answer = Stream(channel, result, cancel)
        if stream:
            return answer
        try:
            return drain(answer, on_item)
        finally:
            settle()  # here, because on_text can fail after the answer's end

    def invoke(
        self,
        name: str,
        *,
        documents: Sequence[str | Mapping[str, str]] | None = None,
        arguments: Mapping[str, Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        with_reasoning: bool = False,
        stream: bool = False,
        on_text: Callable[[Piece], Any] | None = None,
        **options: Any,
    ) -> Reply | Stream[Piece, Reply]:
        """Runs an intrinsic on what has been said, on a fork of the cache; nothing is added.

        documents     texts, or mappings with `text` and perhaps `doc_id` and `title`, for the io.yaml or the chat template; in
                      place of those that are attached
        arguments     of the instruction in io.yaml
        chat_template_kwargs   what the chat template gets beside the conversation's own
        with_reasoning   it sees what the model thought too; else it judges what was said
        options       as in SamplingParams; any other name is an argument of the instruction too

        It is greedy, of 64 tokens, or of 512 that follow the JSON schema in io.yaml, unless io.yaml or `options` say
        otherwise. With an io.yaml the reply has a `result`. Raises UnknownAdapterError, NoInvocationError, PromptError,
        ContextFullError, SequenceLimitError, and ResultError if the text is not what io.yaml makes a result of.
        """
        t_start = time.perf_counter()
        channel: Channel[Piece] = Channel()
        [fork] = self._forks([self._model.intrinsic(name)], documents, arguments, options, t_start, chat_template_kwargs, with_reasoning)
        fork.on_piece, fork.on_end = channel.put, channel.end
        self.submit(fork)
        one = Stream(channel, fork.reply, fork.cancel)
        return one if stream else drain(one, on_text)

    def invoke_all(
        self,
        names: Sequence[str],
        *,
        documents: Sequence[str | Mapping[str, str]] | None = None,
        arguments: Mapping[str, Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        with_reasoning: bool = False,
        stream: bool = False,
        on_text: Callable[[str, Piece], Any] | None = None,
        **options: Any,
    ) -> dict[str, Reply] | Stream[tuple[str, Piece], dict[str, Reply]]:
        """Runs several intrinsics at once, in one batch. As invoke; pieces come as (name, text).

        Each gets the documents, and those of the arguments that its instruction has.
        """
        t_start = time.perf_counter()
        self._check_open()
        if isinstance(names, str):
            raise PromptError(f"names: expected a list of adapters' names, got {names!r}; use invoke() for one")
        adapters = [self._model.intrinsic(name) for name in dict.fromkeys(names)]
        channel: Channel[tuple[str, Piece]] = Channel()
        forks = dict(zip([a.name for a in adapters], self._forks(adapters, documents, arguments, options, t_start, chat_template_kwargs, with_reasoning)))
        left = set(forks)

        def end(name: str) -> None:
            left.discard(name)
            if not left:
                channel.end()

        for name, fork in forks.items():
            fork.on_piece = lambda piece, name=name: channel.put((name, piece))
            fork.on_end = lambda name=name: end(name)
        if forks:
            self.submit(*forks.values())
        else:
            channel.end()

        def cancel(error: BaseException | None = None) -> None:
            for fork in forks.values():
                fork.cancel(error)

        results = Stream(channel, lambda: {name: fork.reply() for name, fork in forks.items()}, cancel)
        return results if stream else drain(results, on_text and (lambda item: on_text(*item)))

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the conversation with its cells, for Model.restore(): it goes on there without computing them again."""
        from .saved import save

        self._check_open()
        save(self._model, self, path)

    def close(self) -> None:
        """Ends it: it takes no more calls. What it has in the cache stays until there is need for the room."""
        self._closed = True

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # prompts

    def cells(self) -> tuple[str, list[int]]:
        """The text of what has been said, and its tokens."""
        prompt = self._prompt(self.messages, add_generation_prompt=False)
        return prompt.text, prompt.tokens

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
        self._check_open()
        prompts = self._model.prompts
        setting = self._setting(chat_template_kwargs)
        given = setting if documents is None else setting._replace(documents=documents)
        prompt = prompts.intrinsic(
            messages, Intrinsic.of(adapter), given, arguments=arguments or {}, with_thoughts=with_reasoning, known=known)
        if known is None and prompt.text:
            self._model.history.remember(prompt.text, prompt.tokens[: prompt.n_shared], self.space)
        params = SamplingParams.of(dict(sampling or {}), **{**_INTRINSIC, **_asked_for(prompt.asked)})
        if prompt.asked and prompt.asked.top_logprobs:
            params = dataclasses.replace(params, logprobs=True, top_logprobs=max(params.top_logprobs, prompt.asked.top_logprobs))
        return Request(
            prompt.tokens, params, self._model.vocab, checkpoint=min(prompt.n_shared, prompt.start) or None,
            background=background, space=self.space, activations=[*self._activations(), Activation(adapter, prompt.start)], t_start=t_start,
            result_of=prompt.result_of)

    def submit(self, *requests: Request) -> None:
        self._model.loop.submit(*requests)

    def _forks(
        self,
        adapters: Sequence[Adapter],
        documents: Sequence[str | Mapping[str, str]] | None,
        arguments: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        t_start: float,
        chat_template_kwargs: Mapping[str, Any] | None,
        with_reasoning: bool,
    ) -> list[Request]:
        """Intrinsics on what has been said. Raises PromptError for an argument that none of them takes."""
        sampling = {name: value for name, value in options.items() if name in SamplingParams.names()}
        given = {**{name: value for name, value in options.items() if name not in sampling}, **(arguments or {})}
        taken = {adapter: adapter.io.arguments if adapter.io else [] for adapter in adapters}
        known = {name for names in taken.values() for name in names}
        for name in given:
            if name not in known:
                allowed = ", ".join(sorted(known | SamplingParams.names()))
                raise PromptError(f"{name}: expected one of {allowed}, got an unknown argument")
        return [
            self.fork(adapter, self.messages, documents=documents, arguments={name: given[name] for name in names if name in given},
                      sampling=sampling, chat_template_kwargs=chat_template_kwargs, with_reasoning=with_reasoning, t_start=t_start)
            for adapter, names in taken.items()
        ]

    def _activations(self) -> list[Activation]:
        return [Activation(self.adapter, 0)] if self.adapter is not None else []

    def _setting(self, more: Mapping[str, Any] | None = None) -> Setting:
        return Setting(self.documents, {**self.chat_template_kwargs, **checked_variables(more)}, self.began, self.space)

    def _prompt(self, messages: Sequence[Message], *, add_generation_prompt: bool, more: Mapping[str, Any] | None = None) -> Prompt:
        """The text and tokens of the messages; what is cached keeps its tokens, where the text allows."""
        return self._model.prompts.chat(messages, self._setting(more), add_generation_prompt=add_generation_prompt)

    def _keep(self, request: Request, prompt: Prompt, messages: list[Message]) -> None:
        """Makes an answer, whole or not, part of what has been said."""
        if request.is_sampling or request.finish_reason == "stop":
            self._model.prompts.remember(prompt, request.generated, self.space)
            thought = {"reasoning_content": request.reasoning} if request.reasoning else {}
            self.messages += [messages[-1], {"role": "assistant", "content": request.said[0], **thought}]

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("conversation: expected an open one, got one that was closed; begin a new one")
        self._model.check_open()


_INTRINSIC = {"temperature": 0, "max_tokens": 64}


def _asked_for(asked: IntrinsicRequest | None) -> dict[str, Any]:
    """What an io.yaml says about sampling; JSON that is cut short is worth nothing."""
    if asked is None or asked.schema is None:
        return asked.sampling if asked else {}
    return {"max_tokens": 512, **asked.sampling, "json_schema": asked.schema}

"""A conversation with the base model, and the intrinsics that judge it, on one KV cache."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from functools import partial
from os import PathLike
from typing import Any, Literal, NamedTuple, overload

from ..documents.document import Document
from ..documents.reader import read_document
from ..engine.adapter import Adapter
from ..engine.cache import Activation
from ..engine.call import Call
from ..engine.engine import Engine
from ..engine.request import Request
from ..engine.state import Cells, digest_of, read_cells, write_cells
from ..engine.stream import Stream, drain
from ..errors import AloraError, ClosedError, ContextFullError, PromptError, SavedConversationError
from ..prompt.builder import Prompt, Setting
from ..prompt.decision import MOST_ORDERS, Question
from ..prompt.io_yaml import documents_of, sampling_of
from ..prompt.messages import Message, check_messages, checked_variables
from ..prompt.token_history import Known
from ..prompt.tool_use import tool_use
from ..prompt.tools import Schema, Tool, choice_of, tools_of
from ..prompt.window import check_on_full, dropped_line, n_to_drop, without_oldest
from ..reply import Chunk, Decision, Decisions, Reply, ToolCall, Usage, Verdict
from ..runtime.sampling import SamplingParams
from ..text import printable
from ..versions import LLAMA_CPP_PYTHON
from .panel import Panel, Posed, Where, posed
from .saved import Saved
from .turn import Turns
from .watch import Decided, Invoked, Judgement, Watcher, ends

_MOST_ASIDES = 64


class Aside(NamedTuple):
    """What stands between a conversation's first `after` tokens and the start of an intrinsic: tokens of the base."""

    after: int
    tokens: tuple[int, ...]


class Conversation:
    """Made by Model.conversation.

    messages    what has been said, in OpenAI's form
    documents   what it is about, with `text`, `doc_id` and perhaps `title`: they stand before the messages
    notes       values of JSON that a program keeps with it; save() writes them too
    chat_template_kwargs   what the chat template gets beside the messages, as `enable_thinking`
    tools       schemas of those that the model may call: they stand in every prompt
    began       the time that templates write which write one: a conversation keeps its date
    cache_salt    it shares cells with conversations of the same one only
    asides        how intrinsics were asked on it, those asked last at the end
    on_full       where the context is too small for it: "error", or "drop-oldest": n_dropped of the messages are in no prompt any more,
                  those behind the system's at the beginning, in whole turns

    Any thread may call it. It owns no part of the cache: what it has computed is found there by what
    it is, and is computed again if it had to go. A call that fails leaves the messages as they were.
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
        self._engine = engine
        self.asides: dict[Aside, None] = {}
        self.on_full = check_on_full(on_full)
        self.n_dropped = 0
        self._asking = Turns()
        self._closed = False

    def __repr__(self) -> str:
        held = "" if self.adapter is None else f", with {self.adapter.name!r}"
        return f"<Conversation: {len(self._messages)} messages, {len(self.documents)} documents{held}>"

    @property
    def messages(self) -> list[Message]:
        """What has been said, with every answer that has ended."""
        self._asking.settle()
        return self._messages

    @messages.setter
    def messages(self, messages: list[Message]) -> None:
        self._messages = messages

    @property
    def n_ctx(self) -> int:
        """How many tokens it can have, as far as the model was trained."""
        return self._engine.n_ctx

    # calls

    def add(self, role: str, content: str | Sequence[Mapping[str, str]] | None = None, **fields: Any) -> None:
        """Adds a message that nobody answers. It is computed when it is needed.

        content   text, text parts, or None where `fields` say it all: as `tool_calls`, `tool_call_id`, `reasoning_content`, `name`

        Raises PromptError for what the chat template does not take, and for a role that nobody knows.
        """
        message = {"role": role, "content": content, **fields}
        check_messages([message])
        self._engine.template.check_role(role)
        self._engine.template.fit([*self.messages, message])
        self.messages.append(message)

    def add_tool_result(self, call: ToolCall, value: Any) -> None:
        """Adds what came of a call: text, or a value that is written as JSON. ask() without content goes on from it. Raises PromptError."""
        if not isinstance(call, ToolCall):
            raise PromptError(f"call: expected one of a reply's tool_calls, got {call!r:.80}")
        try:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as e:
            raise PromptError(f"value: expected text or a value of JSON, got: {printable(str(e))}; make it one") from e
        self.add("tool", text, tool_call_id=call.id, name=call.name)

    def attach(self, document: str | PathLike[str] | Document, title: str | None = None, *, pages: str | None = None) -> Document:
        """Adds a document. The base sees it, by the chat template or in a first message, and so does every intrinsic.

        document   its text, or a Path, whose file is read: text, Markdown, HTML, PDF or DOCX; or what read_document() gave
        title      of a file its name, if nothing is said
        pages      of a PDF: "3-7"

        What has been said is computed anew behind it. Raises DocumentError for a file that cannot be read, and ContextFullError
        if the documents alone are more than the context.
        """
        if isinstance(document, PathLike):
            document = read_document(document, pages=pages)
        elif pages is not None:
            raise PromptError("pages: expected the Path of a PDF with them, got a document that was read already; leave them out")
        if not isinstance(document, Document):
            check_messages([{"role": "user", "content": document}])
            document = Document(title or "", document)
        title = title or document.title
        documents = documents_of([*self.documents, {"text": document.text, **({"title": title} if title else {})}])
        n_each = [len(self._engine.vocab.tokenize(d["text"])) for d in documents]
        n, n_ctx, n_trained = sum(n_each), self._engine.context.n_ctx, self._engine.vocab.n_trained
        if n > n_ctx:
            raise _no_room(document, n_each, n_ctx, n_trained)
        self.documents = documents
        if 0 < n_trained < n:
            note = f"{n} tokens with it, more than the {n_trained} that this model was trained on"
            document = dataclasses.replace(document, note=f"{document.note}; {note}" if document.note else note)
        return document

    @overload
    def ask(
        self,
        content: str | Sequence[Mapping[str, str]] | None = ...,
        *,
        tools: Sequence[Tool] | None = ...,
        tool_choice: str | Mapping[str, Any] | None = ...,
        parallel_tool_calls: bool | None = ...,
        watch: Sequence[str] | Mapping[str, Question | str] = ...,
        watch_every: int | None = ...,
        stream: Literal[False] = ...,
        on_text: Callable[[Chunk], Any] | None = ...,
        on_verdict: Callable[[Verdict], Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        **sampling: Any,
    ) -> Reply: ...

    @overload
    def ask(
        self,
        content: str | Sequence[Mapping[str, str]] | None = ...,
        *,
        tools: Sequence[Tool] | None = ...,
        tool_choice: str | Mapping[str, Any] | None = ...,
        parallel_tool_calls: bool | None = ...,
        watch: Sequence[str] | Mapping[str, Question | str] = ...,
        watch_every: int | None = ...,
        stream: Literal[True],
        on_text: Callable[[Chunk], Any] | None = ...,
        on_verdict: Callable[[Verdict], Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        **sampling: Any,
    ) -> Stream[Chunk | Verdict, Reply]: ...

    @overload
    def ask(
        self,
        content: str | Sequence[Mapping[str, str]] | None = ...,
        *,
        tools: Sequence[Tool] | None = ...,
        tool_choice: str | Mapping[str, Any] | None = ...,
        parallel_tool_calls: bool | None = ...,
        watch: Sequence[str] | Mapping[str, Question | str] = ...,
        watch_every: int | None = ...,
        stream: bool,
        on_text: Callable[[Chunk], Any] | None = ...,
        on_verdict: Callable[[Verdict], Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        **sampling: Any,
    ) -> Reply | Stream[Chunk | Verdict, Reply]: ...

    def ask(
        self,
        content: str | Sequence[Mapping[str, str]] | None = None,
        *,
        tools: Sequence[Tool] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        watch: Sequence[str] | Mapping[str, Question | str] = (),
        watch_every: int | None = None,
        stream: bool = False,
        on_text: Callable[[Chunk], Any] | None = None,
        on_verdict: Callable[[Verdict], Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> Reply | Stream[Chunk | Verdict, Reply]:
        """Adds a user's message and the base model's answer.

        content                text, or text parts; without it the answer goes on from what has been said, as from results of tools
        tools                  functions, of whose signature and docstring schemas are made, or OpenAI's schemas; else those that the
                               conversation has: it keeps those that it was asked with last, [] for none
        tool_choice            "auto"; "none": no calls; "required": a call; or the name of the tool that is called
        parallel_tool_calls    False: one call at most
        chat_template_kwargs   what the chat template gets for this answer, beside the conversation's own

        `on_text` gets each chunk of the answer as it comes; with `stream` the chunks are iterated
        over instead, in a `for` or an `async for`, and `.result`, or `await` of the stream, is the Reply. `sampling` is as in SamplingParams.
        The intrinsics in `watch`, or its questions by names as in decide(), judge what has been said at each sentence, or every
        `watch_every` tokens, and at the end: `on_verdict`, or the stream, gets each Verdict among the chunks. Where a Predicate
        has `stop_above` or `stop_below`, the answer ends as by cancel() when its probability is that.
        Calls of tools are the reply's `tool_calls`: add_tool_result() takes what came of each, and ask() without content goes on.
        An answer that fails, or that its reader leaves before the end, is not added, and the question neither.
        Raises ContextFullError or PromptError.
        """
        t_start = time.perf_counter()
        self._check_open()
        params = SamplingParams.of(sampling)
        if not (watch_every is None or isinstance(watch_every, int) and watch_every > 0):
            raise PromptError(f"watch_every: expected a number of tokens from 1 on, got {watch_every!r}")
        wanted = self.tools if tools is None else tools_of(tools)
        choice = choice_of(tool_choice, wanted, parallel_tool_calls)
        if isinstance(watch, str):
            raise PromptError(f"watch: expected a list of adapters' names, got {watch!r}")
        asking = posed(watch, None, self._engine) if isinstance(watch, Mapping) and watch else {}
        invoking = {} if asking else {name: self._engine.adapters.intrinsic(name) for name in watch}
        call: Call[Chunk | Verdict] = Call()

        def prepare() -> None:
            turn.follow_last()
            asked: list[Message] = [] if content is None else [{"role": "user", "content": content}]
            messages = [*self.messages, *asked]
            if not messages or messages[-1].get("role") not in ("user", "tool", "function"):
                raise PromptError("content: expected a question, or a last message of a user or tool to go on from, got neither; give one")
            variables = self._variables(chat_template_kwargs, wanted)
            setting = self._setting(variables)
            n_dropped = self._n_to_drop(messages, setting, params.max_tokens)
            kept = without_oldest(messages, n_dropped)
            prompt = self._engine.prompts.chat(kept, setting)
            template = self._engine.template
            request = Request(
                prompt.tokens,
                params,
                self._engine.vocab,
                activations=self._activations(),
                cache_salt=self.cache_salt,
                t_start=t_start,
                thinking=self._engine.template.features.thinking,
                in_thought=prompt.thinks,
                warnings=[*self._unread(chat_template_kwargs), *([dropped_line(n_dropped)] if n_dropped > self.n_dropped else [])],
                tools=tool_use(template, wanted, choice, prompt.text, prompt.thinks),
            )
            channel = call.channel
            turn.answered_by(request, partial(_keep_in, weakref.ref(self), request, prompt, asked, wanted, n_dropped))
            if not (asking or invoking):

                def reply() -> Reply:
                    turn.settle()
                    return request.reply()

                def end() -> None:
                    turn.end()
                    channel.end()

                request.on_chunk, request.on_end = channel.put, end
                call.follow(reply, request)
                self.submit(request)
                return

            def judge(name: str, said: str, n_calls: int, tokens: list[int], on_end: Callable[[], None]) -> Judgement:
                known = prompt.text + self._engine.prompts.control.spelled(tokens[request.n_prompt :]), tokens
                now = [*kept, _answer(said, request.tool_calls[:n_calls])]
                if name in asking:
                    panel = self.panel(
                        {name: asking[name]}, now, lambda *_: None, on_end, known=known, background=True, chat_template_kwargs=variables
                    )
                    panel.start()
                    return Decided(panel)
                fork = self.fork(invoking[name], now, known=known, background=True, chat_template_kwargs=variables)
                fork.on_end = on_end
                self.submit(fork)
                return Invoked(fork)

            def stops(verdict: Verdict) -> bool:
                return verdict.name in asking and ends(verdict, asking[verdict.name].question)

            watcher = Watcher(request, [*asking, *invoking], watch_every, judge, stops, channel.put, channel.end)

            def result() -> Reply:
                turn.settle()
                return dataclasses.replace(request.reply(), verdicts=list(watcher.verdicts))

            def hear(chunk: Chunk) -> None:
                channel.put(chunk)
                watcher.heard()

            def end_watched() -> None:
                turn.end()
                watcher.answer_ended()

            request.on_chunk, request.on_end = hear, end_watched
            call.follow(result, request, watcher)
            self.submit(request)
            watcher.start()

        def on_item(item: Chunk | Verdict) -> None:
            if isinstance(item, Verdict):
                if on_verdict:
                    on_verdict(item)
            elif on_text:
                on_text(item)

        try:
            turn = self._asking.begin(call)
            call.begin(prepare, aside=stream)
        except BaseException:  # a signal's too, of any line
            call.on_drop()
            raise
        answer: Stream[Chunk | Verdict, Reply] = Stream(call)
        return answer if stream else drain(answer, on_item)

    @overload
    def invoke(
        self,
        name: str,
        *,
        documents: Sequence[str | Mapping[str, str]] | None = ...,
        arguments: Mapping[str, Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        with_reasoning: bool = ...,
        stream: Literal[False] = ...,
        on_text: Callable[[Chunk], Any] | None = ...,
        **options: Any,
    ) -> Reply: ...

    @overload
    def invoke(
        self,
        name: str,
        *,
        documents: Sequence[str | Mapping[str, str]] | None = ...,
        arguments: Mapping[str, Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        with_reasoning: bool = ...,
        stream: Literal[True],
        on_text: Callable[[Chunk], Any] | None = ...,
        **options: Any,
    ) -> Stream[Chunk, Reply]: ...

    @overload
    def invoke(
        self,
        name: str,
        *,
        documents: Sequence[str | Mapping[str, str]] | None = ...,
        arguments: Mapping[str, Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        with_reasoning: bool = ...,
        stream: bool,
        on_text: Callable[[Chunk], Any] | None = ...,
        **options: Any,
    ) -> Reply | Stream[Chunk, Reply]: ...

    def invoke(
        self,
        name: str,
        *,
        documents: Sequence[str | Mapping[str, str]] | None = None,
        arguments: Mapping[str, Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        with_reasoning: bool = False,
        stream: bool = False,
        on_text: Callable[[Chunk], Any] | None = None,
        **options: Any,
    ) -> Reply | Stream[Chunk, Reply]:
        """Runs an intrinsic on what has been said, on a fork of the cache; nothing is added.

        documents     texts, or mappings with `text` and perhaps `doc_id` and `title`, for the io.yaml or the chat template; in
                      place of those that are attached
        arguments     of the instruction in io.yaml
        chat_template_kwargs   what the chat template gets beside the conversation's own
        with_reasoning   it sees what the model thought too; else it judges what was said
        options       as in SamplingParams; any other name is an argument of the instruction too

        It is greedy, of 64 tokens, or of 512 that follow the JSON schema in io.yaml, unless io.yaml or `options` say
        otherwise. With an io.yaml the reply has a `result`. An ordinary LoRA with an io.yaml is asked so too: nothing of the
        conversation can come from the base's cells, so `usage` counts all of the prompt, until it is asked again. Raises UnknownAdapterError, NoInvocationError, PromptError,
        ContextFullError, SequenceLimitError, and ResultError if the text is not what io.yaml makes a result of.
        """
        t_start = time.perf_counter()
        self._check_open()
        if not isinstance(name, str):
            raise PromptError(f"name: expected an adapter's name, got {name!r:.80}; use invoke_all() for several")
        adapter = self._engine.adapters.intrinsic(name)
        call: Call[Chunk] = Call()

        def prepare() -> None:
            [make] = self._forks([adapter], documents, arguments, options, t_start, chat_template_kwargs, with_reasoning).values()
            fork = make()
            fork.on_chunk, fork.on_end = call.channel.put, call.channel.end
            call.follow(fork.reply, fork)
            self.submit(fork)

        call.begin(prepare, aside=stream)
        one: Stream[Chunk, Reply] = Stream(call)
        return one if stream else drain(one, on_text)

    @overload
    def invoke_all(
        self,
        names: Sequence[str],
        *,
        documents: Sequence[str | Mapping[str, str]] | None = ...,
        arguments: Mapping[str, Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        with_reasoning: bool = ...,
        stream: Literal[False] = ...,
        on_text: Callable[[str, Chunk], Any] | None = ...,
        **options: Any,
    ) -> dict[str, Reply]: ...

    @overload
    def invoke_all(
        self,
        names: Sequence[str],
        *,
        documents: Sequence[str | Mapping[str, str]] | None = ...,
        arguments: Mapping[str, Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        with_reasoning: bool = ...,
        stream: Literal[True],
        on_text: Callable[[str, Chunk], Any] | None = ...,
        **options: Any,
    ) -> Stream[tuple[str, Chunk], dict[str, Reply]]: ...

    @overload
    def invoke_all(
        self,
        names: Sequence[str],
        *,
        documents: Sequence[str | Mapping[str, str]] | None = ...,
        arguments: Mapping[str, Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        with_reasoning: bool = ...,
        stream: bool,
        on_text: Callable[[str, Chunk], Any] | None = ...,
        **options: Any,
    ) -> dict[str, Reply] | Stream[tuple[str, Chunk], dict[str, Reply]]: ...

    def invoke_all(
        self,
        names: Sequence[str],
        *,
        documents: Sequence[str | Mapping[str, str]] | None = None,
        arguments: Mapping[str, Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        with_reasoning: bool = False,
        stream: bool = False,
        on_text: Callable[[str, Chunk], Any] | None = None,
        **options: Any,
    ) -> dict[str, Reply] | Stream[tuple[str, Chunk], dict[str, Reply]]:
        """Runs several intrinsics at once, in one batch. As invoke; chunks come as (name, text).

        Each gets the documents, and those of the arguments that its instruction has. One that fails leaves the others
        theirs: its Reply has the `error`. What concerns the call as a whole is raised: names and arguments that nobody
        knows, options, documents and messages that are none, a model that was closed.
        """
        t_start = time.perf_counter()
        self._check_open()
        if isinstance(names, str):
            raise PromptError(f"names: expected a list of adapters' names, got {names!r}; use invoke() for one")
        adapters = [self._engine.adapters.intrinsic(name) for name in dict.fromkeys(names)]
        call: Call[tuple[str, Chunk]] = Call()

        def prepare() -> None:
            begun: dict[str, Request] = {}
            failed: dict[str, AloraError] = {}
            for adapter, make in self._forks(adapters, documents, arguments, options, t_start, chat_template_kwargs, with_reasoning).items():
                try:
                    fork = make()
                    self._engine.context.check_room(fork.n_prompt)
                    begun[adapter.name] = fork
                except ClosedError:
                    raise
                except AloraError as e:
                    failed[adapter.name] = e
            left = set(begun)

            def put(name: str, chunk: Chunk) -> None:
                call.channel.put((name, chunk))

            def end(name: str) -> None:
                left.discard(name)
                if not left:
                    call.channel.end()

            def result() -> dict[str, Reply]:
                for fork in begun.values():
                    if isinstance(fork.error, ClosedError):
                        fork.reply()  # raises it
                names = [adapter.name for adapter in adapters]
                return {name: begun[name].outcome() if name in begun else _failed(failed[name]) for name in names}

            for name, fork in begun.items():
                fork.on_chunk, fork.on_end = partial(put, name), partial(end, name)
            call.follow(result, *begun.values())
            if begun:
                self.submit(*begun.values())
            else:
                call.channel.end()

        call.begin(prepare, aside=stream)
        results: Stream[tuple[str, Chunk], dict[str, Reply]] = Stream(call)

        def on_item(item: tuple[str, Chunk]) -> None:
            if on_text:
                on_text(*item)

        return results if stream else drain(results, on_item)

    @overload
    def decide(
        self,
        questions: Mapping[str, Question | str],
        *,
        adapter: str | None = ...,
        n_orders: int = ...,
        seed: int = ...,
        stream: Literal[False] = ...,
        on_decision: Callable[[str, Decision], Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
    ) -> Decisions: ...

    @overload
    def decide(
        self,
        questions: Mapping[str, Question | str],
        *,
        adapter: str | None = ...,
        n_orders: int = ...,
        seed: int = ...,
        stream: Literal[True],
        on_decision: Callable[[str, Decision], Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
    ) -> Stream[tuple[str, Decision], Decisions]: ...

    @overload
    def decide(
        self,
        questions: Mapping[str, Question | str],
        *,
        adapter: str | None = ...,
        n_orders: int = ...,
        seed: int = ...,
        stream: bool,
        on_decision: Callable[[str, Decision], Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
    ) -> Decisions | Stream[tuple[str, Decision], Decisions]: ...

    def decide(
        self,
        questions: Mapping[str, Question | str],
        *,
        adapter: str | None = None,
        n_orders: int = 1,
        seed: int = 0,
        stream: bool = False,
        on_decision: Callable[[str, Decision], Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Decisions | Stream[tuple[str, Decision], Decisions]:
        """Answers typed questions about what has been said, all in one batch; nothing is generated, and nothing is added.

        questions   by names of yours: Predicate, Choice, Score; or the name of an intrinsic whose output is one of several values
        adapter     that answers those that name none; without one, the base does
        n_orders    ways to ask each, with its options in another order, whose probabilities are averaged; `seed` says which
        chat_template_kwargs   what the chat template gets beside the conversation's own

        Each is asked on a fork of the cache: in a user's turn behind the last message, and read from what could come next, by all of the
        vocabulary. A template that thinks gets an empty thought. `on_decision`, or the stream, gets each as it is decided.
        One that fails leaves the others theirs: its Decision has the `error`. A call that is cancelled has those that were decided.
        Raises PromptError, UnknownAdapterError, NoInvocationError.
        """
        t_start = time.perf_counter()
        self._check_open()
        asked = posed(questions, adapter, self._engine)
        for what, number in (("n_orders", n_orders), ("seed", seed)):
            if not isinstance(number, int) or what == "n_orders" and not 1 <= number <= MOST_ORDERS:
                raise PromptError(f"{what}: expected a whole number{f' from 1 to {MOST_ORDERS}' if what == 'n_orders' else ''}, got {number!r:.80}")
        call: Call[tuple[str, Decision]] = Call()

        def prepare() -> None:
            panel = self.panel(
                asked,
                without_oldest(self.messages, self.n_dropped),
                lambda name, made: call.channel.put((name, made)),
                call.channel.end,
                n_orders=n_orders,
                seed=seed,
                t_start=t_start,
                chat_template_kwargs=chat_template_kwargs,
            )
            call.follow(panel.result, panel)
            panel.start()

        call.begin(prepare, aside=stream)
        decided: Stream[tuple[str, Decision], Decisions] = Stream(call)

        def on_item(item: tuple[str, Decision]) -> None:
            if on_decision:
                on_decision(*item)

        return decided if stream else drain(decided, on_item)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the conversation with its cells, for Model.restore(): it goes on there without computing them again.

        Raises SavedConversationError if it cannot be written.
        """
        self._check_open()
        engine, (text, tokens), adapter = self._engine, self.cells(), self.adapter
        asides = list(self.asides)[::-1]
        paths = [self._keys([*tokens[: aside.after], *aside.tokens]) for aside in asides]
        cells = engine.loop.call(lambda: list(read_cells(engine, self._keys(tokens), paths)))
        Saved(
            llama_cpp=LLAMA_CPP_PYTHON,
            model=digest_of(engine.path),
            cells=engine.cell_types,
            adapter={"name": adapter.name, "sha256": adapter.sha256} if adapter else None,
            messages=self.messages,
            n_dropped=self.n_dropped,
            documents=self.documents,
            notes=self.notes,
            chat_template_kwargs=self.chat_template_kwargs,
            tools=self.tools,
            began=self.began.isoformat(),
            text=text,
            tokens=tokens,
            n_cells=len(cells[0][1].keys) if cells else 0,
            asides=[
                {"after": asides[i].after, "tokens": list(asides[i].tokens), "n_cells": len(one.keys) - one.start, "n_bytes": len(one.state)}
                for i, one in cells
                if i is not None
            ],
            states=[one.state for _, one in cells],
        ).write(path)

    @classmethod
    def restored(cls, engine: Engine, path: str | PathLike[str], cache_salt: Hashable = None, on_full: str = "error") -> Conversation:
        """What save() wrote, its cells in the cache again. Raises as Model.restore()."""
        saved = Saved.read(path)
        saved.check(path, LLAMA_CPP_PYTHON, digest_of(engine.path), engine.cell_types)
        adapter = engine.adapters[saved.adapter["name"]] if saved.adapter else None
        if saved.adapter and adapter is not None and adapter.sha256 != saved.adapter["sha256"]:
            raise SavedConversationError(
                f"{path}: adapter {adapter.name!r}: expected the file with SHA-256 {saved.adapter['sha256'][:12]}, got another of this name; load that one"
            )
        conversation = cls(
            engine, saved.messages, adapter, cache_salt, tools=saved.tools, chat_template_kwargs=saved.chat_template_kwargs, on_full=on_full
        )
        conversation.began, conversation.n_dropped = saved.time(path), saved.n_dropped
        conversation.documents, conversation.notes = documents_of(saved.documents), saved.notes
        engine.history.remember(saved.text, saved.tokens, cache_salt)
        for aside in reversed(saved.asides):
            conversation.note_aside(Aside(aside["after"], tuple(aside["tokens"])))
        if saved.n_cells:
            paths = [saved.tokens[: saved.n_cells], *([*saved.tokens[: aside["after"]], *aside["tokens"]] for aside in saved.asides)]
            starts = [0, *(len(path) - aside["n_cells"] for path, aside in zip(paths[1:], saved.asides))]
            cells = [Cells(conversation._keys(path), start, state) for path, start, state in zip(paths, starts, saved.states)]
            engine.loop.call(lambda: write_cells(engine, cells, str(path)))
        return conversation

    def close(self) -> None:
        """Ends it: it takes no more calls. What it has in the cache stays until there is need for the room."""
        self._closed = True

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # prompts

    def cells(self) -> tuple[str, list[int]]:
        """The text of what has been said, and its tokens."""
        prompt = self._engine.prompts.chat(
            without_oldest(self.messages, self.n_dropped), self._setting(self._variables()), add_generation_prompt=False
        )
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
        prompts = self._engine.prompts
        setting = self._setting(self._variables(chat_template_kwargs))
        given = setting if documents is None else setting._replace(documents=documents)
        prompt = prompts.intrinsic(messages, adapter.intrinsic, given, arguments=arguments or {}, with_thoughts=with_reasoning, known=known)
        assert prompt.start is not None and prompt.n_shared is not None  # of an intrinsic
        if known is None and prompt.start > prompt.n_shared:
            self.note_aside(Aside(prompt.n_shared, tuple(prompt.tokens[prompt.n_shared : prompt.start])))
        if known is None and prompt.text:
            self._engine.history.remember(prompt.text, prompt.tokens[: prompt.n_shared], self.cache_salt)
        params = SamplingParams.of(dict(sampling or {}), **sampling_of(prompt.asked))
        if prompt.asked and prompt.asked.top_logprobs:  # its result needs them, whatever the caller asks for
            params = dataclasses.replace(params, logprobs=True, top_logprobs=max(params.top_logprobs, prompt.asked.top_logprobs))
        return Request(
            prompt.tokens,
            params,
            self._engine.vocab,
            checkpoint=(min(prompt.n_shared, prompt.start) if adapter.is_activated else prompt.n_shared) or None,
            background=background,
            cache_salt=self.cache_salt,
            # an ordinary LoRA takes the place of the one that the conversation is held with, as both are active from the first token on
            activations=[*(self._activations() if adapter.is_activated else ()), Activation(adapter, prompt.start)],
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
        self._check_open()
        where = Where(self._engine, list(messages), self._setting(self._variables(chat_template_kwargs)), self._activations(), known)
        return Panel(where, questions, on_decision, on_end, **options)

    def note_aside(self, aside: Aside) -> None:
        """That an intrinsic was asked so: save() keeps its cells too."""
        self.asides.pop(aside, None)
        self.asides[aside] = None
        for oldest in list(self.asides)[:-_MOST_ASIDES]:
            self.asides.pop(oldest, None)

    def submit(self, *requests: Request) -> None:
        self._engine.loop.submit(*requests)

    def _forks(
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

        def make(adapter: Adapter) -> Request:
            mine = {name: given[name] for name in taken[adapter] if name in given}
            fork = self.fork(
                adapter,
                messages,
                documents=documents,
                arguments=mine,
                sampling=sampling,
                chat_template_kwargs=chat_template_kwargs,
                with_reasoning=with_reasoning,
                t_start=t_start,
            )
            fork.warnings += [*adapter.warnings, *self._unread(chat_template_kwargs)]
            return fork

        return {adapter: partial(make, adapter) for adapter in adapters}

    def _keys(self, tokens: Sequence[int]) -> list[int]:
        """What the cache knows the cells of these tokens by."""
        return self._engine.cache.keys(tokens, self._activations(), self.cache_salt)

    def _activations(self) -> list[Activation]:
        return [Activation(self.adapter, 0)] if self.adapter is not None else []

    def _unread(self, more: Mapping[str, Any] | None) -> list[str]:
        """Warnings of what is nothing to the chat template."""
        return self._engine.template.unread({**self.chat_template_kwargs, **(more or {})})

    def _variables(self, more: Mapping[str, Any] | None = None, tools: Sequence[Schema] | None = None) -> dict[str, Any]:
        """Of the chat template: its own and `more`, and the tools, which are its own too where none are given."""
        variables = {**self.chat_template_kwargs, **checked_variables(more)}
        tools = self.tools if tools is None else tools
        return {**variables, "tools": list(tools)} if tools and "tools" not in (more or {}) else variables

    def _setting(self, variables: Mapping[str, Any]) -> Setting:
        return Setting(self.documents, variables, self.began, self.cache_salt)

    def _n_to_drop(self, messages: Sequence[Message], setting: Setting, max_tokens: int) -> int:
        """How many messages an answer of so many tokens leaves out, of which it may be cut to a quarter of the context."""
        if self.on_full == "error":
            return self.n_dropped
        n_tokens = lambda kept: len(self._engine.prompts.chat(kept, setting).tokens)
        return n_to_drop(messages, self.n_dropped, n_tokens, self.n_ctx - min(max_tokens, self.n_ctx // 4))

    def _keep(self, request: Request, prompt: Prompt, asked: list[Message], tools: list[Schema], n_dropped: int) -> None:
        """Makes an answer, whole or not, part of what has been said."""
        if request.is_sampling or request.finish_reason == "stop":
            with contextlib.suppress(ClosedError):  # the answer stays, and there are no cells to find
                self._engine.prompts.remember(prompt, request.generated, self.cache_salt)
            thought = {"reasoning_content": request.reasoning} if request.reasoning else {}
            self.tools, self.n_dropped = tools, n_dropped
            self.messages += [*asked, {**_answer(request.text, request.tool_calls), **thought}]

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("conversation: expected an open one, got one that was closed; begin a new one")
        self._engine.check_open()


_NOTHING = Usage(prompt_tokens=0, cached_tokens=0, completion_tokens=0, ttft_ms=0.0, tokens_per_second=0.0)


def _answer(text: str, calls: Sequence[ToolCall]) -> Message:
    """A message of the model. With calls its text may be null, as in OpenAI's form."""
    return (
        {"role": "assistant", "content": text or None, "tool_calls": [call.message for call in calls]}
        if calls
        else {"role": "assistant", "content": text}
    )


def _keep_in(there: weakref.ref[Conversation], request: Request, prompt: Prompt, asked: list[Message], tools: list[Schema], n_dropped: int) -> None:
    """Conversation._keep, which takes nothing to a conversation that nobody has any more, and does not keep it."""
    if (conversation := there()) is not None:
        conversation._keep(request, prompt, asked, tools, n_dropped)


def _no_room(document: Document, n_each: Sequence[int], n_ctx: int, n_trained: int) -> ContextFullError:
    """Of documents of so many tokens, the last of which is this; it says what would have room, and a conversation behind it."""
    n = sum(n_each)
    room = min(n_ctx, n_trained or n_ctx) * 3 // 4 - sum(n_each[:-1])
    n_fit = len(document.read) * room // n_each[-1]
    part = f"some of its pages, as {document.read[0]}-{document.read[n_fit - 1]}" if n_fit > 0 else "a part of it"
    more = (
        f"this model was trained on {n_trained}" if 0 < n_trained < n else f"or give a larger context (--ctx, n_ctx), as {-(-n * 4 // 3072) * 1024}"
    )
    return ContextFullError(f"{document.title or 'document'}: expected at most {n_ctx} tokens of documents, got {n}; attach {part}; {more}")


def _failed(error: AloraError) -> Reply:
    """Of an intrinsic that could not be asked."""
    return Reply("", _NOTHING, "error", error=error)

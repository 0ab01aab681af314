"""A conversation with the base model, and the intrinsics that judge it, on one KV cache."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any, Literal, overload

from ..documents.document import Document
from ..documents.reader import read_document
from ..engine.call import Call
from ..engine.engine import Engine
from ..engine.request import Request
from ..engine.stream import Stream, drain
from ..errors import AloraError, ClosedError, ContextFullError, PromptError
from ..prompt.decisions.question import MOST_ORDERS, Question
from ..prompt.io_yaml import documents_of
from ..prompt.messages import check_messages
from ..prompt.tools.schemas import Tool, choice_of, tools_of
from ..prompt.window import without_oldest
from ..reply import Chunk, Decision, Decisions, Reply, ToolCall, Usage, Verdict
from ..runtime.sampling import SamplingParams
from ..text import printable
from .answering import Asked, answer
from .held import Held
from .panel import posed
from .saving import checked, restore, saved


class Conversation(Held):
    """Made by Model.conversation.

    messages    what has been said, in OpenAI's form
    documents   what it is about, with `text`, `doc_id` and perhaps `title`: they stand before the messages
    notes       values of JSON that a program keeps with it; save() writes them too
    chat_template_kwargs   what the chat template gets beside the messages, as `enable_thinking`
    tools       schemas of those that the model may call: they stand in every prompt
    began       the time that templates write which write one: a conversation keeps its date
    cache_salt    it shares cells with conversations of the same one only
    on_full       where the context is too small for it: "error", or "drop-oldest": n_dropped of the messages are in no prompt any more,
                  those behind the system's at the beginning, in whole turns

    Any thread may call it. It owns no part of the cache: what it has computed is found there by what
    it is, and is computed again if it had to go. A call that fails leaves the messages as they were.
    """

    def add(self, role: str, content: str | Sequence[Mapping[str, str]] | None = None, **fields: Any) -> None:
        """Adds a message that nobody answers. It is computed when it is needed.

        content   text, text parts, or None where `fields` say it all: as `tool_calls`, `tool_call_id`, `reasoning_content`, `name`

        Raises PromptError for what the chat template does not take, and for a role that nobody knows.
        """
        message = {"role": role, "content": content, **fields}
        check_messages([message])
        self.engine.template.check_role(role)
        self.engine.template.fit([*self.messages, message])
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
        if there is no room for a question behind the documents.
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
        n_each = [len(self.engine.vocab.tokenize(d["text"])) for d in documents]
        n, n_trained = sum(n_each), self.engine.vocab.n_trained
        n_most = self.engine.context.n_ctx - self.n_beside(documents, n)
        if n > n_most:
            raise _no_room(document, n_each, n_most, n_trained)
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
        self.check_open()
        params = SamplingParams.of(sampling)
        if not (watch_every is None or isinstance(watch_every, int) and watch_every > 0):
            raise PromptError(f"watch_every: expected a number of tokens from 1 on, got {watch_every!r}")
        wanted = self.tools if tools is None else tools_of(tools)
        choice = choice_of(tool_choice, wanted, parallel_tool_calls)
        if isinstance(watch, str) or not isinstance(watch, Iterable):
            raise PromptError(f"watch: expected a list of adapters' names, or questions by names, got {watch!r:.80}")
        deciding = posed(watch, None, self.engine) if isinstance(watch, Mapping) and watch else {}
        invoking = {} if deciding else {name: self.engine.adapters.intrinsic(name) for name in watch}
        asked = Asked(content, params, wanted, choice, deciding, invoking, watch_every, chat_template_kwargs, t_start)
        call: Call[Chunk | Verdict] = Call()

        def prepare() -> None:
            turn.follow_last()
            answer(self, asked, turn, call)

        def on_item(item: Chunk | Verdict) -> None:
            if isinstance(item, Verdict):
                if on_verdict:
                    on_verdict(item)
            elif on_text:
                on_text(item)

        try:
            turn = self.asking.begin(call)
            call.begin(prepare, aside=stream)
        except BaseException:  # a signal's too, of any line
            call.on_drop()
            raise
        chunks: Stream[Chunk | Verdict, Reply] = Stream(call)
        return chunks if stream else drain(chunks, on_item)

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
        self.check_open()
        if not isinstance(name, str):
            raise PromptError(f"name: expected an adapter's name, got {name!r:.80}; use invoke_all() for several")
        adapter = self.engine.adapters.intrinsic(name)
        call: Call[Chunk] = Call()

        def prepare() -> None:
            [make] = self.forks([adapter], documents, arguments, options, t_start, chat_template_kwargs, with_reasoning).values()
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
        self.check_open()
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise PromptError(f"names: expected a list of adapters' names, got {names!r:.80}; use invoke() for one")
        adapters = [self.engine.adapters.intrinsic(name) for name in dict.fromkeys(names)]
        call: Call[tuple[str, Chunk]] = Call()

        def prepare() -> None:
            begun: dict[str, Request] = {}
            failed: dict[str, AloraError] = {}
            for adapter, make in self.forks(adapters, documents, arguments, options, t_start, chat_template_kwargs, with_reasoning).items():
                try:
                    fork = make()
                    self.engine.context.check_room(fork.n_prompt)
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
        self.check_open()
        asked = posed(questions, adapter, self.engine)
        for what, number in (("n_orders", n_orders), ("seed", seed)):
            if not isinstance(number, int) or what == "n_orders" and not 1 <= number <= MOST_ORDERS:
                raise PromptError(f"{what}: expected a whole number{f' from 1 to {MOST_ORDERS}' if what == 'n_orders' else ''}, got {number!r:.80}")
        call: Call[tuple[str, Decision]] = Call()

        def prepare() -> None:
            of = partial(
                self.panel,
                asked,
                on_decision=lambda name, made: call.channel.put((name, made)),
                on_end=call.channel.end,
                n_orders=n_orders,
                seed=seed,
                t_start=t_start,
                chat_template_kwargs=chat_template_kwargs,
                is_cancelled=lambda: call.cancelled,
            )
            unread = self.unread(chat_template_kwargs)
            panel = of(messages=without_oldest(self.messages, self.n_dropped), warnings=unread)
            if panel.is_too_long and (seen := self.fewer(chat_template_kwargs)):
                panel = of(messages=seen[0], warnings=[*unread, *seen[1]])
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
        saved(self).write(path)

    @classmethod
    def restored(cls, engine: Engine, path: str | PathLike[str], cache_salt: Hashable = None, on_full: str = "error") -> Conversation:
        """What save() wrote, its cells in the cache again. Raises as Model.restore()."""
        state, adapter = checked(path, engine)
        conversation = cls(
            engine, state.messages, adapter, cache_salt, tools=state.tools, chat_template_kwargs=state.chat_template_kwargs, on_full=on_full
        )
        restore(conversation, state, path)
        return conversation

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_NOTHING = Usage(prompt_tokens=0, cached_tokens=0, completion_tokens=0, ttft_ms=0.0, tokens_per_second=0.0)


def _no_room(document: Document, n_each: Sequence[int], n_most: int, n_trained: int) -> ContextFullError:
    """Of documents of so many tokens, the last of which is this; it says what would have room, and a conversation behind it."""
    n = sum(n_each)
    room = min(n_most, n_trained or n_most) * 3 // 4 - sum(n_each[:-1])
    n_fit = len(document.read) * room // n_each[-1]
    part = f"some of its pages, as {document.read[0]}-{document.read[n_fit - 1]}" if n_fit > 0 else "a part of it"
    more = (
        f"this model was trained on {n_trained}" if 0 < n_trained < n else f"or give a larger context (--ctx, n_ctx), as {-(-n * 4 // 3072) * 1024}"
    )
    return ContextFullError(f"{document.title or 'document'}: expected at most {n_most} tokens of documents, got {n}; attach {part}; {more}")


def _failed(error: AloraError) -> Reply:
    """Of an intrinsic that could not be asked."""
    return Reply("", _NOTHING, "error", error=error)

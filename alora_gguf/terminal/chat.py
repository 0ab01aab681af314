"""The chat: messages in, answers out. It knows a conversation, and neither models nor terminals."""

import contextlib
import difflib
import itertools
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..conversation.conversation import Conversation
from ..conversation.saved import check_target
from ..documents.names import at_home, file_and_pages
from ..documents.reader import read_document
from ..engine.stream import Stream
from ..errors import AloraError, ContextFullError, PromptError
from ..prompt.decisions.question import question_in
from ..prompt.messages import text_of
from ..prompt.window import dropped_line
from ..reply import Chunk, Decision, Reply
from ..text import human_bytes, printable
from .screen import Screen
from .summary import cut_line, decided, summary

COMMANDS = {  # beside the adapters: what stands behind it, and what it does
    "all": ("", "run all intrinsics together"),
    "decide": ("TEXT", "how likely a statement is, or `Which? this | that`; nothing is said"),
    "doc": ("FILE", "attach a document: text, Markdown, HTML, PDF or DOCX; of a PDF also some pages, as /doc FILE 3-7"),
    "docs": ("", "list the documents"),
    "undo": ("", "take back the last question and its answer"),
    "save": ("[FILE]", "save the conversation"),
    "resume": ("[FILE]", "go on with a saved conversation"),
    "reset": ("", "begin a new conversation"),
    "help": ("", "this list"),
    "quit": ("", "leave (or Ctrl-D); Ctrl-C stops an answer"),
}
LEAVE = "/quit", "/exit", "/bye"
TAKEN = {*COMMANDS, *(word.removeprefix("/") for word in LEAVE)}  # what no adapter can be called here
_FULL = 0.8  # of the context: from there on it is said
NOT_KEPT = "nothing was said yet, so the question is not kept; the Up key has it"
NO_ADAPTERS = "no adapters; end with /quit and begin with --demo for those that come along, --intrinsics hf:owner/repo for a library, or --adapter and a file, folder or name"
OF_FILES = [f"/{name}" for name, (argument, _) in COMMANDS.items() if "FILE" in argument]


class Chat:
    """One chat.

    begin      makes a fresh conversation; restore: one of a file
    adapters   the names that are commands, and what each is for
    decider    the adapter that /decide asks, None: the base
    words      what is wrong, as it is to be told here
    """

    def __init__(
        self,
        begin: Callable[[], Conversation],
        restore: Callable[[Path], Conversation],
        adapters: Mapping[str, str | None],
        screen: Screen,
        decider: str | None = None,
        words: Callable[[str], str] = str,
        **sampling,
    ):
        self._begin = begin
        self._restore = restore
        self._conversation = begin()
        self._about = dict(adapters)
        self._adapters = list(adapters)
        self._screen = screen
        self._decider = decider
        self._words = words
        self._sampling = sampling
        self._path: Path | None = None  # where it was saved last
        self.n_failed = 0

    @property
    def commands(self) -> list[str]:
        return [f"/{name}" for name in (*self._adapters, *self._own)]

    @property
    def _own(self) -> list[str]:
        """What can be done now."""
        return [name for name in COMMANDS if name != "all" or self._adapters]

    def run(self, messages: Iterable[str]) -> None:
        """Takes messages until they end or one is /quit. `n_failed` counts those that nothing came of."""
        for message in messages:
            message = message.strip()
            if message in LEAVE:
                return
            if message:
                try:
                    self._take(message)
                except ContextFullError as e:
                    self._fail(f"error: {printable(str(e), limit=2000)}{self._room_by(str(e))}")
                except AloraError as e:
                    self._fail(f"error: {printable(str(e), limit=2000)}")
                except KeyboardInterrupt:  # where no stream was there to cancel yet
                    self._screen.line("stopped", "dim")

    def attach(self, given: str) -> None:
        """Attaches a file, whose pages may stand behind its name. Raises AloraError."""
        path, pages = file_and_pages(given)
        about = self._conversation.attach(read_document(path, pages=pages)).about
        self._screen.line(f"document {_listed(self._conversation.documents[-1])}{', ' * bool(about)}{about}", "dim")

    def resume(self, path: Path) -> None:
        """Goes on with a saved conversation, after showing it. Raises AloraError."""
        self._follow(self._restore(path))
        self._path = path
        for document in self._conversation.documents:
            self._screen.line(f"document {_listed(document)}", "dim")
        if n := self._conversation.n_dropped:
            self._screen.line(dropped_line(n), "dim")
        for i, message in enumerate(self._conversation.messages, 1):
            if message["role"] == "user":
                self._screen.message(text_of(message))
            else:
                if message.get("reasoning_content"):
                    self._screen.line(f"{message['reasoning_content']}\n", "dim")
                self._screen.line(text_of(message), "" if message["role"] == "assistant" else "dim")
            for found in self._findings():
                if found["after"] == i:
                    self._screen.line(f"{found['name']}: {found['text']}", "summary")

    # what a message asks for

    def _take(self, message: str) -> None:
        name, _, argument = message[1:].strip().partition(" ")
        argument = argument.strip()
        if not message.startswith("/"):
            self._ask(message)
        elif message[1:].strip() in self._adapters:
            self._invoke([message[1:].strip()], as_table=False)
        elif name not in COMMANDS or (argument and not COMMANDS[name][0]):
            self._fail(f"{printable(message, 80)}: no such command; {self._meant(name)}")
        elif name in ("doc", "save", "resume"):
            self._with_file(name, argument)
        elif name == "decide":
            self._decide(argument)
        elif name == "all":
            self._invoke(self._adapters, as_table=True)
        elif name == "docs":
            for document in self._conversation.documents:
                self._screen.line(_listed(document))
            if not self._conversation.documents:
                self._screen.line("no documents; /doc FILE attaches one", "dim")
        elif name == "undo":
            self._undo()
        elif name == "reset":
            self._follow(self._begin())
            self._screen.line("a new conversation", "dim")
        elif name == "help":
            self._help()

    def _fail(self, line: str) -> None:
        self.n_failed += 1
        self._screen.failure(self._words(line))

    def _meant(self, name: str) -> str:
        """What to type in place of an unknown command."""
        near = difflib.get_close_matches(f"/{name}".casefold(), [*self.commands, *LEAVE], n=1)
        return f"{near[0]}? /help lists them" if near else "/help lists them"

    def _room_by(self, error: str) -> str:
        """What else makes room where a prompt is too long."""
        has_turns = any(message["role"] == "assistant" for message in self._conversation.messages)
        return ", or make room with /undo or /reset" if has_turns and error.startswith("context:") and self._conversation.on_full == "error" else ""

    def _ask(self, message: str) -> None:
        began = time.perf_counter()
        try:
            stream = self._conversation.ask(message, stream=True, **self._sampling)
        except KeyboardInterrupt:
            self._screen.line("stopped", "dim")
            self._screen.line(NOT_KEPT, "dim")
            return
        with cancel_on_sigint(stream) as chunks, self._waiting(stream) as come:
            kind = "text"
            for chunk in chunks:
                come()
                if kind == "reasoning" != chunk.kind:
                    self._screen.line("\n")
                kind = chunk.kind
                self._screen.write(chunk, "dim" if kind == "reasoning" else "")
        self._screen.line("")
        reply = stream.result
        self._cost([reply], began, stream.progress[0])
        if reply.finish_reason == "cancelled" and not reply.usage.completion_tokens:
            self._screen.line(NOT_KEPT, "dim")
        self._say_room(reply)

    def _invoke(self, names: Sequence[str], *, as_table: bool) -> None:
        if not names:
            self._fail(NO_ADAPTERS)
            return
        began = time.perf_counter()
        with cancel_on_sigint(self._conversation.invoke_all(names, stream=True)) as stream:
            if as_table:
                replies = self._fill_in(stream, names)
            else:
                with self._waiting(stream):
                    replies = stream.result
                reply = replies[names[0]]
                if reply.error is not None:
                    self._fail(summary(reply, names[0]))
                elif reply.finish_reason != "cancelled":  # which the costs say
                    self._screen.line(summary(reply), "summary")
        self.n_failed += as_table and any(reply.error is not None for reply in replies.values())
        found = [
            {"after": len(self._conversation.messages), "name": name, "text": summary(reply, name)}
            for name, reply in replies.items()
            if reply.finish_reason != "cancelled" and reply.error is None
        ]
        self._conversation.notes["findings"] = [*self._findings(), *found]
        self._cost(list(replies.values()), began, stream.progress[0])
        self._warn(replies.values())

    def _fill_in(self, stream: Stream[tuple[str, Chunk], dict[str, Reply]], names: Sequence[str]) -> dict[str, Reply]:
        """A table of what the intrinsics say, as they say it."""
        said = dict.fromkeys(names, "")
        with self._waiting(stream) as come:
            first = next(stream, None)
            come()
        with self._screen.table("intrinsic", "reused", "decoded", "result") as show:
            for name, chunk in itertools.chain([first] if first else (), stream):
                said[name] += chunk
                show([(name, "", "", text) for name, text in said.items()])
            show([(name, str(_reused(reply)), str(_decoded(reply)), self._words(summary(reply, name))) for name, reply in stream.result.items()])
        return stream.result

    def _decide(self, question: str) -> None:
        if not question:
            raise PromptError("/decide: expected a statement or a question behind it, got none")
        began = time.perf_counter()
        with (
            cancel_on_sigint(self._conversation.decide({"": question_in(question)}, adapter=self._decider, stream=True)) as stream,
            self._waiting(stream),
        ):
            decisions = stream.result
        for decision in decisions.values():
            if decision.error is not None:
                self._fail(decided(decision))
            else:
                self._screen.line(decided(decision), "summary")
        error = next((decision.error for decision in decisions.values()), None)
        self._cost([Reply("", decisions.usage, "stop" if decisions else "cancelled", error=error)], began, stream.progress[0])
        self._warn(decisions.values())

    def _with_file(self, command: str, argument: str) -> None:
        path = at_home(argument) if argument else self._path
        if path is None or (command == "doc" and not argument):
            raise PromptError(f"/{command}: expected the name of a file behind it, got none")
        if command == "doc":
            self.attach(argument)
        elif command == "resume":
            self.resume(path)
        else:
            check_target(path)
            self._conversation.save(path)
            self._path = path
            self._screen.line(f"saved {path}, {human_bytes(path.stat().st_size)}", "dim")

    def _undo(self) -> None:
        messages = self._conversation.messages
        last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
        if last is None:
            raise PromptError("/undo: expected a question to take back, got none")
        del messages[last:]
        self._conversation.notes["findings"] = [found for found in self._findings() if found["after"] <= last]
        self._screen.line("took back the last question", "dim")

    def _help(self) -> None:
        rows = [(f"/{name}", about or "run this intrinsic on the conversation so far") for name, about in self._about.items()]
        by = {"decide": f", by {self._decider}"} if self._decider else {}
        rows += [(f"/{name} {COMMANDS[name][0]}".strip(), COMMANDS[name][1] + by.get(name, "")) for name in self._own]
        width = max(len(usage) for usage, _ in rows)
        for usage, text in rows:
            self._screen.entry(f"{usage:<{width}}  ", text)
        if not self._adapters and not self._decider:
            self._screen.line(NO_ADAPTERS)
        self._screen.line('A message of several lines: Alt-Enter, a backslash at the end of a line, or """ before and after it.')

    # what is kept

    def _follow(self, conversation: Conversation) -> None:
        self._conversation.close()
        self._conversation = conversation
        self._path = None

    def _findings(self) -> list[dict[str, Any]]:
        """What intrinsics found: after how many messages, their names and texts. Other programs may have kept anything there."""
        found = self._conversation.notes.get("findings")
        return (
            [f for f in found if isinstance(f, dict) and all(isinstance(f.get(k), t) for k, t in _FINDING.items())] if isinstance(found, list) else []
        )

    def _waiting(self, stream: Stream) -> contextlib.AbstractContextManager[Callable[[], None]]:
        def said() -> str:
            n, n_all = stream.progress
            return f"reading {n:,} of {n_all:,} tokens" if n < n_all else "thinking"

        return self._screen.waiting(said)

    def _warn(self, replies: Iterable[Reply | Decision]) -> None:
        for warning in dict.fromkeys(warning for reply in replies for warning in reply.warnings):
            self._screen.line(self._words(warning), "dim")

    def _say_room(self, reply: Reply) -> None:
        """What there is to say about the end of an answer, and of the context."""
        self._warn([reply])
        n, n_ctx = reply.usage.prompt_tokens + reply.usage.completion_tokens, self._conversation.n_ctx
        if cut := cut_line(reply, self._conversation.engine.context.n_ctx):
            self._screen.line(cut, "dim")
        if n >= _FULL * n_ctx:
            soon = "the oldest turns are left out soon" if self._conversation.on_full == "drop-oldest" else "/undo makes room"
            more = ", and --ctx N gives more" if self._conversation.can_have_more else ""
            self._screen.line(f"the context is {n / n_ctx:.0%} full: {soon}; /reset begins anew{more}", "dim")

    def _cost(self, replies: list[Reply], began: float, n_read: int | None = None) -> None:
        """n_read: how many tokens of prompts are in the cache, where not all are because a call was stopped."""
        reused, decoded = sum(map(_reused, replies)), sum(map(_decoded, replies))
        if n_read is not None and any(r.finish_reason == "cancelled" for r in replies):
            decoded -= max(0, sum(r.usage.prompt_tokens for r in replies) - n_read)
        if not reused + decoded and all(r.error is not None for r in replies):
            return
        stopped = ", stopped" if any(r.finish_reason == "cancelled" for r in replies) else ""
        used = max((r.usage.prompt_tokens + r.usage.completion_tokens for r in replies), default=0) / self._conversation.n_ctx
        took = f"{(time.perf_counter() - began) * 1e3:.0f} ms"
        self._screen.line(f"{reused} tokens reused, {decoded} decoded, {took}, {used:.0%} of the context{stopped}", "dim")


_FINDING = {"after": int, "name": str, "text": str}


def _reused(reply: Reply) -> int:
    return reply.usage.cached_tokens


def _decoded(reply: Reply) -> int:
    return reply.usage.prompt_tokens - reply.usage.cached_tokens + reply.usage.completion_tokens


def _listed(document: dict[str, str]) -> str:
    return f"{document['doc_id']}: {document.get('title', 'without a title')}, {len(document['text']):,} characters"


@contextlib.contextmanager
def cancel_on_sigint(stream: Stream):
    """Within it, Ctrl-C ends the stream and nothing else."""
    try:
        before = signal.signal(signal.SIGINT, lambda *_: stream.cancel())
    except ValueError:  # not the main thread: no signals come here
        yield stream
        return
    try:
        yield stream
    finally:
        signal.signal(signal.SIGINT, before)

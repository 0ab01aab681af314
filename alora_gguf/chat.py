"""The chat: lines in, answers out. It knows a conversation, and neither models nor terminals."""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .conversation import Conversation
from .errors import AloraError
from .reply import Reply, Stream

HELP = "help", "all", "reset", "quit"


class Chat:
    """One chat.

    begin      makes a fresh conversation
    adapters   the names that are commands
    write      gets text as it comes; write_dim: the lines about costs and errors
    """

    def __init__(
        self,
        begin: Callable[[], Conversation],
        adapters: Sequence[str],
        write: Callable[[str], None],
        write_dim: Callable[[str], None],
        **sampling,
    ):
        self._begin = begin
        self._conversation = begin()
        self._adapters = list(adapters)
        self._write = write
        self._write_dim = write_dim
        self._sampling = sampling

    @property
    def commands(self) -> list[str]:
        return [f"/{name}" for name in (*self._adapters, *HELP)]

    def run(self, lines: Iterable[str]) -> None:
        """Takes lines until they end or one is /quit."""
        for line in lines:
            line = line.strip()
            if line == "/quit":
                return
            if line:
                try:
                    self._take(line)
                except AloraError as e:
                    self._write_dim(f"error: {e}\n")
                except KeyboardInterrupt:  # where no stream was there to cancel yet
                    self._write_dim("stopped\n")

    def _take(self, line: str) -> None:
        name = line[1:].strip()
        if not line.startswith("/"):
            self._ask(line)
        elif name == "help":
            self._help()
        elif name == "reset":
            self._conversation.close()
            self._conversation = self._begin()
            self._write_dim("a new conversation\n")
        elif name == "all" or name in self._adapters:
            self._invoke(self._adapters if name == "all" else [name])
        else:
            self._write_dim(f"{line}: no such command; /help lists them\n")

    def _ask(self, line: str) -> None:
        began = time.perf_counter()
        with cancel_on_sigint(self._conversation.ask(line, stream=True, **self._sampling)) as stream:
            for piece in stream:
                self._write(piece)
        self._write("\n")
        self._cost([stream.result], began)

    def _invoke(self, names: Sequence[str]) -> None:
        if not names:
            self._write_dim("no adapters are loaded; begin with --adapter FILE\n")
            return
        began = time.perf_counter()
        with cancel_on_sigint(self._conversation.invoke_all(names, stream=True)) as stream:
            replies = stream.result
        width = max(map(len, names))
        for name, reply in replies.items():
            label = f"{name:<{width}}  " if len(names) > 1 else ""
            self._write(f"{label}{finding(reply)}\n")
        self._cost(list(replies.values()), began)

    def _cost(self, replies: list[Reply], began: float) -> None:
        reused = sum(r.usage.cached_tokens for r in replies)
        decoded = sum(r.usage.prompt_tokens - r.usage.cached_tokens + r.usage.completion_tokens for r in replies)
        stopped = ", stopped" if any(r.finish_reason == "cancelled" for r in replies) else ""
        self._write_dim(f"{reused} tokens reused, {decoded} decoded, {(time.perf_counter() - began) * 1e3:.0f} ms{stopped}\n")

    def _help(self) -> None:
        for name in self._adapters:
            self._write(f"/{name:<16} run this intrinsic on the conversation so far\n")
        self._write("/all              run all of them together\n"
                    "/reset            begin a new conversation\n"
                    "/help             this list\n"
                    "/quit             leave (or Ctrl-D); Ctrl-C stops an answer\n")


def finding(reply: Reply) -> str:
    """What an intrinsic found, for people: `answerable, answerability likelihood 0.93`, a rewritten question, its text."""
    if reply.result is None:
        return reply.text
    name, value = _unwrapped(reply.result)
    if not isinstance(value, float):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    said = _unwrapped(json.loads(reply.text))[1]
    return (f"{said}, " if isinstance(said, str) else "") + f"{name.replace('_', ' ')} {value:.2f}".strip()


def _unwrapped(value: Any) -> tuple[str, Any]:
    """The name and value of an object's only field; no name for anything else."""
    return next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else ("", value)


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

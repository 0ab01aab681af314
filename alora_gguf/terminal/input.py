"""Messages as people give them to `alora chat`: typed, with history and completion, or through a pipe."""

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from ..hub.folders import state_folder
from .screen import MORE, PROMPT, Screen

_BLOCK = '"""'


def is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def history_file() -> Path:
    """Where lines are kept from chat to chat."""
    return state_folder() / "history"


def is_open(text: str) -> bool:
    """Whether the next line belongs to it: after a backslash, and in a block that \"\"\" began and has not ended."""
    text = text.strip()
    return text.endswith("\\") if not _is_block(text) else len(text) < 6 or not text.endswith(_BLOCK)


def typed_messages(commands: Sequence[str], of_files: Collection[str]) -> Iterator[str]:
    """Messages as a person types them. Ctrl-C drops one, Ctrl-D ends. `of_files` are the commands that a file's name follows."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    path = history_file()
    history: History
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        history = FileHistory(str(path))
    except OSError:
        history = InMemoryHistory()
    session: PromptSession[str] = PromptSession(
        [("" if os.environ.get("NO_COLOR") else "bold", PROMPT)],
        history=history,
        completer=_completer(commands, of_files),
        complete_while_typing=False,
        multiline=True,
        prompt_continuation=MORE,
        key_bindings=_bindings(),
    )
    while True:
        try:
            yield _unwrapped(session.prompt())
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def piped_messages(lines: Iterable[str], screen: Screen) -> Iterator[str]:
    """Messages of a file or pipe, each shown as if it were typed."""
    text = ""
    for line in lines:
        text += line
        if is_open(text):
            continue
        text, message = "", (_unwrapped(text) if _is_block(text) else text.replace("\\\n", "\n")).strip()
        if message:
            screen.message(message)
            yield message
    if text.strip():  # the end came first
        screen.message(text.strip())
        yield text.strip()


def _is_block(text: str) -> bool:
    """Whether it began with \"\"\": a backslash in it is one."""
    return text.lstrip().startswith(_BLOCK)


def _unwrapped(text: str) -> str:
    """The text in a block; any other as it is."""
    block = text.strip()
    return block[3:-3].strip("\n") if _is_block(block) and not is_open(block) else text


def _bindings():
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import has_focus
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("enter", filter=has_focus(DEFAULT_BUFFER))
    def _(event) -> None:
        buffer = event.current_buffer
        if not is_open(buffer.text):
            buffer.validate_and_handle()
            return
        if buffer.document.char_before_cursor == "\\" and not _is_block(buffer.text):
            buffer.delete_before_cursor()
        buffer.insert_text("\n")

    return bindings


def _completer(commands: Sequence[str], of_files: Collection[str]):
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    paths = PathCompleter(expanduser=True)

    class CommandCompleter(Completer):
        """Commands, and the names of files behind those that take one."""

        def get_completions(self, document, complete_event):
            text = document.text_before_cursor
            command, space, path = text.partition(" ")
            if space and command in of_files:
                yield from paths.get_completions(Document(path), complete_event)
                return
            for name in commands:
                if text and name.startswith(text):
                    yield Completion(name, -len(text))

    return CommandCompleter()

"""The sandbox that chat templates run in: Jinja as transformers sets it up, so that the text is the same to the character."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_NOW: ContextVar[datetime | None] = ContextVar("now", default=None)
_MARK: ContextVar[str] = ContextVar("mark", default="")


def sandbox() -> ImmutableSandboxedEnvironment:
    env = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = _tojson
    env.globals.update(raise_exception=_raise, strftime_now=_strftime_now, dict=_Dict(), namespace=_Namespace)
    return env


@contextmanager
def rendering(now: datetime | None, mark: str) -> Iterator[None]:
    """Within it templates are rendered at `now`, and tojson and MarkedText leave `mark` as it is. For this thread or task alone."""
    before = _NOW.set(now), _MARK.set(mark)
    try:
        yield
    finally:
        _NOW.reset(before[0])
        _MARK.reset(before[1])


class _Sandbox(ImmutableSandboxedEnvironment):
    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Jinja would make up frames that hold the error and are held by it, and with them whoever called, with a model, until a collection."""
        raise  # it is called where an error is handled


class _Generation(Extension):
    """{% generation %}: what the model says, for trainers that mask the rest. It is a scope of its own, as in transformers."""

    tags = {"generation"}  # noqa: RUF012  as jinja2 has it

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class _Dict:
    """`dict` of which no attribute is reached but these."""

    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class _Namespace(Namespace):
    """A namespace that holds no name with an underscore before it."""

    def __init__(*args, **kwargs):  # no `self`, which is a name that it may hold
        given = dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(args[0], given)

    def __setitem__(self, name, value):
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"namespace: expected names without an underscore before them, got {name!r}")


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return (_NOW.get() or datetime.now()).strftime(format)


def _tojson(x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
    """Jinja's own would write `<` as \\u003c, and keys in another order."""
    text = json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return _marked(text, json.dumps(_MARK.get())[1:-1]) if ensure_ascii else text


class MarkedText(str):
    """Text with the mark in it, which Python's repr, that some templates write tools with, leaves as it is."""

    def __repr__(self) -> str:
        return _marked(str.__repr__(self), repr(_MARK.get())[1:-1])


def _marked(text: str, escaped: str) -> str:
    """`text` with the mark in place of its escape. A backslash of the text itself is two: what follows them is no escape."""
    mark = _MARK.get()
    return re.sub(r"\\\\|" + re.escape(escaped), lambda m: mark if m[0] == escaped else m[0], text) if mark else text

"""Generated text divided into what is said and what is called: read as it comes, by the model's format."""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ...reply import CallHead, ToolCall
from ...text import printable
from ..messages import Message
from .arguments import of_gemma, of_python, refuse, typed
from .cursor import Cursor, Ended, NoCall, Wait
from .format import Hole, Quoted, Tagged, Text, ToolFormat, Write

_ALPHABET = string.ascii_letters + string.digits
_NAME = re.compile(r"[\w.-]*")
_ID = re.compile(r"[\w.:-]*")
_NUMBERS = re.compile(r"[0-9]*")
_CHUNKS = re.compile(r"\s+|(?<=[>\]])(?=[<\[])")
_CDATA = "<![CDATA[", "]]>"  # around texts with signs in them, in formats like XML
_MOST_WORDS = 100  # characters between a name and its arguments, where they may be any


class Event(NamedTuple):
    """What the next `n` characters that are held are. `kind`s "text" and "gone" settle them; the others come before they are settled.

    "head": a call begins; "arguments": a piece of the JSON of its arguments; "call": it is whole
    """

    kind: str
    n: int = 0
    head: CallHead | None = None
    text: str = ""
    call: ToolCall | None = None


class ToolCalls(Cursor):
    """Takes an answer's text in pieces of any size, and gives out Events.

    tools   the JSON schemas of the arguments, by the names of those that may be called
    one     it stops before a second call

    What looks like a call and is none is text, and a line in `warnings`.
    """

    def __init__(self, format: ToolFormat, tools: Mapping[str, Mapping[str, Any]], *, one: bool = False):
        super().__init__()
        self.calls: list[ToolCall] = []
        self.warnings: list[str] = []
        self.stopped = False
        self.in_call = False  # behind the opening of one
        self._format = format
        self._tools = tools
        self._one = one
        self._n = 0  # calls that have begun
        self._ids: set[str] = set()  # of these: models say one again, and results are told apart by them
        self._said = False  # whether there was any text
        self._is_behind = False  # whether the last that came was a call
        self._opened = ""  # the tag that opened what may be a call
        self._n_space = 0  # before it
        self._events: list[Event] = []
        self._reading = self._read()
        next(self._reading)

    def push(self, text: str) -> list[Event]:
        self._text += text
        return self._go_on()

    def flush(self) -> list[Event]:
        """No more text comes."""
        self._ended = True
        return self._go_on()

    def _go_on(self) -> list[Event]:
        if not self.stopped:
            try:
                next(self._reading)
            except StopIteration:
                pass
        if self.stopped or self._ended:
            self._settle("gone", len(self._text))  # nothing is left where it was not stopped
        events, self._events = self._events, []
        return events

    # the whole

    def _read(self) -> Wait:
        yield
        while not self.stopped:
            try:
                yield from self._plain()
            except Ended:
                self._settle("gone" if self.calls and not self._text.strip() else "text", len(self._text))
                return
            if self.stopped:
                return
            try:
                self.in_call = True
                yield from self._objects() if self._format.keys else self._named()
                self._settle("gone", self._at)
            except (NoCall, Ended) as e:
                self._end_badly(e)
            finally:
                self.in_call = False

    def _end_badly(self, error: Exception) -> None:
        """A part that is no call; what of it has been settled was one."""
        got = "the end of the answer" if isinstance(error, Ended) else str(error)
        self.warnings.append(
            f"tool call: expected one of {printable(', '.join(self._tools), 80)} as the model's format has it, got {got}; it is text"
        )
        self._settle("text", len(self._text) if isinstance(error, Ended) else max(1, self._n_space + len(self._opened)))

    def _plain(self) -> Wait:
        """Up to the opening of a call, of which the cursor is behind."""
        while True:
            text = self._text
            found = [(text.find(tag), tag) for tag in (self._format.opening, *self._format.others, *self._format.noise) if tag and tag in text]
            if not self._format.opening and not (self._said or self.calls) and text.lstrip().startswith("{"):
                found.append((text.index("{"), ""))
            at, tag = min(found, key=lambda place: (place[0], -len(place[1])), default=(len(text), ""))
            if self._is_behind and self._format.stop and text.lstrip().startswith(self._format.stop):
                self.stopped = True
                return
            if found and tag in self._format.noise and not self._may_become(text[at:], tag):
                self._settle("text", at)
                self._settle("gone", len(tag))
                continue
            if found and tag not in self._format.noise:
                n = len(text[:at].rstrip())
                self._settle("text", n)
                if self._one and self.calls:
                    self.stopped = True
                    return
                self._opened, self._n_space = tag, at - n
                self._at = at - n + len(tag)
                return
            sure = text[:at].rstrip()
            self._settle("text", len(sure[: len(sure) - _n_begun(sure, self._starts)].rstrip() if at == len(text) else sure))
            yield from self._wait()

    @property
    def _starts(self) -> tuple[str, ...]:
        return (self._format.opening, *self._format.others, *self._format.noise, self._format.stop if self._is_behind else "")

    def _may_become(self, text: str, tag: str) -> bool:
        """Whether the text may be the beginning of a longer one that begins with the tag."""
        return not self._ended and any(other != tag and other.startswith(tag) and other.startswith(text) for other in self._starts)

    # calls that are objects of JSON

    def _objects(self) -> Wait:
        """One or several, in a list or not."""
        in_list, n, closing, is_bare = False, 0, self._format.closing, not self._opened
        while True:
            try:
                yield from self._space()
            except Ended:
                if n:
                    return
                raise
            rest = self._text[self._at :]
            if rest[0] == "[" and not n and not in_list:
                in_list = True
                self._at += 1
            elif rest[0] == "{":
                if n and self._one:
                    self.stopped = True
                    return
                yield from self._object(is_bare)
                n += 1
                self._settle("gone", self._at)
                self._opened, self._n_space = "", 0
            elif n and (rest[0] in ",;" or (rest[0] == "]" and in_list)):
                self._at += 1
            elif n and closing and rest.startswith(closing):
                self._at += len(closing)
                return
            elif n and closing.startswith(rest):
                try:
                    yield from self._wait()
                except Ended:
                    self._at = len(self._text)
                    return
            elif n:
                return
            else:
                raise NoCall("no object")

    def _object(self, is_bare: bool) -> Wait:
        keys = self._format.keys
        assert keys is not None  # or this is not called
        call = _Call()
        late_id = keys.id is not None and Hole.ID in self._format.end
        self._at += 1
        while (c := (yield from self._space())) != "}":
            if c == ",":
                self._at += 1
                continue
            if c != '"':
                raise NoCall("no JSON")
            key = yield from self._string()
            if (yield from self._space()) != ":":
                raise NoCall("no JSON")
            self._at += 1
            c = yield from self._space()
            if keys.name is None:
                call.name = self._known(key)
            elif is_bare and not (call.name or key in (keys.name, keys.arguments, keys.id, "type", "id")):
                raise NoCall(f"an object with {printable(key, 40)!r}")
            if key == keys.name and c == '"':
                call.name = self._known((yield from self._string()))
            elif key == keys.id and c == '"':
                call.id = yield from self._string()
            elif key == keys.arguments or keys.name is None:
                begin = self._at
                if c == '"':
                    call.text = yield from self._string()
                else:
                    yield from self._value(None if not call.name or late_id else self._sender(call))
                    call.text = self._text[begin : self._at]
            else:
                yield from self._value(None)
        self._at += 1
        if not call.name:
            raise NoCall("no name")
        self._finish(call)

    # calls with a name between tags

    def _named(self) -> Wait:
        self._at = self._n_space if self._opened == self._format.opening else self._at
        before = self._format.start
        while True:
            call = _Call()
            yield from self._match(before, call)
            yield from self._space()
            name = yield from self._word(_NAME)
            call.name = self._known(name)
            before_id = self._at
            if self._format.until:
                if len((yield from self._until(self._format.until))) > _MOST_WORDS:
                    raise NoCall("something else")
                self._at += len(self._format.until)
            else:
                yield from self._match(self._format.between, call)
            if Hole.INDEX in self._format.between and self._format.between[0] == ":":
                call.id = "functions." + name + self._text[before_id : self._at].partition("<")[0].strip()
            yield from self._arguments(call)
            self._finish(call)
            self._settle("gone", self._at)
            self._opened, self._n_space = "", 0
            if not (yield from self._goes_on()):
                return
            before = ()
            if self._one:
                self.stopped = True
                return

    def _goes_on(self) -> Wait:
        """Behind a call: whether another follows; the cursor is behind what stands between them, or behind the end."""
        while True:
            more = self._looked(self._format.more, self._at) if self._format.more is not None else None
            end = self._looked(self._format.end, self._at)
            if more is not None and more >= 0:
                self._at = more
                return True
            if (more is None or self._ended) and end is not None and end >= 0:
                self._at = end
                return False
            if more is None and end is None:
                return False
            try:
                yield from self._wait()
            except Ended:
                self._at = end if end is not None and end >= 0 else len(self._text)
                return False

    def _looked(self, text: Text, at: int) -> int | None:
        """Where it ends if it stands at `at`; None if it does not; -1 if there is too little text to say it."""
        for piece in text:
            if isinstance(piece, Hole):
                pattern = _NUMBERS if piece is Hole.INDEX else _ID
                found = pattern.match(self._text, at)
                at = found.end() if found else at
                if at == len(self._text):
                    return -1
                continue
            for chunk in _chunks(piece):
                at += len(self._text) - at - len(self._text[at:].lstrip())
                rest = self._text[at : at + len(chunk)]
                if rest != chunk:
                    return -1 if chunk.startswith(rest) and at + len(rest) == len(self._text) else None
                at += len(chunk)
        return at

    def _arguments(self, call: _Call) -> Wait:
        style = self._format.arguments
        if isinstance(style, Tagged):
            values = yield from self._tagged(style, self._tools[call.name])
        elif isinstance(style, Quoted):
            values = yield from self._quoted(style.quote)
        elif style == "python":
            values = yield from self._keywords()
        else:
            if (yield from self._space()) != "{":
                raise NoCall("arguments that are no object")
            begin = self._at
            yield from self._value(self._sender(call))
            call.text = self._text[begin : self._at]
            return
        call.text = json.dumps(values, ensure_ascii=False)

    def _tagged(self, style: Tagged, schema: Mapping[str, Any]) -> Wait:
        values: dict[str, Any] = {}
        while True:
            n = self._looked((style.before,), self._at)
            others = [self._looked(text, self._at) for text in (self._format.end, self._format.more) if text is not None and text]
            is_closing = any(found is not None and (found >= 0 or self._ended) for found in others)
            if n is None or n < 0:
                if is_closing and (n is None or self._ended):
                    return values
                if n is None and all(found is None for found in others):
                    raise NoCall("something else in its arguments")
                yield from self._wait()
                continue
            self._at = n
            middles = {style.middle, *style.others.values()}
            key = (yield from self._until(_chunks(_shared(middles))[0])).strip()
            kind = ""
            while not kind:
                found = {middle: self._looked((middle,), self._at) for middle in middles}
                whole = [middle for middle, n in found.items() if n is not None and n >= 0]
                if whole:
                    kind = max(whole, key=len)
                    self._at = found[kind] or self._at
                elif all(n is None for n in found.values()):
                    raise NoCall("something else in its arguments")
                else:
                    yield from self._wait()
            while kind[-1:] == "\n" and self._at == len(self._text):
                yield from self._wait()
            if kind[-1:] == "\n" and self._text[self._at] == "\n":
                self._at += 1
            value = yield from self._until(style.after.strip())
            if style.after[0] == "\n":
                value = value.removesuffix("\n")
            self._at += len(style.after.strip())
            if value.startswith(_CDATA[0]) and value.endswith(_CDATA[1]):
                value = value[len(_CDATA[0]) : -len(_CDATA[1])]
            of_text = kind == style.middle if style.others else None
            values[key] = typed(value, of_text, schema, key)

    def _quoted(self, quote: str) -> Wait:
        if (yield from self._space()) != "{":
            raise NoCall("arguments that are no object")
        begin, depth = self._at, 0
        while True:
            found = re.compile(rf"[{{}}]|{re.escape(quote)}").search(self._text, self._at)
            if not found:
                self._at = max(self._at, len(self._text) - len(quote))
                yield from self._wait()
                continue
            self._at = found.end()
            if found[0] == quote:
                yield from self._until(quote)
                self._at += len(quote)
                continue
            depth += 1 if found[0] == "{" else -1
            if not depth:
                return of_gemma(self._text[begin : self._at], quote)

    def _keywords(self) -> Wait:
        """Up to a parenthesis that closes, as Python reads it."""
        if (yield from self._space()) != "(":
            raise NoCall("no parenthesis")
        begin = self._at
        while True:
            at = self._text.find(")", self._at)
            if at < 0:
                self._at = len(self._text)
                yield from self._wait()
                continue
            self._at = at + 1
            if (values := of_python(self._text[begin : self._at])) is not None:
                return values

    # pieces

    def _known(self, name: str) -> str:
        if name not in self._tools:
            raise NoCall(f"{printable(name, 60)!r}")
        return name

    def _sender(self, call: _Call) -> Callable[[str], None]:
        """The head of a call, now; then what gives out pieces of its arguments."""
        self._begin(call)
        head = call.head
        return lambda piece: self._events.append(Event("arguments", head=head, text=piece))

    def _begin(self, call: _Call) -> None:
        call.head = CallHead(self._n, call.id if call.id and call.id not in self._ids else _new_id(), call.name)
        self._ids.add(call.head.id)
        self._n += 1
        self._events.append(Event("head", head=call.head))

    def _finish(self, call: _Call) -> None:
        try:
            values = json.loads(call.text, parse_constant=refuse)
        except (ValueError, RecursionError) as e:
            raise NoCall(f"arguments that are no JSON: {printable(str(e), 80)}") from None
        if not isinstance(values, dict):
            raise NoCall("arguments that are no object")
        if call.head is None:
            self._begin(call)
            self._events.append(Event("arguments", head=call.head, text=call.text))
        assert call.head is not None  # of _begin
        made = ToolCall(call.head.id, call.name, values)
        self.calls.append(made)
        self._is_behind = True
        self._events.append(Event("call", head=call.head, call=made))

    def _match(self, text: Text, call: _Call) -> Wait:
        for piece in text:
            if piece is Hole.ID:
                call.id = yield from self._word(_ID)
            elif piece is Hole.NAME:
                if (yield from self._word(_NAME)) != call.name and call.name:
                    raise NoCall("two names")
            elif isinstance(piece, Hole):
                yield from self._word(_NUMBERS)
            else:
                for chunk in _chunks(piece):
                    while True:
                        yield from self._space()
                        rest = self._text[self._at : self._at + len(chunk)]
                        if rest == chunk:
                            break
                        if not chunk.startswith(rest):
                            raise NoCall("something else")
                        yield from self._wait()
                    self._at += len(chunk)

    def _settle(self, kind: str, n: int) -> None:
        if n <= 0:
            return
        self._events.append(Event(kind, n))
        if kind == "text" and self._text[:n].strip():
            self._said, self._is_behind = True, False
        self._text = self._text[n:]
        self._at = max(0, self._at - n)


def read_calls(format: ToolFormat, tools: Mapping[str, Mapping[str, Any]], text: str) -> tuple[str, list[ToolCall]]:
    """A whole answer: what of it is text, and its calls."""
    reader = ToolCalls(format, tools)
    said, at = "", 0
    for event in [*reader.push(text), *reader.flush()]:
        said += text[at : at + event.n] if event.kind == "text" else ""
        at += event.n
    return said, reader.calls


def is_read(format: ToolFormat, write: Write, *, several: bool) -> bool:
    """Whether what a template writes of some calls is read as these calls, whole and in pieces."""
    tools: dict[str, Mapping[str, Any]] = {name: {"properties": {"xkeyx": {"type": "string"}}} for name in ("xtoolx", "xotherx")}
    for arguments in ({"xkeyx": "Xvaluex", "xlastx": {"xinx": [1, True, "Xdeepx"]}}, {}):
        wanted = [(name, arguments) for name in list(tools)[: 1 + several]]
        made = [
            {"id": f"abcdefXk{i}", "type": "function", "function": {"name": name, "arguments": dict(arguments)}}
            for i, (name, arguments) in enumerate(wanted)
        ]
        messages: list[Message] = [{"role": "user", "content": "Xfirstx"}, {"role": "assistant", "content": "", "tool_calls": made}]
        for i, (name, _) in enumerate(wanted):
            messages.append({"role": "tool", "name": name, "tool_call_id": f"abcdefXk{i}", "content": "Xresultx"})
        text = write(messages).partition("Xfirstx")[2].partition("Xresultx")[0]
        if not format.opening:  # where such calls begin cannot be found there
            text = text[text.index("{") :] if "{" in text else ""
        for step in (1, max(1, len(text))):
            reader = ToolCalls(format, tools)
            for at in range(0, len(text), step):
                reader.push(text[at : at + step])
            reader.flush()
            if [(call.name, call.arguments) for call in reader.calls] != wanted:
                return False
    return True


class _Call:
    """One that is being read. text: the JSON of its arguments."""

    def __init__(self) -> None:
        self.name = self.id = self.text = ""
        self.head: CallHead | None = None


def _new_id() -> str:
    """Nine letters and digits, which is what every template takes: Mistral's take no other."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))


def _chunks(text: str) -> list[str]:
    """Its words; between them, and between tags, there may be any white space."""
    return [chunk for chunk in _CHUNKS.split(text) if chunk]


def _shared(texts: set[str]) -> str:
    first, *rest = sorted(text.strip() for text in texts)
    n = next((i for i, c in enumerate(first) if any(text[i : i + 1] != c for text in rest)), len(first))
    return first[:n]


def _n_begun(text: str, tags: tuple[str, ...]) -> int:
    """How many characters at the end of the text may be the beginning of one of the tags."""
    return max((n for tag in tags for n in range(1, min(len(tag), len(text) + 1)) if text.endswith(tag[:n])), default=0)

"""How a model writes its calls of tools, found in what its template writes of them.

A call that a template has written is cut into what stands before the name, between it and the arguments, behind these, and between two
calls. What was found has to read what the template writes: what it does not read is no format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from ..messages import Message

NOW = datetime(2026, 1, 1)


class Hole(Enum):
    """What stands in a text and is another in each call."""

    NAME = "name"
    ID = "id"
    INDEX = "index"  # of the call, from 0 or 1 on


Text = tuple[str | Hole, ...]  # any white space may stand between its words


@dataclass(frozen=True)
class Tagged:
    """Arguments as before, KEY, middle, VALUE, after, one after the other. Texts stand there as they are, other values as JSON.

    middle, of other types than text: others
    """

    before: str
    middle: str
    after: str
    others: Mapping[str, str] = field(default_factory=dict)  # by JSON's name of the type

    def middle_of(self, kind: str) -> str:
        return self.others.get(kind, self.middle)


@dataclass(frozen=True)
class Quoted:
    """Arguments as an object of Gemma's: names without quotes, and `quote` around texts."""

    quote: str


@dataclass(frozen=True)
class Keys:
    """Of a call that is a JSON object. name None: the name is the one key, whose value are the arguments."""

    name: str | None
    arguments: str
    id: str | None = None


@dataclass(frozen=True)
class ToolFormat:
    """start NAME between ARGUMENTS, more NAME between ARGUMENTS, end: what a model writes that calls tools.

    more        None: it can write one call only
    arguments   "json" for an object of JSON, "python" for keyword arguments of Python
    opening     what calls begin with; where they begin with their object, ""
    keys        if a call is an object of JSON: those in it. Then it is read as JSON, whatever else is in it
    stop        what comes behind calls and is no more the model's: it ends there
    others      other texts that calls may begin with; noise: texts that are neither answer nor call
    until       between a name and its arguments there may be any words up to this
    """

    start: Text
    between: Text
    more: Text | None
    end: Text
    arguments: str | Tagged | Quoted
    opening: str
    keys: Keys | None = None
    stop: str = ""
    others: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    until: str = ""

    @property
    def tags(self) -> str:
        """Every text of the format: control tokens that are named in it are of it."""
        texts = [piece for text in (self.start, self.between, self.more or (), self.end) for piece in text if isinstance(piece, str)]
        if isinstance(self.arguments, Tagged):
            texts += [self.arguments.before, self.arguments.middle, self.arguments.after, *self.arguments.others.values()]
        elif isinstance(self.arguments, Quoted):
            texts.append(self.arguments.quote)
        return "\n".join([*texts, self.opening, self.stop, *self.others, *self.noise])

    @property
    def closing(self) -> str:
        """What stands behind the last object of a list of them, or behind the one."""
        last = self.end[-1] if self.end else ""
        return last.lstrip('"}]), \n').rstrip() if isinstance(last, str) else ""

    def write(self, calls: Sequence[Mapping[str, Any]]) -> str:
        """Calls in OpenAI's form, their arguments objects, as the model writes them: of arguments in JSON, or Python's."""
        parts, filled = [], {}
        for i, call in enumerate(calls):
            function = call["function"]
            filled = {Hole.NAME: function["name"], Hole.ID: call.get("id") or "", Hole.INDEX: str(i)}
            arguments = function["arguments"]
            if self.arguments == "python":
                written = f"({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
            else:
                written = json.dumps(arguments, ensure_ascii=False)
            before = self.start if i == 0 else self.more or self.start
            parts += [_filled(before, filled), function["name"], _filled(self.between, filled), written]
        return "".join([*parts, _filled(self.end, filled)]) if parts else ""


def _filled(text: Text, filled: Mapping[Hole, str]) -> str:
    return "".join(piece if isinstance(piece, str) else filled[piece] for piece in text)


Write = Callable[[Sequence[Message]], str]  # what a template writes of messages, without a generation prompt; "" if it refuses them

_NAME, _OTHER, _RESULT = "xtoolx", "xotherx", "Xresultx"
_FIRST, _ANSWER, _SECOND = "Xfirstx", "Xanswerx", "Xsecondx"
_IDS = "abcdefXk1", "abcdefYk2"  # as Mistral wants them
_USER, _SAID, _AGAIN = ({"role": role, "content": text} for role, text in (("user", _FIRST), ("assistant", _ANSWER), ("user", _SECOND)))
_VALUES: dict[str, Any] = {  # in the order of the alphabet, which some templates write them in
    "xtaax": "Xvaluex", "xtbbx": 71, "xtccx": True, "xtddx": None, "xteex": ["Xitemx"], "xtffx": {"xinx": "Xdeepx"}, "xtggx": "Xendx",
}  # fmt: skip
_KINDS = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null", list: "array", dict: "object"}
_ENDS = "<|call|>", "<|calls|>", "<|eom_id|>", "<|eot_id|>", "<|im_end|>", "<|observation|>", "<|flush|>"  # that are no turn's end of all models
_OPEN_TAG = re.compile(r"[<\[][^<>\[\]\s]*\Z")
_TAG = re.compile(r"\s*(<[^<>]+>|\[[^\[\]]+\])")
_KEYS_BEFORE = re.compile(r'\{\s*(?:"[^"]+"\s*:\s*(?:"[^"]*"|[\w\x00-\x1f]+)\s*,\s*)*"([^"]+)"\s*:\s*"\Z')
_KEYS_BETWEEN = re.compile(r'"\s*,\s*(?:"[^"]+"\s*:\s*"[^"]*"\s*,\s*)*"([^"]+)"\s*:\s*\Z')
_KEY_OF_ID = re.compile(r'"([^"]+)"\s*:\s*"\Z')

_HARMONY = ToolFormat(
    start=(" to=functions.",),
    between=("<|channel|>commentary json<|message|>",),
    more=None,
    end=("<|call|>",),
    arguments="json",
    opening="to=functions.",
    until="<|message|>",
    noise=("<|start|>assistant", "<|channel|>commentary<|message|>", "<|channel|>final<|message|>", "<|channel|>commentary", "<|end|>"),
)


def _objects(opening: str, closing: str, name: str = "name", arguments: str = "arguments", others: tuple[str, ...] = ()) -> ToolFormat:
    """A list of objects between two tags."""
    key = f'", "{arguments}": '
    return ToolFormat(
        (f'{opening}[{{"{name}": "',), (key,), (f'}}, {{"{name}": "',), ("}]" + closing,), "json", opening, Keys(name, arguments), others=others
    )


SAID_IN_SOURCE: tuple[tuple[str, ToolFormat], ...] = (  # of templates that write no calls, by what these say of them
    ("<|tool_call|> followed by a JSON list", _objects("<|tool_call|>", "", others=("<tool_call>",))),  # Granite 3.0 to 3.3
    (
        "<|tool_call_argument_begin|>",  # Kimi K2, which keeps count in a list that a sandbox does not let it change
        ToolFormat(
            ("<|tool_calls_section_begin|><|tool_call_begin|>functions.",),
            (":", Hole.INDEX, "<|tool_call_argument_begin|>"),
            ("<|tool_call_end|><|tool_call_begin|>functions.",),
            ("<|tool_call_end|><|tool_calls_section_end|>",),
            "json",
            "<|tool_calls_section_begin|>",
        ),
    ),
    ("functools[", _objects("functools", "")),  # Firefunction
    ("List of tools: ", ToolFormat(("<|tool_call_start|>[",), (), (", ",), ("]<|tool_call_end|>",), "python", "<|tool_call_start|>")),  # LFM2
)


def format_of(write: Write, source: str, *, several: bool, thought_end: str = "") -> ToolFormat | None:
    """The format of a template; None: its calls are in none that is known.

    several       whether it writes several calls in one message
    thought_end   what stands behind a thought
    """
    found = _Written(write, several, thought_end).format(source)
    if found is not None and "to=functions." in found.tags and "<|channel|>commentary" in found.tags:
        return _HARMONY
    return found or next((format for said, format in SAID_IN_SOURCE if said in source), None)


class _Written:
    """What a template has written of calls, in pieces."""

    def __init__(self, write: Write, several: bool, thought_end: str):
        self._write = write
        self._several = several
        self._thought_end = thought_end

    def format(self, source: str) -> ToolFormat | None:
        one = self._turn([(_NAME, _VALUES)])
        if one is None:
            return None
        before, rest = one
        style, between, behind = self._arguments(rest)
        if style is None:
            return None
        behind = behind.partition(_RESULT)[0]
        more: str | None = None
        numbered: str | None = between
        if self._several and (two := self._turn([(_NAME, _VALUES), (_OTHER, _VALUES)])) is not None:
            _, between, after = self._arguments(two[1])
            more, name, rest = after.partition(_OTHER)
            again = self._arguments(rest)
            if not name or again[0] != style:
                return None
            between, numbered = _numbered(between, again[1])
            before, more = _numbered_before(before, more)
            behind = again[2].partition(_RESULT)[0]
        end, stop = self._end(behind)
        shortened = style
        if isinstance(style, Tagged):
            shortened, between, more, end = _shortened(style, between, more, end)
        return None if numbered is None else _assembled(before, between, more, end, shortened, stop, source)

    def _turn(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[str, str] | None:
        """What stands before the first name in the model's turn, and all that stands behind it."""
        made = [
            {"id": _IDS[i], "type": "function", "function": {"name": name, "arguments": dict(arguments)}} for i, (name, arguments) in enumerate(calls)
        ]
        results = [{"role": "tool", "name": name, "tool_call_id": _IDS[i], "content": _RESULT} for i, (name, _) in enumerate(calls)]
        text = self._write([_USER, {"role": "assistant", "content": "", "tool_calls": made}, *results])
        plain = [self._write([_USER, _SAID]), self._write([_USER, _SAID, _AGAIN])]
        at = min((len(_common(text, other)) for other in plain if other), default=0)
        at = cut.start() if (cut := _OPEN_TAG.search(text[:at])) else at
        begin, name, rest = text[at:].partition(_NAME)
        if not name:
            return None
        if self._thought_end and self._thought_end in begin:
            begin = begin.rpartition(self._thought_end)[2]
        return begin.lstrip(), rest

    def _arguments(self, rest: str) -> tuple[str | Tagged | Quoted | None, str, str]:
        """How arguments stand in what follows a name; what stands before them, and what behind."""
        decoder = json.JSONDecoder()
        for found in re.finditer(r"\{", rest):
            try:
                value, end = decoder.raw_decode(rest, found.start())
            except (ValueError, RecursionError):
                continue
            if value == _VALUES:
                return "json", rest[: found.start()], rest[end:]
        keys = list(_VALUES)
        between, key, after = rest.partition(keys[0])
        quote, text, _ = after.partition("Xvaluex")
        if not (key and text):
            return None, "", ""
        if between.endswith("(") and quote.strip() in ("='", '="'):
            return "python", between[:-1], after[after.index("Xendx") + len("Xendx") + 1 :].removeprefix(")")
        if between.endswith("{") and quote.startswith(":") and len(quote) > 2:
            return Quoted(quote[1:]), between[:-1], after[after.index("Xendx") + len("Xendx") + len(quote) - 1 :].removeprefix("}")
        return self._tagged(rest)

    def _tagged(self, rest: str) -> tuple[Tagged | None, str, str]:
        cut: list[tuple[str, str, str]] = []  # before a key, between it and the value, the type
        for key, value in _VALUES.items():
            before, found, rest = rest.partition(key)
            written = [value] if isinstance(value, str) else [json.dumps(value), str(value), json.dumps(value, separators=(",", ":"))]
            places = [(rest.find(text), text) for text in written if text in rest[:200]]
            if not found or not places:
                return None, "", ""
            at, text = min(places)
            cut.append((before, rest[:at], _KINDS[type(value)]))
            rest = rest[at + len(text) :]
        joints = {before for before, _, _ in cut[1:]}
        middles = {kind: middle for _, middle, kind in reversed(cut)}
        if len(joints) != 1:
            return None, "", ""
        [joint] = joints
        begin = _common_end(cut[0][0], joint)
        after = _common(joint[: len(joint) - len(begin)], rest) if begin else ""
        if not (begin.strip() and after.strip()):
            return None, "", ""
        others = {kind: middle for kind, middle in middles.items() if middle != middles["string"]}
        style = Tagged(begin, middles["string"], after + joint[len(after) : len(joint) - len(begin)], others)
        return style, cut[0][0][: len(cut[0][0]) - len(begin)], rest

    def _end(self, behind: str) -> tuple[str, str]:
        """What of the text between the last arguments and the first result is the model's, and the tag that comes then."""
        results = self._write(
            [
                _USER,
                {"role": "assistant", "content": "", "tool_calls": [_made(i) for i in (0, 1)]},
                *({"role": "tool", "name": _NAME, "tool_call_id": _IDS[i], "content": _RESULT} for i in (0, 1)),
            ]
        )
        between = results.split(_RESULT)[1] if results.count(_RESULT) == 2 else ""
        opening = _common_end(behind, between)
        if _OPEN_TAG.search(behind[: len(behind) - len(opening)]) and (rest := re.match(r"[^<>\[\]\s]*[>\]]", opening)):
            opening = opening[rest.end() :]
        end, stop = behind[: len(behind) - len(opening)], _TAG.match(opening)
        plain = self._write([_USER, _SAID, _AGAIN]).partition(_ANSWER)[2].partition(_SECOND)[0].lstrip()
        for tag in [*(_TAG.findall(plain) or [plain[:4]]), *_ENDS]:
            if len(tag) > 3:
                end = end.partition(tag)[0]
        if ">" in end:
            end = end[: end.rindex(">") + 1]
        return end, stop[1] if stop else ""


def _made(i: int) -> dict[str, Any]:
    return {"id": _IDS[i], "type": "function", "function": {"name": _NAME, "arguments": dict(_VALUES)}}


def _common(*texts: str) -> str:
    """What they begin with."""
    first, last = min(texts), max(texts)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))]


def _common_end(a: str, b: str) -> str:
    return _common(a[::-1], b[::-1])[::-1]


_MARKS = {Hole.ID: "\x01", Hole.INDEX: "\x02", Hole.NAME: "\x03"}  # in texts that are not cut yet


def _numbered(first: str, second: str) -> tuple[str, str | None]:
    """The text of two calls with the index as a mark, where they differ in nothing else."""
    if first == second:
        return first, first
    a, b = (_with_marks(text) for text in (first, second))
    if a == b:
        return a, a
    a, b = (re.sub(r"\d+", _MARKS[Hole.INDEX], text) for text in (a, b))
    return a, a if a == b else None


def _numbered_before(before: str, more: str) -> tuple[str, str]:
    """The same of what stands before the first name and before the second, as far as they end alike."""
    a, b = (_with_marks(text) for text in (before, more))
    numbers = [re.sub(r"\d+", _MARKS[Hole.INDEX], text) for text in (a, b)]
    return (numbers[0], numbers[1]) if len(_common_end(*numbers)) > len(_common_end(a, b)) + 3 else (a, b)


def _with_marks(text: str) -> str:
    for word in _IDS:
        text = text.replace(word, _MARKS[Hole.ID])
    for word in (_NAME, _OTHER):
        text = text.replace(word, _MARKS[Hole.NAME])
    return text


def _shortened(style: Tagged, between: str, more: str | None, end: str) -> tuple[Tagged, str, str | None, str]:
    """What stands behind each argument belongs to it, and is no part of what stands behind them all."""
    rest = (end, *(() if more is None else (more,)))
    after = _common(style.after, *rest)
    n = len(after) if after.strip() == style.after.strip() else 0
    return style, between, None if more is None else more[n:], end[n:]


def _assembled(before: str, between: str, more: str | None, end: str, style: str | Tagged | Quoted, stop: str, source: str) -> ToolFormat | None:
    before, between, end = (_with_marks(text) for text in (before, between, end))
    more = None if more is None else _with_marks(more)
    keys, opening = None, ""
    others: tuple[str, ...] = ()
    found = _KEYS_BEFORE.search(before)
    if style == "json" and (found or re.search(r'\{\s*"\Z', before)):
        named = _KEYS_BETWEEN.search(between)
        if found and named:
            keys, opening = Keys(found[1], named[1]), before[: found.start()]
        elif not found and re.fullmatch(r'"\s*:\s*', between):
            keys, opening = Keys(None, ""), before[: before.rindex("{")]
        else:
            return None
        if _MARKS[Hole.ID] in end and (of_id := _KEY_OF_ID.search(end.partition(_MARKS[Hole.ID])[0])):
            keys = Keys(keys.name, keys.arguments, of_id[1])
        opening = opening.rstrip().removesuffix("[").rstrip()
        if not opening and "<|python_tag|>" in source:
            others = ("<|python_tag|>",)
    else:
        opening = next(iter(re.split(r"[\s\x01-\x03]", before, maxsplit=1)))
        if not opening:
            return None
    return ToolFormat(_text(before), _text(between), None if more is None else _text(more), _text(end), style, opening, keys, stop, others)


def _text(marked: str) -> Text:
    holes = {mark: hole for hole, mark in _MARKS.items()}
    return tuple(holes.get(piece, piece) for piece in re.split(r"([\x01-\x03])", marked) if piece)

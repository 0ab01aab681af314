"""What a model may write that calls tools, as a grammar of llguidance: its format, with the schemas of the arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...errors import PromptError
from ...runtime.gbnf import lark_literal
from ...runtime.schema import closed, enforceable
from ..thinking import Thinking
from .format import Hole, Quoted, Tagged, Text, ToolFormat

_GUIDANCE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
    "coerce_one_of": False,
}  # as json.dumps writes
_COMPACT = {**_GUIDANCE, "item_separator": ",", "key_separator": ":"}
_ANYTHING = "/(?s:.*)/"
_DEEPEST = 16


class ToolGrammar:
    """Makes the grammars of one format. control: the names of the vocabulary's control tokens, by their ids."""

    def __init__(self, format: ToolFormat, control: Mapping[int, str]):
        self._format = format
        self._ids = {name: token for token, name in control.items()}
        tags = format.tags
        names = sorted((name for name in self._ids if name in tags or len(name) > 3), key=lambda name: -len(name))
        self._names = re.compile("|".join(map(re.escape, names))) if names else None
        self._rules: list[str] = []

    def of(
        self,
        tools: Mapping[str, Mapping[str, Any]],
        *,
        one: bool,
        thinking: Thinking | None = None,
        in_thought: bool = False,
        answer: Mapping[str, Any] | None = None,
        after_text: bool = False,
    ) -> str:
        """Lark, with a rule `start`: calls of `tools`, the schemas of their arguments by their names.

        one        not several
        thinking   the model may think before it: then its words are free, and the constraint sees none of them
        answer     a schema of which JSON may come instead
        after_text   white space may come before

        Raises PromptError for a schema that cannot be enforced, by the name of the tool.
        """
        self._rules = []
        format = self._format
        again = "" if one or format.more is None else f" ({self._text(format.more)} call)*"
        calls = f"{self._text(format.start)} call{again} {self._text(format.end)}"
        names = [self._call(i, name, schema) for i, (name, schema) in enumerate(tools.items())]
        before = "WS? " if after_text else ""
        if after_text or thinking is not None:
            self._rules.append("WS: /[ \\n]{1,2}/")
        if thinking is not None:
            behind = " ".join(part for part in ("WS?", self._literal(thinking.turn)) if part)
            before = f"{behind} " if in_thought else f"({self._literal(thinking.start)} {behind})? "
        body = "calls" if answer is None else f"(calls | {self._json(answer, 'json_schema', _GUIDANCE)})"
        return "\n".join([f"start: {before}{body}", f"calls: {calls}", f"call: {' | '.join(names)}", *self._rules])

    def _call(self, i: int, name: str, schema: Mapping[str, Any]) -> str:
        where = f"tools: {name}: parameters"
        between = self._text(self._format.between, name)
        arguments = self._arguments(schema, where)
        return self._rule(f"c{i}", f"{lark_literal(name)} {between} {arguments}")

    def _arguments(self, schema: Mapping[str, Any], where: str) -> str:
        style = self._format.arguments
        if style == "json":
            return self._json(schema, where, _GUIDANCE)
        properties, required = _properties(schema, where)
        if isinstance(style, Tagged):
            made = [self._tagged(style, key, part, schema, where) + ("" if key in required else "?") for key, part in properties.items()]
            return " ".join(made)
        if isinstance(style, Quoted):
            return self._quoted(schema, schema, style.quote, where, 0)
        items = [
            (f"{lark_literal(f'{key}=')} {self._json(_with_definitions(part, schema), where, _GUIDANCE)}", key in required)
            for key, part in properties.items()
        ]
        return f'"(" {self._joined(items, ", ")} ")"'

    def _tagged(self, style: Tagged, key: str, part: Any, schema: Mapping[str, Any], where: str) -> str:
        """One argument. Texts end before what stands behind them."""
        kind = part.get("type") if isinstance(part, Mapping) else None
        is_text = not isinstance(kind, str) or kind == "string"
        begin = self._literal(style.before + key + style.middle_of("number" if kind == "integer" else kind if isinstance(kind, str) else "string"))
        if kind == "boolean" and "enum" not in part and "const" not in part:  # templates write Python's
            return self._rule("", f'{begin} ("true" | "false" | "True" | "False") {self._literal(style.after)}')
        if not is_text:
            return self._rule("", f"{begin} {self._json(_with_definitions(part, schema), where, _GUIDANCE)} {self._literal(style.after)}")
        texts = part.get("enum") if isinstance(part, Mapping) else None
        if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
            return self._rule("", f"{begin} ({' | '.join(map(lark_literal, texts))}) {self._literal(style.after)}")
        return self._rule("", f"{begin} {self._until(style.after)}")

    def _quoted(self, schema: Any, root: Mapping[str, Any], quote: str, where: str, depth: int) -> str:
        """A value as Gemma writes it, its names in the order of the alphabet."""
        kind = schema.get("type") if isinstance(schema, Mapping) else None
        if depth > _DEEPEST:
            raise PromptError(f"{where}: expected at most {_DEEPEST} schemas within one another, got more; simplify it")
        if kind == "object" and (properties := schema.get("properties")):
            required = schema.get("required") or ()
            items = [
                (f"{lark_literal(f'{key}:')} {self._quoted(properties[key], root, quote, where, depth + 1)}", key in required)
                for key in sorted(properties)
            ]
            return self._rule("", f'"{{" {self._joined(items, ",")} "}}"')
        if kind == "object" and not schema.get("additionalProperties", True):
            return '"{}"'
        if kind == "object" and not depth:
            return '"{}"'
        if kind == "array":
            item = self._quoted(schema.get("items", {"type": "string"}), root, quote, where, depth + 1)
            return self._rule("", f'"[" ({item} ("," {item})*)? "]"')
        if kind == "string" and isinstance(texts := schema.get("enum"), list):
            return self._rule("", " | ".join(f"{self._literal(quote)} {lark_literal(str(text))} {self._literal(quote)}" for text in texts))
        if kind in ("integer", "number", "boolean", "null"):
            return self._json(schema, where, _COMPACT)
        if kind == "string":
            return self._rule("", f"{self._literal(quote)} {self._until(quote)}")
        raise PromptError(f"{where}: expected arguments of one type each, got {str(schema)[:80]}; the model's format has no other in it")

    def _joined(self, items: Sequence[tuple[str, bool]], comma: str) -> str:
        """Items, each with whether it has to be there, with commas between those that are."""
        first, later = '""', '""'  # from here on, where nothing came before, and where something did
        for text, is_required in reversed(items):
            rule = self._rule("", f"{text} {later}")
            after = self._rule("", f"{lark_literal(comma)} {rule}")
            first, later = (rule, after) if is_required else (self._rule("", f"{rule} | {first}"), self._rule("", f"{after} | {later}"))
        return first

    def _until(self, text: str) -> str:
        """Any text, up to this one and with it."""
        words = text.lstrip("\n")
        if any(words.startswith(name) for name in self._ids):
            return self._rule("", f"{_ANYTHING} {self._literal(text)}")
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}[suffix={lark_literal(text)}]: {_ANYTHING}")
        return name

    def _json(self, schema: Any, where: str, guidance: Mapping[str, Any]) -> str:
        try:
            made = enforceable(closed(schema))
        except PromptError as e:
            raise PromptError(str(e).replace("json_schema", where, 1)) from e
        return self._rule("", f"%json {json.dumps({**made, 'x-guidance': guidance})}")

    def _text(self, text: Text, name: str = "") -> str:
        holes: dict[Hole, Callable[[], str]] = {
            Hole.ID: lambda: "/[a-zA-Z0-9]{9}/",
            Hole.INDEX: lambda: "/[0-9]{1,3}/",
            Hole.NAME: lambda: lark_literal(name),
        }
        return " ".join(part for part in (holes[piece]() if isinstance(piece, Hole) else self._literal(piece) for piece in text) if part)

    def _literal(self, text: str) -> str:
        """A text, with control tokens where it names them."""
        return " ".join(self._pieces(text))

    def _pieces(self, text: str) -> Iterable[str]:
        at = 0
        for found in self._names.finditer(text) if self._names else ():
            if found.start() > at:
                yield lark_literal(text[at : found.start()])
            yield f"<[{self._ids[found[0]]}]>"
            at = found.end()
        if at < len(text):
            yield lark_literal(text[at:])

    def _rule(self, name: str, body: str) -> str:
        name = name or f"r{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name


def _properties(schema: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], Sequence[str]]:
    """Those of an object that lists them. Raises PromptError."""
    for keyword in ("anyOf", "oneOf", "allOf", "$ref", "patternProperties", "if", "not"):
        if keyword in schema:
            raise PromptError(f"{where}: expected keywords that can be enforced, got {keyword!r}; leave it out: the model's format is no JSON")
    return schema.get("properties") or {}, schema.get("required") or ()


def _with_definitions(part: Any, schema: Mapping[str, Any]) -> Any:
    """A part of a schema, with what it may refer to."""
    more = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    return {**more, **part} if isinstance(part, Mapping) else part

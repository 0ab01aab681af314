"""What the texts in a call stand for: arguments as models write them that write no JSON."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from ...text import printable
from .cursor import NoCall

_NAMES_OF_GEMMA = re.compile(r'([{,]\s*)([^\s{}\[\],:"]+)(\s*:)')
_OF_PYTHON = re.compile(r"\b(None|True|False)\b")
_SPECIAL = {"true": True, "false": False, "null": None}


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none of JSON's")


def typed(text: str, of_text: bool | None, schema: Mapping[str, Any], key: str) -> Any:
    """What a text stands for: by what the format says of it, else by the schema of the argument, else JSON if it is some."""
    properties = schema.get("properties")
    wanted = properties.get(key) if isinstance(properties, Mapping) else None
    if of_text or (of_text is None and isinstance(wanted, Mapping) and wanted.get("type") == "string"):
        return text
    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text.strip())
            json.dumps(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text
        if not (value is None or isinstance(value, bool | list | dict)):
            return text
    return value if of_text is False or _is_valid(value, wanted, schema) or not _is_valid(text, wanted, schema) else text


def _is_valid(value: Any, wanted: Any, schema: Mapping[str, Any]) -> bool:
    from jsonschema.validators import Draft202012Validator

    try:
        return wanted is None or bool(Draft202012Validator(schema).evolve(schema=wanted).is_valid(value))
    except Exception:  # of references that lead nowhere
        return True


def of_python(text: str) -> dict[str, Any] | None:
    """The keyword arguments of "(a=1, b='c')", whose names may be any; None: it is no such text, or no whole one."""
    try:
        call = ast.parse(f"f{text}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            return None
        values = {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
        json.dumps(values)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return values


def _literal(node: ast.expr) -> Any:
    """A literal, of Python or of JSON."""
    if isinstance(node, ast.Name) and node.id in _SPECIAL:
        return _SPECIAL[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {str(_literal(key)): _literal(value) for key, value in zip(node.keys, node.values) if key is not None}
    return ast.literal_eval(node)


def of_gemma(text: str, quote: str) -> dict[str, Any]:
    """The value of {name:<quote>text<quote>,other:[1,true]}. Raises NoCall."""
    parts = text.split(quote)
    names = _NAMES_OF_GEMMA.sub(lambda m: f"{m[1]}{json.dumps(m[2])}{m[3]}", "\0".join(parts[::2]))  # they are outside of texts
    names = _OF_PYTHON.sub(lambda m: json.dumps(ast.literal_eval(m[1])), names)
    texts = iter([json.dumps(part) for part in parts[1::2]])
    try:
        value = json.loads(re.sub("\0", lambda _: next(texts), names), parse_constant=refuse)
    except (ValueError, RecursionError) as e:
        raise NoCall(f"arguments that cannot be read: {printable(str(e), 80)}") from None
    if not isinstance(value, dict):
        raise NoCall("arguments that are no object")
    return value

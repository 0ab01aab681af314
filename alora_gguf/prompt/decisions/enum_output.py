"""Intrinsics as decisions: where the output that an io.yaml asks for says one of several values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...errors import PromptError
from ...text import complaint
from ..io_yaml import IntrinsicIO


class EnumOutput(NamedTuple):
    """values    of which the output has one: under `key` of an object, None: it is all of it
    before    the JSON before it, where the schema leaves no choice; None: the intrinsic says something of its own first
    behind    the JSON behind it, "": it is all of the output
    counts    what each value counts for the likelihood, None: there is none
    """

    values: list[Any]
    key: str | None
    before: str | None
    behind: str
    counts: Mapping[Any, float] | None

    def labels(self, *, closed: bool = False) -> list[str]:
        """Each value as JSON. Texts have the quote behind them, and others what stands behind them, if they are `closed`."""
        texts = [json.dumps(value, ensure_ascii=False) for value in self.values]
        if closed:
            return [text if isinstance(value, str) else text + self.behind for value, text in zip(self.values, texts)]
        return [text.removesuffix('"') if isinstance(value, str) else text for value, text in zip(self.values, texts)]

    def said_before(self, output: str) -> str:
        """Of an output, what stands before the value. Raises PromptError."""
        if self.key is None:
            return ""
        at = output.rfind(json.dumps(self.key, ensure_ascii=False))
        _, colon, rest = output[at:].partition(":")
        if at < 0 or not colon or not rest.strip():
            raise PromptError(f"decide: expected an output with {self.key!r} in it, got {output!r:.80}; it may have been cut")
        return output[: len(output) - len(rest.lstrip())]


def enum_output(io: IntrinsicIO | None, where: str) -> EnumOutput:
    """Raises PromptError for an intrinsic whose output has no such place."""
    refused = PromptError(
        complaint(
            where, "output", "one of several values, or an object with one such field", "another", "invoke() it, or give its adapter to a question"
        )
    )
    if io is None or (io.schema is None and not io.likelihoods):
        raise refused
    schema = io.schema or {}
    properties = _resolved(schema, schema).get("properties") or {}
    fields = {name: _resolved(field, schema) for name, field in properties.items()}
    likely = io.likelihoods
    if likely and len(likely[0][0]) > 1 or len(likely) > 1:
        raise refused
    path, counts = likely[0] if likely else ([], None)
    enums = [name for name, field in fields.items() if "enum" in field]
    if likely:
        key = path[0] if path else None
    elif fields and len(enums) == 1:
        key = enums[0]
    elif fields:
        raise refused
    else:
        key = None
    place = fields.get(str(key), {}) if key is not None else _resolved(schema, schema)
    values = list(place["enum"]) if "enum" in place else list(counts or ())
    if not values or not isinstance(key, str | None) or any(isinstance(value, list | dict) for value in values):
        raise refused
    behind = "" if key is None else "}" if key == next(reversed(fields), key) else ","
    return EnumOutput(values, key, _before(fields, key), behind, counts)


def _before(fields: Mapping[str, Mapping[str, Any]], key: str | None) -> str | None:
    if key is None:
        return ""
    parts: list[str] = []
    for name, field in fields.items():
        said = json.dumps(name, ensure_ascii=False) + ": "
        if name == key:
            return "{" + ", ".join([*parts, said])
        only = field["enum"] if len(field.get("enum", ())) == 1 else [field["const"]] if "const" in field else None
        if only is None:
            return None
        parts.append(said + json.dumps(only[0], ensure_ascii=False))
    return None


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema, or what its $ref is."""
    for _ in range(8):
        ref = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not (isinstance(ref, str) and ref.startswith("#/")):
            break
        schema = root
        for part in ref[2:].split("/"):
            schema = schema.get(part, {}) if isinstance(schema, Mapping) else {}
    return schema if isinstance(schema, Mapping) else {}

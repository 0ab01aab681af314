"""JSON schemas in the keywords that llguidance enforces: what it lacks is said with others, where that is possible."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping
from functools import cached_property, reduce
from typing import Any

from ..errors import PromptError
from ..text import printable

Schema = dict[str, Any] | bool

_ONE = "additionalProperties", "items", "additionalItems"
_SEVERAL = "allOf", "anyOf", "prefixItems"
_NAMED = "properties", "patternProperties", "$defs", "definitions"
_TYPES = "null", "boolean", "number", "string", "array", "object"
_WITHOUT_EFFECT = {
    "title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "nullable", "discriminator", "xml",
    "externalDocs", "contentEncoding", "contentMediaType", "contentSchema", "definitions", "id", "comment",
}  # fmt: skip
_FORMATS = {
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unknown",
}  # that llguidance knows  # fmt: skip
_OTHER_FORMATS = {
    "regex",
    "idn-email",
    "idn-hostname",
    "iri",
    "iri-reference",
    "uri-reference",
    "uri-template",
    "json-pointer",
    "relative-json-pointer",
}
_OPPOSITES = {  # of what is true of one type only: the keyword that says the contrary, and how far the number moves
    "minimum": ("number", "exclusiveMaximum", 0), "maximum": ("number", "exclusiveMinimum", 0),
    "exclusiveMinimum": ("number", "maximum", 0), "exclusiveMaximum": ("number", "minimum", 0),
    "minLength": ("string", "maxLength", -1), "maxLength": ("string", "minLength", 1),
    "minItems": ("array", "maxItems", -1), "maxItems": ("array", "minItems", 1),
    "minProperties": ("object", "maxProperties", -1), "maxProperties": ("object", "minProperties", 1),
}  # fmt: skip
_OF_OTHERS = {"additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref", "if"}  # beside `properties`
_MOST_VALUES = 2000
_DEEPEST = 64


def enforceable(schema: Any) -> dict[str, Any]:
    """A schema of the same texts. Raises PromptError by the name of what cannot be enforced."""
    if not isinstance(schema, dict | bool):
        raise PromptError(f"json_schema: expected a JSON schema, which is an object, got {printable(repr(schema), 80)}")
    made = _Rewriting(schema).rewrite(schema, 0)
    if made is False:
        raise PromptError("json_schema: expected one that some value is valid under, got one that none is; correct it")
    return made if isinstance(made, dict) else {}


def cannot(keyword: str) -> PromptError:
    return PromptError(f"json_schema: expected keywords that can be enforced, got {printable(repr(keyword), 80)}; leave it out")


class _Rewriting:
    """One schema, whose parts may refer to its others."""

    def __init__(self, root: Schema):
        self._root = root
        self._denying: list[str] = []

    def rewrite(self, schema: Any, depth: int) -> Schema:
        """In its place, so that what refers to a part of it still does."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise PromptError(f"json_schema: expected an object or a boolean, got {printable(repr(schema), 80)}; correct it")
        if depth > _DEEPEST:
            raise PromptError(f"json_schema: expected at most {_DEEPEST} schemas within one another, got more; simplify it")
        if (values := self._values(schema)) is not None:
            valid = [value for value in values if self._is_valid(schema, value)]
            return {"enum": valid, **{name: value for name, value in schema.items() if name in ("$defs", "definitions")}} if valid else False
        below = depth + 1
        made: dict[str, Any] = {}
        more: list[Schema] = []  # that hold besides
        keywords: dict[str, Any] = schema
        for name, value in keywords.items():
            if name in ("$defs", "definitions") and isinstance(value, dict):
                made[name] = {key: self._attempt(part, below) for key, part in value.items()}
            elif name in _NAMED and isinstance(value, dict):
                made[name] = {key: self.rewrite(part, below) for key, part in value.items()}
            elif name in _SEVERAL or (name == "items" and isinstance(value, list)):
                made[name] = [self.rewrite(part, below) for part in value] if isinstance(value, list) else value
            elif name in _ONE:
                made[name] = self.rewrite(value, below)
            elif name == "not":
                more.append(self.deny(value, below))
            elif name == "oneOf":
                more.append(self._one_of(value, below))
            elif name == "if":
                then, other = (self.rewrite(schema.get(key, True), below) for key in ("then", "else"))
                if then is not True or other is not True:
                    more.append(_any([_all([self.rewrite(value, below), then]), _all([self.deny(value, below), other])]))
            elif name in ("dependencies", "dependentRequired", "dependentSchemas") and isinstance(value, dict):
                more += [self._dependent(key, part, below) for key, part in value.items()]
            elif name == "unevaluatedProperties" and not {"allOf", "anyOf", "oneOf", "$ref", "if", "additionalProperties"} & set(schema):
                made["additionalProperties"] = self.rewrite(value, below)
            elif name == "uniqueItems" and (value is False or schema.get("maxItems") in (0, 1)):
                pass
            elif name in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):  # as draft 4 has it
                bound = "minimum" if name == "exclusiveMinimum" else "maximum"
                made |= {name: schema[bound]} if value and bound in schema else {}
            elif name == "format":
                if value in _OTHER_FORMATS:
                    raise cannot(f"format: {value}")
                made |= {name: value} if value in _FORMATS else {}  # others are for people
            elif name not in ("then", "else"):
                made[name] = value
        if False in more:
            return False
        more = [part for part in more if part is not True]
        if more:
            made["allOf"] = [*made.get("allOf", ()), *more]
        return made

    def deny(self, schema: Any, depth: int) -> Schema:
        """What is valid where `schema` is not."""
        if isinstance(schema, bool):
            return not schema
        if not isinstance(schema, dict) or depth > _DEEPEST:
            raise cannot("not")
        below = depth + 1
        parts: list[Schema] = []
        keywords: dict[str, Any] = schema
        for name, value in keywords.items():
            if name in _OPPOSITES and type(value) in (int, float):
                kind, opposite, step = _OPPOSITES[name]
                parts.append({"type": kind, opposite: value + step} if value + step >= 0 or kind == "number" else False)
            elif name == "type":
                parts.append(_of_types(set(_TYPES) - _types_of({"type": value})))
                if "integer" in (value if isinstance(value, list) else [value]) and "number" not in value:
                    raise cannot("not: type: integer")
            elif name in ("enum", "const"):
                parts.append(_other_than(value if name == "enum" else [value]))
            elif name == "required":
                parts += [{"type": "object", "properties": {key: False}} for key in value]
            elif name == "properties":
                denied = {key: self.deny(part, below) for key, part in value.items()}
                parts += [{"type": "object", "properties": {key: part}, "required": [key]} for key, part in denied.items() if part is not False]
            elif name == "allOf":
                parts.append(_any([self.deny(part, below) for part in value]))
            elif name == "anyOf" or (name == "oneOf" and _are_disjoint(value)):
                parts.append(_all([self.deny(part, below) for part in value]))
            elif name == "not":
                parts.append(self.rewrite(value, below))
            elif name == "$ref":
                if value in self._denying:
                    raise cannot("not")
                self._denying.append(value)
                parts.append(self.deny(self._referred(value), below))
                self._denying.pop()
            elif name in ("dependencies", "dependentRequired", "dependentSchemas"):
                for key, needs in value.items():
                    missing = [{"properties": {other: False}} for other in needs] if isinstance(needs, list) else [self.deny(needs, below)]
                    parts.append(_all([{"type": "object", "required": [key]}, _any(missing)]))
            elif name in ("items", "additionalProperties") and value in (True, {}):
                pass
            elif not (name in _WITHOUT_EFFECT or name.startswith(("$", "x-"))):
                raise cannot(f"not: {name}")
        return _any(parts)

    def _attempt(self, schema: Any, depth: int) -> Any:
        """Of a definition, which perhaps nobody refers to."""
        try:
            return self.rewrite(schema, depth)
        except PromptError:
            return schema

    def _one_of(self, schemas: list[Any], depth: int) -> Schema:
        if _are_disjoint([self._resolved(part) for part in schemas]):
            return _any([self.rewrite(part, depth) for part in schemas])
        try:
            others = lambda i: [self.deny(_without_type(part, schemas[i]), depth) for j, part in enumerate(schemas) if j != i]
            return _any([_all([self.rewrite(part, depth), *others(i)]) for i, part in enumerate(schemas)])
        except PromptError as e:
            raise PromptError("json_schema: expected keywords that can be enforced, got 'oneOf' of schemas that overlap; write anyOf") from e

    def _dependent(self, name: str, needs: Any, depth: int) -> Schema:
        absent = {"properties": {name: False}}
        if isinstance(needs, list):
            return {"anyOf": [absent, {"required": [name, *needs]}]} if needs else True
        return _any([absent, _all([{"required": [name]}, self.rewrite(needs, depth)])])

    def _resolved(self, schema: Any) -> Any:
        return self._referred(schema["$ref"]) if isinstance(schema, dict) and set(schema) == {"$ref"} else schema

    def _referred(self, ref: Any) -> Any:
        """Of a reference within the schema. Raises PromptError."""
        at: Any = self._root
        try:
            start, *path = ref.split("/")
            if start != "#":
                raise KeyError(ref)
            for step in path:
                step = step.replace("~1", "/").replace("~0", "~")
                at = at[int(step)] if isinstance(at, list) else at[step]
        except (AttributeError, KeyError, IndexError, ValueError, TypeError) as e:
            raise PromptError(f"json_schema: $ref: expected one within the schema, got {printable(repr(ref), 80)}; correct it") from e
        return at

    def _values(self, schema: Mapping[str, Any]) -> list[Any] | None:
        """All that can be valid, where that is a list and something else has to be true of it too; None: there is no such list."""
        constrains = {name for name in schema if not (name in _WITHOUT_EFFECT or name in ("$defs", "$schema", "$id", "type", "enum", "const"))}
        if not constrains:
            return None
        if "const" in schema:
            return [schema["const"]]
        if isinstance(schema.get("enum"), list):
            return list(schema["enum"])
        for part in schema.get("allOf", ()) if isinstance(schema.get("allOf"), list) else ():
            if isinstance(part, dict) and ("const" in part or isinstance(part.get("enum"), list)):
                return [part["const"]] if "const" in part else list(part["enum"])
        if schema.get("type") == "integer" and {"not", "allOf", "oneOf", "if"} & constrains:
            low = next((schema[name] for name in ("minimum", "exclusiveMinimum") if type(schema.get(name)) is int), None)
            high = next((schema[name] for name in ("maximum", "exclusiveMaximum") if type(schema.get(name)) is int), None)
            if low is not None and high is not None and high - low <= _MOST_VALUES:
                return list(range(low, high + 1))
        return None

    def _is_valid(self, schema: Mapping[str, Any], value: Any) -> bool:
        try:
            return bool(self._validator.evolve(schema=schema).is_valid(value))
        except Exception as e:  # whatever it stumbles over
            raise PromptError(f"json_schema: expected one that values can be checked by, got: {printable(f'{type(e).__name__}: {e}')}") from e

    @cached_property
    def _validator(self) -> Any:
        from jsonschema.validators import Draft202012Validator, validator_for

        return validator_for(self._root, Draft202012Validator)(self._root)


def _any(schemas: Iterable[Schema]) -> Schema:
    kept = [schema for schema in schemas if schema is not False]
    if not kept or True in kept:
        return bool(kept)
    return kept[0] if len(kept) == 1 else {"anyOf": kept}


def _all(schemas: Iterable[Schema]) -> Schema:
    kept = [schema for schema in schemas if schema is not True and schema != {}]
    if not kept or False in kept:
        return not kept
    return kept[0] if len(kept) == 1 else {"allOf": kept}


def _of_types(types: Iterable[str]) -> Schema:
    types = sorted(types)
    return {"type": types} if types else False


def _types_of(schema: Any) -> set[str]:
    """Those of _TYPES that a value of it can be of."""
    if isinstance(schema, bool):
        return set(_TYPES) if schema else set()
    if not isinstance(schema, dict):
        return set(_TYPES)
    given = schema.get("type", _TYPES)
    types = {"number" if t == "integer" else t for t in (given if isinstance(given, list | tuple) else [given])}
    if "const" in schema or isinstance(schema.get("enum"), list):
        types &= {_type_of(value) for value in (schema["enum"] if "enum" in schema else [schema["const"]])}
    for name in ("anyOf", "oneOf", "allOf"):
        if isinstance(parts := schema.get(name), list) and parts:
            several = [_types_of(part) for part in parts]
            types &= reduce(operator.and_ if name == "allOf" else operator.or_, several)
    return types


def _type_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return "number" if isinstance(value, int | float) else "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _are_disjoint(schemas: list[Any]) -> bool:
    """Whether no value can be valid under two of them, by their types or by a property that tells them apart."""
    pairs = [(a, b) for i, a in enumerate(schemas) for b in schemas[:i]]
    return all(not _types_of(a) & _types_of(b) or _are_told_apart(a, b) for a, b in pairs)


def _are_told_apart(a: Any, b: Any) -> bool:
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return False
    if (ours := _listed(a)) is not None and (theirs := _listed(b)) is not None:
        return not any(x == y for x in ours for y in theirs)
    if _types_of(a) & _types_of(b) != {"object"}:
        return False
    if _lets_out(a, b) or _lets_out(b, a):
        return True
    shared = {*(a.get("required") or ())} & {*(b.get("required") or ())}
    return any(_are_told_apart((a.get("properties") or {}).get(name), (b.get("properties") or {}).get(name)) for name in shared)


def _lets_out(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether `a` has no place for a property that `b` requires."""
    if a.get("additionalProperties") is not False or "patternProperties" in a:
        return False
    return any(name not in (a.get("properties") or {}) for name in b.get("required") or ())


def _without_type(schema: Any, other: Any) -> Any:
    """Of values of the `other`, whose type needs no word then."""
    is_known = isinstance(schema, dict) and isinstance(other, dict) and "type" in schema and schema["type"] == other.get("type")
    return {name: value for name, value in schema.items() if name != "type"} if is_known else schema


def _listed(schema: Mapping[str, Any]) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema["enum"] if isinstance(schema.get("enum"), list) else None


def _other_than(values: list[Any]) -> Schema:
    """Every value but these. Raises PromptError where arrays or objects are among them."""
    by_type = {kind: [value for value in values if _type_of(value) == kind] for kind in _TYPES}
    if by_type["array"] or by_type["object"]:
        raise cannot("not: enum")
    parts = [_of_types(kind for kind in _TYPES if not by_type[kind])]
    if by_type["boolean"]:
        parts += [{"enum": [value]} for value in (True, False) if value not in by_type["boolean"]]
    if numbers := sorted(set(by_type["number"])):
        parts += [{"type": "number", "exclusiveMaximum": numbers[0]}, {"type": "number", "exclusiveMinimum": numbers[-1]}]
        parts += [{"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high} for low, high in itertools.pairwise(numbers)]
    if by_type["string"]:
        parts.append({"type": "string", "pattern": f"^({_no_text_of(set(by_type['string']))})$"})
    return _any(parts)


def _no_text_of(texts: set[str]) -> str:
    """A regular expression for every text but these."""
    firsts = sorted({text[0] for text in texts if text})
    escaped = lambda c: c if c.isalnum() else f"\\x{{{ord(c):x}}}"
    others = f"[^{''.join(map(escaped, firsts))}](?s:.)*" if firsts else "(?s:.)+"
    below = [f"{escaped(c)}({_no_text_of({text[1:] for text in texts if text[:1] == c})})" for c in firsts]
    return "|".join([*([] if "" in texts else [""]), others, *below])


def closed(schema: Any) -> Any:
    """The same, but that objects whose properties are listed have no others, as far as the schema does not speak of others."""
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for keyword in _NAMED:
        if isinstance(made.get(keyword), dict):
            made[keyword] = {name: closed(part) for name, part in made[keyword].items()}
    for keyword in _ONE:
        made.update({keyword: closed(made[keyword])} if keyword in made else {})
    for keyword in ("anyOf", "oneOf", "prefixItems"):
        if isinstance(made.get(keyword), list):
            made[keyword] = [closed(part) for part in made[keyword]]
    if isinstance(made.get("properties"), dict) and not _OF_OTHERS & made.keys():
        made["additionalProperties"] = False
    return made

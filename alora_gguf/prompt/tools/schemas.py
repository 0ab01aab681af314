"""Tools that a model may call: functions of Python or OpenAI's schemas, as checked schemas, and which of them it may or has to call."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import PromptError
from ...text import printable

Tool = Callable[..., Any] | Mapping[str, Any]
Schema = dict[str, Any]

MODES = "none", "auto", "required"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_FIELDS = "name", "description", "parameters", "strict"
_MOST = 512
_MOST_CHARS = 1_000_000
_SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Returns?|Yields?|Raises|Examples?|Notes?)\s*:\s*$")
_OF_GOOGLE = re.compile(r"^\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_OF_SPHINX = re.compile(r"^\s*:param\s+(?:[^:]*\s)?(\w+)\s*:\s*(.*)$")


class ToolChoice(NamedTuple):
    """mode: one of MODES. names: the tools that may be called. one: at most one call."""

    mode: str
    names: tuple[str, ...]
    one: bool = False


def tools_of(given: Sequence[Tool] | None, where: str = "tools") -> list[Schema]:
    """{"type": "function", "function": {name, description, parameters}} of each. Raises PromptError, naming the tool.

    given   functions, of whose signature, type hints and docstring the schema is made; or OpenAI's schemas
    """
    if given is None:
        return []
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise PromptError(f"{where}: expected a list of functions or schemas, got {_shown(given)}")
    if len(given) > _MOST:
        raise PromptError(f"{where}: expected at most {_MOST}, got {len(given)}; give those that are needed")
    schemas = [_schema(tool, f"{where}[{i}]") for i, tool in enumerate(given)]
    names = [name_of(schema) for schema in schemas]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise PromptError(f"{where}[{i}].function.name: expected another name for each tool, got {name!r} twice; rename one")
    return schemas


def choice_of(given: Any, tools: Sequence[Schema], parallel: bool | None = None) -> ToolChoice:
    """What `tool_choice` says of the tools: a mode, or the name of the one that has to be called, also in OpenAI's form. Raises PromptError."""
    names, one = tuple(name_of(tool) for tool in tools), parallel is False
    if not isinstance(parallel, bool | None):
        raise PromptError(f"parallel_tool_calls: expected true or false, got {_shown(parallel)}")
    function = given.get("function") if isinstance(given, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) and given.get("type", "function") == "function" else None
    if given is None or given in MODES:
        mode = given or "auto"
        if mode == "required" and not names:
            raise PromptError("tool_choice: expected tools beside 'required', got none; give tools")
        return ToolChoice(mode, names, one)
    name = given if isinstance(given, str) else name
    if not isinstance(name, str):
        form = '{"type": "function", "function": {"name": ...}}'
        raise PromptError(f"tool_choice: expected {', '.join(MODES)}, the name of a tool, or {form}, got {_shown(given)}")
    if name not in names:
        raise PromptError(f"tool_choice: expected one of {', '.join((*MODES, *names))}, got {_shown(name)}")
    return ToolChoice("required", (name,), one)


def name_of(tool: Mapping[str, Any]) -> str:
    """Of a checked schema."""
    name: str = tool["function"]["name"]
    return name


def parameters_of(tools: Sequence[Schema]) -> dict[str, Schema]:
    """The schemas of their arguments, by their names."""
    return {name_of(tool): tool["function"]["parameters"] for tool in tools}


def _schema(tool: Any, where: str) -> Schema:
    if isinstance(tool, Mapping):
        return _checked(tool, where)
    if callable(tool):
        return {"type": "function", "function": _of_function(tool, where)}
    raise PromptError(f"{where}: expected a function or a schema, got {_shown(tool)}")


def _checked(tool: Mapping[str, Any], where: str) -> Schema:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, Mapping):
        raise PromptError(f'{where}: expected {{"type": "function", "function": {{...}}}}, got {_shown(dict(tool))}')
    for name, value in (*((name, tool[name]) for name in tool if name not in ("type", "function")), *function.items()):
        if (name not in _FIELDS or name in tool) and value is not None:
            raise PromptError(f"{where}: expected a function with {', '.join(_FIELDS)}, got {_shown(name)} too; leave it out")
    name, description, parameters = function.get("name"), function.get("description"), function.get("parameters")
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise PromptError(f"{where}.function.name: expected up to 128 letters, digits, _, - and dots, got {_shown(name)}")
    if not isinstance(description, str | None):
        raise PromptError(f"{where}.function.description: expected text, got {_shown(description)}")
    if not isinstance(function.get("strict"), bool | None):
        raise PromptError(f"{where}.function.strict: expected true or false, got {_shown(function['strict'])}")
    said = {} if description is None else {"description": description}
    return {"type": "function", "function": {"name": name, **said, "parameters": _parameters(parameters, f"{where}.function.parameters")}}


def _parameters(given: Any, where: str) -> Schema:
    from jsonschema import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    if given is None:
        return {"type": "object", "properties": {}}
    if not isinstance(given, Mapping):
        raise PromptError(f"{where}: expected a JSON schema of type object, got {_shown(given)}")
    try:
        text = json.dumps(given)
        schema: Schema = json.loads(text)
    except (TypeError, ValueError, RecursionError) as e:
        raise PromptError(f"{where}: expected a JSON schema, got: {printable(str(e))}") from e
    if len(text) > _MOST_CHARS:
        raise PromptError(f"{where}: expected at most {_MOST_CHARS} characters, got {len(text)}; simplify it")
    if schema.get("type", "object") != "object":
        raise PromptError(f"{where}: expected a JSON schema of type object, got type {_shown(schema['type'])}")
    try:
        validator_for(schema, Draft202012Validator).check_schema(schema)
    except SchemaError as e:
        raise PromptError(f"{where}: expected a JSON schema, got: {printable(e.message)}") from e
    except Exception as e:  # of a schema that names another meta-schema, or is too deep
        raise PromptError(f"{where}: expected a JSON schema, got: {printable(f'{type(e).__name__}: {e}')}") from e
    return {"type": "object", "properties": {}, **schema}


def _of_function(function: Callable[..., Any], where: str) -> Schema:
    """By its signature and docstring; the schema of a type hint is pydantic's."""
    from pydantic import Field, create_model

    name = getattr(function, "__name__", type(function).__name__)
    if not _NAME.fullmatch(name):
        raise PromptError(f"{where}: expected a function with a name, got {_shown(name)}; give it one with def, or its schema")
    try:
        signature = inspect.signature(function, eval_str=True)
    except (TypeError, ValueError, NameError, AttributeError) as e:
        raise PromptError(f"{where} {name}: expected a function with a signature, got: {printable(str(e))}; give its schema") from e
    about, said = _docstring(inspect.getdoc(function) or "")
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PromptError(f"{where} {name}: expected parameters with names, got {_shown(str(parameter))}; give its schema")
        if parameter.annotation is parameter.empty:
            raise PromptError(
                f"{where} {name}: expected a type hint for each parameter, got none for {parameter.name!r}; add one, or give its schema"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        more: dict[str, Any] = {"description": said[parameter.name]} if parameter.name in said else {}
        fields[f"field{len(fields)}"] = (parameter.annotation, Field(default, alias=parameter.name, **more))
    try:
        model: Any = create_model("Arguments", **fields)
        schema = model.model_json_schema(by_alias=True)
    except Exception as e:  # whatever a type is that has no schema
        raise PromptError(f"{where} {name}: expected type hints that have a JSON schema, got: {printable(str(e))}; give its schema") from e
    described = {"description": about} if about else {}
    return {"name": name, **described, "parameters": _parameters(_untitled(schema), f"{where} {name}")}


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of its parameters: Google's way or Sphinx's."""
    about: list[str] = []
    said: dict[str, str] = {}
    section, last = "", ""
    for line in text.splitlines():
        if found := _SECTION.match(line):
            section, last = found[1], ""
        elif found := _OF_SPHINX.match(line):
            section, last = "Args", found[1]
            said[last] = found[2].strip()
        elif section in ("Args", "Arguments", "Parameters") and (found := _OF_GOOGLE.match(line)) and not line.lstrip().startswith(":"):
            last = found[1]
            said[last] = found[2].strip()
        elif section and last and line.strip() and not line.lstrip().startswith(":"):
            said[last] = f"{said[last]} {line.strip()}".strip()
        elif not section:
            about.append(line)
        else:
            last = ""
    return "\n".join(about).strip(), said


def _untitled(schema: Any, of_names: bool = False) -> Any:
    """Without the titles that pydantic makes of names; `of_names`: its keys are names themselves."""
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if of_names or not (key == "title" and isinstance(value, str))}
        return {key: _untitled(value, not of_names and key in ("properties", "$defs")) for key, value in kept.items()}
    return [_untitled(part) for part in schema] if isinstance(schema, list) else schema


def _shown(value: Any) -> str:
    return printable(repr(value), 80)

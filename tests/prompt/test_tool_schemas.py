"""Tools as schemas: of functions by their signatures and docstrings, of OpenAI's form as it is, and one line for what is wrong."""

import inspect
from typing import Annotated, Literal

import jsonschema
import pytest
from pydantic import Field

from alora_gguf import PromptError
from alora_gguf.prompt.tools.schemas import ToolChoice, choice_of, parameters_of, tools_of


def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C", near: list[str] | None = None) -> str:
    """The weather of a city.

    Looks it up.

    Args:
        city: where, by
            its name
        days (int): how many

    Returns:
        what it is
    """
    return city


def tide(place: str, exact: Annotated[bool, Field(description="To the minute.")]):
    """The tide.

    :param str place: the harbour
    """


def schema(name="tide", parameters=None, **fields):
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object", "properties": {}}, **fields}}


def test_a_function_is_described_by_its_signature_and_docstring():
    [one, other] = tools_of([weather, tide])
    assert one["function"]["name"] == "weather"
    assert one["function"]["description"] == "The weather of a city.\n\nLooks it up."
    parameters = one["function"]["parameters"]
    assert parameters["required"] == ["city"]
    assert parameters["properties"]["city"] == {"description": "where, by its name", "type": "string"}
    assert parameters["properties"]["days"] == {"default": 1, "description": "how many", "type": "integer"}
    assert parameters["properties"]["unit"]["enum"] == ["C", "F"]
    assert other["function"]["parameters"]["properties"] == {
        "place": {"description": "the harbour", "type": "string"},
        "exact": {"description": "To the minute.", "type": "boolean"},
    }


def test_what_a_schema_allows_a_function_takes():
    parameters = parameters_of(tools_of([weather]))["weather"]
    for arguments in ({"city": "Bern"}, {"city": "Bern", "days": 2, "unit": "F", "near": ["a"]}, {"city": "", "near": None}):
        jsonschema.validate(arguments, parameters)
        inspect.signature(weather).bind(**arguments)
    for arguments in ({}, {"city": 1}, {"city": "Bern", "unit": "K"}, {"city": "Bern", "near": "a"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(arguments, parameters)


def test_a_schema_stays_as_it_is():
    given = schema("a.b-c_1", {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}, description="It.")
    assert tools_of([given]) == [given] and tools_of([{**given, "function": {**given["function"], "strict": True}}]) == [given]
    assert tools_of([{"type": "function", "function": {"name": "f"}}])[0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert tools_of(None) == tools_of([]) == []


def untyped(a):
    pass


def several(*a: int):
    pass


def odd(a: object()):
    pass


@pytest.mark.parametrize(
    "given, line",
    [
        ("weather", "tools: expected a list of functions or schemas, got 'weather'"),
        ([3], "tools[0]: expected a function or a schema, got 3"),
        ([lambda: 1], "tools[0]: expected a function with a name, got '<lambda>'"),
        ([untyped], "tools[0] untyped: expected a type hint for each parameter, got none for 'a'"),
        ([several], "tools[0] several: expected parameters with names, got '*a: int'"),
        ([odd], "tools[0] odd: expected type hints that have a JSON schema, got: "),
        ([{"name": "f"}], 'tools[0]: expected {"type": "function", "function": {...}}, got '),
        ([schema("a b")], "tools[0].function.name: expected up to 128 letters, digits, _, - and dots, got 'a b'"),
        ([schema(), schema()], "tools[1].function.name: expected another name for each tool, got 'tide' twice"),
        ([schema(description=3)], "tools[0].function.description: expected text, got 3"),
        ([schema(strict="yes")], "tools[0].function.strict: expected true or false, got 'yes'"),
        ([schema(cache=1)], "tools[0]: expected a function with name, description, parameters, strict, got 'cache' too"),
        ([schema(parameters={"type": "array"})], "tools[0].function.parameters: expected a JSON schema of type object, got type 'array'"),
        (
            [schema(parameters={"properties": {"a": {"type": "texts"}}})],
            "tools[0].function.parameters: expected a JSON schema, got: 'texts' is not valid",
        ),
        ([schema(parameters={"properties": {"a": {1, 2}}})], "tools[0].function.parameters: expected a JSON schema, got: "),
    ],
    ids=range(15),
)
def test_what_is_wrong_is_said_in_one_line(given, line):
    with pytest.raises(PromptError) as raised:
        tools_of(given)
    assert str(raised.value).startswith(line) and "\n" not in str(raised.value)


def test_a_choice_is_a_mode_or_a_name():
    tools = tools_of([weather, tide])
    both = ("weather", "tide")
    assert choice_of(None, tools) == choice_of("auto", tools) == ToolChoice("auto", both)
    assert choice_of("none", tools).mode == "none" and choice_of("required", tools, False) == ToolChoice("required", both, True)
    named = ToolChoice("required", ("tide",))
    assert choice_of("tide", tools) == choice_of({"type": "function", "function": {"name": "tide"}}, tools) == named
    assert choice_of(None, []) == ToolChoice("auto", ())
    for given, got in (("sun", "'sun'"), ({"type": "function"}, "{'type'"), (3, "3"), ({"type": "function", "function": {"name": "sun"}}, "'sun'")):
        with pytest.raises(PromptError, match="tool_choice: expected .*, got " + got):
            choice_of(given, tools)
    with pytest.raises(PromptError, match="expected tools beside 'required', got none"):
        choice_of("required", [])
    with pytest.raises(PromptError, match="parallel_tool_calls: expected true or false, got 1"):
        choice_of(None, tools, 1)

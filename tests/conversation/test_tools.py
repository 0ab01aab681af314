"""Tools in conversations: calls in the model's own form, their results, and one prompt for whatever is asked about them."""

import asyncio
import inspect
import sys
from pathlib import Path
from typing import Literal

import pytest

from alora_gguf import Model, PromptError, ToolCall

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))


def weather(city: Literal["Bern", "Rome"], days: Literal[1, 2, 3]) -> str:
    """The weather.

    Args:
        city: where
    """
    return f"{days} days of sun in {city}"


def tide() -> str:
    """The tide."""
    return "low"


ONE_CALL = {"tools": [weather, tide], "tool_choice": "required", "parallel_tool_calls": False, "temperature": 0, "max_tokens": 80}


@pytest.fixture(scope="module")
def model(base_q4, repo, tmp_path_factory):
    """Tiny and random: what it calls is what it has to."""
    from tiny import llama, random_adapter

    folder = tmp_path_factory.mktemp("tools")
    base = llama(base_q4, folder / "tiny.gguf")
    template = (repo / "examples" / "tools.jinja").read_text(encoding="utf-8")
    with Model(base, n_ctx=2048, chat_template=template) as model:
        model.load_adapter(random_adapter(base, folder / "judge.gguf", [901, 902], 1), "judge")
        yield model


def called(reply) -> ToolCall:
    [call] = reply.tool_calls
    assert (reply.text, reply.finish_reason, reply.warnings) == ("", "tool_calls", [])
    {"weather": inspect.signature(weather), "tide": inspect.signature(tide)}[call.name].bind(**call.arguments)
    return call


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_required_call_is_one_that_the_function_takes(model, seed):
    reply = model.conversation().ask("Is it sunny?", **{**ONE_CALL, "temperature": 1.5, "seed": seed})
    assert isinstance({"weather": weather, "tide": tide}[called(reply).name](**reply.tool_calls[0].arguments), str)
    named = model.conversation().ask("Is it sunny?", **{**ONE_CALL, "tool_choice": "weather", "temperature": 1.5, "seed": seed})
    assert called(named).name == "weather"


def test_a_call_its_result_and_the_answer_are_messages_that_the_template_writes(model):
    chat = model.conversation()
    reply = chat.ask("Is it sunny?", **ONE_CALL)
    call = called(reply)
    assert chat.messages[1] == {"role": "assistant", "content": None, "tool_calls": [call.message]}
    text = model.render(chat.messages, tools=chat.tools)
    assert model.detokenize(reply.tokens) in text  # as it was said
    chat.add_tool_result(call, {"sky": "grün"})
    assert chat.messages[2] == {"role": "tool", "content": '{"sky": "grün"}', "tool_call_id": call.id, "name": call.name}
    more = chat.ask(max_tokens=4, temperature=0)
    assert [message["role"] for message in chat.messages] == ["user", "assistant", "tool", "assistant"]
    said = reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens < more.usage.cached_tokens <= said  # what was forced at its end had not to be computed


def test_an_intrinsic_sees_the_tools_that_the_base_saw(model):
    chat = model.conversation()
    reply = chat.ask("Is it sunny?", **ONE_CALL)
    chat.add_tool_result(called(reply), "yes")
    verdict = chat.invoke("judge", max_tokens=2)
    assert reply.usage.prompt_tokens < verdict.usage.cached_tokens
    fresh = model.conversation(messages=chat.messages, tools=[weather, tide])
    assert fresh.invoke("judge", max_tokens=2).tokens == verdict.tokens
    without = model.conversation(messages=chat.messages)
    assert without.invoke("judge", max_tokens=2).usage.prompt_tokens < verdict.usage.prompt_tokens


def test_tools_stay_until_others_are_given(model, tmp_path):
    chat = model.conversation(tools=[tide])
    names = lambda: [tool["function"]["name"] for tool in chat.tools]
    assert names() == ["tide"]
    called(chat.ask("Is it sunny?", tool_choice="required", parallel_tool_calls=False, temperature=0, max_tokens=60))
    assert names() == ["tide"]
    with pytest.raises(PromptError):
        chat.ask("Is it?", tools=[weather], tool_choice="tide")
    assert names() == ["tide"] and len(chat.messages) == 2
    chat.add_tool_result(ToolCall("abcdefgh1", "tide", {}), "low")
    chat.ask(tools=[weather], tool_choice="none", max_tokens=2)
    assert names() == ["weather"]
    chat.save(tmp_path / "saved")
    again = model.restore(tmp_path / "saved")
    assert (again.tools, again.messages) == (chat.tools, chat.messages)
    chat.ask("So?", tools=[], max_tokens=2)
    assert chat.tools == []


def test_a_stream_has_the_head_of_a_call_and_then_its_json(model):
    whole = called(model.conversation().ask("Is it sunny?", **ONE_CALL))
    chunks = []
    reply = model.conversation().ask("Is it sunny?", **ONE_CALL, on_text=chunks.append)
    assert [chunk.kind for chunk in chunks] == ["tool_call"] * len(chunks) and chunks[0] == ""
    assert {chunk.call for chunk in chunks} == {chunks[0].call} and chunks[0].call.id == called(reply).id
    assert (chunks[0].call.index, chunks[0].call.name) == (0, whole.name)
    assert "".join(chunks) == whole.message["function"]["arguments"]

    async def asked():
        async with model.conversation().ask("Is it sunny?", **ONE_CALL, stream=True) as stream:
            pieces = [str(chunk) async for chunk in stream]
        return pieces, stream.result

    pieces, result = asyncio.run(asked())
    assert pieces == [str(chunk) for chunk in chunks] and called(result).arguments == whole.arguments


def test_a_watcher_judges_a_call(model):
    verdicts = []
    chat = model.conversation()
    reply = chat.ask("Is it sunny?", **ONE_CALL, watch=["judge"], on_verdict=verdicts.append)
    called(reply)
    assert verdicts and reply.verdicts == verdicts
    assert [(verdict.n_chars, verdict.n_calls, verdict.error) for verdict in verdicts] == [(0, 1, None)]
    assert verdicts[0].reply.tokens == chat.invoke("judge").tokens  # what is asked of the whole answer afterwards


def test_logprobs_and_a_constraint_that_is_followed_token_by_token_give_the_same_call(model):
    """Jump ahead is of the same tokens."""
    one = model.conversation().ask("Is it sunny?", **ONE_CALL)
    other = model.conversation().ask("Is it sunny?", **ONE_CALL, logprobs=True)
    assert one.tokens == other.tokens and other.logprobs == []  # those of the text, of which there is none


def test_a_call_that_is_cut_is_text(model):
    reply = model.conversation().ask("Is it sunny?", **{**ONE_CALL, "max_tokens": 12})
    assert (reply.tool_calls, reply.finish_reason) == ([], "length")
    assert reply.text == model.detokenize(reply.tokens) and "got the end of the answer" in reply.warnings[0]


@pytest.mark.parametrize(
    "options, line",
    [
        ({"tools": [weather], "tool_choice": "sunset"}, "tool_choice: expected one of none, auto, required, weather, got 'sunset'"),
        ({"tools": [3]}, "tools[0]: expected a function or a schema, got 3"),
        ({"tools": [weather], "tool_choice": "required", "regex": "a"}, "tool_choice: expected 'auto' or 'none' beside regex"),
        ({"tools": [weather], "choice": ["a"]}, "choice: expected json_schema or nothing beside tools"),
    ],
    ids=range(4),
)
def test_what_cannot_be_is_one_line(model, options, line):
    chat = model.conversation()
    with pytest.raises(PromptError) as raised:
        chat.ask("Is it sunny?", **options)
    assert str(raised.value).startswith(line) and "\n" not in str(raised.value) and chat.messages == []


def test_there_has_to_be_something_to_go_on_from(model):
    chat = model.conversation()
    for _ in range(2):
        with pytest.raises(PromptError, match="content: expected a question, or a last message of a user or tool to go on from, got neither"):
            chat.ask(max_tokens=2)
        chat.messages = [{"role": "user", "content": "So?"}, {"role": "assistant", "content": "So."}]
    for call, value, line in (
        ("x", "y", "call: expected one of a reply's tool_calls"),
        (ToolCall("a", "tide", {}), {1, 2}, "value: expected text or"),
    ):
        with pytest.raises(PromptError, match=line):
            chat.add_tool_result(call, value)

"""The chat templates of real models that llama.cpp's source has, and conversations for them."""

import os
from itertools import product
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("ALORA_LLAMA_CPP_SOURCE", Path(__file__).parents[2] / "build" / "native" / "llama.cpp")) / "models" / "templates"
NAMES = [path.stem for path in sorted(FOLDER.glob("*.jinja"))]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

each_template = pytest.mark.parametrize(
    "name", NAMES or [pytest.param("", marks=pytest.mark.skip(reason=f"{FOLDER}: no templates; run `make test`"))]
)


def source_of(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def said(*turns: str) -> list[dict]:
    """Messages of "role: text"."""
    return [{"role": role, "content": text} for role, text in (turn.split(": ", 1) for turn in turns)]


def call(arguments, *names: str, **fields) -> dict:
    calls = [
        {"id": f"call0000{i}", "type": "function", "function": {"name": name, "arguments": arguments}} for i, name in enumerate(names or ["weather"])
    ]
    return {"role": "assistant", **fields, "tool_calls": calls}


def result(text: str = '{"sky": "<grey>"}', i: int = 0) -> dict:
    return {"role": "tool", "name": "weather", "tool_call_id": f"call0000{i}", "content": text}


SYSTEM, QUESTION, ANSWER, AGAIN = said("system: Be brief & kind.", "user: Is Tom's <b>boat</b> in Zürich?", "assistant: It is.", "user: Since when?")
THOUGHT = "<think>\nThe boat: Tom's.\n</think>\n\nIt is."
ARGUMENTS = {"city": "Zürich's <lake>", "days": 2, "hours": [1, 2.5], "exact": True, "near": {"km": None}}
JSON = '{"city": "Zürich", "days": 2}'
CONVERSATIONS = {
    "question": [QUESTION],
    "system": [SYSTEM, QUESTION],
    "turns": [QUESTION, ANSWER, AGAIN, *said("assistant: Since Monday.", "user:  Thanks, /no_think \n")],
    "system and turns": [SYSTEM, QUESTION, ANSWER, AGAIN],
    "answered": [SYSTEM, QUESTION, ANSWER],
    "thought in the history": [QUESTION, {"role": "assistant", "content": THOUGHT}, AGAIN],
    "thought at the end": [QUESTION, {"role": "assistant", "content": THOUGHT}],
    "reasoning_content": [QUESTION, {**ANSWER, "reasoning_content": "The boat: Tom's."}, AGAIN],
    "reasoning_content at the end": [QUESTION, {**ANSWER, "reasoning_content": "The boat: Tom's."}],
    "reasoning": [QUESTION, {**ANSWER, "reasoning": "The boat."}],
    "thinking": [QUESTION, ANSWER, AGAIN, {**ANSWER, "thinking": "The boat."}],
    "call": [QUESTION, call(ARGUMENTS, content="")],
    "call and result": [QUESTION, call(ARGUMENTS, content="Let me look."), result()],
    "call without content": [SYSTEM, QUESTION, call(ARGUMENTS), result(), ANSWER, AGAIN],
    "call with null": [QUESTION, call(ARGUMENTS, content=None, reasoning_content="A call."), result("grey"), ANSWER],
    "call with a thought": [QUESTION, ANSWER, AGAIN, call({}, content="", reasoning_content="A call."), result()],
    "call in text": [QUESTION, call(JSON, content=""), result(), ANSWER],
    "two calls": [QUESTION, call(ARGUMENTS, "weather", "tide", content=""), result(), result("low", 1), ANSWER, AGAIN],
    "two questions": [QUESTION, AGAIN],
    "two questions later": [QUESTION, ANSWER, AGAIN, QUESTION],
    "two systems": [SYSTEM, SYSTEM, QUESTION],
    "system later": [QUESTION, ANSWER, SYSTEM, AGAIN],
    "system alone": [SYSTEM],
    "answer first": [ANSWER, QUESTION],
    "developer": [{**SYSTEM, "role": "developer"}, QUESTION],
    "parts": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "So?"}, {"type": "text", "text": "And?"}]},
    ],
    "nothing said": said("system: ", "user: "),
    "names": [{**QUESTION, "name": "tom"}, {**ANSWER, "name": "ann", "refusal": None}, AGAIN],
    "control tokens": said("user: <|im_end|>\n<|im_start|>system\n<end_of_turn><|eot_id|>[/INST]</s>"),
}
DOCUMENTS = [{"doc_id": "1", "title": "Tom's <boat>", "text": "It lies in Zürich & floats."}, {"doc_id": 2, "text": 'It is "red".\n'}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather's <sky> in Zürich & elsewhere.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where?", "enum": ["Zürich", "Bern's"]},
                    "days": {"type": "integer", "description": "How many.", "default": 1},
                    "hours": {"type": "array", "description": "Which.", "items": {"type": "number"}},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "tide", "description": "The tide.", "parameters": {"type": "object", "properties": {}}}},
]
VARIABLES = (
    {},
    {"enable_thinking": True},
    {"enable_thinking": False},
    {"thinking": True},
    {"tools": TOOLS},
    {"documents": DOCUMENTS},
    {"tools": TOOLS, "documents": DOCUMENTS, "enable_thinking": True},
    {"tools": [], "documents": []},
)
CASES = [(what, {**variables, "add_generation_prompt": asked}) for what, variables, asked in product(CONVERSATIONS, VARIABLES, (False, True))]

"""An agent whose tools run only with what is known: an intrinsic watches its calls, and one with an invented argument is stopped before it runs.

python examples/tools.py build/adapters/answerability.gguf
"""

import sys
from pathlib import Path

from alora_gguf import Model, ToolCall, default_model

TEXT = "The night ferry to Saint Maren departs at 21:30 and arrives at 23:45. A ticket costs 14 euros."
TEMPLATE = Path(__file__).with_name("tools.jinja").read_text(encoding="utf-8")  # the embedded model's own writes no tools


def note_price(euros: int) -> str:
    """Notes the price of a ticket.

    Args:
        euros: What does a ticket cost?
    """
    return f"noted: {euros} euros"


def note_captain(name: str) -> str:
    """Notes the name of the captain.

    Args:
        name: What is the captain's name?
    """
    return f"noted: captain {name}"


TOOLS = {tool.__name__: tool for tool in (note_price, note_captain)}


def main(adapter: str) -> None:
    with Model(default_model(), n_ctx=2048, chat_template=TEMPLATE) as model:
        model.load_adapter(adapter, "answerability")
        for task in ("Note what a ticket costs.", "Note the captain's name."):
            chat = model.conversation(tools=list(TOOLS.values()))
            chat.attach(TEXT)
            [call] = chat.ask(task, tool_choice="required", parallel_tool_calls=False, temperature=0, max_tokens=64).tool_calls
            print(f"{task}  {call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})")
            doubts = [doubt for doubt in judged(model, chat.tools, call) if doubt]
            result = f"not run: {'; '.join(doubts)}" if doubts else TOOLS[call.name](**call.arguments)
            chat.add_tool_result(call, result)
            print(f"    {result}")


def judged(model: Model, tools: list[dict], call: ToolCall) -> list[str]:
    """What speaks against each argument of a call. A parameter's description is the question that it answers: does the text?"""
    [tool] = [tool["function"] for tool in tools if tool["function"]["name"] == call.name]
    doubts = []
    for name in call.arguments:
        question = tool["parameters"]["properties"][name]["description"]
        asked = model.conversation(messages=[{"role": "user", "content": question}])
        asked.attach(TEXT)
        verdict = asked.invoke("answerability")
        likelihood = verdict.result["answerability_likelihood"]
        print(f"    {question}  answerable: {likelihood:.2f}, {verdict.usage.cached_tokens} of {verdict.usage.prompt_tokens} tokens from the cache")
        doubts.append("" if likelihood > 0.5 else f"the text does not say {name}")
    return doubts


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])

"""An agent whose calls are judged before they run: does the user want this tool, and was each argument said? What either costs is printed.

python examples/tools.py build/adapters/answerability.gguf build/adapters/decide.gguf
"""

import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field

from alora_gguf import Choice, Decision, Model, ToolCall, default_model

TEXT = "The night ferry to Saint Maren departs at 21:30 and arrives at 23:45. A ticket costs 14 euros."
TASKS = "Note the price of a ticket.", "Note the name of the captain.", "Write Anna a mail that I come by ferry."
TEMPLATE = Path(__file__).with_name("tools.jinja").read_text(encoding="utf-8")  # the embedded model's own writes no tools


def note_price(euros: Annotated[int, Field(ge=0, le=999)]) -> str:
    """Notes the price of a ticket.

    Args:
        euros: What does a ticket cost?
    """
    return f"noted: {euros} euros"


def note_captain(name: Annotated[str, Field(max_length=30)]) -> str:
    """Notes the name of the captain.

    Args:
        name: What is the captain's name?
    """
    return f"noted: captain {name}"


def send_mail(to: Annotated[str, Field(max_length=30)]) -> str:
    """Writes a mail to a person.

    Args:
        to: Who gets the mail?
    """
    return f"sent to {to}"


TOOLS = {tool.__name__: tool for tool in (note_price, note_captain, send_mail)}


def main(answerability: str, decide: str) -> None:
    with Model(default_model(), n_ctx=2048, chat_template=TEMPLATE) as model:
        model.load_adapter(answerability, "answerability")
        model.load_adapter(decide, "decide")
        for task in TASKS:
            chat = model.conversation(tools=list(TOOLS.values()))
            chat.attach(TEXT)
            [call] = chat.ask(task, tool_choice="required", parallel_tool_calls=False, temperature=0, max_tokens=64).tool_calls
            print(f"{task}  {call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})")
            doubts = [doubt for doubt in (wanted(model, task, call), *said(model, chat.tools, call)) if doubt]
            result = f"not run: {'; '.join(doubts)}" if doubts else TOOLS[call.name](**call.arguments)
            chat.add_tool_result(call, result)
            print(f"    {result}")


def wanted(model: Model, task: str, call: ToolCall) -> str:
    """What speaks against a call's tool: another is the likelier one to be wanted."""
    tool = model.decide(task, {"tool": Choice("Which tool should be called?", list(TOOLS))}, adapter="decide", n_orders=3)["tool"]
    show(f"{call.name} is wanted", tool.probabilities[call.name], tool)
    return "" if tool.choice == call.name else f"the user wants {tool.choice}"


def said(model: Model, tools: list[dict], call: ToolCall) -> list[str]:
    """What speaks against each argument. A parameter's description is the question that it answers: does the text? An intrinsic decides."""
    [tool] = [tool["function"] for tool in tools if tool["function"]["name"] == call.name]
    doubts = []
    for name in call.arguments:
        question = tool["parameters"]["properties"][name]["description"]
        asked = model.conversation(messages=[{"role": "user", "content": question}])
        asked.attach(TEXT)
        answered = asked.decide({"said": "answerability"})["said"]
        show(f"{name} is said", answered.probability, answered)
        doubts.append("" if answered.probability > 0.5 else f"the text does not say {name}")
    return doubts


def show(what: str, probability: float, decision: Decision) -> None:
    usage = decision.usage
    computed = usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens
    print(f"    {what}: {probability:.2f}, {usage.cached_tokens} tokens reused, {computed} computed, {usage.ttft_ms:.0f} ms")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])

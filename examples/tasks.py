"""asyncio: with stream=True every call is a stream for `async for`, or a result for `await`.

python examples/tasks.py build/adapters/answerability.gguf
"""

import asyncio
import sys

from alora_gguf import Model, default_model
from alora_gguf.terminal.summary import summary

TEXT = "The night ferry to Saint Maren departs at 21:30 and arrives at 23:45. A ticket costs 14 euros."


async def talk(model: Model, question: str) -> None:
    chat = model.conversation()
    chat.attach(TEXT)
    async with chat.ask(question, stream=True, temperature=0, max_tokens=6) as answer:  # a task that is cancelled, or leaves, ends its call
        async for chunk in answer:  # meanwhile the other tasks go on, in the same batches
            print(f"{question}  {chunk!r}")
    verdict = await chat.invoke("answerability", stream=True)
    print(f"{question}  {summary(verdict)}, after {answer.result.usage.completion_tokens} tokens")


async def main(adapter: str) -> None:
    with Model(default_model(), n_ctx=2048) as model:
        model.load_adapter(adapter, "answerability")
        await asyncio.gather(talk(model, "What does a ticket cost?"), talk(model, "What is the captain's name?"))


asyncio.run(main(sys.argv[1]))

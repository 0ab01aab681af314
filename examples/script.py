"""Intrinsics in a script: a question is answered only if the text holds the answer.

    python examples/script.py build/adapters/answerability.gguf
"""

import sys

from alora_gguf import Model, default_model

TEXT = "The ferry to Saint Maren leaves at nine and takes two hours. Bicycles travel free."
QUESTIONS = ["How long does the ferry take?", "What is the captain's name?"]

with Model(default_model(), n_ctx=2048) as model:
    model.load_adapter(sys.argv[1], "answerability")
    for question in QUESTIONS:
        message = f"{TEXT}\n\n{question}"
        verdict = model.conversation(messages=[{"role": "user", "content": message}]).invoke("answerability")
        print(f"{question}  {verdict.text}, {verdict.usage.cached_tokens} of {verdict.usage.prompt_tokens} tokens from the cache")
        if verdict.text == "answerable":  # whichever conversation it is in: what was computed for the verdict is there
            reply = model.conversation().ask(message, temperature=0, max_tokens=40)
            print(f"    {reply.text}  {reply.usage.cached_tokens} of {reply.usage.prompt_tokens} tokens from the cache")

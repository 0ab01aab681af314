"""Intrinsics in a script: a question is answered only if the text holds the answer.

python examples/script.py build/adapters/answerability.gguf
"""

import sys

from alora_gguf import Model, default_model

TEXT = "The night ferry to Saint Maren departs at 21:30 and arrives at 23:45. A ticket costs 14 euros."
QUESTIONS = ["What does a ticket cost?", "What is the captain's name?"]

with Model(default_model(), n_ctx=2048) as model:
    model.load_adapter(sys.argv[1], "answerability")
    for question in QUESTIONS:
        chat = model.conversation(messages=[{"role": "user", "content": question}])
        chat.attach(TEXT)  # a document, for the base and for all intrinsics
        verdict = chat.invoke("answerability")
        likelihood = verdict.result["answerability_likelihood"]
        print(f"{question}  answerable: {likelihood:.2f}, {verdict.usage.cached_tokens} of {verdict.usage.prompt_tokens} tokens from the cache")
        if likelihood > 0.5:  # whichever conversation it is in: what was computed for the verdict is there
            chat = model.conversation()
            chat.attach(TEXT)
            reply = chat.ask(question, temperature=0, max_tokens=40)
            print(f"    {reply.text}  {reply.usage.cached_tokens} of {reply.usage.prompt_tokens} tokens from the cache")

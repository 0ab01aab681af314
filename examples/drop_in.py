"""A program for llama-cpp-python, with the import changed: its completions may each have an adapter.

    python examples/drop_in.py build/adapters/answerability.gguf
"""

import sys

from alora_gguf import Llama, default_model  # before: from llama_cpp import Llama

llm = Llama(str(default_model()), n_ctx=2048, flash_attn=True, verbose=False, adapters={"answerability": sys.argv[1]})
text = "The ferry to Saint Maren leaves at nine and takes two hours. Bicycles travel free."
for question in ("How long does the ferry take?", "What is the captain's name?"):
    messages = [{"role": "user", "content": f"{text}\n\n{question}"}]
    verdict = llm.create_chat_completion(messages, adapter="answerability", temperature=0, max_tokens=6)
    print(f"{question}  {verdict['choices'][0]['message']['content']}\n    ", end="")
    for chunk in llm.create_chat_completion(messages, temperature=0, max_tokens=20, stream=True):  # the base, as ever
        print(chunk["choices"][0]["delta"].get("content", ""), end="", flush=True)
    print()
llm.close()

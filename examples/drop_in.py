"""A program for llama-cpp-python, with the import changed: its completions may each have an adapter.

python examples/drop_in.py build/adapters/answerability.gguf
"""

import json
import sys

from alora_gguf import Llama, default_model  # before: from llama_cpp import Llama

llm = Llama(str(default_model()), n_ctx=2048, flash_attn=True, verbose=False, adapters={"answerability": sys.argv[1]})
text = "The night ferry to Saint Maren departs at 21:30 and arrives at 23:45. A ticket costs 14 euros."
for question in ("What does a ticket cost?", "What is the captain's name?"):
    messages = [{"role": "system", "content": text}, {"role": "user", "content": question}]
    asked = {"role": "user", "content": f"<answerability> {question}"}  # its invocation and what it reads, as io.yaml says
    said = llm.create_chat_completion(
        [*messages, asked], adapter="answerability", temperature=0, max_tokens=80, response_format={"type": "json_object"}
    )
    print(f"{question}  {json.loads(said['choices'][0]['message']['content'])['answerability']}\n    ", end="")
    for chunk in llm.create_chat_completion(messages, temperature=0, max_tokens=20, stream=True):  # the base, as ever
        print(chunk["choices"][0]["delta"].get("content", ""), end="", flush=True)
    print()
llm.close()

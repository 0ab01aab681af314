"""A loop over many conversations, from threads: their calls share batches. A JSON line in, a JSON line out, in order.

python examples/conversations.py build/adapters/answerability.gguf < examples/conversations.jsonl
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from alora_gguf import Model, default_model


def judge(line: str) -> str:
    """A conversation as {"messages": [...]}: how likely it holds an answer, and the answer if it does."""
    *before, last = messages = json.loads(line)["messages"]
    likelihood = model.conversation(messages=messages).invoke("answerability").result["answerability_likelihood"]
    answer = None
    if likelihood > 0.5:
        answer = model.conversation(messages=before).ask(last["content"], temperature=0, max_tokens=16).text
    return json.dumps({"question": last["content"], "answerable": round(likelihood, 2), "answer": answer}, ensure_ascii=False)


with Model(default_model(), n_ctx=8192) as model, ThreadPoolExecutor(max_workers=16) as pool:  # n_ctx: of all together
    model.load_adapter(sys.argv[1], "answerability")
    for judged in pool.map(judge, sys.stdin):
        print(judged, flush=True)

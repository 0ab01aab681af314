"""An offline document checker: which text files of a folder hold the answer to which question?

python examples/documents.py build/adapters/answerability.gguf examples/documents "QUESTION" ["QUESTION" ...]
"""

import sys
from pathlib import Path

from alora_gguf import AloraError, Model, default_model


def main(adapter: str, folder: str, *questions: str) -> None:
    n_prompt = n_computed = 0
    for number, question in enumerate(questions, 1):
        print(f"{number}  {question}")
    print(f"\n{'document':24}" + "    ".join(str(number) for number in range(1, len(questions) + 1)))
    with Model(default_model(), n_ctx=4096) as model:
        model.load_adapter(adapter, "answerability")
        for path in sorted(Path(folder).glob("*.txt")):
            text, row = path.read_text(encoding="utf-8", errors="replace").strip(), f"{path.name:24}"
            try:
                for question in questions:  # the text is computed for the first of them only
                    chat = model.conversation(messages=[{"role": "user", "content": question}])
                    chat.attach(text)
                    verdict = chat.invoke("answerability")
                    row += f"{'yes' if verdict.result['answerability_likelihood'] > 0.5 else '-':5}"
                    n_prompt += verdict.usage.prompt_tokens
                    n_computed += verdict.usage.prompt_tokens - verdict.usage.cached_tokens
                print(row.rstrip())
            except AloraError as e:  # too long for n_ctx, for example
                print(f"{path.name:24}{e}")
    print(f"\n{n_computed} of {n_prompt} prompt tokens were computed")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])

"""Has the base model answer the questions, through the GGUF runtime, many conversations in one batch.

    python intrinsics/certainty/answers.py --out DIR       writes DIR/answers.jsonl; goes on where it stopped

Each question is answered greedily and every other one also at temperature 0.7: the first sentence, at most 24 tokens. The
sampled answers of a split come after its greedy ones, and the training set last, so that what is there can be used early.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from facts import SPLITS
from questions import Question, questions_of
from voice import SEED

from alora_gguf import Model
from alora_gguf.bundled import default_model

AT_ONCE = 12
MAX_TOKENS = 24
TEMPERATURES = (0.0, 0.7)


def answered(path: Path) -> set[tuple]:
    """The (split, number, temperature) of what is there."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {(a["split"], a["number"], a["temperature"]) for a in map(json.loads, lines)}


def answer(model: Model, question: Question, temperature: float, seed: int) -> str:
    *before, asked = question.messages
    with model.conversation(messages=before) as conversation:
        reply = conversation.ask(asked["content"], max_tokens=MAX_TOKENS, temperature=temperature, seed=seed, stop=("\n", ". "))
    text = reply.text.strip()
    return text + "." if reply.finish_reason == "stop" and text[-1:].isalnum() else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for answers.jsonl")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "answers.jsonl"
    done = answered(path)
    questions = {split: questions_of(split, seed=arguments.seed) for split in SPLITS}
    wanted = [
        (split, number, temperature, question)
        for split in reversed(SPLITS)
        for temperature in TEMPERATURES
        for number, question in enumerate(questions[split])
        if (temperature == 0 or number % 2) and (split, number, temperature) not in done
    ]
    model = Model(default_model(), n_ctx=3072, n_seq_max=AT_ONCE + 4, n_threads=arguments.threads)
    begun = time.time()
    with ThreadPoolExecutor(AT_ONCE) as pool, path.open("a", encoding="utf-8") as file:
        for start in range(0, len(wanted), 5 * AT_ONCE):
            some = wanted[start : start + 5 * AT_ONCE]
            texts = pool.map(lambda w: answer(model, w[3], w[2], arguments.seed + w[1]), some)
            for (split, number, temperature, _), text in zip(some, texts, strict=True):
                file.write(json.dumps({"split": split, "number": number, "temperature": temperature, "text": text}, ensure_ascii=False) + "\n")
            file.flush()
            count = start + len(some)
            left = (time.time() - begun) / count * (len(wanted) - count)
            print(f"{count}/{len(wanted)} answers, {left:.0f} s left", flush=True)
    model.close()


if __name__ == "__main__":
    main()

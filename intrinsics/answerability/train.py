"""Trains the answerability aLoRA.

    python intrinsics/answerability/train.py --out intrinsics/answerability/adapter
    python intrinsics/answerability/train.py --check-gradients

Everything before the invocation is the base model's own, so its keys and values are computed once, without gradients,
and kept; a step runs the tokens from the invocation on, whose gradients are those of PEFT's full forward.
"""

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import DynamicCache

from base import answered_forests, load_base, tokens_of
from contract import BASE_NAME, INVOCATION, LABELS, gguf_path
from data import SEED, examples_of
from forest import PADDING, Forest

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK, ALPHA = 8, 16
PEAK_RATE, WARM_UP = 1e-3, 0.06  # learning rate; share of the steps over which it rises
ROWS_A_STEP = 2  # passages, of 4 examples each
IGNORED = -100


@dataclass
class Batch:
    """Some rows of a forest and what follows their leaves: the invocation and the label of each example.

    `keys_values` float16 [rows, kv heads, nodes, head size], two a layer; `tokens`, `positions` I64 [rows, new];
    `visible` bool [rows, 1, new, nodes + new]; `kept` I64 [predictions], the columns whose logits are read;
    `targets` I64 [rows, predictions], IGNORED for padding; `first` the predictions that decide the label.
    """

    keys_values: list[tuple[torch.Tensor, torch.Tensor]]
    tokens: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    kept: torch.Tensor
    targets: torch.Tensor
    first: slice


class Suffix:
    """The tokens after a conversation: the invocation, then the label and the end of the message."""

    def __init__(self, tokenizer):
        self.invocation = tokens_of(INVOCATION, tokenizer)
        self.labels = {label: tokens_of(label + "<|im_end|>", tokenizer) for label in LABELS}
        self.predictions = max(map(len, self.labels.values()))
        self.length = len(self.invocation) + self.predictions - 1

    def padded(self, label: str) -> tuple[list[int], list[int]]:
        """Input tokens [length] and targets [predictions] of one example."""
        targets = self.labels[label]
        inputs = self.invocation + targets[:-1]
        return inputs + [0] * (self.length - len(inputs)), targets + [IGNORED] * (self.predictions - len(targets))


def batches_of(forest: Forest, rows: list[list[dict]], suffix: Suffix, dtype=torch.float16) -> list[Batch]:
    """The forest's rows in batches of ROWS_A_STEP, each leaf followed by its example's suffix."""
    nodes, count = forest.parents.shape[1], forest.leaves.shape[1]
    new = count * suffix.length
    padded = [[suffix.padded(example["label"]) for example in row] for row in rows]
    tokens = torch.tensor([[t for inputs, _ in row for t in inputs] for row in padded])
    targets = torch.tensor([[t for _, wanted in row for t in wanted] for row in padded])
    parents = np.full((len(rows), new), PADDING)
    for row, leaves in enumerate(forest.leaves):
        for i, leaf in enumerate(leaves):
            at = nodes + i * suffix.length
            parents[row, i * suffix.length : (i + 1) * suffix.length] = [leaf, *range(at, at + suffix.length - 1)]
    visible, positions = map(torch.from_numpy, forest.placed(parents))
    start = suffix.length - suffix.predictions
    kept = torch.tensor([i * suffix.length + start + p for i in range(count) for p in range(suffix.predictions)])
    batches = []
    for i in range(0, len(rows), ROWS_A_STEP):
        part = slice(i, i + ROWS_A_STEP)
        keys_values = [(layer.keys[part].to(dtype), layer.values[part].to(dtype)) for layer in forest.cache.layers]
        first = slice(0, None, suffix.predictions)
        batches.append(Batch(keys_values, tokens[part], positions[part], visible[part, None], kept, targets[part], first))
    return batches


def logits_of(model, batch: Batch) -> torch.Tensor:
    """F32 [rows, predictions, n_vocab], the adapter active on all the new tokens."""
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(batch.keys_values):
        cache.update(keys.float(), values.float(), layer)
    size, new = batch.tokens.shape
    return model(
        input_ids=batch.tokens,
        attention_mask=batch.visible,
        position_ids=batch.positions,
        past_key_values=cache,
        alora_offsets=[new] * size,
        logits_to_keep=batch.kept,
    ).logits


def loss_of(logits: torch.Tensor, targets: torch.Tensor, examples: int) -> torch.Tensor:
    """Cross entropy, summed over an example's predictions, averaged over examples."""
    total = torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / examples


def adapted(model, suffix: Suffix, seed: int):
    """The base model with a fresh adapter."""
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), lora_dropout=0.0,
        alora_invocation_tokens=suffix.invocation, base_model_name_or_path=BASE_NAME,
    )
    return get_peft_model(model, config)


def prefixes(model, tokenizer, examples: list[dict], suffix: Suffix, title: str) -> list[Batch]:
    """The batches of the examples, with the progress of the base model's work on them."""
    begun, done, batches = time.time(), 0, []
    for rows, forest, _ in answered_forests(model, tokenizer, examples):
        batches += batches_of(forest, rows, suffix)
        done += sum(map(len, rows))
        left = (time.time() - begun) / done * (len(examples) - done)
        print(f"{title}: prefixes of {done}/{len(examples)} examples, {left:.0f} s left", flush=True)
    return batches


@torch.no_grad()
def accuracy(model, batches: list[Batch]) -> float:
    """The share of examples whose first label token is the likeliest of the whole vocabulary."""
    right = [logits_of(model, b).argmax(-1)[:, b.first] == b.targets[:, b.first] for b in batches]
    return torch.cat([r.flatten() for r in right]).float().mean().item()


def train(model, batches: list[Batch], valid: list[Batch], epochs: int, rate: float, seed: int, save) -> None:
    """Runs AdamW with a warm-up and a cosine; `save` is called whenever the validation accuracy is at its best."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    steps, order, rng = epochs * len(batches), list(range(len(batches))), random.Random(seed)
    rising = max(1, int(WARM_UP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1.0, (s + 1) / rising) * 0.5 * (1 + np.cos(np.pi * max(0, s - rising) / (steps - rising)))
    )
    begun, best, recent, every = time.time(), -1.0, [], max(1, steps // 12)
    for step in range(steps):
        if step % len(batches) == 0:
            rng.shuffle(order)
        batch = batches[order[step % len(batches)]]
        loss = loss_of(logits_of(model, batch), batch.targets, batch.targets[:, batch.first].numel())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            reached = accuracy(model, valid)
            if reached >= best:
                best = reached
                save()
            left = (time.time() - begun) / (step + 1) * (steps - step - 1)
            line = f"step {step + 1}/{steps}: loss {np.mean(recent):.4f}, validation accuracy {reached:.3f} (best {best:.3f})"
            print(f"{line}, {left:.0f} s left", flush=True)
            recent = []


def check_gradients(model, tokenizer, suffix: Suffix, seed: int) -> float:
    """The relative difference between the gradients of one batch and those of PEFT's full forward, norms over all."""
    examples = examples_of("valid", passages=2)
    rows, forest, _ = next(answered_forests(model, tokenizer, examples))
    batch = batches_of(forest, rows, suffix, torch.float32)[0]
    model = adapted(model, suffix, seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in parameters:  # lora_b starts at zero, which would hide the gradient of lora_a
            parameter.normal_(std=0.02)

    def gradient() -> torch.Tensor:
        flat = torch.cat([p.grad.flatten() for p in parameters])
        model.zero_grad()
        return flat

    loss_of(logits_of(model, batch), batch.targets, len(examples)).backward()
    cached = gradient()
    for row, leaves in enumerate(forest.leaves):
        for example, leaf in zip(rows[row], leaves, strict=True):
            inputs, targets = suffix.padded(example["label"])
            tokens = torch.tensor([forest.path(row, leaf) + inputs])
            logits = model(input_ids=tokens).logits[:, -suffix.predictions :]
            loss_of(logits, torch.tensor([targets]), len(examples)).backward()
    full = gradient()
    return ((cached - full).norm() / full.norm()).item()


def save_adapter(model, folder: Path) -> None:
    """A PEFT folder with the weights in float16 and a config that is always the same; the card beside them stays."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else None
    model.save_pretrained(str(folder))
    weights = folder / "adapter_model.safetensors"
    save_file({k: v.to(torch.float16) for k, v in load_file(weights).items()}, weights, metadata={"format": "pt"})
    config = folder / "adapter_config.json"
    fields = json.loads(config.read_text(encoding="utf-8"))
    fields["target_modules"].sort()  # PEFT keeps a set
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    card.unlink(missing_ok=True)
    if text is not None:
        card.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the adapter")
    parser.add_argument("--check-gradients", action="store_true", help="compare a batch's gradients with PEFT's full forward, and stop")
    parser.add_argument("--passages", type=int, default=1248, help="training passages, of 4 examples each")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if not arguments.check_gradients and arguments.out is None:
        parser.error("--out: expected a folder, got none; name one, or give --check-gradients")
    torch.set_num_threads(arguments.threads)
    model, tokenizer = load_base(gguf_path())
    suffix = Suffix(tokenizer)
    if arguments.check_gradients:
        print(f"relative difference of the gradients: {check_gradients(model, tokenizer, suffix, arguments.seed):.1e}")
        return
    begun = time.time()
    valid = prefixes(model, tokenizer, examples_of("valid", seed=arguments.seed), suffix, "valid")
    batches = prefixes(model, tokenizer, examples_of("train", arguments.passages, arguments.seed), suffix, "train")
    model = adapted(model, suffix, arguments.seed)
    train(model, batches, valid, arguments.epochs, arguments.rate, arguments.seed, lambda: save_adapter(model, arguments.out))
    print(f"{arguments.out}: written; {time.time() - begun:.0f} s in all")


if __name__ == "__main__":
    main()

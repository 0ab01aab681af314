"""A step of training with cached prefixes beside PEFT's full forward, in one run on the same examples.

    python benchmarks/train_step.py [--tokens 256] [--batch 8] [--steps 5]

Conversations of random words that share nothing, an invocation and one word of output; both sides in float32, rank 32 on
all linear layers, the loss and its gradients, without the optimizer. The two are measured in turn.
"""

import argparse
import random
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model

from alora_gguf import bundled as embedded_model
from alora_gguf.train import passes
from alora_gguf.train.base import load_base
from alora_gguf.train.linear import fuse
from alora_gguf.train.packing import pack
from alora_gguf.train.prefixes import Prefixes
from alora_gguf.train.prompts import Example
from alora_gguf.train.settings import LINEAR

INVOCATION = [1, 2000, 2001, 198]
OUTPUT = [3000, 3001, 2]


def adapted(invocation: list[int] | None):
    """The embedded model in float32 under an adapter that is not zero, the same each time."""
    base = load_base(embedded_model.default_model(), embedded_model.NAME, torch.device("cpu"), "float32")
    config = LoraConfig(r=32, lora_alpha=64, target_modules=list(LINEAR), task_type="CAUSAL_LM", alora_invocation_tokens=invocation)
    torch.manual_seed(0)
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return model


def gradients(model) -> torch.Tensor:
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    model.zero_grad()
    return flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=256, help="of each conversation")
    parser.add_argument("--batch", type=int, default=8, help="examples a step")
    parser.add_argument("--steps", type=int, default=5, help="of each side")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rng = random.Random(0)
    examples = [Example([rng.randrange(100, 40_000) for _ in range(arguments.tokens)], INVOCATION, OUTPUT) for _ in range(arguments.batch)]
    model, ours = adapted(INVOCATION), adapted(None)
    fuse(ours)
    rows = pack(examples, 8, 4096)
    prefixes = Prefixes(ours, rows, 10**10, 0, dtype=torch.float32)
    begun = time.perf_counter()
    prefixes.fill(lambda n: None)
    once = time.perf_counter() - begun
    batch = torch.tensor([[*e.prefix, *e.suffix, *e.output[:-1]] for e in examples])
    targets = torch.tensor([e.output for e in examples])

    def cached() -> None:
        logits = passes.logits(ours, rows, prefixes.of(range(len(rows))))
        (sum(map(passes.loss, logits, rows)) / len(examples)).backward()

    def full() -> None:
        logits = model(input_ids=batch, logits_to_keep=len(OUTPUT)).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()

    seconds: dict[str, list[float]] = {"cached": [], "full": []}
    found = {}
    for _ in range(arguments.steps):
        for name, side, step in (("cached", ours, cached), ("full", model, full)):
            begun = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begun)
            found[name] = gradients(side)
    ratios = sorted(f / c for f, c in zip(seconds["full"], seconds["cached"], strict=True))
    difference = ((found["cached"] - found["full"]).norm() / found["full"].norm()).item()
    print(f"{arguments.batch} examples of {arguments.tokens} + {len(INVOCATION) + len(OUTPUT) - 1} tokens, {torch.get_num_threads()} threads")
    print(
        f"full forward {statistics.median(seconds['full']):.2f} s, cached prefix {statistics.median(seconds['cached']):.2f} s a step; "
        f"prefixes once {once:.2f} s"
    )
    print(f"{statistics.median(ratios):.1f} times as fast ({ratios[0]:.1f} to {ratios[-1]:.1f}); gradients differ by {difference:.1e}")


if __name__ == "__main__":
    main()

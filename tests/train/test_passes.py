"""Cached prefixes and packed rows compute what PEFT's full forward computes, gradients included."""

import pytest
import torch
from conftest import TARGETS
from peft import LoraConfig, get_peft_model

from alora_gguf.train import passes
from alora_gguf.train.linear import fuse
from alora_gguf.train.packing import pack
from alora_gguf.train.prefixes import Prefixes
from alora_gguf.train.prompts import Example

BEGIN = list(range(500, 540))
SUFFIX = [11, 12, 13]
EXAMPLES = [
    Example([*BEGIN, 600], SUFFIX, [20]),
    Example([*BEGIN, 601, 602], SUFFIX, [21, 22, 23]),
    Example([*BEGIN], [*SUFFIX, 14], [24, 25]),
    Example([700, 701], SUFFIX, [26, 27]),
    Example([], SUFFIX, [28]),
]


def gradient(model) -> torch.Tensor:
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    model.zero_grad()
    return flat


def as_alora(model):
    """The same weights under PEFT's own aLoRA, which finds the invocation by itself."""
    state = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(TARGETS), task_type="CAUSAL_LM", alora_invocation_tokens=SUFFIX)
    again = get_peft_model(model.unload(), config)
    with torch.no_grad():
        for name, p in again.named_parameters():
            if p.requires_grad:
                p.copy_(state[name])
    return again


def full_loss(model) -> None:
    """Backward of PEFT's plain forward, an example at a time."""
    for example in EXAMPLES:
        tokens = torch.tensor([[*example.prefix, *example.suffix, *example.output[:-1]]])
        logits = model(input_ids=tokens, logits_to_keep=len(example.output)).logits[0]
        torch.nn.functional.cross_entropy(logits, torch.tensor(example.output)).backward()


@pytest.mark.parametrize("n_examples", [1, 5])
@pytest.mark.parametrize("method", ["alora", "lora"])
@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_those_of_pefts_full_forward(tiny_peft, method, n_examples, fused):
    rows = pack(EXAMPLES, n_examples, 1000)
    prefixes = Prefixes(tiny_peft, rows, 10**9, 0, dtype=torch.float32)
    prefixes.fill(lambda n: None)
    if fused:
        fuse(tiny_peft)
    before = prefixes.of(range(len(rows))) if method == "alora" else None
    sum(map(passes.loss, passes.logits(tiny_peft, rows, before), rows)).backward()
    cached = gradient(tiny_peft)
    reference = as_alora(tiny_peft) if method == "alora" else tiny_peft
    full_loss(reference)
    full = gradient(reference)
    assert full.norm() > 1
    assert (cached - full).norm() / full.norm() < 1e-4


def test_said_is_what_greedy_decoding_says(tiny_peft):
    with torch.no_grad():
        for example in EXAMPLES[1:3]:
            tokens = [*example.prefix, *example.suffix]
            greedy = []
            for _ in example.output:
                greedy.append(tiny_peft(input_ids=torch.tensor([[*tokens, *greedy]])).logits[0, -1].argmax().item())
            right = Example(example.prefix, example.suffix, greedy)
            wrong = Example(example.prefix, example.suffix, [*greedy[:-1], greedy[-1] + 1])
            (row,) = pack([right, wrong], 2, 1000)
            [logits] = passes.logits(tiny_peft, [row], None)
            said = passes.said(logits, row)
            assert {row.examples[0]: said[0], row.examples[1]: said[1]} == {0: True, 1: False}


@pytest.mark.parametrize(("n_memory", "n_disk"), [(10**9, 0), (0, 10**9), (20_000, 20_000), (0, 0)])
def test_prefixes_are_the_same_wherever_they_are_kept(tiny_peft, tmp_path, n_memory, n_disk):
    rows = pack(EXAMPLES, 1, 1000)
    kept = Prefixes(tiny_peft, rows, n_memory, n_disk, tmp_path, torch.float32)
    kept.fill(lambda n: None)
    for i, row in enumerate(rows):
        [got], [wanted] = kept.of([i]), passes.prefixes(tiny_peft, [row])
        assert got.numel() == wanted.numel() and torch.allclose(got.flatten(), wanted.flatten(), atol=1e-5)
    assert kept.n_bytes["in memory"] <= n_memory and kept.n_bytes["on disk"] <= n_disk
    assert kept.is_complete == (n_memory + n_disk >= 10**9)
    kept.close()
    assert list(tmp_path.iterdir()) == []

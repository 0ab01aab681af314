"""PEFT on the dequantised weights: the reference of what the adapter says."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel

from .. import bundled
from ..prompt.io_yaml import IntrinsicIO
from ..runtime.vocab import load_vocab
from ..train import passes
from ..train.base import load_base
from ..train.data import Line
from ..train.packing import pack
from ..train.prompts import Example, Prompts
from .plan import Plan

_MOST = 128  # tokens of an output, where its io.yaml says nothing


@torch.no_grad()
def outputs_said(plan: Plan, lines: Sequence[Line], io: IntrinsicIO, invocation: Sequence[int], threads: int | None) -> list[bool]:
    """For each line, whether greedy decoding says what is wanted, in float32 on the CPU.

    That is its output, of an enum as the likeliest of its values; where some fields of an output count, whether it says these.
    """
    if threads:
        torch.set_num_threads(threads)
    path = plan.base or bundled.default_model()
    base = load_base(path, path.stem, torch.device("cpu"), "float32")
    model = PeftModel.from_pretrained(base, str(plan.peft))
    with load_vocab(path) as vocab:
        prompts = Prompts(vocab, path.name, invocation, io)
        examples = [prompts.example(line) for line in lines]
        if isinstance(plan.positive, dict):
            n_most = io.sampling.get("max_tokens", _MOST)
            said = [_json(vocab.detokenize(_generated(model, example, prompts.end, n_most), special=False)) for example in examples]
            return [value is not None and plan.is_positive(value) == plan.is_positive(line.output) for value, line in zip(said, lines, strict=True)]
        enum = [prompts.example(replace(lines[0], output=value)).output for value in (io.schema or {}).get("enum", ())]
    return _forced(model, examples, enum)


def _generated(model: PeftModel, example: Example, end: int, n_most: int) -> list[int]:
    """What PEFT's own generation says, greedily, without the end of the message."""
    prompt = torch.tensor([[*example.prefix, *example.suffix]])
    out = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=n_most,
        do_sample=False,
        repetition_penalty=1.0,
        eos_token_id=end,
        pad_token_id=end,
    )
    return [token for token in out[0, prompt.shape[1] :].tolist() if token != end]


def _json(text: str) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _forced(model: PeftModel, examples: Sequence[Example], enum: Sequence[Sequence[int]]) -> list[bool]:
    """Whether each example's output would be said, from one pass with the output in it."""
    said = [False] * len(examples)
    for row in pack(examples, 8, 1024):
        # all that is computed behind the prefix is adapted: PEFT need not look for the invocation
        n_new = len(row.tokens) - row.n_prefix
        [logits] = passes.logits(model, [row], passes.prefixes(model, [row]), alora_offsets=[n_new])
        owners = torch.from_numpy(row.owners)
        right = (
            [_is_said(logits[owners == owner], examples[i].output, enum) for owner, i in enumerate(row.examples)]
            if enum
            else passes.said(logits, row)
        )
        for i, hit in zip(row.examples, right, strict=True):
            said[i] = hit
    return said


def _is_said(logits: torch.Tensor, output: Sequence[int], enum: Sequence[Sequence[int]]) -> bool:
    """Whether each token of the output is the likeliest of those that the enum's outputs go on with.

    logits   F32 [len(output), n_vocab], before each of the tokens
    """
    for i, token in enumerate(output):
        after = {other[i] for other in enum if other[:i] == output[:i]}
        if max(after, key=lambda other: logits[i, other].item()) != token:
            return False
    return True

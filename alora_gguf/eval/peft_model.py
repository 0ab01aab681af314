"""PEFT on the dequantised weights: the reference of what the adapter says."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from peft import PeftModel

from .. import embedded_model
from ..intrinsic import IntrinsicIO
from ..train import passes
from ..train.base import load_base
from ..train.data import Line
from ..train.forest import pack
from ..train.prompts import Prompts
from ..vocab import load_vocab
from .plan import Plan


@torch.no_grad()
def outputs_said(plan: Plan, lines: Sequence[Line], io: IntrinsicIO, invocation: Sequence[int], threads: int | None) -> list[bool]:
    """For each line, whether greedy decoding says its output, in float32 on the CPU; among those of an enum, if the schema is one."""
    if threads:
        torch.set_num_threads(threads)
    path = plan.base or embedded_model.default_model()
    with load_vocab(path) as vocab:
        prompts = Prompts(vocab, path.name, invocation, io)
        examples = [prompts.example(line) for line in lines]
        enum = [prompts.example(replace(lines[0], output=value)).output for value in (io.schema or {}).get("enum", ())]
    base = load_base(path, path.stem, torch.device("cpu"), "float32")
    model = PeftModel.from_pretrained(base, str(plan.peft))
    said = [False] * len(lines)
    for row in pack(examples, 8, 1024):
        # all that is computed behind the prefix is adapted: PEFT need not look for the invocation
        n_new = len(row.tokens) - row.n_prefix
        [logits] = passes.logits(model, [row], passes.prefixes(model, [row]), alora_offsets=[n_new])
        owners = torch.from_numpy(row.owners)
        right = [_is_said(logits[owners == owner], examples[i].output, enum) for owner, i in enumerate(row.examples)] if enum else passes.said(logits, row)
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

"""Rows through the model: their prefixes without gradients and once, what is adapted with them and every time."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from transformers import DynamicCache

from .packing import Row

KeysValues: TypeAlias = torch.Tensor  # [n_layers, 2, n_kv_heads, n_prefix, head_size]


@torch.no_grad()
def prefixes(model, rows: Sequence[Row]) -> list[KeysValues]:
    """The base's keys and values of the tokens before the activation; `model` is a PeftModel."""
    before = [row.prefix() for row in rows]
    n = max(len(row.tokens) for row in before)
    if n == 0:
        return [torch.zeros(0)] * len(rows)
    model.set_attn_implementation("sdpa")
    with model.disable_adapter():
        out = model.get_base_model().get_decoder()(  # no logits
            input_ids=_padded([row.tokens for row in before], n, model),
            position_ids=_padded([row.depths() for row in before], n, model),
            attention_mask=_mask(before, [0] * len(rows), 0, n, model),
            past_key_values=DynamicCache(),
            use_cache=True,
        )
    layers = out.past_key_values.layers
    return [
        torch.stack([torch.stack([layer.keys[i, :, : row.n_prefix], layer.values[i, :, : row.n_prefix]]) for layer in layers])
        for i, row in enumerate(rows)
    ]


def logits(model, rows: Sequence[Row], before: Sequence[KeysValues] | None, **options) -> list[torch.Tensor]:
    """Of each row, float32 [n_predictions, n_vocab].

    Without `before` every token is computed, and adapted: an ordinary LoRA. options: of the model's forward.
    """
    # with gradients and a mask of its own, the fused attention takes 1.7 times as long on a CPU: 42 ms a layer for 420 tokens that see 930, this 25
    model.set_attn_implementation("eager" if torch.is_grad_enabled() and model.device.type == "cpu" else "sdpa")
    firsts = [row.n_prefix if before is not None else 0 for row in rows]
    n_before = max(firsts)
    n_new = max(len(row.tokens) - first for row, first in zip(rows, firsts, strict=True))
    kept = sorted({int(k) - first for row, first in zip(rows, firsts, strict=True) for k in row.kept})
    out = model(
        input_ids=_padded([row.tokens[first:] for row, first in zip(rows, firsts, strict=True)], n_new, model),
        position_ids=_padded([row.depths()[first:] for row, first in zip(rows, firsts, strict=True)], n_new, model),
        attention_mask=_mask(rows, firsts, n_before, n_new, model),
        past_key_values=_cache(before, n_before, model) if before is not None and n_before else None,
        use_cache=n_before > 0,
        logits_to_keep=torch.tensor(kept, device=model.device),
        **options,
    )
    place = {k: i for i, k in enumerate(kept)}
    return [out.logits[i, [place[int(k) - first] for k in row.kept]].float() for i, (row, first) in enumerate(zip(rows, firsts, strict=True))]


def loss(logits: torch.Tensor, row: Row) -> torch.Tensor:
    """Cross entropy in nats: the mean over an example's output tokens, summed over examples.

    Every example counts the same, whatever the length of its output.
    """
    targets, owners = torch.from_numpy(row.targets).to(logits.device), torch.from_numpy(row.owners)
    weights = (1 / owners.bincount()[owners]).to(logits.device)
    return (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * weights).sum()


def said(logits: torch.Tensor, row: Row) -> list[bool]:
    """For each example, whether greedy decoding would say its output: every token of it is the likeliest."""
    right = (logits.argmax(-1).cpu() == torch.from_numpy(row.targets)).float()
    wrong = torch.zeros(len(row.examples)).index_add_(0, torch.from_numpy(row.owners), 1 - right)
    return (wrong == 0).tolist()


def _padded(values: Sequence[np.ndarray], n: int, model) -> torch.Tensor:
    """I64 [n_rows, n], zeros behind."""
    out = np.zeros((len(values), n), np.int64)
    for i, row in enumerate(values):
        out[i, : len(row)] = row
    return torch.from_numpy(out).to(model.device)


def _mask(rows: Sequence[Row], firsts: Sequence[int], n_before: int, n_new: int, model) -> torch.Tensor:
    """[n_rows, 1, n_new, n_before + n_new], 0 where a token of a row, from its `first` on, sees another.

    transformers takes a mask of four dimensions as it is. Padding sees itself: what sees nothing is not a number.
    """
    hidden = np.ones((len(rows), 1, n_new, n_before + n_new), bool)
    hidden[:, :, range(n_new), range(n_before, n_before + n_new)] = False
    for i, (row, first) in enumerate(zip(rows, firsts, strict=True)):
        visible = row.visible()[first:]
        n = len(visible)
        hidden[i, 0, :n, :first] = ~visible[:, :first]
        hidden[i, 0, :n, n_before : n_before + n] = ~visible[:, first:]
    masked = torch.from_numpy(hidden).to(model.device)
    return torch.zeros(masked.shape, dtype=model.dtype, device=model.device).masked_fill_(masked, torch.finfo(model.dtype).min)


def _cache(before: Sequence[KeysValues], n_before: int, model) -> DynamicCache:
    """The rows' keys and values side by side, zeros behind those of a shorter one."""
    whole = max(before, key=lambda kept: kept.ndim)
    n_layers, _, n_heads, _, size = whole.shape
    both = torch.zeros((n_layers, 2, len(before), n_heads, n_before, size), dtype=model.dtype)
    for i, kept in enumerate(before):
        if kept.ndim > 1:
            both[:, :, i, :, : kept.shape[3]] = kept
    cache = DynamicCache()
    for i, (keys, values) in enumerate(both.to(model.device)):
        cache.update(keys, values, i)
    return cache

"""A row through the model: its prefix without gradients and once, what is adapted with them and every time."""

from collections.abc import Sequence

import torch
from transformers import DynamicCache

from .forest import Row

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]  # a layer each: [1, n_kv_heads, n_prefix, head_size]


@torch.no_grad()
def prefix(model, row: Row) -> KeysValues:
    """The base's keys and values of the tokens before the activation; `model` is a PeftModel."""
    n, device = row.n_prefix, model.device
    if n == 0:
        return []
    model.set_attn_implementation("sdpa")
    with model.disable_adapter():
        out = model(
            input_ids=torch.from_numpy(row.tokens[None, :n]).to(device),
            position_ids=torch.from_numpy(row.depths()[None, :n]).to(device),
            attention_mask=_mask(row, slice(0, n), n, model),
            past_key_values=DynamicCache(),
            use_cache=True,
            logits_to_keep=1,
        )
    return [(layer.keys, layer.values) for layer in out.past_key_values.layers]


def logits(model, row: Row, before: KeysValues | None, **options) -> torch.Tensor:
    """float32 [n_predictions, n_vocab]. Without `before` every token is computed, and adapted: an ordinary LoRA.

    options: of the model's forward.
    """
    # with gradients and a mask of its own, the fused attention takes 44 ms a layer on a CPU for 420 tokens that see 900, this 17
    model.set_attn_implementation("eager" if torch.is_grad_enabled() and model.device.type == "cpu" else "sdpa")
    first = row.n_prefix if before is not None else 0
    n, device = len(row.tokens), model.device
    cache = None
    if before:
        cache = DynamicCache()
        for i, (keys, values) in enumerate(before):
            cache.update(keys.to(device, model.dtype), values.to(device, model.dtype), i)
    out = model(
        input_ids=torch.from_numpy(row.tokens[None, first:]).to(device),
        position_ids=torch.from_numpy(row.depths()[None, first:]).to(device),
        attention_mask=_mask(row, slice(first, n), n, model),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=torch.from_numpy(row.kept - first).to(device),
        **options,
    )
    return out.logits[0].float()


def loss(logits: torch.Tensor, row: Row) -> torch.Tensor:
    """Cross entropy in nats: the mean over an example's output tokens, summed over examples.

    Every example counts the same, whatever the length of its output.
    """
    targets, owners = torch.from_numpy(row.targets).to(logits.device), torch.from_numpy(row.owners)
    weights = (1 / owners.bincount()[owners]).to(logits.device)
    return (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * weights).sum()


def said(logits: torch.Tensor, row: Row) -> Sequence[bool]:
    """For each example, whether greedy decoding would say its output: every token of it is the likeliest."""
    right = (logits.argmax(-1).cpu() == torch.from_numpy(row.targets)).float()
    wrong = torch.zeros(len(row.examples)).index_add_(0, torch.from_numpy(row.owners), 1 - right)
    return (wrong == 0).tolist()


def _mask(row: Row, new: slice, n: int, model) -> torch.Tensor:
    """[1, 1, n_new, n], 0 where a token is seen; transformers takes a mask of four dimensions as it is."""
    hidden = torch.from_numpy(~row.visible()[new, :n])[None, None].to(model.device)
    return torch.zeros(hidden.shape, dtype=model.dtype, device=model.device).masked_fill_(hidden, torch.finfo(model.dtype).min)

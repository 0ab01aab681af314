"""PEFT's LoRA layers computed with fewer products and copies: the same numbers up to rounding.

PEFT casts the input to float32, multiplies by A and by B, scales, adds and casts back. Here A stands below the frozen
weight, so that one product gives both, in the weight's type, and B's product is added to it.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear


class _Adapted(torch.autograd.Function):
    """y = x Wᵀ + s (x Aᵀ) Bᵀ, with gradients to x, A and B; W is frozen.

    x [..., n_in], weight [n_out + r, n_in] (W over A, in the dtype of x), A [r, n_in], B [n_out, r]
    """

    @staticmethod
    def forward(ctx, x, weight, a, b, scaling, bias):
        rank = a.shape[0]
        rows = x.reshape(-1, x.shape[-1])
        both = rows @ weight.T
        n_out = both.shape[1] - rank
        low = both[:, n_out:].contiguous()
        wide = (b * scaling).to(x.dtype)  # [n_out, r]
        y = torch.addmm(both[:, :n_out], low, wide.T)
        if bias is not None:
            y += bias
        ctx.save_for_backward(rows, weight, low, wide)
        ctx.scaling, ctx.shape, ctx.dtype = scaling, x.shape, a.dtype
        return y.reshape(*x.shape[:-1], n_out)

    @staticmethod
    def backward(ctx, grad):
        rows, weight, low, wide = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_low = grad @ wide  # [n, r], of x Aᵀ
        grad_a = (grad_low.T @ rows).to(ctx.dtype)
        grad_b = (grad.T @ low).to(ctx.dtype) * ctx.scaling
        grad_x = None
        if ctx.needs_input_grad[0]:
            n_out = weight.shape[0] - low.shape[1]
            grad_x = torch.addmm(grad @ weight[:n_out], grad_low, weight[n_out:]).reshape(ctx.shape)
        return grad_x, None, grad_a, grad_b, None, None


def fuse(model, adapter: str = "default") -> None:
    """Gives every LoRA layer of a PeftModel on plain linear ones the faster forward; others stay PEFT's."""
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is torch.nn.Linear and not module.use_dora[adapter]:
            _fuse(module, adapter)


def _fuse(module: Any, adapter: str) -> None:  # a Linear, whose parts torch types as any of a module's
    base, a, b = module.base_layer, module.lora_A[adapter].weight, module.lora_B[adapter].weight
    plain = module.forward
    stacked = torch.cat([base.weight.data, a.data.to(base.weight.dtype)])
    base.weight.data = stacked[: base.weight.shape[0]]  # one copy of the frozen weight in memory

    def forward(x: torch.Tensor, *args, **options) -> torch.Tensor:
        if module.disable_adapters or args or options:
            return plain(x, *args, **options)
        with torch.no_grad():
            stacked[base.weight.shape[0] :] = a
        return _Adapted.apply(x, stacked, a, b, module.scaling[adapter], base.bias)

    module.forward = forward

"""The sum of several adapters of one base, exactly: a chain of LoRA (arXiv 2401.04151).

B_1 A_1 + B_2 A_2 is [B_1 B_2] times A_1 over A_2, so an adapter of the ranks' sum computes it.
"""

from collections.abc import Sequence

from ...errors import ConversionError
from ...text import complaint
from ..lazy import added, concatenated
from ..update import Update
from .adapter import PeftAdapter


def summed_updates(adapters: Sequence[PeftAdapter]) -> list[Update]:
    """One update for every module of any of the adapters. Raises ConversionError where they cannot be added."""
    by_module: dict[str, list[Update]] = {}
    for adapter in adapters:
        for update in adapter.updates:
            by_module.setdefault(update.module, []).append(update)
    return [summed(updates) for updates in by_module.values()]


def summed_alpha(adapters: Sequence[PeftAdapter]) -> float:
    """The lora_alpha that gives the sum's rank the scale of the first adapter: equal adapters need no factor in lora_b."""
    first = adapters[0].config
    return first.lora_alpha * sum(adapter.config.r for adapter in adapters) / first.r


def common_invocation(adapters: Sequence[PeftAdapter]) -> tuple[list[int] | None, str | None]:
    """alora_invocation_tokens and invocation_string, which all adapters share. Raises ConversionError if they differ."""
    first = adapters[0].config
    for config in (adapter.config for adapter in adapters[1:]):
        if (config.invocation_tokens, config.invocation_string) != (first.invocation_tokens, first.invocation_string):
            raise ConversionError(
                complaint(
                    config.path,
                    "option alora_invocation_tokens",
                    f"{first.invocation_tokens or first.invocation_string}, as {first.path} has",
                    config.invocation_tokens or config.invocation_string,
                    "give the sum's with --invocation or --invocation-tokens",
                )
            )
    return first.invocation_tokens, first.invocation_string


def summed(updates: list[Update]) -> Update:
    """The sum of updates of one module. Raises ConversionError where they cannot be added."""
    if len(updates) == 1:
        return updates[0]
    first = updates[0]
    for update in updates:
        what = f"module {update.module}"
        if update.magnitude is not None:
            raise ConversionError(
                complaint(update.a.file, what, "adapters that can be added", "DoRA, which is not linear", "merge it into the base instead")
            )
        if (update.kind, _outer(update)) != (first.kind, _outer(first)):
            raise ConversionError(
                complaint(update.a.file, what, f"the shapes of {first.a.file}: {_outer(first)}", _outer(update), "add adapters of one base only")
            )
    scaling = first.scaling or 1.0
    factors = [update.scaling / scaling for update in updates]
    biases = [update.bias.times(factor) for update, factor in zip(updates, factors) if update.bias is not None]
    return Update(
        first.module,
        first.kind,
        a=concatenated([update.a for update in updates], -2),
        b=concatenated([update.b.times(factor) for update, factor in zip(updates, factors)], -1),
        scaling=scaling,
        bias=added(biases) if biases else None,
        base_layer=first.base_layer,
    )


def _outer(update: Update) -> list[int]:
    return [*update.a.shape[:-2], update.a.shape[-1], update.b.shape[-2]]

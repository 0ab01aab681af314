"""PEFT's target_parameters: adapters of a parameter, such as that of all experts of a layer.

PEFT wraps the parameters of one module in the order in which transformers declares them, the first
innermost: of an experts module that has gate_up_proj and down_proj, `experts.base_layer.lora_A` is
that of gate_up_proj and `experts.lora_A` that of down_proj. Source: peft.tuners.lora.ParamWrapper.
"""

from collections.abc import Collection

from ..lazy import Lazy
from .config import PeftConfig

WRAPPED = ".base_layer"
DECLARED = ("gate_up_proj", "down_proj")


def unwrapped(module: str) -> str:
    """The module's own name, without a base_layer for every wrapper around it."""
    while module.endswith(WRAPPED):
        module = module.removesuffix(WRAPPED)
    return module


def parameter_of(config: PeftConfig, name: str, names: Collection[str]) -> str | None:
    """The full name of the parameter that `name` in the file is for; None if it is for none, or for nobody can tell which.

    names: those of all modules in the file.
    """
    if not config.target_parameters:
        return None
    module = unwrapped(name)
    levels = sorted((other for other in names if unwrapped(other) == module), key=len, reverse=True)
    # a bare `down_proj`, as PEFT makes of "all-linear" on experts, is in every module's name with it
    parameters = [name for name in config.parameters_of(module) if (name in DECLARED) == module.endswith("experts")]
    if len(parameters) != len(levels) or len(levels) > 1 and not set(parameters) <= set(DECLARED):
        return None
    if len(levels) > 1:
        parameters.sort(key=DECLARED.index)
    return f"{module}.{parameters[levels.index(name)]}"


def unfold(a: Lazy, b: Lazy, rank: int) -> tuple[Lazy, Lazy]:
    """From PEFT's [n_expert * r, n_in] and [n_out, r * n_expert] to [n_expert, r, n_in] and [n_expert, n_out, r]."""
    n_expert = a.shape[0] // rank
    return (a.reshape(n_expert, rank, a.shape[1]), b.reshape(b.shape[0], rank, n_expert).transpose(2, 0, 1))


def fold(a: Lazy, b: Lazy) -> tuple[Lazy, Lazy]:
    """The way back from unfold."""
    n_expert, rank, n_in = a.shape
    return a.reshape(n_expert * rank, n_in), b.transpose(1, 2, 0).reshape(b.shape[1], rank * n_expert)


def wrapped(parameter: str, parameters: Collection[str]) -> str:
    """The name in the file of `parameter`, one of the targeted `parameters`."""
    module, _, name = parameter.rpartition(".")
    outside = [other for other in DECLARED if f"{module}.{other}" in parameters and name in DECLARED and DECLARED.index(other) > DECLARED.index(name)]
    return module + WRAPPED * len(outside)

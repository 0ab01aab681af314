"""Every field of PEFT's LoraConfig, and what the converter does with it.

EXACT    its effect is in the outfile, to the last bit that the outtype holds.
NEUTRAL  it has no effect at inference on the tensors that PEFT saved.
REFUSED  it is accepted only with a value that changes nothing; `reason` is what the user is told.
"""

from collections.abc import Callable
from dataclasses import dataclass

EXACT, NEUTRAL, REFUSED = "exact", "neutral", "refused"


@dataclass(frozen=True)
class Option:
    handling: str
    reason: str
    accepts: Callable = lambda value: not value


def exact(reason: str) -> Option:
    return Option(EXACT, reason, lambda value: True)


def neutral(reason: str) -> Option:
    return Option(NEUTRAL, reason, lambda value: True)


def refused(reason: str, accepts: Callable = lambda value: not value) -> Option:
    return Option(REFUSED, reason, accepts)


EVERY_TOKEN = "it changes every token, also those before the invocation"

# Initialisations after which the base weights are still those of the base model.
# pissa, olora, corda, loftq and lora_ga subtract the initial adapter from them.
BASE_KEEPING_INITS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")

OPTIONS: dict[str, Option] = {
    # what kind of adapter
    "peft_type": refused("only LoRA adapters are converted", lambda v: v in ("LORA", "ALORA")),
    "task_type": refused("only causal language models are converted", lambda v: v in (None, "CAUSAL_LM")),
    "alora_invocation_tokens": exact("adapter.alora.invocation_tokens"),
    # the update of a weight
    "r": exact("the rank of the tensors"),
    "lora_alpha": exact("adapter.lora.alpha"),
    "use_rslora": exact("folded into lora_b"),
    "rank_pattern": exact("the rank of the tensors; its part of the scale is folded into lora_b"),
    "alpha_pattern": exact("folded into lora_b"),
    "lora_bias": exact("lora_bias, beside the pair"),
    "use_dora": exact("lora_magnitude, beside the pair: the magnitudes over the norms of the adapted weight's rows"),
    # which weights
    "target_modules": exact("the tensors that were saved, checked against it"),
    "exclude_modules": exact("the tensors that were saved, checked against it"),
    "layers_to_transform": exact("the tensors that were saved, checked against it"),
    "layers_pattern": exact("the tensors that were saved, checked against it"),
    "target_parameters": exact("the tensors that were saved, one pair for all experts of a layer"),
    # training, saving and devices
    "auto_mapping": neutral("how PEFT finds the model class"),
    "base_model_name_or_path": neutral("where the base is looked for"),
    "revision": neutral("which revision of the base was downloaded"),
    "peft_version": neutral("who wrote the config"),
    "inference_mode": neutral("whether gradients are kept"),
    "lora_dropout": neutral("training only"),
    "fan_in_fan_out": neutral("how the base weight lies; lora_A and lora_B are saved the same way"),
    "runtime_config": neutral("where tensors lie during training"),
    "qalora_group_size": neutral("used with use_qalora only"),
    "megatron_core": neutral("used with megatron_config only"),
    "loftq_config": neutral("used at initialisation only"),
    "eva_config": neutral("used at initialisation only"),
    "corda_config": neutral("used at initialisation only"),
    "lora_ga_config": neutral("used at initialisation only"),
    "velora_config": neutral("changes the backward pass only"),
    # refused
    "init_lora_weights": refused(
        "it subtracts the initial adapter from the base weights, so the adapter does not fit the plain base; save it"
        " with path_initial_model_for_weight_conversion",
        lambda v: isinstance(v, (bool, str, type(None))) and v in BASE_KEEPING_INITS,
    ),
    "bias": refused(f"{EVERY_TOKEN}, and GGUF adapters hold no biases", lambda v: v in (None, "none")),
    "modules_to_save": refused(f"{EVERY_TOKEN}, and GGUF adapters hold no whole weights"),
    "trainable_token_indices": refused(f"{EVERY_TOKEN}, and GGUF adapters hold no embeddings"),
    "layer_replication": refused(f"{EVERY_TOKEN} and makes another model of the base"),
    "ensure_weight_tying": refused("it ties the adapters of the embeddings and the output head"),
    "use_qalora": refused("its pooled inputs have no counterpart in GGUF adapters"),
    "use_bdlora": refused("its block-diagonal factors are not converted"),
    "arrow_config": refused("its routing between adapters has no counterpart in GGUF adapters"),
    "monteclora_config": refused("its sampled weights have no counterpart in GGUF adapters"),
    "kasa_config": refused("it truncates the base weights, so the adapter does not fit the plain base"),
    "megatron_config": refused("its parallel layers are not converted"),
}

# Fields of other writers of adapter_config.json.
FOREIGN: dict[str, Option] = {
    "invocation_string": exact("adapter.alora.invocation_tokens, by the base's vocabulary"),  # the deprecated alora package
    "enable_lora": refused("merged projections of PEFT 0.2 are not converted"),
    "merge_weights": neutral("PEFT 0.2, training only"),
}

UNKNOWN = refused("this converter does not know it, so it cannot tell what it would change; use a newer alora_gguf")


def refusals(config: dict) -> list[tuple[str, object, str]]:
    """(field, value, reason) of every field of an adapter_config.json that cannot be converted exactly."""
    found = []
    for field, value in config.items():
        option = OPTIONS.get(field) or FOREIGN.get(field) or UNKNOWN
        if not option.accepts(value):
            found.append((field, value, option.reason))
    return found

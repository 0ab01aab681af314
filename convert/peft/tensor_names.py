"""Names of tensors as other programs write them, and as PEFT's save_pretrained does."""

import re
from collections.abc import Iterable, Mapping

PREFIX = "base_model.model."
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")  # modules around a module
OUTSIDE = re.compile(r"(?:module\.)+")  # of DistributedDataParallel, around the whole
# PEFT's own names in a model; its save_pretrained takes the adapter's name out
NAMED = re.compile(r"(.+\.(?:lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)))\.([^.]+)(\.weight|\.bias|)")
PARTS = ("weight", "bias")

AGAIN = "save the adapter again with PEFT's save_pretrained"
GATHER = "gather the weights first (state_dict=accelerator.get_state_dict(model) for save_pretrained) or merge the shards with zero_to_fp32.py"
WHOLE_WEIGHT = "it is a whole weight, which GGUF adapters do not hold; save the adapter without modules_to_save and with save_embedding_layers=False"
# what a name tells of the program that wrote it: pattern -> (what was got, what to do)
OTHERS = {
    r"(^|\.)_flat_param|\.flat_param$": ("FSDP's flattened shards", "save with state_dict_type FULL_STATE_DICT"),
    r"\.lora_(down|up)\.weight$|^lora_unet|^lora_te\d?_": ("kohya's or diffusers' name", "those adapt image models, which are not converted"),
    r"\.lora_[ab]$": ("MLX's name", "name the folder that mlx_lm.lora wrote, with its adapters.safetensors"),
    r"\.adapter\.linear_(in|out)\.weight$": ("Megatron's name", "export the adapter to PEFT's form with NeMo first"),
    r"\.(hada_w|lokr_w|oft_|ia3_l|vera_lambda|boft_)": ("a tensor of another method than LoRA", "merge it into the base instead"),
    r"\.(absmax|quant_map|nested_absmax|quant_state\.|weight_format$|SCB$|qweight$|qzeros$|scales$)": (
        "a weight of a quantised base",
        "it was saved with the model; save the adapter alone, with PEFT's save_pretrained",
    ),
}


def peft_names(names: Iterable[str]) -> dict[str, str]:
    """For each name in a file the one that PEFT's save_pretrained gives, PREFIX with it.

    Wrappers around modules, the name of the one adapter, and a prefix that is missing: that is mended, and nothing else.
    """
    given = list(names)
    adapters = {match[2] for name in given if (match := NAMED.fullmatch(name)) and match[2] not in PARTS}
    return {name: _peft_name(name, len(adapters) == 1) for name in given}


def _peft_name(name: str, has_adapter_name: bool) -> str:
    name = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    name = OUTSIDE.sub("", name, count=1) if OUTSIDE.match(name) else name
    name = OUTSIDE.sub("", name.removeprefix(PREFIX), count=1) if OUTSIDE.match(name.removeprefix(PREFIX)) else name.removeprefix(PREFIX)
    match = NAMED.fullmatch(name)
    if match and has_adapter_name and match[2] not in PARTS:
        name = match[1] + match[3]
    return PREFIX + name


def adapter_names(names: Iterable[str]) -> list[str]:
    """The names of adapters in the names of a model's tensors; none in a file of save_pretrained."""
    return sorted({match[2] for name in names if (match := NAMED.fullmatch(name)) and match[2] not in PARTS})


def why_not(name: str) -> tuple[str, str]:
    """(what a name that is none of PEFT's is, what to do)."""
    for pattern, told in OTHERS.items():
        if re.search(pattern, name):
            return told
    if ".lora_" in name:
        return "another name", "this converter does not know it, so it cannot tell what it would change; use a newer alora_gguf"
    return "another name", WHOLE_WEIGHT


def why_in_part(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str, str] | None:
    """(expected, got, what to do) of an adapter saved by one of several machines that each have a part of it; None of another."""
    if not shapes:
        return "lora_A and lora_B tensors", "none", f"{AGAIN}; with DeepSpeed ZeRO-3, {GATHER}"
    empty = [name for name, shape in shapes.items() if shape == (0,)]
    if empty:
        return "lora_A and lora_B tensors", f"{len(empty)} of {len(shapes)} without values", f"DeepSpeed ZeRO-3 leaves such files: {GATHER}"
    if all(len(shape) == 1 for shape in shapes.values()):
        return "lora_A and lora_B matrices", f"{len(shapes)} flat tensors", f"they are one machine's shards of FSDP or ZeRO-3: {GATHER}"
    return None

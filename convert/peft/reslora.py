"""An adapter of ResLoRA's (arXiv 2402.18039), in the forms that are a low-rank update of each weight.

Its blocks `<module>.loras.<i>.lora_A` [r, n_in] and lora_B [n_out, r] lie in one torch file. res_flag 0
is the merged form: a module adds its own blocks. With 2, block shortcuts, it adds those of up to
pre_num modules of its kind before it too. With 1 and 3 the inputs of other layers enter, which no
update of a weight can do. Source: forward of ResLoraLinear in microsoft/LMOps, reslora/myloralib/layers.py.
"""

import json
import re
from pathlib import Path

from ...errors import ConversionError
from ...text import complaint
from ..update import LINEAR, Update
from .adapter import PeftAdapter
from .chain import summed
from .config import FIX, PeftConfig, read_json
from .torch_file import read_torch_file

CONFIG, TENSORS = "reslora_config.json", "pytorch_model_lora.bin"
NAME = re.compile(r"(?:wrapped_model\.)?(?P<module>.+)\.loras\.(?P<block>\d+)\.(?P<part>lora_[AB])")
LIMITS = {"rank": (1, 2**31 - 1), "lora_alpha": (1, 2**31 - 1), "res_flag": (0, 3), "pre_num": (-1, 999)}
MERGED = (0, 2)


def read_reslora(folder: Path) -> PeftAdapter:
    """Raises ConversionError on a missing or malformed file, or shortcuts that cannot be converted."""
    path = folder / CONFIG
    fields = read_json(path)
    for name, (least, most) in LIMITS.items():
        value = fields.get(name, 0)
        if type(value) is not int or not least <= value <= most:
            raise ConversionError(complaint(path, f"option {name}", f"an integer from {least} to {most}", json.dumps(value), FIX))
    if fields.get("res_flag", 0) not in MERGED:
        raise ConversionError(
            complaint(
                path,
                "option res_flag",
                "0 or 2, shortcuts of blocks",
                fields["res_flag"],
                "its shortcuts carry the inputs of other layers; merge it first",
            )
        )
    rank, alpha = fields["rank"], fields["lora_alpha"]
    own = _blocks(folder / TENSORS, rank, alpha / rank)
    n_before = fields.get("pre_num", 0) % 1000 if fields.get("res_flag", 0) else 0  # -1: all of them
    updates = [summed([block for blocks in reversed(chain) for block in blocks]) for chain in _chains(own, n_before)]
    return PeftAdapter(folder, PeftConfig(path, rank, alpha), updates)


def _blocks(path: Path, rank: int, scaling: float) -> dict[str, list[Update]]:
    """module -> its blocks, in the file's order."""
    parts: dict[tuple[str, str], dict] = {}
    for name, lazy in read_torch_file(path).items():
        match = NAME.fullmatch(name)
        if match is None:
            raise lazy.complaint("<module>.loras.<i>.lora_A or .lora_B", "another name", "save the adapter again")
        parts.setdefault((match["module"], match["block"]), {})[match["part"]] = lazy
    if not parts:
        raise ConversionError(complaint(path, "file", "lora_A and lora_B tensors", "none", "save the adapter again"))
    blocks: dict[str, list[Update]] = {}
    for (module, _), pair in parts.items():
        shapes = [list(lazy.shape) for lazy in pair.values()]
        if len(pair) != 2 or any(len(s) != 2 or 0 in s for s in shapes) or pair["lora_A"].shape[0] != rank or pair["lora_B"].shape[1] != rank:
            raise ConversionError(
                complaint(
                    path,
                    f"module {module}",
                    f"lora_A [{rank}, n_in] and lora_B [n_out, {rank}]",
                    f"{' and '.join(pair)} of {shapes}",
                    "save the adapter again",
                )
            )
        blocks.setdefault(module, []).append(Update(module, LINEAR, pair["lora_A"], pair["lora_B"], scaling))
    return blocks


def _chains(own: dict[str, list[Update]], n_before: int) -> list[list[list[Update]]]:
    """For each module the blocks of those linked before it and its own, all in its name; other shapes break the link."""
    linked: dict[str, list[list[Update]]] = {}
    chains = []
    for module, blocks in own.items():
        before = linked.setdefault(module.rpartition(".")[2], [])
        if before and _shape(before[-1][0]) != _shape(blocks[0]):
            before.clear()
        before.append(blocks)
        chains.append([[Update(module, LINEAR, u.a, u.b, u.scaling) for u in group] for group in before[-1 - n_before :]])
    return chains


def _shape(update: Update) -> tuple[int, int]:
    return update.a.shape[1], update.b.shape[0]

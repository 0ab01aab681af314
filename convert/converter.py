"""From a PEFT adapter and its base's GGUF to an adapter GGUF."""

import os
import time
from collections import deque
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import ConversionError
from . import metadata
from .base import read_base
from .card import read_card
from .families import family_of, place
from .gguf_file import STRING, GGUFFile
from .locate import find_base
from .peft_adapter import read_peft_adapter
from .plan import make_plans, tensor_data
from .tensor_types import OUTTYPES
from .text import complaint
from .writer import write_gguf


@dataclass(frozen=True)
class Conversion:
    """What a conversion made. n_bytes is the outfile's size, 0 in a dry run, which writes none."""

    outfile: Path
    name: str
    kind: str
    architecture: str
    base: Path
    fingerprint: str
    alpha: float
    ranks: list[int]
    modules: list[str]
    n_pairs: int
    outtype: str
    invocation_tokens: list[int]
    invocation_text: str | None
    n_bytes: int
    seconds: float
    written: bool

    def as_dict(self) -> dict:
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def convert(adapter_dir, outfile, base=None, outtype: str = "f16", dry_run: bool = False) -> Conversion:
    """Converts the PEFT adapter in `adapter_dir` to the GGUF `outfile`, replacing an earlier adapter.

    base: the base model's GGUF or a folder with one; None looks where the adapter's config points.
    outtype: f32, f16, bf16, q8_0 (f16 where a row is no whole number of blocks) or auto (loses nothing).
    dry_run: does everything but write.
    Raises ConversionError for whatever cannot be converted exactly; then `outfile` is as it was.
    """
    start = time.perf_counter()
    outfile = Path(outfile)
    if outtype not in OUTTYPES:
        raise ConversionError(complaint(outfile, "outtype", " or ".join(OUTTYPES), outtype, "choose one of them"))
    adapter = read_peft_adapter(adapter_dir)
    base_model = read_base(find_base(base, adapter.config.base_model_name_or_path, adapter.config.path))
    family_of(base_model)
    _check_outfile(outfile)

    plans = make_plans(place(adapter.updates, base_model), adapter.config.lora_alpha, outtype)
    tensors = [tensor for plan in plans for tensor in plan.tensors]
    described = metadata.describe_adapter(adapter.config, base_model, read_card(adapter.path))
    keys = metadata.adapter_keys(described, tensors[0].type.file_type, _tool_version())
    data = tensor_data(tensors)
    if dry_run:
        deque(data, maxlen=0)  # the values are checked as they pass
        n_bytes = 0
    else:
        n_bytes = write_gguf(outfile, keys, [tensor.header for tensor in tensors], data)
    return Conversion(
        outfile=outfile,
        name=described.name,
        kind=described.kind,
        architecture=described.architecture,
        base=base_model.path,
        fingerprint=described.fingerprint,
        alpha=described.alpha,
        ranks=sorted({plan.placed.rank for plan in plans}),
        modules=sorted({plan.placed.weight.split(".")[-2] for plan in plans}),
        n_pairs=len(plans),
        outtype=outtype,
        invocation_tokens=described.invocation_tokens,
        invocation_text=described.invocation_text,
        n_bytes=n_bytes,
        seconds=time.perf_counter() - start,
        written=not dry_run,
    )


def _check_outfile(outfile: Path):
    """Refuses to replace anything but an adapter: swapped arguments must not cost a base model."""
    def refuse(expected: str, got: str, action: str):
        raise ConversionError(complaint(outfile, "outfile", expected, got, action))

    # os.path, as Path's methods raise on names that are too long
    if not os.path.isdir(outfile.parent):
        refuse("a folder to write in", f"no folder {outfile.parent}", "make it first")
    if os.path.isdir(outfile):
        refuse("a file name", "a folder", "name a file in it")
    if not os.path.exists(outfile):
        return
    try:
        kind = GGUFFile(outfile, ConversionError).get(metadata.TYPE, STRING) if outfile.is_file() else None
    except ConversionError:
        kind = None
    if kind != "adapter":
        refuse("a new file or an earlier adapter", "another file", "name another outfile or remove it")


def _tool_version() -> str:
    try:
        return version("alora_gguf")
    except PackageNotFoundError:
        return "unknown"

"""From PEFT adapters and their base to an adapter GGUF."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import ConversionError
from ..text import complaint
from ..versions import VERSION
from . import adapter_metadata as metadata
from .adapter_plan import make_plans, tensor_data
from .base.gguf_base import read_base
from .base.hf_base import read_hf_base
from .base.invocation import invocation_tokens
from .base.locate import find_base
from .gguf.file import STRING, GGUFFile
from .gguf.tensor_types import BY_GGML_TYPE, OUTTYPES
from .gguf.writer import TensorHeader, write_gguf
from .mapping.architectures import family_of
from .mapping.place import place
from .mapping.targets import check_targets
from .peft.adapter import PeftAdapter, read_peft_adapter
from .peft.card import read_card
from .peft.chain import common_invocation, summed_alpha, summed_updates
from .peft.layout import adapter_folder
from .peft.mlx import is_mlx, read_mlx
from .peft.reslora import CONFIG as RESLORA
from .peft.reslora import read_reslora


@dataclass(frozen=True)
class Conversion:
    """What a conversion made. n_bytes is the outfile's size, 0 in a dry run, which writes none. notes: what is odd about the adapter.

    io_yaml and invoked_after are those that are in the file, None where nobody wrote them.
    """

    outfile: Path
    name: str
    kind: str
    architecture: str
    base: Path
    fingerprint: str | None
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
    notes: list[str] = field(default_factory=list)
    invoked_after: str | None = None
    io_yaml: str | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON's values, without the text of the io.yaml."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items() if key != "io_yaml"}


def convert(
    adapter: str | PathLike[str] | Sequence[str | PathLike[str]],
    outfile: str | PathLike[str],
    base: str | PathLike[str] | None = None,
    outtype: str = "f16",
    dry_run: bool = False,
    invocation: str | Sequence[int] | None = None,
    io_yaml: str | PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Converts a PEFT adapter to the GGUF `outfile`, replacing an earlier adapter.

    adapter: PEFT's folder, or a hub layout or cache folder with one in it; of several the sum is converted.
    base: the base model's GGUF or a folder with one; None looks where the adapter's config points.
    outtype: f32, f16, bf16, q8_0 (f16 where a row is no whole number of blocks) or auto (loses nothing).
    dry_run: does everything but write.
    invocation: a text or token ids in place of the adapter's own.
    io_yaml: a file in place of the io.yaml beside the (first) adapter.
    progress: called with the bytes done and those in all after every tensor.
    Raises ConversionError for whatever cannot be converted exactly; then `outfile` is as it was.
    """
    start = time.perf_counter()
    outfile = Path(outfile)
    if outtype not in OUTTYPES:
        raise ConversionError(complaint(outfile, "outtype", " or ".join(OUTTYPES), outtype, "choose one of them"))
    paths = [adapter] if isinstance(adapter, str | os.PathLike) else list(adapter)
    adapters = [_read_adapter(adapter_folder(path)) for path in paths]
    config = adapters[0].config
    found = find_base(base, config.base_model_name_or_path, config.path)
    base_model = read_hf_base(found) if found.is_dir() else read_base(found)
    family_of(base_model)
    _check_outfile(outfile)

    saved = common_invocation(adapters) if invocation is None else (None, None)
    tokens = invocation_tokens(base_model, config.path, invocation, *saved)
    alpha = summed_alpha(adapters)
    placed = place(summed_updates(adapters), base_model)
    missing = [note for one in adapters for note in check_targets(one, base_model)]
    plans = make_plans(placed, base_model, alpha, outtype)
    tensors = [tensor for plan in plans for tensor in plan.tensors]
    card = read_card(adapters[0].path, None if io_yaml is None else Path(io_yaml))
    described = metadata.describe_adapter(alpha, tokens, base_model, card)
    keys = metadata.adapter_keys(described, tensors[0].type.file_type, VERSION)
    headers = [tensor.header for tensor in tensors]
    changing: set[str] = set()
    data = _reported(_watched(headers, tensor_data(tensors), changing), sum(header.n_bytes for header in headers), progress)
    if dry_run:
        deque(data, maxlen=0)  # the values are checked as they pass
        n_bytes = 0
    else:
        n_bytes = write_gguf(outfile, keys, headers, data)
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
        notes=[*missing, *([] if changing else [_changes_nothing(adapters[0].path)])],
        invoked_after=described.invoked_after,
        io_yaml=described.io_yaml,
    )


def _changes_nothing(folder: Path) -> str:
    return complaint(
        folder, "lora_B", "weights that change something", "zeros alone", "train it, or save it after training; it answers as the base does"
    )


def _read_adapter(folder: Path) -> PeftAdapter:
    if (folder / RESLORA).exists():
        return read_reslora(folder)
    return read_mlx(folder) if is_mlx(folder) else read_peft_adapter(folder)


def _watched(headers: Sequence[TensorHeader], data: Iterator[np.ndarray], changing: set[str]) -> Iterator[np.ndarray]:
    """The same data; `changing` gets the names of those that make a difference to the base: all but lora_a and zeros."""
    for header, values in zip(headers, data):
        if not header.name.endswith(".lora_a") and not BY_GGML_TYPE[header.ggml_type].is_zero(values.reshape(-1)):
            changing.add(header.name)
        yield values


def _reported(data: Iterator[np.ndarray], total: int, progress: Callable[[int, int], None] | None) -> Iterator[np.ndarray]:
    done = 0
    for values in data:
        yield values
        done += values.nbytes
        if progress is not None:
            progress(done, total)


def _check_outfile(outfile: Path) -> None:
    """Refuses to replace anything but an adapter: swapped arguments must not cost a base model."""

    def refuse(expected: str, got: str, action: str) -> NoReturn:
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

"""Tensors of a `.bin` file of torch's; the one place of the converter that imports torch."""

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConversionError
from ...text import complaint
from ..lazy import Lazy


def read_torch_file(path: Path) -> dict[str, Lazy]:
    """name -> Lazy, in the file's order. torch maps the file, and unpickles nothing but tensors.

    Raises ConversionError without torch, or on anything but a dictionary of F32, F16 and BF16 tensors.
    """

    def refuse(what: str, expected: str, got: object, action: str) -> ConversionError:
        return ConversionError(complaint(path, what, expected, got, action))

    try:
        import torch
    except ImportError:
        raise refuse("file", "torch to read it", "no torch", "install torch or save the adapter as safetensors") from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as e:  # whatever zipfile, pickle and torch raise on a damaged file
        reason = str(e).split("\n", 1)[0] or type(e).__name__
        raise refuse("file", "tensors that torch.save wrote", reason, "save the adapter as safetensors") from None
    dtypes = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    if not isinstance(loaded, dict):
        raise refuse("file", "a dictionary of tensors", type(loaded).__name__, "save the adapter as safetensors")
    tensors = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise refuse(f"entry {name}", "a name and a tensor", type(tensor).__name__, "save the adapter as safetensors")
        if tensor.dtype not in dtypes or tensor.layout != torch.strided:
            raise refuse(f"tensor {name}", "dense F32, F16 or BF16", f"{tensor.layout} {tensor.dtype}", "save the adapter in one of these")
        tensors[name] = Lazy.saved(path, name, tuple(tensor.shape), dtypes[tensor.dtype], partial(_values, tensor))
    return tensors


def _values(tensor: Any) -> np.ndarray:
    return tensor.detach().float().numpy()

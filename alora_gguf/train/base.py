"""The frozen base model in PyTorch, from the very GGUF that the adapter will run on."""

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ..errors import TrainError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device() -> torch.device:
    """The first CUDA device, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_for(device: torch.device) -> str:
    """bfloat16 where the processor computes in it, float32 elsewhere.

    On a CPU with AVX-512 BF16 a matrix product takes less than half of the time that it takes in float32.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)() or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return "bfloat16" if capable else "float32"


def load_base(path: Path, name: str, device: torch.device, dtype: str) -> Any:
    """The model, dequantised and without gradients; `name` is what an adapter's config calls it. Raises TrainError."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # transformers cannot be talked out of its bars
            model: Any = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=DTYPES[dtype], **_dense())
    except Exception as e:  # transformers raises what it likes
        raise TrainError(f"{path}: expected a GGUF model that transformers can read, got: {' '.join(str(e).split())[:300]}") from e
    model.hf_quantizer, model.is_quantized = None, False  # it is not any more, and PEFT must not think so
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.name_or_path = model.config._name_or_path = name
    return model.requires_grad_(False).eval().to(device)


def _dense() -> dict[str, Any]:
    """Arguments for weights that are dequantised once, where transformers would keep them packed."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}

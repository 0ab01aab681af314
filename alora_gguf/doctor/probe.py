"""What the native library says of itself and computes, one JSON object a line.

    python -m alora_gguf.doctor.probe

`alora doctor` runs it in a process of its own, because a library that is damaged, or was built for another
processor, can end the process that loads it.
"""

import ctypes
import json
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..bundled import PACKAGE
from ..errors import AloraError

_TOKENS = [1, 2, 3, 4]
_DEVICE_TYPES = "CPU", "GPU", "integrated GPU", "accelerator", "several devices"  # ggml_backend_dev_type


def main() -> None:
    try:
        print(json.dumps(inventory()), flush=True)
        for line in computations():
            print(json.dumps(line), flush=True)
    except AloraError as e:
        print(json.dumps({"error": str(e)}))


def inventory() -> dict[str, Any]:
    """What is loaded. Raises ForeignLibraryError."""
    from ..runtime.library import KERNELS, NO_VECTORS, library, llama_cpp

    ggml, base = library("ggml"), library("ggml-base")
    backends = [_call(ggml, "ggml_backend_reg_get", ctypes.c_void_p, i) for i in range(_call(ggml, "ggml_backend_reg_count", ctypes.c_size_t))]
    devices = [_call(ggml, "ggml_backend_dev_get", ctypes.c_void_p, i) for i in range(_call(ggml, "ggml_backend_dev_count", ctypes.c_size_t))]
    features = llama_cpp.llama_print_system_info().decode("utf-8", errors="replace").rpartition("CPU : ")[2]
    return {
        "path": llama_cpp._lib._name,
        "interface": llama_cpp._lib.alora_abi_version(),
        "llama_cpp": _text(llama_cpp._lib, "llama_version"),
        "ggml": _text(base, "ggml_version"),
        "backends": {_text(base, "ggml_backend_reg_name", b): _call(base, "ggml_backend_reg_dev_count", ctypes.c_size_t, b) for b in backends},
        "devices": {_text(base, "ggml_backend_dev_name", device): _device(base, device) for device in devices},
        "kernels": KERNELS,
        **({"error": NO_VECTORS} if KERNELS == "scalar" else {}),
        "cpu_features": [name for name, _, value in (f.strip().partition(" = ") for f in features.split("|")) if value == "1"],
    }


def computations() -> Iterator[dict[str, Any]]:
    """Yields {"model": its path} if the embedded model computes, then {"adapter": name} of each of the package, perhaps with an `error`.

    Raises AloraError.
    """
    if find_spec(PACKAGE) is None:
        return
    import numpy as np

    from .. import Model, bundled_adapters, default_model
    from ..convert import convert
    from ..errors import DecodeError

    path = default_model()
    with Model(path, n_ctx=64, n_batch=64, n_seq_max=1, n_threads=1) as model, tempfile.TemporaryDirectory() as folder:

        def check(adapter: str | None, tokens: list[int]) -> None:
            [logits] = model.logits([(tokens, adapter)])
            if not np.isfinite(logits).all():
                raise DecodeError(f"{adapter or path.name}: expected finite logits, got others; build the package on this machine")

        check(None, _TOKENS)
        yield {"model": str(path)}
        for name, peft in bundled_adapters().items():
            try:
                convert(peft, Path(folder) / f"{name}.gguf", base=path)
                adapter = model.load_adapter(Path(folder) / f"{name}.gguf")
                check(name, [*_TOKENS, *adapter.invocation_tokens])
            except AloraError as e:
                yield {"adapter": name, "error": str(e)}
            else:
                yield {"adapter": name}


def _device(base: ctypes.CDLL, device: int) -> dict[str, Any]:
    """Memory in bytes."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call(base, "ggml_backend_dev_memory", None, device, ctypes.addressof(free), ctypes.addressof(total))
    kind = _call(base, "ggml_backend_dev_type", ctypes.c_int, device)
    return {
        "description": _text(base, "ggml_backend_dev_description", device),
        "type": _DEVICE_TYPES[kind] if kind < len(_DEVICE_TYPES) else str(kind),
        "memory": total.value,
        "free": free.value,
    }


def _call(where: ctypes.CDLL, name: str, kind: Any, *arguments: int) -> Any:
    """Calls a function whose arguments are pointers and sizes."""
    function = getattr(where, name)
    function.restype = kind
    return function(*map(ctypes.c_size_t, arguments))


def _text(where: ctypes.CDLL, name: str, *arguments: int) -> str:
    return _call(where, name, ctypes.c_char_p, *arguments).decode("utf-8", errors="replace")


if __name__ == "__main__":
    main()

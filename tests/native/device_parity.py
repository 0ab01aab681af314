"""Adapters on a device against the same on the CPU, for every way to build a graph. Prints a line for each case, and the result.

    python tests/native/device_parity.py CUDA0            # a device of ggml's, as Vulkan0 or MTL0
    python tests/native/device_parity.py --rpc HOST:PORT  # one that `alora rpc` serves

Each case is a tiny random model, with adapters of a type on all its weights, in one batch of sequences that have none, one
or two of them, from other positions on; then one more token of each. A device that computes in 16 bits is known by what it
makes of the base's rows. Exit code 1 if adapted rows are off by more than that allows.
"""

import argparse
import ctypes
import itertools
import logging
import os
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from native_models import granite_hybrid, llama, random_adapter, write_adapter, write_model  # noqa: E402
from native_runtime import Runtime, llama_cpp, prompt, relative_error  # noqa: E402
from test_native_fused import FEW, few_of_many, with_vectors, write_with_vectors  # noqa: E402

from alora_gguf.runtime.library import library, logger  # noqa: E402
from alora_gguf.runtime.rpc import devices, relays_to  # noqa: E402

MODELS = {"dense": llama(n_layer=4), "tied": llama(tied=True), "experts": llama(n_expert=4), "hybrid": granite_hybrid(), "wide": llama(n_dim=32)}
TYPES = {"f32": 2e-5, "f16": 3e-3, "q8_0": 3e-2}  # and tolerances: ggml's ops round activations to the type, our kernels to 8 bits alone
TOLERANCE_16_BITS = 5e-2  # an adapter that begins one token late makes rows that are off by 1, a scale of 1.1 by 0.3
WAYS = {  # the first layer on the device of n_layer + 1, ALORA_GRAPH, n_ubatch
    "all layers": (lambda n_layer: 0, "", 512),
    "all, small ubatches": (lambda n_layer: 0, "", 32),
    "half the layers": (lambda n_layer: n_layer // 2, "", 512),
    "half, ops on the CPU too": (lambda n_layer: n_layer // 2, "ops", 512),
    "large products alone": (lambda n_layer: n_layer + 1, "", 512),  # the scheduler sends them there, with their weights
}  # fmt: skip
NO_DEVICE = (ctypes.c_void_p * 1)(None)


def adapters_of(kind: str, type: str, folder: Path) -> list[Path]:
    model, dtype = MODELS[kind], gguf.GGMLQuantizationType[type.upper()]
    files = [folder / f"{kind}-{type}-{i}.gguf" for i in (1, 2)]
    for i, file in enumerate(files):
        # in 8 bits, of weights for which no token is on the edge between two experts: there any other rounding takes another one
        adapter = random_adapter(model, 10 + i, r=32) if type == "q8_0" else random_adapter(model, i, r=5 + i)
        write_adapter(file, model.architecture, adapter, dtype)
    return files


def vectors(folder: Path) -> list[Path]:
    adapter, bias, magnitude = with_vectors(1)
    return [write_with_vectors(folder / "bias.gguf", adapter, bias, {}), write_with_vectors(folder / "magnitude.gguf", adapter, bias, magnitude)]


def compute(base: Path, files: list[Path], device, n_layers: int, n_ubatch: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the base's rows, and of adapted ones."""
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = n_layers
    params.devices = ctypes.cast(device, ctypes.c_void_p)
    model = llama_cpp.llama_model_load_from_file(str(base).encode(), params)
    with Runtime(base, model=model, n_ubatch=n_ubatch) as runtime:
        plain = runtime.logits(*((seq, prompt(seq, n), 0) for seq, (n, _) in enumerate(FEW)))
        every = few_of_many(runtime, files)
        adapted = [rows[min(starts.values()) :] for rows, (_, starts) in zip(every, FEW) if starts]
        adapted += runtime.logits(*((seq, [7 + seq], n) for seq, (n, starts) in enumerate(FEW) if starts))
        adapted += [rows for rows, (_, starts) in zip(few_of_many(runtime, files, "last"), FEW) if starts]
    llama_cpp.llama_model_free(model)
    return np.concatenate(plain), np.concatenate(adapted)


def find(name: str):
    """llama_model_params.devices of the one device of this name."""
    ggml = library("ggml")
    ggml.ggml_backend_dev_by_name.restype = ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    if not (device := ggml.ggml_backend_dev_by_name(name.encode())):
        there = [ggml.ggml_backend_dev_name(ctypes.c_void_p(ggml.ggml_backend_dev_get(ctypes.c_size_t(i)))).decode()
                 for i in range(ggml.ggml_backend_dev_count())]  # fmt: skip
        sys.exit(f"device {name!r}: expected one of {', '.join(there)}; build with its backend")
    return (ctypes.c_void_p * 2)(device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("device", nargs="?", help="as CUDA0, Vulkan0, MTL0")
    given.add_argument("--rpc", metavar="HOST:PORT")
    args = parser.parse_args()
    name = args.device or "RPC0"
    device = find(args.device) if args.device else devices(relays_to([args.rpc]))
    lines: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)

    worst, worst_base, n, bad = 0.0, 0.0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        cases = {f"{kind}, {type}": (kind, type, adapters_of(kind, type, Path(folder))) for kind, type in itertools.product(MODELS, TYPES)}
        cases["bias and magnitude"] = ("dense", "f32", vectors(Path(folder)))
        for case, (kind, type, files) in cases.items():
            base = write_model(Path(folder) / f"{kind}.gguf", MODELS[kind])
            os.environ["ALORA_GRAPH"] = ""
            plain, adapted = compute(base, files, NO_DEVICE, 0)
            for way, (first, graph, n_ubatch) in WAYS.items():
                if way != "all layers" and type != "f32" or way == "large products alone" and args.rpc:
                    continue
                os.environ["ALORA_GRAPH"] = graph
                lines.clear()
                n_layers = MODELS[kind].keys["block_count"] + 1 - first(MODELS[kind].keys["block_count"])
                got_plain, got = compute(base, files, device, n_layers, n_ubatch)
                error, error_base = relative_error(got, adapted), relative_error(got_plain, plain)
                tolerance = TOLERANCE_16_BITS if error_base > 1e-4 else TYPES[type]
                where = f"{'model' if n_layers else 'compute'} buffer size"
                on_device = any(where in line and name in line for line in lines)
                ok = on_device and error < tolerance
                print(
                    f"{'ok' if ok else 'FAILED':6}  {case:20}  {way:25}  adapted {error:.1e}  base {error_base:.1e}"
                    f"{'' if on_device else '  nothing was on the device'}",
                    flush=True,
                )
                n += 1
                worst_base = max(worst_base, error_base)
                worst = max(worst, error) if type == "f32" else worst
                bad += [] if ok else [f"{case}, {way}"]
    about = [line for line in lines if "using device" in line]
    print(f"device-parity {name}{': ' + about[-1].split('using device ')[1] if about else ''}: {n - len(bad)} of {n} cases passed, "
          f"worst error of rows with f32 adapters {worst:.1e}, of the base's {worst_base:.1e}")  # fmt: skip
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

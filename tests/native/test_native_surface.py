"""native/alora.h as its callers see it: from C, from ctypes, and with every wrong argument."""

import ctypes
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from native_runtime import Refused, Runtime, free, llama_cpp, native, prompt, relative_error

BEFORE = {"alora_abi_version", "alora_load_backends"}  # asked before the rest is believed
HEADER = Path(__file__).resolve().parents[2] / "native" / "alora.h"
C_TYPES = {
    "int32_t": ctypes.c_int32,
    "llama_seq_id": ctypes.c_int32,
    "llama_pos": ctypes.c_int32,
    "float": ctypes.c_float,
    "uint64_t": ctypes.c_uint64,
    "const char *": ctypes.c_char_p,
    "struct llama_context *": ctypes.c_void_p,
    "alora_adapter_id": ctypes.c_uint64,
    "alora_adapter_id *": ctypes.POINTER(ctypes.c_uint64),
    "struct alora_activation *": ctypes.POINTER(native.alora_activation),
}


def prototypes() -> dict[str, tuple[str, list[str]]]:
    """Result and argument types of each function of the header, without argument names."""
    text = re.sub(r"//[^\n]*", "", HEADER.read_text())
    spaced = lambda t: re.sub(r"\s+", " ", t.replace("*", " *")).replace("* *", "**").strip()
    out = {}
    for result, name, args in re.findall(r"LLAMA_API ([\w\s*]+?)(\w+)\(([^)]*)\);", text):
        types = [spaced(re.sub(r"\w+\s*$", "", arg)) for arg in args.split(",")] if args.strip() != "void" else []
        out[name] = spaced(result), types
    return out


# the header


@pytest.mark.parametrize("language, standard", [("c", "c99"), ("c", "c11"), ("c++", "c++17")])
def test_the_header_compiles(pristine, language, standard):
    include = ["-I", HEADER.parent, "-I", pristine / "include", "-I", pristine / "ggml" / "include"]
    code = '#include "alora.h"\nint32_t (*free_)(alora_adapter_id) = alora_adapter_free;\n'
    done = subprocess.run(
        [os.environ.get("CC", "cc"), "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *include, "-"],
        input=code,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_python_declares_the_headers_functions_and_no_others():
    declared = {name for name in vars(native) if name.startswith("alora_") and name != "alora_activation"}
    assert declared | BEFORE == set(prototypes())


@pytest.mark.parametrize("name", sorted(set(prototypes()) - BEFORE))
def test_a_declaration_has_the_headers_types(name):
    result, args = prototypes()[name]
    function = getattr(native, name)
    assert function.restype is C_TYPES[result]
    assert list(function.argtypes) == [C_TYPES[arg] for arg in args]


def test_the_constants_are_the_headers():
    text = HEADER.read_text()
    for name, value in re.findall(r"ALORA_(OK|ERROR_\w+)\s*=\s*(-?\d+)", text):
        assert getattr(native, name) == int(value)
    version = int(re.search(r"#define ALORA_ABI_VERSION (\d+)", text)[1])
    assert llama_cpp._lib.alora_abi_version() == version


def test_the_struct_is_cs(pristine, tmp_path):
    fields = [name for name, _ in native.alora_activation._fields_]
    code = '#include "alora.h"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) { printf("%zu' + " %zu" * len(fields) + '"'
    code += ", sizeof(struct alora_activation)" + "".join(f", offsetof(struct alora_activation, {f})" for f in fields) + "); return 0; }\n"
    (tmp_path / "main.c").write_text(code)
    subprocess.run(
        [
            os.environ.get("CC", "cc"),
            "-I",
            HEADER.parent,
            "-I",
            pristine / "include",
            "-I",
            pristine / "ggml" / "include",
            tmp_path / "main.c",
            "-o",
            tmp_path / "main",
        ],
        check=True,
    )
    got = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout
    assert [int(n) for n in got.split()] == [ctypes.sizeof(native.alora_activation), *(getattr(native.alora_activation, f).offset for f in fields)]


# wrong arguments, in a process of its own that has to live

HOSTILE = """
import ctypes, json, sys
from native_runtime import Runtime, native as n, llama_cpp, prompt
dense, encoder, hybrid, both, file, of_both = sys.argv[1:]
out = ctypes.c_uint64()
buffer = (n.alora_activation * 4)()
runtime, no_memory, other, encodes = Runtime(dense), Runtime(encoder), Runtime(hybrid), Runtime(both)
ctx, adapter = runtime.ctx, runtime.load(file)
gone = Runtime(dense); gone_ctx = gone.ctx; gone.close()
gone_adapter = runtime.load(file); assert n.alora_adapter_free(gone_adapter) == 0
path = file.encode()
nan, inf, big, small = float("nan"), float("inf"), 2**31 - 1, -2**31
results = {}

def call(label, status):
    results[label] = [status, n.alora_last_error().decode()]

contexts = {"NULL": None, "freed": gone_ctx, "garbage": 0xdead0000beef, "odd": 1, "a model": runtime.model, "no memory": no_memory.ctx}
for what, bad in contexts.items():
    call(f"context {what}: load", n.alora_adapter_load(bad, path, ctypes.byref(out)))
    assert out.value == 0
    call(f"context {what}: activate", n.alora_seq_activate(bad, 0, adapter, 0, 1.0))
    call(f"context {what}: deactivate", n.alora_seq_deactivate(bad, 0, adapter))
    call(f"context {what}: activations", n.alora_seq_activations(bad, 0, buffer, 4))
for what, bad in {"freed": gone_adapter, "garbage": 0xdead0000beef, "odd": 1, "a context": ctx}.items():
    call(f"adapter {what}: activate", n.alora_seq_activate(ctx, 0, bad, 0, 1.0))
    call(f"adapter {what}: deactivate", n.alora_seq_deactivate(ctx, 0, bad))
    call(f"adapter {what}: free", n.alora_adapter_free(bad))
    assert n.alora_adapter_size(bad) == 0
call("adapter none: activate", n.alora_seq_activate(ctx, 0, 0, 0, 1.0))
assert n.alora_adapter_size(0) == 0
for seq in (-1, 16, big, small):
    call(f"argument seq_id {seq}: activate", n.alora_seq_activate(ctx, seq, adapter, 0, 1.0))
    call(f"argument seq_id {seq}: deactivate", n.alora_seq_deactivate(ctx, seq, 0))
    call(f"argument seq_id {seq}: activations", n.alora_seq_activations(ctx, seq, buffer, 4))
for start in (-1, small):
    call(f"argument start {start}", n.alora_seq_activate(ctx, 0, adapter, start, 1.0))
for scale in (nan, inf, -inf):
    call(f"argument scale {scale}", n.alora_seq_activate(ctx, 0, adapter, 0, scale))
call("argument no path", n.alora_adapter_load(ctx, None, ctypes.byref(out)))
call("argument nowhere to put it", n.alora_adapter_load(ctx, path, None))
call("argument no buffer", n.alora_seq_activations(ctx, 0, None, 4))
call("argument negative buffer", n.alora_seq_activations(ctx, 0, buffer, -1))
call("mismatch: load", n.alora_adapter_load(other.ctx, path, ctypes.byref(out)))
call("mismatch: activate", n.alora_seq_activate(other.ctx, 0, adapter, 0, 1.0))
call("mismatch: load into an encoder", n.alora_adapter_load(encodes.ctx, of_both.encode(), ctypes.byref(out)))
assert out.value == 0
call("mismatch: activate in an encoder", n.alora_seq_activate(encodes.ctx, 0, adapter, 0, 1.0))

# nothing of all this has left anything, and what is merely extreme is taken
assert runtime.activations(0) == []
runtime.activate(0, adapter, big, 1.0)
runtime.activate(1, adapter, 0, 3e38)
runtime.activate(2, adapter, 0, -3e38)
assert runtime.decode((0, prompt(1, 5), 0), (1, prompt(1, 5), 0), (2, prompt(1, 5), 0)) == 0
runtime.clear()
print(json.dumps([results, [float(x) for x in runtime.logits((0, prompt(1, 5), 0))[0][-1]]]))
"""


@pytest.fixture(scope="module")
def hostile(zoo, tmp_path_factory):
    from native_models import write_adapter

    file = write_adapter(zoo.path(), "llama", zoo.adapter("dense"))
    of_both = write_adapter(zoo.path(), "t5", zoo.adapter("both", weights=["token_embd.weight"]))
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, *(zoo.base(k) for k in ("dense", "encoder", "hybrid", "both")), file, of_both],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return json.loads(done.stdout)


def test_every_wrong_argument_is_a_status_and_one_line(hostile):
    results, _ = hostile
    assert len(results) > 50
    expected = {
        "context": native.ERROR_CONTEXT,
        "adapter": native.ERROR_ADAPTER,
        "argument": native.ERROR_ARGUMENT,
        "mismatch": native.ERROR_MISMATCH,
    }
    for label, (status, line) in results.items():
        assert status == expected[label.split()[0].rstrip(":")], (label, status, line)
        assert line and "\n" not in line and "expected" in line and "got" in line, (label, line)


def test_the_context_is_as_good_as_new_after_them(hostile, zoo):
    assert relative_error([hostile[1]], zoo.expected("dense", prompt(1, 5), 5)[-1:]) < 2e-5


# right arguments


@pytest.fixture
def runtime(zoo):
    with Runtime(zoo.base("dense")) as runtime:
        yield runtime


def test_activations_are_told_in_their_order_into_any_buffer(zoo, runtime):
    adapters = [zoo.load(runtime, "dense", zoo.adapter("dense", seed)) for seed in (1, 2, 3)]
    for i, adapter in enumerate(adapters):
        runtime.activate(7, adapter, 10 * i, 0.5 + i)
    runtime.activate(7, adapters[0], 3, -2.0)  # again: moved, not added
    want = [(adapters[0], 3, -2.0), (adapters[1], 10, 1.5), (adapters[2], 20, 2.5)]
    assert runtime.activations(7) == want
    for n in range(5):
        out = (native.alora_activation * 5)(*[(0xAA, 0xBB, 0.0)] * 5)
        assert native.alora_seq_activations(runtime.ctx, 7, out if n else None, n) == 3
        told = [(a.adapter, a.start, a.scale) for a in out]
        assert told == [*want[:n], *[(0xAA, 0xBB, 0.0)] * (5 - min(n, 3))]


def test_deactivation_counts_what_ended(zoo, runtime):
    first, second = (zoo.load(runtime, "dense", zoo.adapter("dense", seed)) for seed in (1, 2))
    assert runtime.deactivate(0) == runtime.deactivate(0, first) == 0
    runtime.activate(0, first)
    runtime.activate(0, second)
    assert runtime.deactivate(0, first) == 1
    assert runtime.activations(0) == [(second, 0, 1.0)]
    runtime.activate(0, first)
    assert runtime.deactivate(0) == 2
    assert runtime.activations(0) == []


def test_a_freed_handle_is_refused_by_every_call_whatever_was_loaded_since(zoo, runtime):
    """The next adapter is made where the freed one was, and is not taken for it."""
    old, adapter = [], zoo.adapter("dense")
    for _ in range(20):
        handle = zoo.load(runtime, "dense", adapter)
        assert handle not in old
        runtime.activate(0, handle)
        for freed in old:
            for call in (lambda: runtime.activate(1, freed), lambda: runtime.deactivate(0, freed), lambda: free(freed)):
                with pytest.raises(Refused, match=f"expected one that is loaded, got {freed}") as refused:
                    call()
                assert refused.value.status == native.ERROR_ADAPTER
            assert native.alora_adapter_size(freed) == 0 and str(freed) in native.alora_last_error().decode()
        assert runtime.activations(0) == [(handle, 0, 1.0)] and runtime.activations(1) == []
        assert native.alora_adapter_size(handle) > 0 and native.alora_last_error() == b""
        free(handle)
        old.append(handle)


def test_a_handle_cut_to_an_int_is_none(zoo, runtime):
    handle = zoo.load(runtime, "dense", zoo.adapter("dense"))
    for cut in (ctypes.c_int32(handle).value, ctypes.c_uint32(handle).value):
        with pytest.raises(Refused):
            free(cut)
    free(handle)


def test_the_size_is_that_of_its_tensors(zoo, runtime):
    adapter = zoo.adapter("dense")
    n_bytes = sum(x.nbytes for pair in adapter.pairs.values() for x in pair)
    assert n_bytes <= native.alora_adapter_size(zoo.load(runtime, "dense", adapter)) < n_bytes + 64 * 2 * len(adapter.pairs)


def test_success_clears_the_last_error_and_freeing_nothing_is_one(runtime):
    with pytest.raises(Refused):
        runtime.activate(0, 0)
    assert native.alora_last_error()
    free(0)
    assert native.alora_last_error() == b""


def test_the_last_error_is_the_threads_own(runtime):
    with pytest.raises(Refused):
        runtime.deactivate(-1)
    here, there = native.alora_last_error(), []
    thread = threading.Thread(target=lambda: there.append(native.alora_last_error()))
    thread.start()
    thread.join()
    assert here and there == [b""]
    assert native.alora_last_error() == here

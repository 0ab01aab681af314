"""The ops that our graphs have on a device, against upstream's tables of what Metal, CUDA and Vulkan support.

The pinned source's docs/ops/<backend>.csv list the cases that upstream's backend tests asked each backend for.
A node of ours belongs to a class: its op, its types, and what of its shape a backend may refuse (layout, broadcasts,
one row or several). Every case of the class has to be supported, and there has to be one; only with bf16 adapters of
experts and of Mamba's blocks there is none. What a backend does not support, ggml's scheduler would leave to the CPU.
"""

import csv
import ctypes
import re
from pathlib import Path

import gguf
import pytest
from native_models import write_adapter
from native_runtime import Runtime
from test_native_fused import few_of_many, with_vectors, write_with_vectors

from alora_gguf.runtime.library import library

Types = gguf.GGMLQuantizationType


class Tensor(ctypes.Structure):
    """ggml_tensor, of ggml.h."""


Tensor._fields_ = [
    ("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4), ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16), ("flags", ctypes.c_int32), ("src", ctypes.POINTER(Tensor) * 10), ("view_src", ctypes.POINTER(Tensor)),
    ("view_offs", ctypes.c_size_t), ("data", ctypes.c_void_p), ("name", ctypes.c_char * 64), ("extra", ctypes.c_void_p), ("padding", ctypes.c_char * 8),
]  # fmt: skip

_base = library("ggml-base")
_base.ggml_op_name.restype = _base.ggml_type_name.restype = ctypes.c_char_p


def op_of(t: Tensor) -> str:
    return _base.ggml_op_name(t.op).decode()


def type_of(t: Tensor) -> str:
    return _base.ggml_type_name(t.type).decode()


def repeats(whole: Tensor, part: Tensor) -> tuple[bool, ...]:
    """Along which dimensions `part` is broadcast."""
    return tuple(n != m for n, m in zip(whole.ne, part.ne))


def layout(t: Tensor) -> str:
    """Whether its rows lie one behind the other, apart from each other, or in another order."""
    row = t.nb[0] * t.ne[0] if type_of(t) in ("f32", "f16", "bf16") else t.nb[1]
    if t.ne[1] > 1 and t.nb[1] < row or t.ne[2] > 1 and t.nb[2] < t.nb[1] * t.ne[1] or t.ne[3] > 1 and t.nb[3] < t.nb[2] * t.ne[2]:
        return "permuted"
    return "rows" if t.nb[1] == row or t.ne[1] == 1 else "rows apart"


def class_of(node: Tensor) -> tuple:
    """What of a node a backend may refuse; class_of_case() says the same of a line of a table."""
    op, a, b = op_of(node), node.src[0].contents, node.src[1].contents if node.src[1] else None
    if op == "MUL_MAT":
        return op, type_of(a), type_of(b), layout(a), layout(b), b.ne[1] == 1, a.ne[2] * a.ne[3] > 1, repeats(b, a)[2:]
    if op == "MUL_MAT_ID":
        return op, type_of(a), type_of(b), b.ne[1] == 1, b.ne[2] == 1
    if op == "GET_ROWS":
        return op, type_of(a), a.ne[2] * a.ne[3] > 1
    if op == "SET_ROWS":
        return op, type_of(node), type_of(a), type_of(b)
    if op in ("ADD", "MUL"):
        return op, type_of(a), type_of(b), layout(a), repeats(a, b)
    if op == "REPEAT":
        return op, type_of(a)
    return (op,)


def class_of_case(op: str, params: str) -> tuple:
    """The class of a case as upstream's tests print it, "type_a=f16,m=16,bs=[1,1]"."""
    p = {key: value.strip("[]") for key, value in re.findall(r"(\w+)=(\[[^\]]*\]|[^,]*)", params)}
    many = lambda key: tuple(int(n) > 1 for n in p[key].split(","))
    if op == "MUL_MAT":
        order = "permuted" if p["per"] != "0,1,2,3" else "rows"
        rows = "rows apart" if p.get("k_v", "0") != "0" else order
        return op, p["type_a"], p["type_b"], rows, rows, p["n"] == "1", any(many("bs")), many("nr")
    if op == "MUL_MAT_ID":
        return op, p["type_a"], p["type_b"], p["b"] == "1", p["n"] == "1"
    if op == "GET_ROWS":
        return op, p["type"], p["be1"] != "1" or p["be2"] != "1"
    if op == "SET_ROWS":
        return op, p.get("type_dst") or p["type"], p.get("type_src", "f32"), p["type_idx"]
    if op in ("ADD", "MUL"):
        return op, p["type"], p["type"], "permuted" if p.get("perm1", "0") != "0" else "rows", many("nr")
    return op, p.get("type")


@pytest.fixture(scope="module")
def emitted(zoo) -> set[tuple]:
    """The classes of all nodes of ours, of every model of the zoo, type of adapter and way to build a graph."""
    classes: set[tuple] = set()
    ours: set[int] = set()

    def is_ours(t: Tensor) -> bool:
        while t.view_src:
            t = t.view_src.contents
        return bool(t.op) and ctypes.addressof(t) in ours or t.name.startswith(b"alora_") or b".lora_" in t.name

    def on_node(address: int) -> None:
        node = Tensor.from_address(address)
        ours.discard(address)  # of the graph before
        sources = [src.contents for src in node.src if src]
        if op_of(node) in ("VIEW", "RESHAPE") or not any(map(is_ours, sources)):
            return
        classes.add(class_of(node))
        if not (op_of(node) == "SET_ROWS" or op_of(node) == "ADD" and not is_ours(sources[0])):  # there it is upstream's again
            ours.add(address)

    def run(base, files) -> None:
        with Runtime(base, on_node=on_node) as runtime:
            for outputs in ("all", "last"):
                few_of_many(runtime, files, outputs)  # of some rows; and, where an adapter has most of them, of all
            runtime.logits((0, [5], 60))  # one token

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALORA_GRAPH", "ops")
        for kind in ("dense", "tied", "experts", "hybrid"):
            for dtype in (Types.F32, Types.F16, Types.BF16, Types.Q8_0):
                adapters = [zoo.adapter(kind, seed, r=32 if dtype == Types.Q8_0 else 5) for seed in (1, 2)]
                run(zoo.base(kind), [write_adapter(zoo.path(), zoo.model(kind).architecture, adapter, dtype) for adapter in adapters])
        adapter, bias, magnitude = with_vectors(1)
        for vectors in (bias, {}), (bias, magnitude):
            run(zoo.base("dense"), [write_with_vectors(zoo.path(), adapter, *vectors), write_adapter(zoo.path(), "llama", zoo.adapter("dense", 2))])
    return classes


@pytest.fixture(scope="module")
def tables(unpatched_lib) -> Path:
    return unpatched_lib.parent / "llama.cpp" / "docs" / "ops"


def test_every_way_is_among_them(emitted):
    assert {op for op, *_ in emitted} == {"MUL_MAT", "MUL_MAT_ID", "GET_ROWS", "SET_ROWS", "ADD", "MUL", "REPEAT"}
    for op in ("MUL_MAT", "MUL_MAT_ID"):
        assert {type for o, type, *_ in emitted if o == op} == {"f32", "f16", "bf16", "q8_0"}


def unsupported(emitted: set[tuple], table: Path) -> tuple[list[tuple], list[tuple]]:
    """The classes of which a case is not supported, and those of which there is no case."""
    supported: dict[tuple, list[bool]] = {}
    with open(table, newline="") as file:
        for case in csv.DictReader(file):
            if any(case["op_name"] == op for op, *_ in emitted):
                supported.setdefault(class_of_case(case["op_name"], case["op_params"]), []).append(case["supported"] == "1")
    return [c for c in emitted if not all(supported.get(c, []))], [c for c in emitted if c not in supported]


@pytest.mark.parametrize("backend", ["CPU", "Metal", "CUDA", "Vulkan"])
def test_a_backend_supports_all_that_our_graphs_emit(emitted, tables, backend):
    refused, unlisted = unsupported(emitted, tables / f"{backend}.csv")
    assert not refused
    assert all(op == "MUL_MAT_ID" and a == "bf16" or op == "MUL_MAT" and a == "bf16" and any(rest[-1]) for op, a, *rest in unlisted), unlisted


def test_what_a_backend_refuses_is_found_out(emitted, tables, tmp_path):
    refused, _ = unsupported(emitted, tables / "OpenCL.csv")
    assert {"MUL_MAT", "MUL_MAT_ID"} <= {op for op, *_ in refused}
    lines = (tables / "Metal.csv").read_text().splitlines(keepends=True)
    without = tmp_path / "without.csv"
    without.write_text("".join(line for line in lines if ',"REPEAT",' not in line))
    refused, unlisted = unsupported(emitted, without)
    assert not refused and "REPEAT" in {op for op, *_ in unlisted}

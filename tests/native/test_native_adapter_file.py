"""Adapter files that lie, byte by byte: each is refused with its own line, and the context decodes on."""

import struct
from pathlib import Path

import numpy as np
import pytest
from native_runtime import Refused, Runtime, free, llama_cpp, prompt

from alora_gguf import AdapterFileError, AdapterMismatchError, Model
from alora_gguf.runtime import native

U32, F32, STRING, ARRAY = 4, 6, 8, 9  # gguf_type
TYPE_F32, TYPE_F16, TYPE_Q4_0, TYPE_Q8_0, TYPE_I32, TYPE_BF16 = 0, 1, 2, 8, 26, 30  # ggml_type
Q = "blk.0.attn_q.weight"
KEYS = (
    ("general.architecture", STRING, "llama"),
    ("general.type", STRING, "adapter"),
    ("adapter.type", STRING, "lora"),
    ("adapter.lora.alpha", F32, 8.0),
)


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def keys(**changed) -> tuple:
    """KEYS with some of them (by the last part of their name) changed, or left out where None."""
    out = []
    for name, kind, value in KEYS:
        new = changed.get(name.rsplit(".")[-1] if name != "adapter.type" else "adapter_type", (kind, value))
        if new is not None:
            out.append((name, *new))
    return tuple(out)


def write(path: Path, tensors, kv=KEYS, data: bytes | None = None, magic=b"GGUF", version=3, n_tensors=None, n_kv=None) -> Path:
    """A GGUF file. Tensors: (name, ne, type, values or None, offset or None for where the data is)."""
    head = magic + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors, len(kv) if n_kv is None else n_kv)
    for name, kind, value in kv:
        head += string(name) + struct.pack("<I", kind)
        head += string(value) if kind == STRING else value if isinstance(value, bytes) else struct.pack({U32: "<I", F32: "<f"}[kind], value)
    blob = b""
    for name, ne, kind, values, offset in tensors:
        at = len(blob) if offset is None else offset
        head += string(name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, kind, at)
        raw = values if isinstance(values, bytes) else np.asarray(values, np.float32).tobytes()
        blob += raw + bytes(-len(raw) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + (blob if data is None else data))
    return path


def tensor(name: str, *ne: int, kind: int = TYPE_F32, values=None, offset=None) -> tuple:
    return name, ne, kind, np.full(int(np.prod(ne)), 0.1, np.float32) if values is None else values, offset


def pair(a: dict | tuple = (), b: dict | tuple = (), weight: str = Q) -> list[tuple]:
    """lora_a [64, 4] and lora_b [4, 64], or other dimensions and fields."""
    shapes = [(64, 4), (4, 64)]
    fields = [{"ne": x} if isinstance(x, tuple) and x else dict(x) for x in (a, b)]
    return [tensor(f"{weight}.lora_{ab}", *f.pop("ne", ne), **f) for ab, ne, f in zip("ab", shapes, fields)]


NAN, INF = np.full(256, np.nan), np.array([0.0] * 255 + [-np.inf])
HUGE = 1 << 40

FILE, MISMATCH, MEMORY = native.ERROR_FILE, native.ERROR_MISMATCH, native.ERROR_MEMORY
# what write() is given, the status, what the line must name
BAD = {
    "empty": (dict(tensors=[], kv=(), magic=b""), FILE, "GGUF"),
    "other magic": (dict(tensors=pair(), magic=b"GGML"), FILE, "GGUF"),
    "other version": (dict(tensors=pair(), version=99), FILE, "GGUF"),
    "other endianness": (dict(tensors=pair(), version=3 << 24), FILE, "GGUF"),
    "too many keys": (dict(tensors=pair(), n_kv=1 << 62), FILE, "GGUF"),
    "too many tensors": (dict(tensors=pair(), n_tensors=1 << 60), FILE, "GGUF"),
    "one tensor more than there is": (dict(tensors=pair(), n_tensors=3), FILE, "GGUF"),
    "no architecture": (dict(tensors=pair(), kv=keys(architecture=None)), FILE, "general.architecture"),
    "other architecture": (dict(tensors=pair(), kv=keys(architecture=(STRING, "qwen2"))), MISMATCH, "qwen2"),
    "architecture is a number": (dict(tensors=pair(), kv=keys(architecture=(U32, 1))), FILE, "general.architecture"),
    "a model": (dict(tensors=pair(), kv=keys(type=(STRING, "model"))), FILE, "model"),
    "no type": (dict(tensors=pair(), kv=keys(type=None)), FILE, "general.type"),
    "a control vector": (dict(tensors=pair(), kv=keys(adapter_type=(STRING, "control_vector"))), FILE, "control_vector"),
    "no alpha": (dict(tensors=pair(), kv=keys(alpha=None)), FILE, "alpha"),
    "alpha is a string": (dict(tensors=pair(), kv=keys(alpha=(STRING, "8"))), FILE, "alpha"),
    "alpha is an array": (dict(tensors=pair(), kv=keys(alpha=(ARRAY, struct.pack("<IQf", F32, 1, 8.0)))), FILE, "alpha"),
    "alpha is NaN": (dict(tensors=pair(), kv=keys(alpha=(F32, float("nan")))), FILE, "alpha"),
    "a key twice": (dict(tensors=pair(), kv=KEYS + KEYS[-1:]), FILE, "GGUF"),
    "a string as long as memory": (dict(tensors=pair(), kv=(("x", ARRAY, struct.pack("<IQ", STRING, 1 << 60)),)), FILE, "GGUF"),
    "no tensors": (dict(tensors=[]), FILE, "lora_a"),
    "lora_a alone": (dict(tensors=pair()[:1]), FILE, "lora_b"),
    "lora_b alone": (dict(tensors=pair()[1:]), FILE, "lora_a"),
    "a name of another kind": (dict(tensors=[*pair(), tensor(f"{Q}.lora_m", 64)]), FILE, "lora_m"),
    "a name of two lines": (dict(tensors=[*pair(), tensor("blk.0\nattn.lora_c", 64)]), FILE, "lora_c"),
    "an empty name": (dict(tensors=[*pair(), tensor("", 64)]), FILE, "lora_a"),
    "a name twice": (dict(tensors=[*pair(), *pair()]), FILE, "GGUF"),
    "a name too long": (dict(tensors=pair(weight="w" * 100)), FILE, "GGUF"),
    "no such weight": (dict(tensors=pair(weight="blk.9.attn_q.weight")), MISMATCH, "blk.9.attn_q.weight"),
    "a norm": (dict(tensors=pair((64, 1), (1, 1), "blk.0.attn_norm.weight")), MISMATCH, "blk.0.attn_norm.weight"),
    "lora_a of another width": (dict(tensors=pair((32, 4))), MISMATCH, "[32, 4]"),
    "lora_b of another height": (dict(tensors=pair(b=(4, 32))), MISMATCH, "[4, 32]"),
    "ranks that differ": (dict(tensors=pair(b=(8, 64))), MISMATCH, "[8, 64]"),
    "transposed": (dict(tensors=pair((4, 64), (64, 4))), MISMATCH, "[64, 4]"),
    "three dimensions": (dict(tensors=pair((64, 4, 2), (4, 64, 2))), MISMATCH, "[64, 4, 2]"),
    "rank 0": (dict(tensors=pair((64, 0), (0, 64))), FILE, "0 bytes"),
    "experts of a dense weight": (dict(tensors=pair((64, 4, 4), (4, 96, 4), "blk.0.ffn_gate_exps.weight")), MISMATCH, "ffn_gate_exps"),
    "embeddings the other way round": (dict(tensors=pair((64, 4), (4, 300), "token_embd.weight")), MISMATCH, "token_embd"),
    "a quantised type": (dict(tensors=pair({"kind": TYPE_Q4_0, "values": bytes(64 * 4 // 32 * 18)})), FILE, "q4_0"),
    "an integer type": (dict(tensors=pair({"kind": TYPE_I32})), FILE, "i32"),
    "no such type": (dict(tensors=pair({"kind": 200})), FILE, "GGUF"),
    "q8_0 of half a block": (dict(tensors=pair(b={"kind": TYPE_Q8_0})), FILE, "GGUF"),
    "NaN": (dict(tensors=pair({"values": NAN})), FILE, "NaN"),
    "infinity at the end": (dict(tensors=pair(b={"values": INF})), FILE, "infinity"),
    "NaN in f16": (dict(tensors=pair({"kind": TYPE_F16, "values": b"\x01\x7e" * 256})), FILE, "NaN"),
    "infinity in bf16": (dict(tensors=pair({"kind": TYPE_BF16, "values": b"\x80\x7f" * 256})), FILE, "infinity"),
    "NaN as q8_0's scale": (dict(tensors=pair({"kind": TYPE_Q8_0, "values": (b"\xff\x7f" + bytes(32)) * 8})), FILE, "NaN"),
    "cut short": (dict(tensors=pair(), data=bytes(1024)), FILE, "bytes"),
    "no data": (dict(tensors=pair(), data=b""), FILE, "bytes"),
    "an offset beyond the file": (dict(tensors=pair(b={"offset": 1 << 40})), FILE, "GGUF"),
    "an offset into another tensor": (dict(tensors=pair(b={"offset": 0})), FILE, "GGUF"),
    "an offset that is not aligned": (dict(tensors=pair(b={"offset": 1023})), FILE, "GGUF"),
    "a rank of terabytes": (
        dict(tensors=pair({"ne": (64, HUGE), "values": b""}, {"ne": (HUGE, 64), "values": b"", "offset": 256 * HUGE})),
        FILE,
        "bytes",
    ),
    "a rank whose bytes overflow": (
        dict(tensors=pair({"ne": (64, 1 << 56), "values": b""}, {"ne": (1 << 56, 64), "values": b"", "offset": 0})),
        FILE,
        "adapter.gguf",
    ),
    "more values than ggml counts": (dict(tensors=pair((64, 1), {"ne": (1, (1 << 62) + 64), "kind": TYPE_F16, "values": b""})), FILE, "bytes"),
    "more values than ggml counts, but none": (dict(tensors=pair({"ne": (1 << 62, 0, 2), "values": b""})), FILE, "bytes"),
    "dimensions that overflow": (dict(tensors=pair({"ne": (1 << 40, 1 << 40), "values": b""})), FILE, "GGUF"),
    "a negative dimension": (dict(tensors=pair({"ne": (64, (1 << 64) - 4), "values": b""})), FILE, "GGUF"),
    "five dimensions": (dict(tensors=pair({"ne": (64, 4, 1, 1, 1)})), FILE, "GGUF"),
    "an alignment of 3": (dict(tensors=pair(), kv=(*KEYS, ("general.alignment", U32, 3))), FILE, "GGUF"),
    "an alignment of 0": (dict(tensors=pair(), kv=(*KEYS, ("general.alignment", U32, 0))), FILE, "GGUF"),
}


@pytest.fixture(scope="module")
def runtime(zoo):
    with Runtime(zoo.base("dense")) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def model(zoo):
    with Model(zoo.base("dense"), n_ctx=256, n_seq_max=4) as model:
        yield model


def test_what_the_lies_are_told_about_loads(runtime, model, tmp_path):
    path = write(tmp_path / "adapter.gguf", pair())
    assert runtime.load(path)
    assert model.load_adapter(path).n_bytes >= 2 * 256 * 4


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_in_one_line(runtime, model, tmp_path, case):
    fields, status, word = BAD[case]
    path = write(tmp_path / "adapter.gguf", **fields)
    with pytest.raises(Refused) as refused:
        runtime.load(path)
    line = refused.value.line
    assert refused.value.status == status, line
    assert line.startswith(f"{path}: ") and "\n" not in line and "expected" in line and "got" in line
    assert word in line
    with pytest.raises((AdapterFileError, AdapterMismatchError)) as caught:
        model.load_adapter(path, force=True)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    runtime.clear()
    assert np.isfinite(runtime.logits((0, prompt(1, 4), 0))[0]).all()


@pytest.mark.parametrize("cut", range(0, 600, 37))
def test_cut_anywhere_is_refused(runtime, tmp_path, cut):
    path = write(tmp_path / "adapter.gguf", pair())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(Refused) as refused:
        runtime.load(path)
    assert refused.value.status == FILE


def test_any_byte_of_the_head_changed_is_refused_or_loads(runtime, tmp_path):
    """No byte takes the process down."""
    good = write(tmp_path / "adapter.gguf", pair()).read_bytes()
    head = len(good) - 2048
    rng = np.random.default_rng(0)
    runtime.clear()
    for at in range(head):
        path = tmp_path / "changed.gguf"
        path.write_bytes(good[:at] + bytes([rng.integers(256)]) + good[at + 1 :])
        try:
            adapter = runtime.load(path)
        except Refused as refused:
            assert refused.status in (FILE, MISMATCH, MEMORY) and "\n" not in refused.line
        else:
            runtime.activate(0, adapter, 0)
            assert runtime.decode((0, prompt(1, 2), 0)) == 0
            runtime.clear()


def test_the_corpus_of_the_fuzzer_is_refused_or_loads(runtime):
    loaded = 0
    for path in sorted((Path(__file__).parents[1] / "fuzz" / "corpus" / "loader").iterdir()):
        try:
            free(runtime.load(path))
            loaded += 1
        except Refused as refused:
            assert refused.status in (FILE, MISMATCH) and "\n" not in refused.line
    assert loaded


def test_two_pairs_for_one_weight_are_refused(zoo, tmp_path):
    """A tied head may be named by either name, not by both."""
    with Runtime(zoo.base("tied")) as runtime:
        both = pair((64, 4), (4, 300), "output.weight") + pair((64, 4), (4, 300), "token_embd.weight")
        with pytest.raises(Refused, match="one pair for this weight, got two"):
            runtime.load(write(tmp_path / "adapter.gguf", both))


def test_a_weight_that_no_adapted_path_multiplies_by_is_refused(zoo, tmp_path):
    """llama.cpp takes such a pair and ignores it."""
    with Runtime(zoo.base("hybrid")) as runtime:
        n_out, n_in = zoo.model("hybrid").tensors["blk.0.ssm_conv1d.weight"].shape
        tensors = pair((n_in, 4), (4, n_out), "blk.0.ssm_conv1d.weight")
        path = write(tmp_path / "adapter.gguf", tensors, keys(architecture=(STRING, "granitehybrid")))
        with pytest.raises(Refused, match="ssm_conv1d") as refused:
            runtime.load(path)
        assert refused.value.status == MISMATCH
        assert llama_cpp.llama_adapter_lora_init(runtime.model, str(path).encode())


@pytest.mark.parametrize("path", ["", "no/such/file.gguf", "."])
def test_what_is_no_file_is_refused(runtime, path):
    with pytest.raises(Refused) as refused:
        runtime.load(path)
    assert refused.value.status == FILE and "expected a GGUF file, got" in refused.value.line

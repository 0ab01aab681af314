"""Adapter files, those of other converters and hostile ones too, read strictly and shown safely."""

import json
import struct

import numpy as np
import pytest

from alora_gguf.convert import AdapterFile, AdapterFileError, base_fingerprint, convert, describe, read_adapter_metadata, render
from alora_gguf.convert.gguf.file import ARRAY, FLOAT32, STRING, UINT32
from alora_gguf.convert.gguf.writer import Key, TensorHeader, header_bytes
from alora_gguf.convert.show import layer_ranges

BOOL, INT32 = 7, 5
PAIR = [TensorHeader("blk.0.attn_q.weight.lora_a", (64, 4), 0, 1024), TensorHeader("blk.0.attn_q.weight.lora_b", (4, 64), 0, 1024)]
KEYS = {
    "general.type": (STRING, "adapter"),
    "general.architecture": (STRING, "llama"),
    "adapter.type": (STRING, "lora"),
    "adapter.lora.alpha": (FLOAT32, 8.0),
}


def write(path, tensors=PAIR, arrays=(), drop=(), **keys):
    """An adapter with only what llama.cpp asks for; `keys` in Python's spelling, __ for a dot."""
    merged = KEYS | {name.replace("__", "."): value for name, value in keys.items()}
    entries = [Key(name, *value) for name, value in merged.items() if name not in drop]
    path.write_bytes(header_bytes([*entries, *arrays], tensors) + bytes(sum(t.n_bytes for t in tensors)))
    return path


def refused(path) -> str:
    with pytest.raises(AdapterFileError) as caught:
        describe(path)
    line = str(caught.value)
    assert "\n" not in line and str(path) in line and "expected" in line and "got" in line
    return line


def test_files_of_other_converters(tmp_path):
    metadata = read_adapter_metadata(write(tmp_path / "other.gguf"))
    assert (metadata.name, metadata.kind, metadata.architecture, metadata.alpha) == ("other", "lora", "llama", 8.0)
    assert (metadata.fingerprint, metadata.invocation_text, metadata.io_yaml, metadata.decisions) == (None, None, None, None)
    assert (metadata.invocation_tokens, metadata.n_tensors) == ([], 2)
    assert metadata.n_bytes == (tmp_path / "other.gguf").stat().st_size


def tokens(item_type, values):
    return Key("adapter.alora.invocation_tokens", ARRAY, values, item_type)


def test_invocation_tokens(tmp_path):
    metadata = read_adapter_metadata(write(tmp_path / "a.gguf", arrays=[tokens(UINT32, [5, 5, 7])]))
    assert (metadata.kind, metadata.invocation_tokens) == ("alora", [5, 5, 7])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"drop": ["general.type"]}, "general.type"),
        ({"drop": ["adapter.lora.alpha"]}, "adapter.lora.alpha"),
        ({"general__type": (STRING, "model")}, "general.type"),
        ({"adapter__type": (STRING, "cvec")}, "adapter.type"),
        ({"general__architecture": (UINT32, 1)}, "general.architecture"),
        ({"adapter__lora__alpha": (STRING, "8")}, "adapter.lora.alpha"),
        ({"adapter__lora__alpha": (FLOAT32, float("nan"))}, "adapter.lora.alpha"),
        ({"alora__kind": (STRING, "alora")}, "alora.kind"),
        ({"alora__kind": (BOOL, True)}, "alora.kind"),
        ({"alora__format_version": (UINT32, 2)}, "alora.format_version"),
        ({"alora__base__fingerprint": (STRING, "abc")}, "alora.base.fingerprint"),
        ({"alora__io_yaml": (UINT32, 3)}, "alora.io_yaml"),
        ({"alora__decisions__format": (UINT32, 2)}, "alora.decisions.format"),
        ({"alora__decisions__format": (UINT32, 1), "alora__decisions__temperature__choice": (FLOAT32, 0.0)}, "temperature.choice"),
        ({"alora__decisions__format": (UINT32, 1), "alora__decisions__temperature__score": (FLOAT32, float("inf"))}, "temperature.score"),
        ({"general__alignment": (UINT32, 24)}, "general.alignment"),
        ({"general__alignment": (UINT32, 0)}, "general.alignment"),
        ({"arrays": [tokens(INT32, [1])]}, "array of i32"),
        ({"arrays": [tokens(UINT32, [])]}, "invocation_tokens"),
        ({"arrays": [tokens(UINT32, [2**31])]}, "invocation_tokens"),
        ({"tensors": []}, "got none"),
        ({"tensors": PAIR[:1]}, "lora_a only"),
        ({"tensors": [PAIR[0], PAIR[0]]}, "twice"),
        ({"tensors": [*PAIR, TensorHeader("output_norm.weight", (64,), 0, 256)]}, "output_norm.weight"),
        ({"tensors": [TensorHeader("x.lora_a", (64, 4), 2, 144), TensorHeader("x.lora_b", (4, 64), 0, 1024)]}, "ggml type 2"),
        ({"tensors": [TensorHeader("x.lora_a", (64, 4), 0, 1024), TensorHeader("x.lora_b", (5, 64), 0, 1280)]}, "[5, 64]"),
        ({"tensors": [TensorHeader("x.lora_a", (48, 4), 8, 192), TensorHeader("x.lora_b", (4, 64), 0, 1024)]}, "blocks of 32"),
        ({"tensors": [TensorHeader("x" * 64 + ".lora_a", (64, 4), 0, 1024)]}, "63 bytes"),
        ({"tensors": [TensorHeader("x.lora_a", (2**62, 2**62), 0, 1024), TensorHeader("x.lora_b", (2**62, 4), 0, 64)]}, "bytes in the file"),
    ],
)
def test_odd_files(change, named, tmp_path):
    assert named in refused(write(tmp_path / "odd.gguf", **change))


def test_truncated_anywhere(tmp_path):
    raw = write(tmp_path / "whole.gguf", arrays=[tokens(UINT32, [1, 2])]).read_bytes()
    for n in range(0, len(raw), 7):
        (tmp_path / "cut.gguf").write_bytes(raw[:n])
        refused(tmp_path / "cut.gguf")


def test_lying_counts_end_at_the_end_of_the_file(tmp_path):
    raw = bytearray(write(tmp_path / "whole.gguf").read_bytes())
    for at in (8, 16):
        lying = bytearray(raw)
        struct.pack_into("<Q", lying, at, 2**63)
        (tmp_path / "lying.gguf").write_bytes(lying)
        refused(tmp_path / "lying.gguf")


def test_damaged_bytes_end_in_a_description_or_one_line(tmp_path):
    raw = write(tmp_path / "whole.gguf", arrays=[tokens(UINT32, [1, 2])], general__name=(STRING, "name")).read_bytes()
    n_header = len(raw) - 2048
    rng = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(raw)
        for at in rng.integers(0, n_header, rng.integers(1, 5)):
            damaged[at] = rng.choice([0, 1, 4, 8, 9, 127, 128, 255, rng.integers(256)])
        (tmp_path / "damaged.gguf").write_bytes(damaged)
        try:
            page = render(describe(tmp_path / "damaged.gguf"))
            assert all(line.isprintable() for line in page.split("\n"))
        except AdapterFileError as error:
            assert "\n" not in str(error)


def test_other_versions_and_byte_orders(tmp_path):
    raw = bytearray(write(tmp_path / "a.gguf").read_bytes())
    for version in (1, 4, 3 << 24):
        struct.pack_into("<I", raw, 4, version)
        (tmp_path / "b.gguf").write_bytes(raw)
        assert str(version) in refused(tmp_path / "b.gguf")


def test_nothing_in_a_file_reaches_the_terminal_raw(tmp_path):
    hostile = "\x1b]0;owned\x07\x1b[2J\u202egnp\r\nforged: line\x9b31m"
    path = write(tmp_path / "a.gguf", general__name=(STRING, hostile), general__license=(STRING, hostile))
    assert read_adapter_metadata(path).name == hostile
    page = render(describe(path))
    assert all(line.isprintable() for line in page.split("\n"))
    assert "\\x1b" in page and "\nforged" not in page


def test_the_page(tiny, base, tmp_path):
    folder = tiny.write_adapter(tmp_path / "check", alora_invocation_tokens=[1], alpha_pattern={"layers.1.self_attn.q_proj": 4})
    convert(folder, tmp_path / "out.gguf", base=base)
    description = describe(tmp_path / "out.gguf")
    assert json.loads(json.dumps(description)) == description
    rows = {(m["module"], m["layers"]): m for m in description["modules"]}
    assert rows["attn_k", "0-1"]["n_pairs"] == 2 and rows["attn_k", "0-1"]["scale"] == 2.0
    assert rows["attn_k", "0-1"]["shape_b"] == [4, 32]
    page = render(description)
    assert page.startswith("check (alora, llama)\n")
    assert f"{4 * len(tiny.MODULES)} tensors" in page and "ffn_down" in page


@pytest.mark.parametrize(("layers", "text"), [([], ""), ([3], "3"), ([2, 0, 1, 5, 7, 8], "0-2, 5, 7-8")])
def test_layer_ranges(layers, text):
    assert layer_ranges(layers) == text


def test_experts_and_embeddings_of_other_converters(tmp_path):
    tensors = [
        TensorHeader("blk.0.ffn_up_exps.weight.lora_a", (64, 4, 3), 0, 3072),
        TensorHeader("blk.0.ffn_up_exps.weight.lora_b", (4, 96, 3), 0, 4608),
        TensorHeader("token_embd.weight.lora_a", (8, 300), 0, 9600),
        TensorHeader("token_embd.weight.lora_b", (8, 64), 0, 2048),
    ]
    pairs = AdapterFile(write(tmp_path / "a.gguf", tensors)).pairs
    assert [(pair.rank, pair.scale) for pair in pairs] == [(4, 2.0), (8, 1.0)]


def test_fingerprint_is_of_what_an_adapter_depends_on(tiny, base, tmp_path):
    assert base_fingerprint(base) == base_fingerprint(tiny.write_base(tmp_path / "half.gguf", dtype=np.float16))
    others = [
        tiny.write_base(tmp_path / "tied.gguf", tied=True),
        tiny.write_base(tmp_path / "arch.gguf", architecture="qwen2"),
        tiny.write_base(tmp_path / "vocab.gguf", tokens=[f"t{i}".encode() for i in range(tiny.N_VOCAB)]),
    ]
    assert len({base_fingerprint(path) for path in [base, *others]}) == 4


def test_fingerprint_by_its_definition(base):
    """docs/format.md, step by step, with gguf's own reader."""
    import hashlib

    import gguf

    reader = gguf.GGUFReader(base)
    text = "alora base fingerprint 1\nllama\n" + "".join(
        sorted(f"{t.name} {'x'.join(map(str, t.shape))}\n" for t in reader.tensors if len(t.shape) > 1)
    )
    tokens = [token.encode() for token in reader.get_field("tokenizer.ggml.tokens").contents()]
    raw = b"".join(struct.pack("<Q", len(token)) + token for token in tokens)
    assert hashlib.sha256(text.encode() + struct.pack("<Q", len(tokens)) + raw).hexdigest() == base_fingerprint(base)

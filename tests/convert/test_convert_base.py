"""Weights of the base, dequantised by rows, in whatever type they are."""

import gguf
import numpy as np
import pytest

from alora_gguf.convert import ConversionError
from alora_gguf.convert.base.gguf_base import read_base

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0"]


def write(path, values: np.ndarray, name: str, data=None, raw_dtype=None):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_tensor(name, values if data is None else data, raw_dtype=raw_dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", TYPES)
def test_rows_of_every_type(name, tmp_path):
    values = np.random.default_rng(0).normal(size=(48, 64)).astype(np.float32)
    kind = gguf.GGMLQuantizationType[name]
    data = gguf.quantize(values, kind)
    weight = read_base(write(tmp_path / "b.gguf", values, "w", data, kind)).weight("w")
    expected = gguf.dequantize(data, kind)
    assert weight.shape == (48, 64)
    np.testing.assert_array_equal(weight.rows(0, 48), expected)
    np.testing.assert_array_equal(weight.rows(7, 31), expected[7:31])
    assert weight.rows(7, 31).dtype == np.float32


def test_a_tied_head_is_the_embeddings(tiny, tmp_path):
    base = read_base(tiny.write_base(tmp_path / "tied.gguf", tied=True))
    np.testing.assert_array_equal(base.weight("output.weight").rows(0, 9), base.weight("token_embd.weight").rows(0, 9))


def test_a_split_base_has_them_in_its_parts(tiny, base, tmp_path):
    tiny.write_base(tmp_path / "parts.gguf", split_max_tensors=6)
    first = read_base(min(tmp_path.glob("parts-*.gguf")))
    for name in ("blk.0.attn_q.weight", "blk.1.ffn_down.weight"):
        np.testing.assert_array_equal(first.weight(name).rows(3, 20), read_base(base).weight(name).rows(3, 20))


def test_no_such_weight(base):
    with pytest.raises(ConversionError, match="tensor nothing: expected the base's weight"):
        read_base(base).weight("nothing")


def test_weights_cut_short_or_of_another_type(tmp_path):
    values = np.ones((48, 64), np.float32)
    path = write(tmp_path / "b.gguf", values, "w")
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw[:-100])
    with pytest.raises(ConversionError, match="tensor w: expected .* bytes in the file"):
        read_base(path).weight("w")
    at = raw.index(b"\x40\0\0\0\0\0\0\0\x30\0\0\0\0\0\0\0") + 16  # after the dimensions 64 and 48
    for kind, named in ((200, "ggml type 200"), (int(gguf.GGMLQuantizationType.I32), "I32")):
        raw[at] = kind
        path.write_bytes(raw)
        with pytest.raises(ConversionError, match=named):
            read_base(path).weight("w").rows(0, 1)

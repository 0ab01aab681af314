"""Hundreds of damaged inputs: each ends in success or in one line and exit code 2, and leaves nothing.

The runtime's loader then meets the same kinds of damage in adapter files, in a process of its own
that has to survive all of them.
"""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from alora_gguf.convert import cli, convert
from alora_gguf.convert.peft.options import FOREIGN, OPTIONS

JUNK = [
    None,
    True,
    False,
    0,
    -1,
    3,
    2**63,
    1e300,
    float("nan"),
    "",
    "q_proj",
    "(",
    "\u202e\n",
    [],
    [None],
    [-1],
    [[]],
    ["q_proj", 3],
    {},
    {"q_proj": "x"},
    {"": 1},
    {"(": 1},
    {"a": {"b": []}},
    "x" * 10_000,
    [1] * 1000,
]


class Trial:
    """Converts and checks how it ends."""

    def __init__(self, folder, base, capsys):
        self.folder, self.base, self.capsys = folder, base, capsys
        self.out = folder.parent / "out"
        self.out.mkdir()
        self.codes = []

    def __call__(self, base=None):
        code = cli.main([str(self.folder), str(self.out / "a.gguf"), "--base", str(base or self.base)])
        error = self.capsys.readouterr().err
        if code == 0:
            (self.out / "a.gguf").unlink()
        else:
            assert code == 2 and error.count("\n") == 1 and error.startswith("alora-convert: error: "), error
            assert error[:-1].isprintable()
        assert os.listdir(self.out) == []
        self.codes.append(code)


@pytest.fixture
def trial(tiny, tmp_path, base, capsys):
    folder = tiny.write_adapter(tmp_path / "adapter", alora_invocation_tokens=[1, 2])
    (folder / "io.yaml").write_text("model: ~\n")
    return Trial(folder, base, capsys)


def damaged(raw: bytes, n_header: int, rng) -> bytes:
    """A few bytes of the header set to values that mean something there, or moved; sometimes cut short."""
    new = bytearray(raw)
    for at in rng.integers(0, n_header, rng.integers(1, 4)):
        at = min(at, len(new) - 1)
        if rng.random() < 0.8:
            new[at] = rng.choice([0, 1, 8, 32, 34, 48, 57, 125, 127, 128, 255, rng.integers(256)])
        else:
            n = rng.integers(1, 9)
            new[at : at + n] = b"" if rng.random() < 0.5 else bytes(new[at : at + n]) * 2
    return bytes(new[: rng.integers(len(new))]) if rng.random() < 0.15 else bytes(new)


@pytest.mark.parametrize("target", ["adapter_config.json", "adapter_model.safetensors", "io.yaml", "base.gguf"])
def test_damaged_bytes(target, trial, base):
    rng = np.random.default_rng(0)
    file = trial.folder / target
    raw = base.read_bytes() if target == "base.gguf" else file.read_bytes()
    n_header = {"base.gguf": 12_000, "adapter_model.safetensors": 8 + struct.unpack_from("<Q", raw)[0]}.get(target, len(raw))
    for _ in range(100):
        file.write_bytes(damaged(raw, n_header, rng))
        trial(file if target == "base.gguf" else None)
    assert sum(code == 2 for code in trial.codes) > 0


def test_config_of_junk(trial):
    path = trial.folder / "adapter_config.json"
    fields = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    for name in [*OPTIONS, *FOREIGN]:
        for i in rng.choice(len(JUNK), 6, replace=False):
            path.write_text(json.dumps(fields | {name: JUNK[i]}))
            trial()
    assert len(trial.codes) > 200 and {0, 2} == set(trial.codes)


def test_headers_of_junk(trial):
    """Fields of a well-formed safetensors header, exchanged among tensors or replaced."""
    path = trial.folder / "adapter_model.safetensors"
    raw = path.read_bytes()
    (n,) = struct.unpack_from("<Q", raw)
    header, data = json.loads(raw[8 : 8 + n]), raw[8 + n :]
    names, rng = [name for name in header if name != "__metadata__"], np.random.default_rng(0)
    for _ in range(150):
        new = {name: dict(fields) for name, fields in header.items()}
        one, two = rng.choice(names, 2, replace=False)
        field = rng.choice(["dtype", "shape", "data_offsets"])
        action = rng.integers(5)
        if action == 0:
            new[one][field], new[two][field] = new[two][field], new[one][field]
        elif action == 1:
            new[one][field] = JUNK[rng.integers(len(JUNK))]
        elif action == 2:
            new[one][field] = rng.integers(-2, 2**40, rng.integers(4)).tolist()
        elif action == 3:
            new[one.replace("lora_A", "lora_B", 1) + rng.choice(["", ".x", "\n", "\0"])] = new.pop(one)
        else:
            new[one + ".again"] = dict(new[one])
        text = json.dumps(new).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        trial()
    assert 2 in trial.codes


# -- the runtime's loader ------------------------------------------------------------------------------

LOADER = """
import ctypes, sys
from pathlib import Path
from alora_gguf import AloraError, Model
from alora_gguf.runtime import native
folder, base = Path(sys.argv[1]), sys.argv[2]
loaded, lines = 0, []

def through_the_reader(path):
    model.load_adapter(path, name="a")
    model.logits([([5, 1, 2, 7], "a")])

def directly(path):
    ptr = ctypes.c_uint64()
    if native.alora_adapter_load(model.engine.context.ptr, str(path).encode(), ctypes.byref(ptr)) != native.OK:
        raise AloraError(native.alora_last_error().decode("utf-8", "replace"))
    native.alora_adapter_free(ptr)

with Model(base, n_ctx=64, n_seq_max=2, type_k="f32", type_v="f32", flash_attn=False) as model:
    for path in sorted(folder.iterdir()):
        for load in (through_the_reader, directly):
            try:
                load(path)
                loaded += 1
            except AloraError as e:
                lines.append(str(e))
    assert model.logits([([5, 6, 7], None)])[0].shape[0] == 3
assert all(lines) and not any("\\n" in line for line in lines)
print(loaded, len(lines))
"""


@pytest.mark.parametrize("kind", ["bytes", "fields"])
def test_the_loader_survives_damaged_adapters(kind, tiny, base, tmp_path):
    """Both through the reader in front of it and directly."""
    tensors = tiny.adapter_tensors() | {
        f"base_model.model.model.layers.{layer}.mlp.down_proj.lora_B.bias": np.ones(64, np.float32) for layer in range(2)
    }
    folder = tiny.write_adapter(tmp_path / "a", tensors, alora_invocation_tokens=[1, 2], lora_bias=True)
    convert(folder, tmp_path / "whole.gguf", base=base)
    raw, rng = (tmp_path / "whole.gguf").read_bytes(), np.random.default_rng(0)
    n_header = raw.index(b".lora_b", len(raw) // 8) if kind == "bytes" else 0
    (tmp_path / "damaged").mkdir()
    for i in range(150):
        new = damaged(raw, n_header or 4000, rng) if kind == "bytes" else changed(raw, rng)
        (tmp_path / "damaged" / f"{i:03}.gguf").write_bytes(new)
    done = subprocess.run([sys.executable, "-c", LOADER, str(tmp_path / "damaged"), str(base)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    loaded, refused = map(int, done.stdout.split())
    assert loaded + refused == 300 and refused > 50


def changed(raw: bytes, rng) -> bytes:
    """Numbers of the header, of 4 or 8 bytes where they begin, or values of the tensors replaced."""
    new = bytearray(raw)
    extreme = [0, 1, 2, 5, 64, 2**31 - 1, 2**32 - 1]
    for _ in range(rng.integers(1, 3)):
        name = rng.choice([b".lora_a", b".lora_b", b".lora_bias", b"general.type", b"adapter.lora.alpha", b"adapter.alora.invocation_tokens"])
        at = [i for i in range(len(raw) // 3) if raw.startswith(name, i)]
        start = int(rng.choice(at)) + len(name) if at else 8
        where = start + 4 * int(rng.integers(0, 8))
        struct.pack_into("<I", new, where, int(rng.choice(extreme)))
    if rng.random() < 0.3:
        struct.pack_into("<e", new, len(new) - 2 * int(rng.integers(1, 2000)), float(rng.choice([np.nan, np.inf, 65504])))
    return bytes(new)

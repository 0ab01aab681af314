"""alora-convert beside llama.cpp's convert_lora_to_gguf.py: time and peak memory on the same adapters, in one run.

    python benchmarks/convert.py

The adapters are random ones of rank 32 on all linear weights, in F32, made for the shapes of a 135M and
of an 8B llama, and become F16. Both converters run as the command that a user types, in turn; the figures
are of the whole process, medians of the time and maxima of the resident memory. Upstream gets the base as a
config.json, this one as a GGUF with its vocabulary; of the weights neither reads any. Needs torch and
transformers, for upstream's script, and its source, which is fetched if it is not there.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from alora_gguf.convert import AdapterFile
from alora_gguf.convert.gguf import writer
from alora_gguf.convert.gguf.file import ARRAY, STRING, UINT32
from alora_gguf.convert.gguf.writer import Key, TensorHeader
from alora_gguf.convert.lazy import Lazy
from alora_gguf.convert.peft.safetensors_file import write_safetensors

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from upstream import upstream_source

RANK = 32
SHAPES = {  # n_layer, n_embd, n_ff, n_head, n_head_kv, n_vocab
    "135M": (30, 576, 1536, 9, 3, 49152),
    "8B": (32, 4096, 14336, 32, 8, 128256),
}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def weights(shape: str) -> dict[str, tuple[str, int, int]]:
    """transformers' module in a layer -> (GGUF's name, n_in, n_out)."""
    _, n_embd, n_ff, n_head, n_head_kv, _ = SHAPES[shape]
    n_kv = n_embd // n_head * n_head_kv
    return {
        "self_attn.q_proj": ("attn_q", n_embd, n_embd),
        "self_attn.k_proj": ("attn_k", n_embd, n_kv),
        "self_attn.v_proj": ("attn_v", n_embd, n_kv),
        "self_attn.o_proj": ("attn_output", n_embd, n_embd),
        "mlp.gate_proj": ("ffn_gate", n_embd, n_ff),
        "mlp.up_proj": ("ffn_up", n_embd, n_ff),
        "mlp.down_proj": ("ffn_down", n_ff, n_embd),
    }


def write_adapter(folder: Path, shape: str) -> int:
    """Returns the bytes of its largest tensor."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": TARGETS})
    )
    rng, tensors = np.random.default_rng(0), []
    for layer in range(SHAPES[shape][0]):
        for module, (_, n_in, n_out) in weights(shape).items():
            for side, size in (("A", (RANK, n_in)), ("B", (n_out, RANK))):
                name = f"base_model.model.model.layers.{layer}.{module}.lora_{side}.weight"
                tensors.append((name, Lazy(folder, name, size, "F32", lambda size=size: rng.standard_normal(size, np.float32))))
    with open(folder / "adapter_model.safetensors", "wb") as file:
        write_safetensors(file, tensors)
    return max(4 * lazy.shape[0] * lazy.shape[1] for _, lazy in tensors)


def write_base(path: Path, shape: str):
    """A GGUF of the shape: its header, and holes where the weights would be."""
    n_layer, n_embd, _n_ff, n_head, n_head_kv, n_vocab = SHAPES[shape]
    sizes = {f"blk.{i}.{name}.weight": (n_in, n_out) for i in range(n_layer) for name, n_in, n_out in weights(shape).values()}
    sizes |= {"token_embd.weight": (n_embd, n_vocab), "output.weight": (n_embd, n_vocab)}
    headers = [TensorHeader(name, ne, 1, 2 * ne[0] * ne[1]) for name, ne in sizes.items()]
    keys = [
        Key("general.architecture", STRING, "llama"),
        Key("llama.block_count", UINT32, n_layer),
        Key("llama.attention.head_count", UINT32, n_head),
        Key("llama.attention.head_count_kv", UINT32, n_head_kv),
        Key("tokenizer.ggml.model", STRING, "gpt2"),
    ]
    tokens = b"".join(struct.pack("<Q", len(t)) + t for t in (f"token{i}".encode() for i in range(n_vocab)))
    head = writer.header_bytes(keys, headers)
    # an array of strings, which an adapter never has and the writer does not write
    name = b"tokenizer.ggml.tokens"
    key = struct.pack("<Q", len(name)) + name + struct.pack("<IIQ", ARRAY, STRING, n_vocab) + tokens
    head = head[:16] + struct.pack("<Q", len(keys) + 1) + key + head[24:]
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + sum(header.n_bytes for header in headers))


def write_config(folder: Path, shape: str):
    n_layer, n_embd, n_ff, n_head, n_head_kv, n_vocab = SHAPES[shape]
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_size": n_embd,
                "intermediate_size": n_ff,
                "num_hidden_layers": n_layer,
                "num_attention_heads": n_head,
                "num_key_value_heads": n_head_kv,
                "vocab_size": n_vocab,
                "max_position_embeddings": 8192,
                "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0,
                "hidden_act": "silu",
            }
        )
    )


# A process starts with the peak of the one that starts it, so a small one stands between.
MEASURE = """
import json, os, sys, time
began = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print("\\n" + json.dumps([time.perf_counter() - began, usage.ru_maxrss, status]))
"""


def measure(command: list[str], env: dict[str, str]) -> tuple[float, int]:
    """Seconds, and the most bytes that were resident."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, *command], env={**os.environ, **env}, capture_output=True, text=True, cwd="/"
    )  # in the repository, `-m` would find the sources and not the installed package
    seconds, resident, status = json.loads(done.stdout.splitlines()[-1])
    if status:
        raise SystemExit(f"convert.py: error: {command[1:3]}: expected success, got: {done.stderr[-2000:]}")
    return seconds, resident * (1 if sys.platform == "darwin" else 1024)


def same_update(ours: Path, theirs: Path):
    """Both files hold the same values under the same names."""
    one, two = AdapterFile(ours), AdapterFile(theirs)
    pairs = {pair.weight: pair for pair in two.pairs}
    for pair in one.pairs:
        other = pairs.pop(pair.weight)
        if not (np.array_equal(one.read(pair.a), two.read(other.a)) and np.array_equal(one.read(pair.b), two.read(other.b))):
            raise SystemExit(f"convert.py: error: {pair.weight}: expected the values that upstream writes, got others")
    if pairs:
        raise SystemExit(f"convert.py: error: expected every pair that upstream writes, got all but {sorted(pairs)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each converter (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    source = upstream_source()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            work = Path(folder) / shape
            work.mkdir()
            largest = write_adapter(work / "adapter", shape)
            write_base(work / "base.gguf", shape)
            write_config(work / "base", shape)
            ours = [sys.executable, "-m", "alora_gguf.convert.cli", str(work / "adapter"), str(work / "ours.gguf"), "--base", str(work / "base.gguf")]
            theirs = [
                sys.executable,
                str(source / "convert_lora_to_gguf.py"),
                str(work / "adapter"),
                "--base",
                str(work / "base"),
                "--outtype",
                "f16",
                "--outfile",
                str(work / "theirs.gguf"),
            ]
            runs = {"ours": [], "theirs": []}
            for _ in range(args.repeats):
                runs["ours"].append(measure(ours, {}))
                runs["theirs"].append(measure(theirs, {"PYTHONPATH": str(source / "gguf-py"), "HF_HUB_OFFLINE": "1"}))
            same_update(work / "ours.gguf", work / "theirs.gguf")
            n_bytes = (work / "adapter" / "adapter_model.safetensors").stat().st_size
            row = {"shape": shape, "adapter_mb": n_bytes / 1e6, "largest_mb": largest / 1e6}
            for name, figures in runs.items():
                row |= {f"{name}_s": statistics.median(s for s, _ in figures), f"{name}_mb": max(n for _, n in figures) / 1e6}
            rows.append(row | {"times_faster": row["theirs_s"] / row["ours_s"], "of_memory": row["ours_mb"] / row["theirs_mb"]})
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'base':>5} {'adapter':>10} | {'alora-convert':>19} | {'upstream':>19} | {'faster':>7} {'memory':>7}")
    for r in rows:
        print(
            f"{r['shape']:>5} {r['adapter_mb']:7.1f} MB | {r['ours_s']:6.2f} s {r['ours_mb']:7.1f} MB"
            f" | {r['theirs_s']:6.2f} s {r['theirs_mb']:7.1f} MB | {r['times_faster']:6.1f}x {r['of_memory']:6.0%}"
        )
    large = rows[-1]
    print(
        f"bars: 8x faster, 25% of the memory; the 8B adapter below 5 s and {1.5 * large['largest_mb'] + 100:.0f} MB "
        f"(1.5 times its largest tensor, and 100)"
    )


if __name__ == "__main__":
    main()

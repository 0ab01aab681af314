"""alora-convert: a summary, or one line and exit code 2; and nothing heavy is imported."""

import json
import subprocess
import sys

import numpy as np
import pytest

from alora_gguf.convert import cli


def test_summary(tiny, base, tmp_path, capsys):
    folder = tiny.write_adapter(tmp_path / "check", alora_invocation_tokens=[259, 1])
    assert cli.main([str(folder), str(tmp_path / "out.gguf"), "--base", str(base)]) == 0
    out = capsys.readouterr().out
    for part in (str(tmp_path / "out.gguf"), "check: alora, f16, rank 4, alpha 8", "attn_q", "' w0<s>' [259, 1]", str(base)):
        assert part in out


def test_json(tiny, base, tmp_path, capsys):
    folder = tiny.write_adapter(tmp_path / "check")
    assert cli.main([str(folder), str(tmp_path / "out.gguf"), "--base", str(base), "--json", "--dry-run"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["kind"], done["written"], done["ranks"], done["n_pairs"]) == ("lora", False, [4], 2 * len(tiny.MODULES))


def test_several_adapters_and_a_given_invocation(tiny, base, tmp_path, capsys):
    folders = [str(tiny.write_adapter(tmp_path / name)) for name in "ab"]
    args = [*folders, str(tmp_path / "out.gguf"), "--base", str(base), "--json"]
    assert cli.main([*args, "--invocation-tokens", "259,1"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["ranks"], done["alpha"], done["kind"], done["invocation_tokens"]) == ([8], 16, "alora", [259, 1])
    assert cli.main([*args, "--invocation", "<s>"]) == 0
    assert json.loads(capsys.readouterr().out)["invocation_tokens"] == [1]


def test_progress_counts_the_bytes(tiny, base, tmp_path):
    from alora_gguf.convert import AdapterFile, convert

    seen = []
    convert(tiny.write_adapter(tmp_path / "a"), tmp_path / "out.gguf", base=base, progress=lambda *counts: seen.append(counts))
    tensors = [tensor for pair in AdapterFile(tmp_path / "out.gguf").pairs for tensor in pair.tensors]
    total = sum(tensor.n_bytes for tensor in tensors)
    assert len(seen) == len(tensors) and seen[-1] == (total, total) and seen == sorted(seen)


def test_no_progress_where_nobody_looks(tiny, base, tmp_path, capsys):
    folder = tiny.write_adapter(tmp_path / "a")
    assert cli.main([str(folder), str(tmp_path / "out.gguf"), "--base", str(base)]) == 0
    assert capsys.readouterr().err == ""


def test_a_diffable_page(tiny, base, tmp_path, capsys):
    """Equal for equal files wherever they lie, and a line of difference for one value."""
    from alora_gguf import cli as alora
    from alora_gguf.convert import convert

    pages = []
    for name, change in (("1", 0), ("2", 0), ("3", 1)):
        tensors = tiny.adapter_tensors()
        tensors["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"][0, 0] += change
        convert(tiny.write_adapter(tmp_path / name / "check", tensors), tmp_path / name / "out.gguf", base=base)
        assert alora.main(["show", "--diffable", str(tmp_path / name / "out.gguf")]) == 0
        pages.append(capsys.readouterr().out.splitlines())
    assert pages[0] == pages[1]
    (line,) = set(pages[0]) - set(pages[2])
    assert line.startswith("blk.1.ffn_up.weight.lora_a f16 [64, 4] sha256 ")


def test_export(tiny, base, tmp_path, capsys):
    from alora_gguf import cli as alora
    from alora_gguf.convert import convert

    convert(tiny.write_adapter(tmp_path / "a"), tmp_path / "out.gguf", base=base)
    args = ["export", str(tmp_path / "out.gguf"), str(tmp_path / "back"), "--base", str(base)]
    assert alora.main(args) == 0 and capsys.readouterr().out == f"wrote {tmp_path / 'back'}\n"
    assert alora.main(args) == 2 and capsys.readouterr().err.count("\n") == 1


def test_error_is_one_line_and_code_2(tmp_path, base, capsys):
    assert cli.main([str(tmp_path / "none"), str(tmp_path / "out.gguf"), "--base", str(base)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith(f"alora-convert: error: {tmp_path / 'none'}: adapter: expected ")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["a"],
        ["a", "b", "--outtype", "q4_0"],
        ["a", "b", "--unknown"],
        ["a", "b", "--invocation-tokens", "x"],
        ["a", "b", "--invocation", "x", "--invocation-tokens", "1"],
    ],
)
def test_bad_arguments(args):
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert caught.value.code == 2


IMPORTS = """
import sys
from alora_gguf.convert import convert, describe, read_adapter_metadata, render
heavy = {"torch", "transformers", "llama_cpp", "peft", "safetensors"}
read_only = set(sys.modules)
adapter, out, base = sys.argv[1:]
convert(adapter, out, base=base)
render(describe(out))
print(sorted(heavy & set(sys.modules)), "gguf" in read_only)
"""


def test_nothing_heavy_is_imported(tiny, base, tmp_path):
    folder = tiny.write_adapter(tmp_path / "a")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(folder), str(tmp_path / "out.gguf"), str(base)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] False\n"


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("value", [0.0, -0.0, 1e-4])
def test_an_adapter_that_changes_nothing_is_noted(value, outtype, tiny, base, tmp_path, capsys):
    """As one that was saved before its training: it converts, and says so. What is small is something."""
    from alora_gguf.convert import AdapterFile

    tensors = {name: np.full_like(v, value) if ".lora_B." in name else v for name, v in tiny.adapter_tensors(r=32).items()}
    folder = tiny.write_adapter(tmp_path / "zeros", tensors, r=32)
    assert cli.main([str(folder), str(tmp_path / "out.gguf"), "--base", str(base), "--outtype", outtype]) == 0
    said = capsys.readouterr().out
    assert ("note       " in said and "lora_B: expected weights that change something, got zeros alone" in said) == (not value)
    assert AdapterFile(tmp_path / "out.gguf").changes_nothing() == (not value)

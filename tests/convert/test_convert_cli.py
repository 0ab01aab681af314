"""alora-convert: a summary, or one line and exit code 2; and nothing heavy is imported."""

import json
import subprocess
import sys

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


def test_error_is_one_line_and_code_2(tmp_path, base, capsys):
    assert cli.main([str(tmp_path / "none"), str(tmp_path / "out.gguf"), "--base", str(base)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith(f"alora-convert: error: {tmp_path / 'none'}: adapter: expected ")


@pytest.mark.parametrize("args", [[], ["a"], ["a", "b", "--outtype", "q4_0"], ["a", "b", "--unknown"]])
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
    done = subprocess.run([sys.executable, "-c", IMPORTS, str(folder), str(tmp_path / "out.gguf"), str(base)],
                          capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"

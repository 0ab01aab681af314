"""The outfile: what it says, the same bytes each time, and all of it or nothing."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from alora_gguf.convert import AdapterFile, ConversionError, convert
from alora_gguf.convert.gguf import writer
from alora_gguf.convert.gguf.file import ARRAY, FLOAT32, STRING, UINT32, GGUFFile

IO_YAML = "model: ~\ninstruction: ja, \u00fcberpr\u00fcfe\n"


@pytest.fixture
def folder(tiny, tmp_path):
    folder = tiny.write_adapter(
        tmp_path / "check" / "tiny" / "alora", alora_invocation_tokens=[259, 3 + 0x0A, 1], base_model_name_or_path="somewhere/tiny"
    )
    (folder / "io.yaml").write_text(IO_YAML, encoding="utf-8")
    (folder / "decisions.json").write_text('{"format": 1, "temperature": {"predicate": 2, "choice": 0.5, "score": 1.25}}')
    (folder / "README.md").write_text('---\nlicense: apache-2.0\ndescription: "checks things"\ntags:\n- a\n---\n# Card\n')
    return folder


def test_every_key_and_its_type(folder, base, tmp_path):
    done = convert(folder, tmp_path / "out.gguf", base=base)
    file = GGUFFile(tmp_path / "out.gguf")
    fingerprint = done.fingerprint
    expected = {
        "general.architecture": (STRING, "llama"),
        "general.type": (STRING, "adapter"),
        "general.name": (STRING, "check"),
        "general.description": (STRING, "checks things"),
        "general.license": (STRING, "apache-2.0"),
        "general.base_model.count": (UINT32, 1),
        "general.base_model.0.name": (STRING, "Tiny Llama"),
        "general.base_model.0.organization": (STRING, "nobody"),
        "general.file_type": (UINT32, 1),
        "general.quantization_version": (UINT32, 2),
        "adapter.type": (STRING, "lora"),
        "adapter.lora.alpha": (FLOAT32, 8.0),
        "alora.format_version": (UINT32, 1),
        "alora.kind": (STRING, "alora"),
        "alora.invocation_text": (STRING, " w0\n<s>"),
        "alora.base.fingerprint": (STRING, fingerprint),
        "alora.io_yaml": (STRING, IO_YAML),
        "alora.decisions.format": (UINT32, 1),
        "alora.decisions.temperature.predicate": (FLOAT32, 2.0),
        "alora.decisions.temperature.choice": (FLOAT32, 0.5),
        "alora.decisions.temperature.score": (FLOAT32, 1.25),
    }
    gguf_type, array = file.metadata.pop("adapter.alora.invocation_tokens")
    assert (gguf_type, array.item_type, file.items(array)) == (ARRAY, UINT32, [259, 13, 1])
    assert file.metadata.pop("alora.tool_version")[0] == STRING
    assert file.metadata == expected
    assert done.invocation_text == " w0\n<s>" and done.n_bytes == (tmp_path / "out.gguf").stat().st_size


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{", "JSON"),
        ("[]", "JSON object"),
        ('{"temperature": {"predicate": 1, "choice": 1, "score": 1}}', "format: expected 1, got None"),
        ('{"format": 2, "temperature": {"predicate": 1, "choice": 1, "score": 1}}', "format: expected 1, got 2"),
        ('{"format": 1}', "temperature"),
        ('{"format": 1, "temperature": {"predicate": 1, "choice": 1}}', "temperature"),
        ('{"format": 1, "temperature": {"predicate": 1, "choice": 1, "score": 0}}', "temperature"),
        ('{"format": 1, "temperature": {"predicate": 1, "choice": true, "score": 1}}', "temperature"),
        ('{"format": 1, "temperature": {"predicate": NaN, "choice": 1, "score": 1}}', "temperature"),
    ],
)
def test_temperatures_that_are_none(folder, base, tmp_path, text, wanted):
    (folder / "decisions.json").write_text(text)
    with pytest.raises(ConversionError) as error:
        convert(folder, tmp_path / "out.gguf", base=base)
    assert "decisions.json" in str(error.value) and wanted in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out.gguf").exists()


def test_a_plain_lora_says_so(tiny, base, tmp_path):
    assert convert(tiny.write_adapter(tmp_path / "plain"), tmp_path / "out.gguf", base=base).kind == "lora"
    metadata = AdapterFile(tmp_path / "out.gguf").metadata
    assert (metadata.kind, metadata.name, metadata.invocation_tokens, metadata.invocation_text) == ("lora", "plain", [], None)


def test_the_reader_of_gguf_reads_it(folder, base, tiny, tmp_path):
    import gguf

    convert(folder, tmp_path / "out.gguf", base=base, outtype="f32")
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    assert [t.name for t in reader.tensors][:2] == ["blk.0.attn_k.weight.lora_a", "blk.0.attn_k.weight.lora_b"]
    assert len(reader.tensors) == 2 * 2 * len(tiny.MODULES)
    ours = AdapterFile(tmp_path / "out.gguf")
    theirs = {t.name: t for t in reader.tensors}
    for pair in ours.pairs:
        for tensor in (pair.a, pair.b):
            assert tuple(theirs[tensor.name].shape) == tensor.ne
            np.testing.assert_array_equal(theirs[tensor.name].data, ours.read(tensor))


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0", "auto"])
def test_same_bytes_twice(outtype, tiny, base, tmp_path):
    folder = tiny.write_adapter(tmp_path / "a", tiny.adapter_tensors(r=32), r=32)
    first, second = tmp_path / "1.gguf", tmp_path / "2.gguf"
    convert(folder, first, base=base, outtype=outtype)
    convert(folder, second, base=base, outtype=outtype)
    assert first.read_bytes() == second.read_bytes()


def test_order_in_the_adapter_does_not_matter(tiny, base, tmp_path):
    tensors = tiny.adapter_tensors()
    for name, order in (("1", list(tensors)), ("2", list(tensors)[::-1])):
        folder = tiny.write_adapter(tmp_path / name / "a", {key: tensors[key] for key in order})
        convert(folder, tmp_path / f"{name}.gguf", base=base)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()


def test_any_quantisation_of_the_base_gives_the_same_bytes(folder, tiny, base, tmp_path):
    half = tiny.write_base(tmp_path / "half.gguf", dtype=np.float16)
    convert(folder, tmp_path / "1.gguf", base=base)
    convert(folder, tmp_path / "2.gguf", base=half)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()


def test_a_base_in_parts_is_the_same_base(folder, tiny, base, tmp_path):
    tiny.write_base(tmp_path / "parts.gguf", split_max_tensors=6)
    first = tmp_path / f"parts-00001-of-{len(list(tmp_path.glob('parts-*.gguf'))):05}.gguf"
    convert(folder, tmp_path / "1.gguf", base=base)
    convert(folder, tmp_path / "2.gguf", base=first)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()


def types(path):
    return {(p.a.type.name, p.b.type.name) for p in AdapterFile(path).pairs}


def test_q8_0_gives_way_where_rows_are_no_whole_blocks(tiny, base, tmp_path):
    for rank, expected in ((32, {("q8_0", "q8_0")}), (4, {("q8_0", "f16")})):
        folder = tiny.write_adapter(tmp_path / f"r{rank}", tiny.adapter_tensors(rank), r=rank)
        convert(folder, tmp_path / "out.gguf", base=base, outtype="q8_0")
        assert types(tmp_path / "out.gguf") == expected


def test_auto_loses_nothing(tiny, base, tmp_path):
    for dtype, name in ((np.float32, "f32"), (np.float16, "f16"), (np.uint16, "bf16")):
        tensors = tiny.adapter_tensors()
        if dtype is np.uint16:
            tensors = {key: (value.view(np.uint32) >> 16).astype(np.uint16) for key, value in tensors.items()}
            exact = {key: (value.astype(np.uint32) << 16).view(np.float32) for key, value in tensors.items()}
        else:
            exact = tensors = {key: value.astype(dtype) for key, value in tensors.items()}
        folder = tiny.write_adapter(tmp_path / name, tensors)
        convert(folder, tmp_path / "out.gguf", base=base, outtype="auto")
        assert types(tmp_path / "out.gguf") == {(name, name)}
        adapter = AdapterFile(tmp_path / "out.gguf")
        pair = next(p for p in adapter.pairs if p.weight == "blk.1.ffn_up.weight")
        prefix = "base_model.model.model.layers.1.mlp.up_proj"
        np.testing.assert_array_equal(adapter.read(pair.a), exact[f"{prefix}.lora_A.weight"])
        np.testing.assert_array_equal(adapter.read(pair.b), exact[f"{prefix}.lora_B.weight"])
        convert(tiny.write_adapter(tmp_path / f"{name}-rslora", tensors, use_rslora=True), tmp_path / "out.gguf", base=base, outtype="auto")
        assert types(tmp_path / "out.gguf") == {(name, "f32")}


def test_output_head_of_a_tied_base(tiny, tmp_path):
    """It has no weight of its own there; its pair is named as if it had (docs/format.md)."""
    tied = tiny.write_base(tmp_path / "tied.gguf", tied=True)
    shapes = {"A": (4, tiny.N_EMBD), "B": (tiny.N_VOCAB, 4)}
    tensors = {f"base_model.model.lm_head.lora_{side}.weight": np.ones(shape, np.float32) for side, shape in shapes.items()}
    convert(tiny.write_adapter(tmp_path / "a", tensors, target_modules=["lm_head"]), tmp_path / "out.gguf", base=tied)
    assert [pair.weight for pair in AdapterFile(tmp_path / "out.gguf").pairs] == ["output.weight"]


# -- all or nothing --------------------------------------------------------------------------------------


def test_a_dry_run_checks_but_writes_nothing(folder, base, tmp_path):
    done = convert(folder, tmp_path / "out.gguf", base=base, dry_run=True)
    assert not done.written and done.n_bytes == 0 and not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_an_exception_half_way_leaves_the_earlier_file(error, folder, base, tmp_path, monkeypatch):
    out = tmp_path / "out" / "a.gguf"
    out.parent.mkdir()
    convert(folder, out, base=base)
    before = out.read_bytes()
    monkeypatch.setattr(writer.os, "fsync", lambda fd: (_ for _ in ()).throw(error))
    with pytest.raises((KeyboardInterrupt, ConversionError, MemoryError)):
        convert(folder, out, base=base, outtype="f32")
    assert os.listdir(out.parent) == ["a.gguf"] and out.read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line(folder, base, tmp_path, monkeypatch):
    real_open = open
    monkeypatch.setattr(writer, "open", lambda path, mode: real_open("/dev/full", "wb"), raising=False)
    with pytest.raises(ConversionError, match="No space left"):
        convert(folder, tmp_path / "out.gguf", base=base)
    assert not (tmp_path / "out.gguf").exists()


def test_unwritable_places(folder, base, tmp_path):
    (tmp_path / "dir.gguf").mkdir()
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "missing" / "a.gguf", tmp_path / "dir.gguf", tmp_path / "file" / "a.gguf", tmp_path / ("x" * 300)):
        with pytest.raises(ConversionError, match="outfile: expected"):
            convert(folder, out, base=base)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(folder, base, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ConversionError, match="outfile: expected"):
        convert(folder, tmp_path / "locked" / "a.gguf", base=base)


def test_only_an_adapter_is_replaced(folder, base, tiny, tmp_path):
    """`alora-convert adapter base.gguf` must not cost the base."""
    precious = tiny.write_base(tmp_path / "base.gguf")
    before = precious.read_bytes()
    with pytest.raises(ConversionError, match="earlier adapter"):
        convert(folder, precious, base=base)
    assert precious.read_bytes() == before
    convert(folder, tmp_path / "out.gguf", base=base)
    convert(folder, tmp_path / "out.gguf", base=base)


SLOW = r"""
import sys, time
from alora_gguf.convert import cli
from alora_gguf.convert import adapter_plan as plan
encode = plan.encode
plan.encode = lambda *args: (sys.stdout.write("encoding\n"), sys.stdout.flush(), time.sleep(0.05), encode(*args))[3]
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_half_way_leaves_nothing(sent, folder, base, tmp_path):
    out = tmp_path / "out" / "a.gguf"
    out.parent.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder), str(out), "--base", str(base)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "encoding\n"
        assert len(os.listdir(out.parent)) == 1  # the temporary file
        process.send_signal(sent)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + sent
    assert os.listdir(out.parent) == [] and "Traceback" not in errors


def test_nobody_reads_the_summary(folder, base, tmp_path):
    command = [sys.executable, "-m", "alora_gguf.convert.cli", str(folder), str(tmp_path / "a.gguf"), "--base", str(base)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "") and (tmp_path / "a.gguf").exists()
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("alora-convert: error: standard output") and done.stderr.count("\n") == 1


def test_a_kill_leaves_no_outfile(folder, base, tmp_path):
    out = tmp_path / "a.gguf"
    with subprocess.Popen([sys.executable, "-c", SLOW, str(folder), str(out), "--base", str(base)], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        time.sleep(0.1)
        process.kill()
    assert not out.exists()

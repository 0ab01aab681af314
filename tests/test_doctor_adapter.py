"""What is odd about an adapter: told when it is converted, when it is loaded, and by `alora doctor ADAPTER`; the same lines everywhere."""

import json
import shutil

import numpy as np
import pytest

from alora_gguf.cli import convert as alora_convert
from alora_gguf.cli import main
from alora_gguf.convert import AdapterFile, read_adapter_metadata
from alora_gguf.convert.base.gguf_base import read_base
from alora_gguf.convert.base.invocation import tokenize
from alora_gguf.doctor.oddities import look_at

INVOCATION = "<|im_start|>answerability\n"  # of tests/adapters
HEAD = "model: ~\nresponse_format: ~\ntransformations: ~\n"
ODD = """
model: ~
response_format: '{"type": "object", "properties": {"score": {"type": "string"}}}'
transformations:
  - {type: likelihood, input_path: ["score"], categories_to_values: {"yes please": 1.0, "yes indeed": 0.0}}
instruction: "<|im_start|>answerability\\n\\n\\nAnswer {{\\"label\\": 1}}."
sentence_boundaries: {last_message: r, documents: c, all_but_last_message: m}
"""
KINDS = {  # of ODD: what stands in a line for each
    "instruction: expected the tokens": "its invocation is tokenised as something else",
    "transformations: expected labels whose first tokens differ": "labels that begin alike",
    "instruction: expected the keys of response_format, score, got label": "keys",
    "sentence_boundaries: expected the conversation as it is": "history",
}


@pytest.fixture(scope="module")
def folder(repo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "odd"
    shutil.copytree(repo / "tests" / "adapters" / "answerability", folder)
    (folder / "io.yaml").write_text(ODD)
    return folder


@pytest.fixture
def converted(folder, base_q4, tmp_path, capsys):
    """(converted, the notes of alora-convert) of the folder with another io.yaml."""

    def converted(io_yaml=ODD, *options):
        (tmp_path / "io.yaml").write_text(io_yaml)
        out = tmp_path / "odd.gguf"
        argv = [str(folder), str(out), "--base", str(base_q4), "--io-yaml", str(tmp_path / "io.yaml"), "--json", *options]
        assert alora_convert.main(argv) == 0
        return out, json.loads(capsys.readouterr().out)["notes"]

    return converted


@pytest.fixture
def doctor(capsys):
    def doctor(*argv):
        code = main(["doctor", *map(str, argv), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return doctor


def kinds(lines):
    assert all("\n" not in line for line in lines)
    return [what for line in lines for part, what in KINDS.items() if part in line]


def test_the_same_lines_everywhere(converted, doctor, shared, caplog):
    path, notes = converted()
    assert sorted(kinds(notes)) == sorted(KINDS.values()) and len(notes) == len(KINDS)
    code, report = doctor(path)
    assert code == 1 and [line.split(": ", 1)[1] for line in report["problems"]] == [line.split(": ", 1)[1] for line in notes]
    caplog.clear()
    adapter = shared.load_adapter(path)
    try:
        assert [record.message for record in caplog.records if record.name == "alora_gguf"] == report["problems"]
        assert adapter.problems(shared.vocab, shared.engine.prompts) == report["problems"]
        caplog.clear()
        assert adapter.warnings == [] and not caplog.records  # once, and not with every reply
    finally:
        shared.unload_adapter("odd")


def test_one_that_is_registered_says_it_when_it_is_first_asked(converted, shared, caplog):
    path, notes = converted(HEAD + 'instruction: "<|im_start|>answerability\\n\\n\\nIs it?"')
    caplog.clear()
    shared.register_adapter(path)
    try:
        assert not caplog.records
        with shared.conversation(messages=[{"role": "user", "content": "Is it?"}]) as chat:
            for _ in range(2):
                assert chat.invoke("odd", max_tokens=1).warnings == []
        assert [record.message.split(": ", 1)[1] for record in caplog.records] == [line.split(": ", 1)[1] for line in notes]
    finally:
        shared.unload_adapter("odd")


def test_a_dry_run_says_it_too(converted):
    _, notes = converted(ODD, "--dry-run")
    assert sorted(kinds(notes)) == sorted(KINDS.values())


@pytest.mark.parametrize("io_yaml", [HEAD, HEAD + 'instruction: "<|im_start|>answerability\\n{last_message}"'])
def test_nothing_is_odd(converted, doctor, io_yaml):
    path, notes = converted(io_yaml)
    code, report = doctor(path)
    assert (notes, code, report["problems"], report["unchecked"]) == ([], 0, [], None)


def test_an_instruction_without_the_invocation(converted, doctor, shared):
    """Not in the text, and not in what the chat template writes behind it: such an intrinsic cannot be asked."""
    path, [note] = converted(HEAD + "instruction: 'Is it so?'")
    assert "instruction: expected its invocation" in note and "put its text into the instruction" in note
    assert doctor(path)[0] == 1


def test_an_instruction_whose_invocation_is_the_generation_prompt(converted, base_q4):
    """As in granitelib-rag: nothing is missing where the template writes it."""
    tokens = tokenize(read_base(base_q4), "<|im_start|>assistant\n")
    assert look_at(HEAD + "instruction: 'Is it so?'", "io.yaml", tokens, None, base_q4) == []
    _, notes = converted(HEAD + "instruction: 'Is it so?'", "--invocation-tokens", ",".join(map(str, tokens)))
    assert notes == []


@pytest.mark.parametrize("after", ["user", "assistant", "tool", None])
def test_whoever_it_judges(after, base_q4):
    io = HEAD + 'instruction: "<check> {last_message}"'
    assert look_at(io, "io.yaml", tokenize(read_base(base_q4), "<check>"), after, base_q4) == []


def test_an_io_yaml_that_the_runtime_does_not_take(converted, doctor):
    path, [note] = converted("model: ~\n")
    assert "expected an io.yaml that granite-common takes" in note
    [problem] = doctor(path)[1]["problems"]
    assert problem.split(": ", 2)[1:] == note.split(": ", 2)[1:]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zeros(zero, folder, base_q4, doctor, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    shutil.copytree(folder, tmp_path / "zero")
    (tmp_path / "zero" / "io.yaml").unlink()
    file = tmp_path / "zero" / "adapter_model.safetensors"
    tensors = safetensors.load_file(file)
    safetensors.save_file({name: np.full_like(v, zero) if ".lora_B." in name else v for name, v in tensors.items()}, file, metadata={"format": "pt"})
    code, report = doctor(tmp_path / "zero")  # converted on the way
    [line] = report["problems"]
    assert code == 1 and "lora_b: expected weights that change something, got zeros alone" in line
    assert AdapterFile(report["path"]).changes_nothing()


def test_another_base(converted, doctor, tiny_base, base_q4):
    """Named, it is a problem; not named, it is said what could not be looked at."""
    path, _ = converted()
    code, report = doctor(path, "--model", tiny_base)
    assert code == 1 and report["base"] is None
    assert f"expected an adapter for {tiny_base}, fingerprint" in report["problems"][0] and "Smollm2" in report["problems"][0]
    changed = path.read_bytes().replace((fingerprint := read_adapter_metadata(path).fingerprint.encode()), fingerprint[::-1])
    path.write_bytes(changed)
    code, report = doctor(path)
    assert report["base"] is None and "name the base with --model" in report["unchecked"]
    assert kinds(report["problems"]) == ["keys", "history"]  # what needs no vocabulary
    assert kinds(look_at(ODD, "x", [1], None, None)) == ["keys", "history"]


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory):
    from tiny_peft import write_base

    return write_base(tmp_path_factory.mktemp("other") / "other.gguf")


def test_a_vocabulary_that_ends_the_process(tmp_path):
    from tiny_peft import N_VOCAB, write_base

    base = write_base(tmp_path / "bad.gguf", tokens=[b"same"] * N_VOCAB)
    *lines, last = look_at(ODD, "x", [5, 6], None, base)
    assert kinds(lines) == ["keys", "history"]
    assert last.startswith(f"{base}: vocabulary: expected one that llama.cpp can read, got") and "\n" not in last


def test_a_file_that_is_no_adapter(doctor, base_q4, tmp_path):
    for path in (base_q4, tmp_path / "nothing.gguf"):
        code, report = doctor(path)
        assert (code, report["adapter"], len(report["problems"])) == (1, None, 1) and str(path) in report["problems"][0]


def test_for_people(converted, capsys, repo):
    path, _ = converted()
    assert main(["doctor", str(path)]) == 1
    out = capsys.readouterr().out
    assert "adapter     odd: alora" in out and "\nodd:\n  " in out and "\x1b" not in out
    assert main(["doctor", str(repo / "intrinsics" / "certainty" / "adapter")]) == 0
    assert capsys.readouterr().out.endswith("\nNothing is odd.\n")
    assert main(["doctor", "--model", "x.gguf"]) == 2
    assert "expected the name of an adapter with it" in capsys.readouterr().err

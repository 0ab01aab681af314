"""What SECURITY.md says: strangers' files are data, and nothing that they or a model say commands the terminal."""

import ast
import json
import logging
import os
import re
import shutil
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

import alora_gguf
from alora_gguf import AloraError, Model, PromptError
from alora_gguf.cli import main
from alora_gguf.conversation.conversation import Conversation
from alora_gguf.convert import cli as convert_cli
from alora_gguf.prompt.chat_template import ChatTemplate

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202e\u2066x"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


# code


def calls():
    """(file, name of what is called, keyword arguments) of every call in the package."""
    for where, _, names in os.walk(Path(alora_gguf.__file__).parent, followlinks=True):
        for path in (Path(where) / name for name in names if name.endswith(".py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield path.name, ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


def test_nothing_that_is_read_is_run():
    found = list(calls())
    assert len([None for _, name, _ in found if name.endswith("safe_load")]) > 1  # it sees calls
    for file, name, keywords in found:
        assert name not in ("eval", "exec", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"), file
        assert not name.startswith(("pickle.", "marshal.", "shelve.", "dill.", "joblib.")), file
        assert keywords.get("shell", "False") == "False" and keywords.get("allow_pickle", "False") == "False", file
        assert "trust_remote_code" not in keywords, file
        if name.endswith("torch.load"):
            assert keywords.get("weights_only") == "True", file
        if name.endswith("Environment"):
            assert name == "ImmutableSandboxedEnvironment", file


# templates

BREAKOUTS = [
    "{{ cycler.__init__.__globals__.os.system('touch PATH') }}",
    "{{ lipsum.__globals__['os'].popen('touch PATH').read() }}",
    "{{ strftime_now.__globals__ }}",
    "{{ raise_exception.__globals__.jinja2 }}",
    "{{ messages.__class__.__mro__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ '{a.__class__.__mro__}'.format_map({'a': 1}) }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ namespace.__init__.__globals__.os.system('touch PATH') }}",
    "{% include 'PATH' %}",
    "{% import 'os' as os %}{{ os.system('touch PATH') }}",
    "{{ messages.clear() }}",
    "{% set _ = messages[0].update({'role': 'x'}) %}",
    "{{ range(999999999)|list }}",
    "{{ messages[0].pop('role') }}",
]


@pytest.mark.parametrize("source", BREAKOUTS, ids=range(len(BREAKOUTS)))
def test_a_template_reaches_nothing(source, tmp_path):
    path, messages = tmp_path / "touched", [{"role": "user", "content": "Hello"}]
    try:
        text = ChatTemplate(source.replace("PATH", str(path)), {"bos_token": "<s>"}).render(messages, add_generation_prompt=True)
    except PromptError as e:
        assert "\n" not in str(e)
    else:
        assert text == ""  # what is not allowed is undefined
    assert not path.exists() and messages == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("name", ["self", "bos_token", "environment"])
def test_an_argument_of_any_name_is_data(name):
    template = ChatTemplate("{{ messages[0].content }}{{ bos_token }}", {"bos_token": "<s>"})
    assert template.render([{"role": "user", "content": "Hello"}], add_generation_prompt=True, **{name: "mine"}) == "Hello<s>"


# terminals


@pytest.fixture(scope="module")
def hostile_adapter(base_q4, answerability, tmp_path_factory) -> Path:
    """The repository's adapter with every string of its metadata hostile."""
    reader, path = gguf.GGUFReader(answerability), tmp_path_factory.mktemp("hostile") / f"{HOSTILE}.gguf"
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind, value = field.types[0], field.contents()
        if kind == gguf.GGUFValueType.STRING and field.name not in ("general.type", "adapter.type", "alora.kind", "alora.invoked_after"):
            value = "0" * 64 if field.name == "alora.base.fingerprint" else HOSTILE
        writer.add_key_value(field.name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    writer.add_string(f"note.{HOSTILE}", HOSTILE)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()
    return path


def test_show_prints_metadata_without_its_commands(hostile_adapter, capfd):
    for form in ([], ["--json"], ["--diffable"]):
        assert main(["show", str(hostile_adapter), *form]) == 0
        out, err = capfd.readouterr()
        assert "owned" in out and not OBEYED.search(out) and not err


def test_no_error_commands_the_terminal(hostile_adapter, answerability, repo, tmp_path, capfd):
    """Names of files, metadata and configs in messages of every command."""
    place = tmp_path / HOSTILE
    place.mkdir()
    adapter = place / "adapter"
    shutil.copytree(repo / "tests" / "adapters" / "answerability", adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "peft_type": HOSTILE, "target_modules": [HOSTILE]}))
    (place / "plan.toml").write_text(f"name = {json.dumps(HOSTILE)}\n")
    (place / "model.gguf").write_bytes(b"GGUF" + HOSTILE.encode())
    for argv in (
        ["show", str(place)],
        ["chat", "--model", str(place / "model.gguf")],
        ["chat", "--adapter", str(hostile_adapter), "--prompt", "x", "--no-answer"],
        ["chat", "--doc", str(place), "--prompt", "x"],
        ["chat", "--resume", str(place / "model.gguf"), "--prompt", "x"],
        ["chat", "--prompt", "x", "--invoke", HOSTILE],
        ["eval", str(place / "plan.toml")],
        ["export", str(answerability), str(place), "--base", str(place / "model.gguf")],
        ["train", str(place / "plan.toml")],
        ["serve", "--adapters-from", str(place / HOSTILE)],
        ["serve", "--model", str(place / "model.gguf")],
    ):
        assert main(argv) == 2
        assert_one_line(capfd.readouterr(), "alora: error: ")
    assert convert_cli.main([str(adapter), str(place / "out.gguf")]) == 2
    assert_one_line(capfd.readouterr(), "alora-convert: error: ")


def assert_one_line(captured, begin):
    assert captured.out == "" and captured.err.startswith(begin) and captured.err.count("\n") == 1, captured
    assert not OBEYED.search(captured.err), captured.err


def test_what_a_model_says_commands_nothing(answerability, capfd, monkeypatch):
    """A grammar makes it say escape sequences, in the answer and in the finding."""
    said = {"grammar": f"root ::= {json.dumps(HOSTILE)}", "max_tokens": 60}
    says = lambda call: lambda self, *args, **options: call(self, *args, **{**options, **said})
    for name in ("ask", "invoke_all"):
        monkeypatch.setattr(Conversation, name, says(getattr(Conversation, name)))
    for form in ([], ["--json"]):
        assert main(["chat", "--adapter", str(answerability), "--prompt", "Hi", "--invoke", "answerability", *form]) == 0
        out, err = capfd.readouterr()
        assert out.count("owned") >= 2 and not OBEYED.search(out) and not err


def test_the_doctor_s_report_commands_nothing():
    from alora_gguf.doctor.report import render

    report = {
        "package": dict.fromkeys(("version", "folder", "python", "system"), HOSTILE),
        "llama_cpp": dict.fromkeys(("version", "commit", "llama_cpp_python"), HOSTILE),
        "library": {
            "ggml": HOSTILE,
            "path": HOSTILE,
            "interface": 1,
            "kernels": HOSTILE,
            "backends": {HOSTILE: 1},
            "devices": {HOSTILE: {"description": HOSTILE, "memory": 5}},
        },
        "processor": {"cores": 2, "used": [HOSTILE], "unused": [HOSTILE]},
        "model": {"path": HOSTILE, "bytes": 5, "state": HOSTILE},
        "adapters": {HOSTILE: HOSTILE},
        "extras": {},
        "problems": [HOSTILE],
    }
    assert not OBEYED.search(render(report))


@given(st.text())
def test_no_failure_of_the_server_commands_the_log(text):
    from alora_gguf.serve.problem import problem_of

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("alora_gguf.serve.problem")
    logger.addHandler(handler)
    try:
        problem = problem_of(RuntimeError(text))
    finally:
        logger.removeHandler(handler)
    assert problem.status == 500 and str(problem) == "the server failed at this request; its log says why"
    (record,) = records
    assert record.exc_info is None and not OBEYED.search(record.getMessage())


def test_the_log_of_llama_cpp_commands_nothing(base_q4, hostile_adapter, caplog):
    logger = logging.getLogger("alora_gguf.llama")
    logger.addHandler(caplog.handler)
    try:
        with Model(base_q4, n_ctx=256) as model, pytest.raises(AloraError) as raised:
            model.load_adapter(hostile_adapter)
    finally:
        logger.removeHandler(caplog.handler)
    assert "\n" not in str(raised.value)
    assert not any(OBEYED.search(record.getMessage()) for record in caplog.records)

"""Names on the hub in the commands that train, measure, convert and export."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import LIBRARY, SMOL

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

TINY = "acme/tiny-chat-GGUF"
ADAPTER = f"hf:{LIBRARY}/answerability"
PROMPTED = 'model: ~\nresponse_format: \'{"type": "string", "enum": ["answerable", "unanswerable"]}\'\ntransformations: ~\ninstruction: "Is it answerable?"\n'


@pytest.fixture
def data(tmp_path):
    """Of an intrinsic that says yes or no."""
    said = {"messages": [{"role": "user", "content": "The shop opens at nine. When does it open?"}], "output": "answerable"}
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(said) + "\n" for _ in range(4)))
    return tmp_path / "data.jsonl"


@pytest.fixture
def convert(env):
    def convert(*argv):
        converter = [sys.executable, "-c", "from alora_gguf.cli.convert import main; raise SystemExit(main())"]
        done = subprocess.run([*converter, *map(str, argv)], env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return convert


def test_convert_and_export_without_a_network(hub, alora, convert, tmp_path):
    names = ADAPTER, "--base", f"hf:{SMOL}"
    code, out, err = convert(names[0], tmp_path / "a.gguf", *names[1:], "--offline")
    assert (code, out, err.count("\n")) == (2, "", 1) and "--offline is set" in err and hub.asked == []
    assert convert(names[0], tmp_path / "a.gguf", *names[1:])[0] == 0
    asked = len(hub.asked)
    assert convert(names[0], tmp_path / "b.gguf", *names[1:], "--offline")[0] == 0
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    for given, folder in ((tmp_path / "a.gguf", "of-file"), (names[0], "of-name")):
        assert alora("export", given, tmp_path / folder, *names[1:], "--offline")[0] == 0
    files = sorted(file.name for file in (tmp_path / "of-file").iterdir())
    assert "adapter_model.safetensors" in files and len(hub.asked) == asked
    assert all((tmp_path / "of-file" / file).read_bytes() == (tmp_path / "of-name" / file).read_bytes() for file in files)


def test_where_it_is_from_is_in_the_file_and_shown(hub, alora, convert, tmp_path, base):
    shown = json.loads(alora("show", ADAPTER, "--base", f"hf:{SMOL}", "--json")[1])["metadata"]
    assert (shown["general.source.huggingface.repository"], shown["alora.source.revision"]) == (LIBRARY, hub.commit(LIBRARY))
    text = alora("show", ADAPTER, "--base", f"hf:{SMOL}")[1]
    assert LIBRARY in text and hub.commit(LIBRARY) in text
    before = hub.commit(LIBRARY)
    (hub.root / LIBRARY / "README.md").write_text("# A new revision\n")
    again = json.loads(alora("show", ADAPTER, "--base", f"hf:{SMOL}", "--json")[1])["metadata"]
    assert again["alora.source.revision"] == hub.commit(LIBRARY) != before
    elsewhere = json.loads(alora("show", "answerability", "--json")[1])["metadata"]
    assert not [key for key in elsewhere if "source" in key]


def test_eval_takes_names(hub, alora, data, tmp_path):
    (tmp_path / "prompted.yaml").write_text(PROMPTED)
    (tmp_path / "eval.toml").write_text(
        f"name = 'answerability'\nbase = 'hf:{SMOL}'\nalora = '{ADAPTER}'\nprompted = 'prompted.yaml'\ntests = {{ a = 'data.jsonl' }}\n"
    )
    code, out, err = alora("eval", tmp_path / "eval.toml", "--limit", "1", "--offline")
    assert code == 2 and "--offline is set" in err and hub.asked == []
    assert alora("eval", tmp_path / "eval.toml", "--limit", "1")[0] == 0
    code, out, err = alora("eval", tmp_path / "eval.toml", "--limit", "1", "--offline")
    assert code == 0 and "aLoRA" in out


def test_train_takes_names(hub, alora, data, base_q4, tmp_path):
    pytest.importorskip("torch")
    from tiny import llama

    (hub.root / TINY).mkdir()
    llama(base_q4, hub.root / TINY / "tiny.gguf")
    options = ["--rank", "2", "--epochs", "1", "--batch-size", "2", "--n-evals", "1", "--threads", "1", "--dtype", "float32", "--eval", data]
    train = ["train", data, "--base", f"hf:{TINY}", "--invocation", "<judge>", *options]
    code, out, err = alora(*train, "-o", tmp_path / "first", "--offline")
    assert code == 2 and "--offline is set" in err and hub.asked == []
    code, out, err = alora(*train, "-o", tmp_path / "first")
    assert code == 0, err
    assert json.loads((tmp_path / "first" / "adapter_config.json").read_text())["base_model_name_or_path"] == TINY
    (hub.root / "acme/first").mkdir()
    for file in (tmp_path / "first").iterdir():
        (hub.root / "acme/first" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "train.toml").write_text(f"data = 'data.jsonl'\nbase = 'hf:{TINY}'\nstart = 'hf:acme/first'\ninvocation = '<judge>'\n")
    code, out, err = alora("train", tmp_path / "train.toml", *options, "-o", tmp_path / "second")
    assert code == 0, err
    assert "adapter_model.safetensors" in hub.fetched

"""`alora train` from the command line: an adapter that works, runs that go on, one-line errors."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import INVOCATION

MOODS = {"glad": ["sunshine", "a present", "good news", "a holiday"], "sad": ["rain", "a loss", "bad news", "a farewell"]}
OPTIONS = ["--rank", "4", "--epochs", "2", "--learning-rate", "5e-3", "--batch-size", "4", "--n-evals", "3", "--threads", "1", "--dtype", "float32"]


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Messages that are glad or sad, by one word."""
    lines = [
        {"messages": [{"role": "user", "content": f"{before} {word}."}], "output": mood}
        for mood, words in MOODS.items()
        for word in words
        for before in ("Today I had", "We talked of", "There was")
    ]
    path = tmp_path_factory.mktemp("data") / "mood.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def arguments(base, data, out, *more) -> list[str]:
    return ["train", str(data), "--base", str(base), "--eval", str(data), "-o", str(out), *OPTIONS, *more]


def alora(*args, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "alora_gguf.cli", *args], capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="session")
def trained(tiny_base, data, tmp_path_factory) -> Path:
    """A folder `mood` of a whole run, and mood.gguf beside it."""
    folder = tmp_path_factory.mktemp("trained") / "mood"
    done = alora(*arguments(tiny_base, data, folder, "--invocation", INVOCATION, "--gguf", str(folder) + ".gguf"))
    assert done.returncode == 0, done.stderr
    return folder


def test_the_trained_adapter_says_what_it_learnt(base_q4, data, tmp_path):
    """On the embedded model: a random one has nothing to build on."""
    from alora_gguf import Model

    done = alora(
        *arguments(
            base_q4,
            data,
            tmp_path / "mood",
            "--invocation",
            INVOCATION,
            "--gguf",
            str(tmp_path / "mood.gguf"),
            "--batch-size",
            "8",
            "--epochs",
            "10",
            "--learning-rate",
            "2e-3",
            "--select",
            "loss",
        )
    )
    assert done.returncode == 0, done.stderr
    with Model(base_q4, n_ctx=512, n_threads=1) as model:
        model.load_adapter(tmp_path / "mood.gguf")
        lines = [json.loads(line) for line in data.read_text().splitlines()]
        said = [model.conversation(messages=line["messages"]).invoke("mood").text for line in lines]
    right = sum(text == line["output"] for text, line in zip(said, lines, strict=True))
    assert right >= 0.9 * len(lines), said


def test_peft_loads_the_folder(trained, tiny_base):
    import torch
    from peft import PeftModel

    from alora_gguf.train.base import load_base

    model = PeftModel.from_pretrained(load_base(tiny_base, "tiny", torch.device("cpu"), "float32"), str(trained))
    assert model.peft_config["default"].alora_invocation_tokens
    assert sum(p.abs().sum() for name, p in model.named_parameters() if "lora_B" in name) > 0


def test_the_folder_has_a_card_and_nothing_half_written(trained):
    card = (trained / "README.md").read_text()
    assert "model_name: mood" in card and "invoked_after: user" in card and "alora train" in card
    assert {p.name for p in trained.iterdir()} == {"README.md", "adapter_config.json", "adapter_model.safetensors"}


def test_a_killed_run_goes_on_to_the_same_weights(trained, tiny_base, data, tmp_path):
    """Ctrl-C, then the same command again: bit for bit what one run makes."""
    folder = tmp_path / "mood"
    command = [sys.executable, "-m", "alora_gguf.cli", *arguments(tiny_base, data, folder, "--invocation", INVOCATION)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in run.stderr:  # until the first evaluation
        if "held-out loss" in line:
            break
    run.send_signal(signal.SIGINT)
    run.stderr.read()
    assert run.wait(60) == 130
    assert (folder / "checkpoint.pt").exists() and (folder / "adapter_model.safetensors").exists()
    other = alora(*arguments(tiny_base, data, folder, "--invocation", INVOCATION, "--seed", "9"))
    assert other.returncode == 2 and "--restart" in other.stderr
    done = alora(*command[3:])
    assert done.returncode == 0, done.stderr
    assert (folder / "adapter_model.safetensors").read_bytes() == (trained / "adapter_model.safetensors").read_bytes()
    assert not (folder / "checkpoint.pt").exists()


OFTEN = "import alora_gguf.train.trainer as t; t.CHECKPOINT_SECONDS = 0; from alora_gguf.cli import main; main()"


def test_a_run_killed_at_any_moment_goes_on_to_the_same_weights(trained, tiny_base, data, tmp_path):
    """SIGKILL after an evaluation, before there is a checkpoint; and while one replaces another."""
    folder = tmp_path / "mood"
    command = arguments(tiny_base, data, folder, "--invocation", INVOCATION)
    with subprocess.Popen([sys.executable, "-m", "alora_gguf.cli", *command], stderr=subprocess.PIPE, text=True) as run:
        next(line for line in run.stderr if "held-out loss" in line)
        run.kill()
    assert {p.name.removesuffix(".part") for p in folder.iterdir()} == {p.name for p in trained.iterdir()}
    with subprocess.Popen([sys.executable, "-c", OFTEN, *command], stderr=subprocess.DEVNULL) as run:
        while run.poll() is None and not all((folder / name).exists() for name in ("checkpoint.pt", "checkpoint.pt.part")):
            time.sleep(0.001)
        run.kill()
    done = alora(*command)
    assert done.returncode == 0, done.stderr
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".md"} == {
        p.name: p.read_bytes() for p in trained.iterdir() if p.suffix != ".md"
    }


def test_an_ordinary_lora_of_the_same_prompts(tiny_base, data, tmp_path):
    done = alora(
        *arguments(tiny_base, data, tmp_path / "mood", "--invocation", INVOCATION, "--method", "lora", "--gguf", str(tmp_path / "mood.gguf"))
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "mood" / "adapter_config.json").read_text())
    assert not config.get("alora_invocation_tokens")
    from alora_gguf.convert import read_adapter_metadata

    assert read_adapter_metadata(tmp_path / "mood.gguf").invocation_tokens == []


def test_a_start_of_a_smaller_rank_is_widened(trained, tiny_base, data, tmp_path):
    from safetensors.numpy import load_file

    done = alora(
        *arguments(
            tiny_base,
            data,
            tmp_path / "mood",
            "--invocation",
            INVOCATION,
            "--start",
            str(trained),
            "--rank",
            "6",
            "--epochs",
            "0.1",
            "--learning-rate",
            "1e-9",
        )
    )
    assert done.returncode == 0, done.stderr
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (trained, tmp_path / "mood"))
    for name, wide in after.items():
        kept, new = (wide[:4], None) if "lora_A" in name else (wide[:, :4], wide[:, 4:])
        assert np.array_equal(kept, before[name]) and (new is None or not new.any())
    narrower = alora(*arguments(tiny_base, data, tmp_path / "other", "--invocation", INVOCATION, "--start", str(trained), "--rank", "2"))
    assert narrower.returncode == 2 and "expected weights of this rank or a smaller one" in narrower.stderr.splitlines()[-1]


def test_an_instruction_restates_the_last_message(tiny_base, data, tmp_path):
    done = alora(*arguments(tiny_base, data, tmp_path / "mood", "--invocation", "<mood>", "--instruction", "<mood> {last_message}", "--epochs", "1"))
    assert done.returncode == 0, done.stderr
    assert "{last_message}" in (tmp_path / "mood" / "io.yaml").read_text()


def test_a_config_file_says_the_same_and_its_paths_are_relative_to_it(tiny_base, data, tmp_path):
    config = tmp_path / "here" / "train.toml"
    config.parent.mkdir()
    shutil.copy(data, config.parent / "mood.jsonl")
    config.write_text('data = "mood.jsonl"\ninvocation = "<|im_start|>mood\\n"\nrank = 2\nepochs = 0.1\nthreads = 1\nout = "../mood"\n')
    done = alora("train", str(config), "--base", str(tiny_base), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "mood" / "adapter_config.json").read_text())["r"] == 2


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ([], "invocation"),
        (["--invocation", "<mood>", "--instruction", "{last_message}"], "invocation"),
        (["--invocation", "<mood>", "--rank", "0"], "rank"),
        (["--invocation", "<mood>", "--targets", "nothing"], "targets"),
        (["--invocation", "<mood>", "--io", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_is_one_line(tiny_base, data, tmp_path, more, wanted):
    done = alora(*arguments(tiny_base, data, tmp_path / "mood", *more))
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("alora: error: ") and wanted in done.stderr.splitlines()[-1]
    assert not (tmp_path / "mood" / "adapter_config.json").exists()

"""`alora bench --quick`: every figure is measured, and every engine computes the same."""

import json
import math

import pytest

from alora_gguf.bench.bench import bench
from alora_gguf.bench.figures import FIGURES
from alora_gguf.bench.plots import PLOTS
from alora_gguf.cli import main
from alora_gguf.errors import BenchError


@pytest.fixture(scope="module")
def run(unpatched_lib, files, tmp_path_factory):
    """(the status, the folder that the command wrote)."""
    out = tmp_path_factory.mktemp("bench") / "out"
    status = main(["bench", "--quick", "--threads", "1", "--out", str(out), "--cache", str(files.folder), "--unpatched", str(unpatched_lib)])
    return status, out


def test_every_figure_is_measured(run):
    status, out = run
    results = json.loads((out / "results.json").read_text())
    assert (status, results["failed"], results["left_out"]) == (0, [], [])
    assert [r["name"] for r in results["figures"]] == [figure.name for figure in FIGURES]
    assert all(math.isfinite(r["value"]) and r["low"] <= r["value"] <= r["high"] for r in results["figures"])
    assert all(ms > 0 for r in results["figures"] if r["name"] != "cold" for ms in r["sides"].values())


def test_every_engine_computes_the_same(run):
    results = json.loads((run[1] / "results.json").read_text())
    assert {c["engine"] for c in results["checks"]} == {"ours", "stock", "llama-server", "PEFT"}
    assert [c for c in results["checks"] if not c["ok"]] == []


def test_the_page_has_every_figure_and_plot(run):
    page = (run[1] / "README.md").read_text()
    for figure in FIGURES:
        assert f"| {figure.title} | tiny |" in page
    for name in PLOTS:
        assert f"({name}.png)" in page
        assert (run[1] / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_peer_that_is_not_there_is_left_out_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # no build/unpatched here
    assert main(["bench", "--quick", "--only", "switch", "--out", "out", "--cache", "cache"]) == 0
    (line,) = json.loads((tmp_path / "out" / "results.json").read_text())["left_out"]
    assert line.startswith("switch: stock: left out; to have it: ") and "--unpatched" in line
    assert line in capsys.readouterr().err


def test_an_unknown_figure_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(BenchError, match="'speed': expected one of decode, "):
        bench(tmp_path / "out", cache=tmp_path / "cache", only=["speed"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_library_is_refused(tmp_path):
    with pytest.raises(BenchError, match="expected a folder with an unpatched libllama"):
        bench(tmp_path / "out", cache=tmp_path / "cache", unpatched=tmp_path)

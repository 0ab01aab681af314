"""The whole run: figures, neighbours, checks; then the files."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import BenchError
from ..hub.folders import cache_folder
from ..runtime.cores import usable_cores
from . import report
from .figures import FIGURES, Figure
from .measure import Measured
from .models import Files
from .neighbours import checks, side_by_side
from .plots import plot
from .run import NotInstalled, Run

MODELS = "135m", "1b", "3b"


def bench(
    out: Path | None,
    *,
    cache: Path | None = None,
    models: Sequence[str] = MODELS,
    only: Sequence[str] = (),
    unpatched: Path | None = None,
    n_threads: int | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """Measures, and writes results.json, README.md and the plots into `out`, if it is given; returns what is in the JSON.

    only        names of figures, and "neighbours" and "checks"; empty: everything
    unpatched   folder of the unpatched libraries; None: build/unpatched/bin, if it is there
    quick       a little of everything, on a tiny model: whether it runs, not how fast
    Raises BenchError.
    """
    names = [*(figure.name for figure in FIGURES), "neighbours", "checks"]
    for name in only:
        if name not in names:
            raise BenchError(f"{name!r}: expected one of {', '.join(names)}, got another; choose one of them")
    unpatched = _unpatched(unpatched)
    n_threads = n_threads or usable_cores()
    files = Files(cache or cache_folder() / "bench")
    models = ("tiny",) if quick else models
    results: dict[str, Any] = {
        "command": " ".join(["alora bench", *(["--quick"] if quick else ["--models", *models]), *(f"--only {n}" for n in only)]),
        "machine": report.machine(n_threads),
        "figures": [],
        "side_by_side": [],
        "checks": [],
        "left_out": [],
        "failed": [],
    }

    def attempt(what: str, model: str, measure: Callable[[], Any]) -> Any:
        print(f"{model}  {what}", end="  ", file=sys.stderr, flush=True)
        try:
            measured = measure()
            print(f"{measured.value:.3g}" if isinstance(measured, Measured) else "done", file=sys.stderr)
            return measured
        except NotInstalled as e:
            results["left_out"].append(f"{what}: {e}")
            print(e, file=sys.stderr)
        except BenchError as e:  # the other figures are worth having
            results["failed"].append(f"{what}, {model}: {e}")
            print(f"failed: {e}", file=sys.stderr)
        return None

    try:
        for model in models:
            run = Run(model, files, n_threads=n_threads, unpatched=unpatched, quick=quick)
            try:
                for figure in FIGURES:
                    if (not only or figure.name in only) and (quick or model in figure.bars):
                        if measured := attempt(figure.name, model, lambda: figure.measure(run)):
                            results["figures"].append(_result(figure, model, measured))
                if model == models[0]:
                    results["side_by_side_model"] = model
                    if not only or "neighbours" in only:
                        results["side_by_side"] = attempt("neighbours", model, lambda: side_by_side(run)) or []
                    if not only or "checks" in only:
                        results["checks"] = attempt("checks", model, lambda: [report.as_dict(check) for check in checks(run)]) or []
            finally:
                run.close()
    finally:  # what is measured is worth keeping, also when somebody has seen enough
        if out is not None:
            _write(results, models[0], out)
    return results


def _write(results: dict[str, Any], model: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    try:
        plots = plot(results["figures"], model, out)
    except ImportError:
        plots = []
        results["left_out"].append("plots: left out; to have them: `pip install 'alora_gguf[bench]'`")
    report.write_json(out / "results.json", results)
    (out / "README.md").write_text(report.page(results, plots))


def _result(figure: Figure, model: str, measured: Measured) -> dict[str, Any]:
    bar = figure.bars.get(model)
    return {
        "name": figure.name,
        "title": figure.title,
        "how": " ".join((figure.measure.__doc__ or "").split()),
        "model": model,
        "bar": str(bar) if bar else None,
        "passes": bar.passes(measured.value) if bar else None,
        **asdict(measured),
    }


def _unpatched(given: Path | None) -> Path | None:
    folder = given or Path("build/unpatched/bin")
    if any(folder.glob("*llama.*")):
        return folder.resolve()
    if given:
        raise BenchError(f"{given}: expected a folder with an unpatched libllama, got none; `make build/unpatched/bin/.built` makes one")
    return None

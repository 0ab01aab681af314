"""The results as JSON and as a page."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .neighbours import ENGINES, HOW, Check

PACKAGES = "alora_gguf", "llama-cpp-python", "xllamacpp", "peft", "transformers", "torch"


def machine(n_threads: int) -> dict:
    """What the figures were measured on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": n_threads,
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
    }


def write_json(path: Path, results: dict) -> None:
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def page(results: dict, plots: Sequence[Path]) -> str:
    """Markdown."""
    on = results["machine"]
    versions = ", ".join(f"{package} {v}" for package, v in on["versions"].items() if v)
    lines = [
        "# Benchmarks",
        "",
        (
            f"Written by `{results['command']}` on {on['cpu']}, {on['cores']} cores, {on['threads']} threads, {on['system']}, "
            f"load {on['load']:.1f} at the beginning, Python {on['python']}; {versions}."
        ),
        "",
        (
            "Both sides of a figure are measured in turn, each engine in a process of its own. *Measured* is the median of the ratios "
            "of the pairs, and *spread* is their quartiles. The adapters are random, of rank 32 on all linear layers, in f16 unless said "
            "otherwise. Every engine has the same GGUF base, the same tokens and threads, ubatches of 512 tokens, an f16 KV cache and flash "
            "attention; PEFT dequantises the base to float32."
        ),
        "",
        "| figure | model | bar | measured | spread | pairs | |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results["figures"]:
        lines.append(
            f"| {r['title']} | {r['model']} | {r['bar'] or '-'} | {_number(r['value'])} | "
            f"{_number(r['low'])} to {_number(r['high'])} | {r['n']} | {_verdict(r)} |"
        )
    lines += ["", "## Both sides", "", "| `--only` | model | milliseconds | |", "|---|---|---|---|"]
    lines += [
        f"| {r['name']} | {r['model']} | {'; '.join(f'{k} {_number(v)}' for k, v in r['sides'].items())} | {r['note']} |" for r in results["figures"]
    ]
    lines += ["", *dict.fromkeys(f"- {r['name']}: {r['how']}" for r in results["figures"])]
    if results["side_by_side"]:
        lines += [
            "",
            "## Side by side",
            "",
            "Milliseconds, medians, the engines in turn.",
            "",
            f"| {results['side_by_side_model']} | {' | '.join(ENGINES)} |",
            "|---" * (len(ENGINES) + 1) + "|",
        ]
        lines += [f"| {row['task']} | {' | '.join('-' if row[e] is None else _number(row[e]) for e in ENGINES)} |" for row in results["side_by_side"]]
        lines += ["", *(f"- {engine}: {how}" for engine, how in HOW.items())]
    if results["checks"]:
        lines += [
            "",
            "## The same was computed",
            "",
            (
                "The mean difference of the log probabilities of the 10 likeliest next tokens from our step's, and what it would "
                "be if the adapter were not active."
            ),
            "",
            "| engine | | difference | without the adapter | |",
            "|---|---|---|---|---|",
        ]
        for c in results["checks"]:
            without = "-" if c["without"] is None else f"{c['without']:.2g}"
            lines.append(f"| {c['engine']} | {c['what']} | {c['difference']:.2g} | {without} | {'agrees' if c['ok'] else '**differs**'} |")
    for heading, key in ("Left out", "left_out"), ("Failed", "failed"):
        if results[key]:
            lines += ["", f"## {heading}", "", *(f"- {line}" for line in results[key])]
    lines += ["", *(f"![{plot.stem.replace('-', ' ')}]({plot.name})" for plot in plots)]
    return "\n".join(lines).rstrip() + "\n"


def table(results: dict) -> str:
    """The figures for a terminal."""
    rows = [
        (f"{r['title']} ({r['model']})", r["bar"] or "-", _number(r["value"]), f"{_number(r['low'])} to {_number(r['high'])}", _verdict(r).strip("*"))
        for r in results["figures"]
    ]
    widths = [max([len(row[i]) for row in rows], default=0) for i in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def as_dict(check: Check) -> dict:
    return {**asdict(check), "ok": check.ok}


def _verdict(r: dict) -> str:
    return {True: "pass", False: "**miss**", None: ""}[r["passes"]]


def _number(value: float) -> str:
    n = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:,.{n}f}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    except OSError:
        return platform.processor()

"""How the costs grow: PNG plots of the figures' points."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

# file, the figures that it is made of, x, axis labels, logarithmic axes, lines: (key, label) by figure
PLOTS: dict[str, dict[str, Any]] = {
    "first-token": {
        "x": "tokens",
        "labels": ("tokens of the conversation", "milliseconds to the first token"),
        "log": (True, True),
        "lines": {
            "first-token": [("intrinsic", "intrinsic, ours"), ("base", "the same tokens, no adapter")],
            "reprefill": [("LoRA", "LoRA: everything again, unpatched")],
        },
    },
    "adapters-in-a-batch": {
        "x": "adapters",
        "labels": ("sequences, each with its adapter", "milliseconds a step"),
        "log": (False, False),
        "lines": {
            "batch": [("adapted", "one batch, ours"), ("base", "one batch, no adapters")],
            "switch": [("stock", "a switch before each, unpatched")],
        },
    },
    "registered-adapters": {
        "x": "registered",
        "labels": ("registered adapters, budget 64 MB", "peak megabytes above the base"),
        "log": (True, False),
        "lines": {"memory": [("megabytes", "ours")]},
    },
}


def plot(figures: Sequence[dict[str, Any]], model: str, folder: Path) -> list[Path]:
    """Writes what can be drawn of the model's figures; returns the files. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    by_name = {r["name"]: r for r in figures if r["model"] == model}
    written = []
    for name, spec in PLOTS.items():
        chart, axes = pyplot.subplots(figsize=(6.4, 4))
        for figure, lines in spec["lines"].items():
            points = by_name[figure]["points"] if figure in by_name else []
            for key, label in lines if points else ():
                axes.plot([p[spec["x"]] for p in points], [p[key] for p in points], marker="o", label=label)
        drawn: list[Any] = list(axes.lines)
        if drawn:
            axes.set(xlabel=spec["labels"][0], ylabel=spec["labels"][1])
            if spec["log"][0]:
                axes.set_xscale("log")
            axes.set_xticks(sorted({x for line in drawn for x in line.get_xdata()}), minor=False)
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter("{x:,g}")
            axes.set_yscale("log") if spec["log"][1] else axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter("{x:,g}")
            axes.yaxis.set_minor_formatter("")
            axes.grid(alpha=0.3)
            axes.legend()
            chart.tight_layout()
            written.append(folder / f"{name}.png")
            chart.savefig(written[-1], dpi=120)
        pyplot.close(chart)
    return written

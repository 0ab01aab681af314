"""What was measured, as Markdown, JSON and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .row import Row


def table(rows: Sequence[Row]) -> str:
    """Markdown; columns for AUROC, ECE and the aLoRA's lead where one row has them."""
    probable = any(row.auroc is not None or row.ece is not None for row in rows)
    led = any(row.lead is not None for row in rows)
    decided = any(row.corrected is not None for row in rows)
    titles = [
        "test",
        "asked by",
        "examples",
        "right",
        "95%",
        *(["less chance", "95%"] if decided else []),
        *(["aLoRA's lead, points"] if led else []),
        *(["AUROC", "95%", "ECE", "95%"] if probable else []),
        *(["Brier", "moved"] if decided else []),
        "tokens computed",
        "ms a call",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        cells = [row.test, row.way, str(row.n), f"{row.accuracy:.1%}", _shares(row.interval)]
        if decided:
            cells += (
                ["-", "-"] if row.corrected is None or row.corrected_interval is None else [f"{row.corrected:.1%}", _shares(row.corrected_interval)]
            )
        if led:
            cells.append(
                "-"
                if row.lead is None or row.lead_interval is None
                else f"{100 * row.lead:+.1f} ({100 * row.lead_interval[0]:+.1f} to {100 * row.lead_interval[1]:+.1f})"
            )
        if probable:
            cells += ["-"] * 2 if row.auroc is None else [f"{row.auroc:.3f}", _range(row.auroc_interval)]
            cells += ["-"] * 2 if row.ece is None else [f"{row.ece:.3f}", _range(row.ece_interval)]
        if decided:
            cells += ["-" if value is None else f"{value:.3f}" for value in (row.brier, row.moved)]
        cells += ["-", "-"] if row.tokens is None else [f"{row.tokens:.0f}", f"{row.ms:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parts_table(rows: Sequence[Row]) -> str:
    """Accuracy by the fields that the plan splits by; "" if by none."""
    found = [(row, name, value, counts) for row in rows for name, values in row.parts.items() for value, counts in values.items()]
    if not found:
        return ""
    ways = list(dict.fromkeys(row.way for row, *_ in found))
    keys = list(dict.fromkeys((row.test, name, value) for row, name, value, _ in found))
    shares = {(row.test, name, value, row.way): counts for row, name, value, counts in found}
    lines = ["| test | | examples | " + " | ".join(ways) + " |", "|---|---|---|" + "---|" * len(ways)]
    for key in sorted(keys):
        counts = [shares.get((*key, way)) for way in ways]
        n = next(c[1] for c in counts if c)
        lines.append(f"| {key[0]} | {key[1]}: {key[2]} | {n} | " + " | ".join(f"{c[0] / c[1]:.0%}" if c else "-" for c in counts) + " |")
    return "\n".join(lines)


def plot(rows: Mapping[str, Sequence[Row]], out: Path) -> None:
    """A group of bars for every intrinsic: how many outputs are right on its first test, with the intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    ways = list(dict.fromkeys(row.way for of in rows.values() for row in of if row.tokens is not None))
    width = 0.8 / len(ways)
    named = set()
    for i, way in enumerate(ways):
        for x, of in enumerate(rows.values()):
            row = next((r for r in of if r.way == way and r.test == of[0].test), None)
            if row is not None:
                error = [[100 * (row.accuracy - row.interval[0])], [100 * (row.interval[1] - row.accuracy)]]
                axes.bar(
                    x - 0.4 + (i + 0.5) * width,
                    100 * row.accuracy,
                    width * 0.92,
                    yerr=error,
                    capsize=3,
                    color=f"C{i}",
                    label=None if way in named else way,
                )
                named.add(way)
    axes.set_xticks(range(len(rows)), list(rows))
    axes.set_ylabel("outputs right, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(ways))
    figure.savefig(out, dpi=120)


def _shares(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"


def _range(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"

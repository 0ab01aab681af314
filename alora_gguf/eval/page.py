"""The page of several intrinsics: docs/intrinsics.md with its JSON and plot."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import EvalError
from .evaluate import as_json
from .report import parts_table, plot, table
from .row import Row

HEAD = """# Intrinsics: how good they are

Each table is written by the command above it. The figures are in [intrinsics.json](intrinsics.json) too.

Everything is measured through the GGUF runtime, except the rows "aLoRA, PEFT": those are PEFT's, on the dequantised weights in float32.

- *base, prompted* is the base model with an instruction in words, its output held to a schema.
- *LoRA* is an ordinary LoRA of the same data, on the same prompt; its card says how it was trained. It is active on every token, so it finds nothing in the cache.
- *right* is the share of outputs that are the wanted one, word for word. Of a probability it is the share on the right side of one half. Intervals are 95%: Wilson's, and for AUROC and ECE from 1,000 resamples.
- *aLoRA's lead* is the aLoRA's share less the row's, on the same examples, with the interval of paired shares.
- *tokens computed* and *ms a call* (median) are those of one call on a conversation that is in the cache, prompt and output together.
- Decisions are questions with options, of which the likeliest is right or not. *less chance* is the share right less what a guesser gets, over what is left to get; *moved* is the mean change of an option's probability when the options stand in another order. A call is one question there, of those that are asked together.

![outputs right](intrinsics.png)
"""


def write_page(folder: Path, before: dict[str, Any], rows: Mapping[str, Sequence[Row]], command: str) -> Path:
    """Replaces each of the three files in one step; of what was measured `before`, other intrinsics stay. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = before | {name: {"command": command, "rows": as_json(of)} for name, of in rows.items()}
    measured = dict(sorted(measured.items()))
    all_rows = {name: [Row(**row) for row in of["rows"]] for name, of in measured.items()}
    parts = [HEAD]
    for name, of in all_rows.items():
        parts += [f"## {name}\n", f"`{measured[name]['command']}`\n", table(of), ""]
        if split := parts_table(of):
            parts += [split, ""]
    _write(folder / "intrinsics.json", json.dumps(measured, indent=2) + "\n")
    part = folder / "intrinsics.part.png"
    plot(all_rows, part)
    os.replace(part, folder / "intrinsics.png")
    page = folder / "intrinsics.md"
    _write(page, "\n".join(parts))
    return page


def read_page(folder: Path) -> dict[str, Any]:
    """What was measured before, by intrinsic: {"command", "rows"}. Raises EvalError."""
    path = folder / "intrinsics.json"
    try:
        measured = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for of in measured.values():
            str(of["command"])
            for row in of["rows"]:
                Row(**row)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise EvalError(f"{path}: expected what `alora eval --out` wrote, got: {type(e).__name__}: {e}; move it away") from e
    return measured


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)

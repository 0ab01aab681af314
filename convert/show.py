"""`alora show`: an adapter GGUF as plain data, and that data as a page for people."""

import hashlib
import json
import re
from collections.abc import Sequence
from os import PathLike
from typing import Any

from ..text import human_bytes, printable
from .adapter_file import AdapterFile, AdapterPair
from .adapter_metadata import TOOL
from .gguf.file import ARRAY, GGUFFile

HIDDEN = ("alora.io_yaml",)  # a file of its own; its size is shown


def describe(path: str | PathLike[str]) -> dict[str, Any]:
    """Everything the file at `path` says, of JSON's types only. Raises AdapterFileError.

    modules has one entry per module and kind of pair, tensors one per tensor; shapes are in
    ggml's order.
    """
    adapter = AdapterFile(path)
    known = adapter.metadata
    return {
        "path": str(known.path),
        "name": known.name,
        "kind": known.kind,
        "architecture": known.architecture,
        "description": known.description,
        "alpha": known.alpha,
        "invocation_tokens": known.invocation_tokens,
        "invocation_text": known.invocation_text,
        "n_tensors": known.n_tensors,
        "n_bytes": known.n_bytes,
        "metadata": _metadata(adapter.file),
        "modules": _modules(adapter.pairs),
        "tensors": [{"name": t.name, "shape": list(t.ne), "type": t.type.name, "n_bytes": t.n_bytes} for pair in adapter.pairs for t in pair.tensors],
    }


def render(description: dict[str, Any]) -> str:
    """A page of text without control characters, whatever the file's strings hold."""
    d = description
    lines = [f"{printable(d['name'])} ({d['kind']}, {printable(d['architecture'])})"]
    lines += [printable(d["description"], limit=300)] if d["description"] else []
    lines.append("")
    lines += [f"  {printable(key):<{_width(d['metadata'])}}  {_shown(key, value)}" for key, value in d["metadata"].items()]
    header = ("module", "layers", "rank", "scale", "lora_a", "lora_b", "type", "size")
    rows = [
        (
            " + ".join([m["module"], *m["vectors"]]),
            m["layers"],
            str(m["rank"]),
            f"{m['scale']:g}",
            _shape(m["shape_a"]),
            _shape(m["shape_b"]),
            "/".join(dict.fromkeys((m["type_a"], m["type_b"]))),
            human_bytes(m["n_bytes"]),
        )
        for m in d["modules"]
    ]
    lines += ["", *_table([header, *rows]), "", f"  {d['n_tensors']} tensors, {human_bytes(d['n_bytes'])}"]
    return "\n".join(lines)


def render_diffable(path: str | PathLike[str]) -> str:
    """Everything in the file that conversion decides, a line each, with a hash of every tensor's bytes. Raises AdapterFileError.

    Two files with the same page are the same adapter; the path and the tool's version are left out.
    """
    adapter = AdapterFile(path)
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in sorted(_metadata(adapter.file).items()) if key != TOOL]
    for tensor in (tensor for pair in adapter.pairs for tensor in pair.tensors):
        digest = hashlib.sha256(adapter.file.tensor_data(tensor.info, tensor.n_bytes).data).hexdigest()
        lines.append(f"{tensor.name} {tensor.type.name} {_shape(tensor.ne)} sha256 {digest}")
    return "\n".join(printable(line, limit=len(line) * 10) for line in lines)


def layer_ranges(layers: list[int]) -> str:
    """[0, 1, 2, 5] -> '0-2, 5'."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _metadata(file: GGUFFile) -> dict[str, Any]:
    return {key: file.items(value) if gguf_type == ARRAY else value for key, (gguf_type, value) in file.metadata.items()}


def _modules(pairs: list[AdapterPair]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[AdapterPair]] = {}
    for pair in pairs:
        module = re.sub(r"^blk\.\d+\.|\.weight$", "", pair.weight)
        vectors = tuple(t.name.rpartition(".")[2] for t in pair.tensors[2:])
        groups.setdefault((module, pair.scale, pair.a.ne, pair.b.ne, pair.a.type, pair.b.type, vectors), []).append(pair)
    return [
        {
            "module": module,
            "layers": layer_ranges([int(m[1]) for pair in group if (m := re.match(r"blk\.(\d{1,9})\.", pair.weight))]),
            "n_pairs": len(group),
            "rank": group[0].rank,
            "scale": scale,
            "shape_a": list(ne_a),
            "shape_b": list(ne_b),
            "type_a": type_a.name,
            "type_b": type_b.name,
            "vectors": list(vectors),
            "n_bytes": sum(t.n_bytes for pair in group for t in pair.tensors),
        }
        for (module, scale, ne_a, ne_b, type_a, type_b, vectors), group in groups.items()
    ]


def _shown(key: str, value: object) -> str:
    if key in HIDDEN:
        return human_bytes(len(str(value).encode("utf-8", "replace")))
    return printable(value if isinstance(value, str) else str(value), limit=100)


def _shape(ne: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, ne)) + "]"


def _width(metadata: dict[str, Any]) -> int:
    return max((len(printable(key)) for key in metadata), default=0)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    rows = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]

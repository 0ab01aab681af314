"""What `alora doctor ADAPTER` says: what is in an adapter file, and what is odd about it on its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bundled import default_model
from ..convert import AdapterFile, base_fingerprint
from ..errors import AdapterFileError, ConversionError, ModelLoadError
from ..text import human_bytes, printable
from .oddities import look_at


def examine_adapter(path: Path, base: Path | None) -> dict[str, Any]:
    """The report on the adapter at `path`, for the model `base`, None: the embedded one if it was made for that. JSON's values.

    `problems` are lines; `unchecked` says what could not be looked at, if anything.
    """
    report: dict[str, Any] = {"path": str(path), "adapter": None, "base": None, "unchecked": None, "problems": []}
    try:
        adapter = AdapterFile(path)
    except AdapterFileError as e:
        return {**report, "problems": [str(e)]}
    known = adapter.metadata
    kind = {"name": known.name, "kind": known.kind, "n_bytes": known.n_bytes, "description": known.description}
    report["adapter"] = {**kind, "invocation_text": known.invocation_text, "base_name": known.base_name, "has_io_yaml": known.io_yaml is not None}
    problems = report["problems"]
    if adapter.changes_nothing():
        problems.append(f"{path}: lora_b: expected weights that change something, got zeros alone; the base answers")
    fitting, complaints = _base_of(known.fingerprint, known.base_name, path, base)
    problems += complaints
    report["base"] = str(fitting) if fitting else None
    if fitting is None:
        report["unchecked"] = "what its io.yaml gives on the base's vocabulary; name the base with --model"
    beside = path.with_suffix(".io.yaml")
    where, io_yaml = (str(beside), beside.read_text(errors="replace")) if beside.is_file() else (f"{path} (io.yaml)", known.io_yaml)
    if io_yaml is not None:
        problems += look_at(io_yaml, where, known.invocation_tokens, known.invoked_after, fitting)
    return report


def render_adapter(report: dict[str, Any]) -> str:
    lines = []
    if adapter := report["adapter"]:
        rows = [("adapter", f"{adapter['name']}: {adapter['kind']}, {human_bytes(adapter['n_bytes'])}, in {report['path']}")]
        rows += [("is for", adapter["description"])] if adapter["description"] else []
        rows += [("invocation", repr(adapter["invocation_text"]))] if adapter["invocation_text"] else []
        rows += [("io.yaml", "yes" if adapter["has_io_yaml"] else "none: it is asked by its invocation alone")]
        rows += [("base", report["base"] or f"{adapter['base_name'] or 'not said'}, which was not looked at")]
        rows += [("unchecked", report["unchecked"])] if report["unchecked"] else []
        lines = [f"{name:<12}{printable(text, limit=1000)}" for name, text in rows]
    problems = [f"  {printable(problem, limit=2000)}" for problem in report["problems"]]
    return "\n".join([*lines, *([""] if lines else []), *(["odd:", *problems] if problems else ["Nothing is odd."])])


def _base_of(fingerprint: str | None, name: str | None, path: Path, base: Path | None) -> tuple[Path | None, list[str]]:
    """The base on whose vocabulary it can be looked at, and what is wrong with it."""
    try:
        given = base or default_model()
        own = base_fingerprint(given)
    except (ConversionError, ModelLoadError) as e:
        return None, [str(e)] if base else []
    if fingerprint in (own, None):
        return given if base or fingerprint else None, []
    if base is None:
        return None, []
    named = f" ({name})" if name else ""
    return None, [f"{path}: expected an adapter for {base}, fingerprint {own[:12]}, got one for {fingerprint[:12]}{named}; use that base"]

"""What is measured of an intrinsic: a TOML file beside its data."""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..bundled import bundled_adapters, default_model
from ..errors import EvalError
from ..hub.bases import base_file
from ..hub.hf_name import is_hub_name
from ..hub.names import adapter_file, adapter_source

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Plan:
    """Paths in the file are relative to it. Where models and adapters are expected, names on the hub will do.

    name         of the intrinsic
    tests        JSONL files by title, lines as `alora train` has them
    prompted     io.yaml with an instruction for the base model, which answers the same without an adapter
    decisions    whether the tests are rows of decisions, as `alora train --decisions` has them: `prompted` is not needed then
    probability  the field of the result that is a probability, of the output `positive`; None: outputs are compared
    positive     an output, or some fields of one
    by           fields of the lines to split the figures by
    alora        GGUF adapter; peft: the folder that it was made of; lora: a GGUF LoRA of the same data
    base         None: the embedded model
    """

    name: str
    tests: dict[str, Path]
    prompted: Path | None = None
    decisions: bool = False
    probability: str | None = None
    positive: Any = None
    by: list[str] = field(default_factory=list)
    alora: Path | None = None
    peft: Path | None = None
    lora: Path | None = None
    base: Path | None = None

    def found(self) -> "Plan":
        """The same with files for names on the hub, fetched and converted. Raises HubError, ConversionError."""
        base = base_file(self.base) if self.base else None

        def file(given: Path | None, find: Callable[..., Path]) -> Path | None:
            return find(given, lambda: base or default_model(), bundled_adapters) if given is not None and is_hub_name(given) else given

        return replace(
            self, base=base, alora=file(self.alora, adapter_file), lora=file(self.lora, adapter_file), peft=file(self.peft, adapter_source)
        )

    def is_positive(self, output: Any) -> bool:
        if isinstance(self.positive, dict) and isinstance(output, dict):
            return all(name in output and output[name] == value for name, value in self.positive.items())
        return output == self.positive


def read_plan(path: Path) -> Plan:
    """Raises EvalError."""
    try:
        with open(path, "rb") as f:
            fields = tomllib.load(f)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise EvalError(f"{path}: expected a TOML file, got: {getattr(e, 'strerror', None) or e}; correct it") from e
    known = {f.name for f in dataclasses.fields(Plan)}
    for name in fields:
        if name not in known:
            raise EvalError(f"{path}: {name}: expected one of {', '.join(sorted(known))}, got {name!r}; correct it")
    for name in ("name", "tests", "prompted"):
        if name not in fields and not (name == "prompted" and fields.get("decisions")):
            raise EvalError(f"{path}: expected {name}, got none; add it")
    if not isinstance(fields["tests"], dict) or not fields["tests"]:
        raise EvalError(f"{path}: tests: expected a table of files by title, got {fields['tests']!r:.80}; correct it")
    here = path.parent
    fields["tests"] = {title: here / file for title, file in fields["tests"].items()}
    for name in ("prompted", "alora", "peft", "lora", "base"):
        if name in fields and not (name != "prompted" and is_hub_name(str(fields[name]))):
            fields[name] = here / fields[name]
    return Plan(**fields)

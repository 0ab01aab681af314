"""decisions.json: beside an adapter that answers typed questions, what the scores of their options are divided by."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ...errors import ConversionError
from ...text import complaint

FILE = "decisions.json"
FORMAT = 1
TYPES = ("predicate", "choice", "score")
MAX_BYTES = 10_000


@dataclass(frozen=True)
class TrainedDecisions:
    """Of an adapter that was trained on decisions: how it is asked, and the temperature of each type of question, more than 0.

    format   1: its invocation stands before the question, and options are answered by their own words
    """

    temperature: dict[str, float]
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps({"format": self.format, "temperature": self.temperature}, indent=2) + "\n"


def read_trained_decisions(folder: Path) -> TrainedDecisions | None:
    """None where there is no decisions.json. Raises ConversionError."""
    path = folder / FILE

    def refuse(what: str, expected: str, got: object, action: str = "correct or remove it") -> NoReturn:
        raise ConversionError(complaint(path, what, expected, got, action))

    if not path.is_file():
        return None
    try:
        raw = path.read_bytes()
        given: Any = json.loads(raw) if len(raw) <= MAX_BYTES else "more"
    except OSError as e:
        refuse("file", "JSON", e.strerror or e)
    except (ValueError, RecursionError) as e:
        refuse("file", "JSON", e)
    if not isinstance(given, dict):
        refuse("file", f"a JSON object of at most {MAX_BYTES} bytes", given)
    if given.get("format") != FORMAT:
        refuse("format", str(FORMAT), given.get("format"), "use the alora_gguf that wrote it")
    temperature = given.get("temperature")
    if not isinstance(temperature, dict) or set(temperature) != set(TYPES) or not all(is_temperature(t) for t in temperature.values()):
        refuse("temperature", f"numbers above 0 for {', '.join(TYPES)}", temperature)
    return TrainedDecisions({name: float(temperature[name]) for name in TYPES})


def is_temperature(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0

"""What people wrote about an adapter: its name, licence and description, and the io.yaml beside it."""

import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConversionError
from ..text import complaint

KINDS = ("lora", "alora")
MAX_TEXT = 1_000_000  # bytes


@dataclass(frozen=True)
class Card:
    """Each is None where nobody wrote it, but for the name, which falls back to the folder's."""

    name: str
    license: str | None = None
    description: str | None = None
    io_yaml: str | None = None


def read_card(folder: Path) -> Card:
    """From README.md's front matter (model_name, license, description) and io.yaml.

    Raises ConversionError if one of the two is there but is not UTF-8 text of less than 1 MB.
    """
    fields = front_matter(_read_text(folder / "README.md") or "")
    return Card(
        name=fields.get("model_name") or name_from_path(folder.resolve()),
        license=fields.get("license"),
        description=fields.get("description"),
        io_yaml=_read_text(folder / "io.yaml"),
    )


def name_from_path(path: Path) -> str:
    """The intrinsic's name in the hub's layouts, else the folder's.

    `<name>/<base>/<lora|alora>`, the older `<name>/<lora|alora>/<base>`, `models--<owner>--<name>/snapshots/<hash>`.
    """
    parts = path.parts
    if len(parts) >= 3 and (parts[-1] in KINDS or parts[-2] in KINDS):
        return parts[-3]
    if len(parts) >= 3 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return parts[-3].split("--")[-1]
    return path.name or "adapter"


def front_matter(text: str) -> dict[str, str]:
    """The one-line values of a model card's YAML header."""
    header = re.match(r"---\r?\n(.*?)\r?\n---\s*(\n|$)", text, re.DOTALL)
    if header is None:
        return {}
    lines = re.findall(r"^(\w+):[ \t]+([^\s|>\[{&*!#].*?)[ \t]*$", header[1], re.MULTILINE)
    return {key: value.strip("\"'") for key, value in lines}


def _read_text(path: Path) -> str | None:
    if not path.is_file():
        return None
    expected = f"UTF-8 text of at most {MAX_TEXT} bytes"
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_TEXT + 1)
        text = raw.decode("utf-8", "ignore" if len(raw) > MAX_TEXT else "strict")  # the cut may split a character
    except OSError as e:
        raise ConversionError(complaint(path, "file", expected, e.strerror or e, "correct or remove it")) from None
    except UnicodeDecodeError as e:
        raise ConversionError(complaint(path, "file", expected, e.reason, "correct or remove it")) from None
    if len(raw) > MAX_TEXT or "\0" in text:
        got = "a zero byte" if "\0" in text else "more"
        raise ConversionError(complaint(path, "file", expected, got, "correct or remove it"))
    return text

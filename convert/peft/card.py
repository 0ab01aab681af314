"""What people wrote about an adapter: its name, licence and description, what it judges, and the io.yaml beside it."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from ...errors import ConversionError
from ...text import complaint
from .decisions import TrainedDecisions, read_trained_decisions
from .description import card_sentence, shortened

KINDS = ("lora", "alora")
MAX_TEXT = 1_000_000  # bytes
MAX_IO_YAML = 100_000
ROLES = ("user", "assistant", "system", "tool")


@dataclass(frozen=True)
class Card:
    """Each is None where nobody wrote it, but for the name, which falls back to the folder's.

    invoked_after: role of the messages that the intrinsic judges, None for any. repository, revision: `owner/repo` on the hub and
    its commit, where the folder is in the hub's cache.
    """

    name: str
    license: str | None = None
    description: str | None = None
    invoked_after: str | None = None
    io_yaml: str | None = None
    decisions: TrainedDecisions | None = None
    repository: str | None = None
    revision: str | None = None


def read_card(folder: Path, io_yaml: Path | None = None) -> Card:
    """From README.md's front matter (model_name, license, description, invoked_after), decisions.json and io.yaml, or another file in its place.

    The description is io.yaml's, else the front matter's, else a sentence of the card, or of the intrinsic's in a hub layout. Raises ConversionError if one of the two is there but is not UTF-8 text of at most 1 MB (io.yaml: 100 KB, and
    YAML of a mapping), or if invoked_after is no role, or decisions.json is not one.
    """
    text = _read_text(folder / "README.md") or ""
    fields = front_matter(text)
    invoked_after = fields.get("invoked_after")
    if invoked_after not in (None, *ROLES):
        raise ConversionError(complaint(folder / "README.md", "invoked_after", " or ".join(ROLES), invoked_after, "correct or remove it"))
    repository, revision = source_from_path(folder.resolve())
    asked = _read_io_yaml(folder / "io.yaml") if io_yaml is None else _read_io_yaml(io_yaml, named=True)
    told = (yaml.safe_load(asked) if asked else {}).get("description") or fields.get("description")
    return Card(
        name=fields.get("model_name") or name_from_path(folder.resolve()),
        license=fields.get("license"),
        description=shortened(told) if isinstance(told, str) else card_sentence(text) or _of_intrinsic(folder),
        invoked_after=invoked_after,
        io_yaml=asked,
        decisions=read_trained_decisions(folder),
        repository=repository,
        revision=revision,
    )


def _of_intrinsic(folder: Path) -> str | None:
    """A sentence of the card two folders up, which is the intrinsic's in the hub's layouts; what is no text there is not read."""
    parts = folder.resolve().parts
    if len(parts) < 4 or not {parts[-1], parts[-2]} & {*KINDS}:
        return None
    try:
        return card_sentence(_read_text(folder.resolve().parents[1] / "README.md") or "")
    except ConversionError:
        return None


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


def source_from_path(path: Path) -> tuple[str, str] | tuple[None, None]:
    """`owner/repo` and commit of a folder in the hub's cache, which is in `models--<owner>--<repo>/snapshots/<commit>`."""
    found = re.search(r"/models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})(?:/|$)", path.as_posix())
    return (f"{found[1]}/{found[2]}", found[3]) if found else (None, None)


def front_matter(text: str) -> dict[str, str]:
    """The one-line values of a model card's YAML header."""
    header = re.match(r"---\r?\n(.*?)\r?\n---\s*(\n|$)", text, re.DOTALL)
    if header is None:
        return {}
    lines = re.findall(r"^(\w+):[ \t]+([^\s|>\[{&*!#].*?)[ \t]*$", header[1], re.MULTILINE)
    return {key: value.strip("\"'") for key, value in lines}


def _read_io_yaml(path: Path, named: bool = False) -> str | None:
    """Only that it is a mapping is checked here: what granite-common makes of it is the runtime's."""
    text = _read_text(path, MAX_IO_YAML)
    try:
        got = "no file" if text is None else type(yaml.safe_load(text)).__name__
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        got = " ".join(str(e).split())
    if got == "dict" or text is None and not named:
        return text
    raise ConversionError(complaint(path, "file", "YAML of a mapping", got, "correct or remove it"))


def _read_text(path: Path, most: int = MAX_TEXT) -> str | None:
    if not path.is_file():
        return None
    expected = f"UTF-8 text of at most {most} bytes"
    try:
        with open(path, "rb") as file:
            raw = file.read(most + 1)
        text = raw.decode("utf-8", "ignore" if len(raw) > most else "strict")  # the cut may split a character
    except OSError as e:
        raise ConversionError(complaint(path, "file", expected, e.strerror or e, "correct or remove it")) from None
    except UnicodeDecodeError as e:
        raise ConversionError(complaint(path, "file", expected, e.reason, "correct or remove it")) from None
    if len(raw) > most or "\0" in text:
        got = "a zero byte" if "\0" in text else "more"
        raise ConversionError(complaint(path, "file", expected, got, "correct or remove it"))
    return text

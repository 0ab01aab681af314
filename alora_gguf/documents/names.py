"""Names of files as people type them and terminals paste them: quoted, with backslashes, as file:// URLs, from the home folder."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .pages import PAGES

_ESCAPED = re.compile(r"\\([^\w/])") if os.name == "posix" else re.compile(r"(?!)")  # on Windows a backslash is a folder's end


def at_home(given: str) -> Path:
    """The file of this name, where ~ stands for the home folder."""
    try:
        return Path(os.path.expanduser(given))
    except ValueError:  # a name that nobody can have
        return Path(given)


def file_named(given: str) -> Path:
    """The file that is meant. A name that there is, as it stands, is that file, whatever is in it."""
    given = given.strip()
    plain = at_home(given)
    if _is_there(plain):
        return plain
    if given.lower().startswith("file:"):
        try:
            name = unquote(urlsplit(given).path)
        except ValueError:  # no address
            return plain
        return Path(name[1:] if os.name == "nt" and re.match(r"/[A-Za-z]:", name) else name)
    if len(given) > 1 and given[0] == given[-1] and given[0] in "'\"":
        inner = given[1:-1].replace("'\\''", "'") if given[0] == "'" else re.sub(r'\\(["\\$`])', r"\1", given[1:-1])
        return at_home(inner)
    unescaped = at_home(_ESCAPED.sub(r"\1", given))
    return unescaped if _is_there(unescaped) else plain


def file_and_pages(given: str) -> tuple[Path, str | None]:
    """A file's name, and which of its pages where they stand behind it: `report.pdf 3-7`."""
    path = file_named(given)
    name, _, pages = given.strip().rpartition(" ")
    if name and PAGES.fullmatch(pages) and not _is_there(path) and _is_there(before := file_named(name)):
        return before, pages
    return path, None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False

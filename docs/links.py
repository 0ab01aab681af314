"""What mkdocs needs beside docs/: the pages of the repository's root, and what pages link to outside of docs/.

README.md becomes the site's first page. Every other file outside of docs/ that a page links to comes along, and the links are
turned to where it went, so that the same link works here and in the repository.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPO = Path(__file__).resolve().parent.parent
FIRST = "README.md"
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")  # of this repository: has no scheme


def on_files(files: Files, config: MkDocsConfig) -> Files:
    docs = Path(config.docs_dir)
    todo = [FIRST, *(str(Path("docs", file.src_uri)) for file in files.documentation_pages())]
    seen = set(todo)
    while todo:
        path = todo.pop()
        if not (REPO / path).is_relative_to(docs):
            files.append(File.generated(config, uri_of(path), abs_src_path=str(REPO / path)))
        if path.endswith(".md"):
            new = {target for target in targets(path) if not (REPO / target).is_relative_to(docs)} - seen
            seen |= new
            todo += new
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    path = path_of(page.file.src_uri)

    def turned(link: re.Match) -> str:
        target = target_of(path, link[2])
        if target is None:
            return link[0]
        return link[1] + os.path.relpath(uri_of(target), PurePosixPath(page.file.src_uri).parent) + link[3]

    return LINK.sub(turned, markdown)


def targets(path: str) -> Iterator[str]:
    """The files of the repository that a page links to."""
    for link in LINK.finditer((REPO / path).read_text(encoding="utf-8")):
        if (target := target_of(path, link[2])) is not None:
            yield target


def target_of(path: str, link: str) -> str | None:
    """The file that a link on the page `path` means, both from the repository's root; None if there is none."""
    target = os.path.normpath(PurePosixPath(path).parent / link)
    return target if not target.startswith("..") and (REPO / target).is_file() else None


def uri_of(path: str) -> str:
    """Where a file of the repository is in the site's source. What is no page and no picture can be read in a browser."""
    if path == FIRST:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"files/{path}" if path.endswith((".md", ".png", ".svg")) else f"files/{path}.txt"


def path_of(uri: str) -> str:
    """The other way, for pages."""
    if uri == "index.md":
        return FIRST
    return uri.removeprefix("files/") if uri.startswith("files/") else f"docs/{uri}"

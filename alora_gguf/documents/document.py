"""What comes of reading a document."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A document's text.

    title   the file's name
    kind    "text", "markdown", "html", "pdf" or "docx"
    pages   of a PDF: how many there are
    read    the numbers of the pages whose text this is
    note    what is to be known about the text: an encoding that was guessed, pages without text
    """

    title: str
    text: str
    kind: str = "text"
    pages: int | None = None
    read: tuple[int, ...] = ()
    note: str | None = None

    @property
    def about(self) -> str:
        """Pages and note on one line; empty: there is nothing to say."""
        some = f"{len(self.read)} of " if len(self.read) != self.pages else ""
        return ", ".join([*([f"{some}{self.pages} page{'s' * (self.pages != 1)}"] if self.pages else []), *([self.note] if self.note else [])])

"""HTML to text: headings, lists and tables as Markdown writes them, links as their words. In one pass, without a tree."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from ..errors import DocumentError
from .limits import TEXT_BYTES

_BLOCKS = set(
    "address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 "
    "header hr html li main menu nav ol p pre section summary table tbody td tfoot th thead title tr ul".split()
)
_PARAGRAPHS = _BLOCKS - set("dd dt li summary tbody td tfoot th thead tr".split())  # these have an empty line before and after them
_LISTS = ("ul", "ol", "menu", "li")
_UNSEEN = set("script style template svg math iframe object embed applet canvas audio video noscript noframes select datalist textarea".split())
_VOID = set("area base br col embed hr img input link meta param source track wbr".split())
_OPEN_ENDED = set("p li dt dd tr td th thead tbody tfoot".split())  # whose end may be left out
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MOST_TABLES = 8  # in each other; deeper ones are lines
_MOST_INDENT = 10


def text_of_html(html: str) -> str:
    """The text of a page or a part of one. Scripts, styles and what is hidden are none. Nothing is loaded. Raises DocumentError."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text()


@dataclass
class _Table:
    rows: list[list[str]] = field(default_factory=list)
    has_blocks: bool = False  # headings or tables in a cell: it holds the page together, and is no table of values
    in_cell: bool = False


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: list[list[str]] = [[]]  # of the text, and of each cell that is open
        self._tables: list[_Table | None] = []  # None: one that is too deep
        self._lists: list[int | None] = []  # the next number, or a list without
        self._n_lines = 2  # ends of lines that have been written since the last word; 2: an empty line is there
        self._n_written = 0
        self._blank = False  # one stands before the next word
        self._at_bullet = False  # of a list, and nothing behind it yet
        self._preformatted = 0
        self._unseen: list[str] = []  # what is passed over, and what is in it by the same name
        self._title: list[str] = []
        self._in_title = False
        self._has_heading = False

    def text(self) -> str:
        while self._tables:
            self._end_table()
        text = tidy("".join(self._out[0]))
        title = " ".join("".join(self._title).split())
        return f"# {title}\n\n{text}".strip() if title and not self._has_heading else text

    # what HTMLParser finds

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen and self._unseen[0] in _OPEN_ENDED and (tag in _BLOCKS):
            self._unseen.clear()
        if self._unseen:
            if tag == self._unseen[0]:
                self._unseen.append(tag)
            return
        given = dict(attrs)
        if tag not in _VOID and (tag in _UNSEEN or "hidden" in given or _HIDDEN.search(given.get("style") or "")):
            self._unseen.append(tag)
            return
        if tag in _BLOCKS and not (self._at_bullet and tag not in _LISTS):
            self._line(2 if tag in _PARAGRAPHS and not (tag in _LISTS and self._lists) else 1)
        match tag:
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                self._has_heading |= tag == "h1"
                self._mark_blocks()
                self._write("#" * int(tag[1]) + " ")
            case "title":
                self._in_title = True
            case "br":
                self._line(1)
            case "img" if alt := " ".join((given.get("alt") or "").split()):
                self._word(f"[picture: {alt}]")
            case "ul" | "menu":
                self._lists.append(None)
            case "ol":
                self._lists.append(int(start) if (start := given.get("start") or "").isdecimal() and len(start) < 10 else 1)
            case "li":
                self._write("  " * min(max(0, len(self._lists) - 1), _MOST_INDENT) + self._bullet())
                self._at_bullet = True
            case "pre":
                self._preformatted += 1
                self._write("```\n")
            case "table":
                self._mark_blocks()
                self._tables.append(_Table() if len(self._tables) < _MOST_TABLES else None)
            case "tr" if table := self._table:
                self._end_cell()
                table.rows.append([])
            case "td" | "th" if table := self._table:
                self._end_cell()
                if not table.rows:
                    table.rows.append([])
                self._begin_cell(table)

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag == self._unseen[0]:
                self._unseen.pop()
            return
        match tag:
            case "title":
                self._in_title = False
            case "ul" | "ol" | "menu" if self._lists:
                self._lists.pop()
            case "pre" if self._preformatted:
                self._preformatted -= 1
                self._line(1)
                self._write("```")
            case "td" | "th" if self._table:
                self._end_cell()
            case "table" if self._tables:
                self._end_table()
        if tag in _BLOCKS:
            self._line(2 if tag in _PARAGRAPHS and not (tag in _LISTS and self._lists) else 1)

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        if self._in_title:
            self._title.append(data)
        elif self._preformatted and not self._table:
            self._write(data)
        else:
            words = data.split()
            if not words:
                self._blank = True
                return
            self._blank = self._blank or data[0].isspace()
            self._word(" ".join(words))
            self._blank = data[-1].isspace()

    # what is written

    def _word(self, text: str) -> None:
        self._write(" " + text if self._blank and not self._n_lines and self._last != " " else text)

    @property
    def _last(self) -> str:
        return self._out[-1][-1][-1:] if self._out[-1] else ""

    def _write(self, text: str) -> None:
        if text:
            self._n_written += len(text)
            if self._n_written > TEXT_BYTES:
                raise DocumentError(f"expected at most {TEXT_BYTES >> 20} MiB of text, got more; attach the part that matters")
            if (table := self._table) and table.rows and not table.in_cell:  # between cells: it has one of its own
                self._begin_cell(table)
            self._out[-1].append(text)
            self._n_lines, self._blank, self._at_bullet = (1 if text.endswith("\n") else 0), False, False

    def _line(self, n: int) -> None:
        """At least `n` ends of lines."""
        if self._n_lines < n:
            self._out[-1].append("\n" * (n - self._n_lines))
            self._n_lines = n
        self._blank = False

    def _bullet(self) -> str:
        number = self._lists[-1] if self._lists else None
        if number is None:
            return "- "
        self._lists[-1] = number + 1
        return f"{number}. "

    # tables

    @property
    def _table(self) -> _Table | None:
        return self._tables[-1] if self._tables else None

    def _mark_blocks(self) -> None:
        for table in self._tables[:_MOST_TABLES]:
            if table and table.in_cell:
                table.has_blocks = True

    def _begin_cell(self, table: _Table) -> None:
        table.in_cell = True
        self._out.append([])
        self._n_lines, self._blank = 2, False

    def _end_cell(self) -> None:
        if (table := self._table) and table.in_cell:
            table.in_cell = False
            table.rows[-1].append(tidy("".join(self._out.pop())))
            self._n_lines, self._blank = 0, False

    def _end_table(self) -> None:
        self._end_cell()
        table = self._tables.pop()
        self._n_lines = 0
        self._line(2)
        if table:
            self._write(_of_blocks(table.rows) if table.has_blocks else _of_values(table.rows))
        self._line(2)


def tidy(text: str) -> str:
    """Without blanks at the ends of lines, and with one empty line at most in a row."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[^\S\n]+\n", "\n", text)).strip()


def _of_values(rows: list[list[str]]) -> str:
    """As Markdown has a table: a line a row, the first is its head."""
    rows = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows if any(row)]
    if not rows:
        return ""
    width = max(map(len, rows))
    if width == 1:
        return "\n\n".join(row[0] for row in rows)
    lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def _of_blocks(rows: list[list[str]]) -> str:
    return "\n\n".join(cell for row in rows for cell in row if cell)

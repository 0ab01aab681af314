"""Whether an answer to a checkable question is right.

The rule is strict: the first thing of the asked sort that the answer names, apart from what the question named, has to be
the right one; an answer that names none is wrong. An answer whose sense is open (a refusal, or "A is smaller than B") counts
as neither.
"""

import re
import unicodedata
from dataclasses import dataclass

REFUSALS = re.compile(
    r"\b(?:sorry|not sure|don't know|do not know|don't have|do not have|cannot|can't|unable|as an ai|not mentioned|not provided"
    r"|not specified|no information)\b"
)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
TIME = re.compile(r"\b(\d{1,2})(?:[:.](\d\d))?\s*([ap])?\.?m?\b")
CODE = re.compile(r"\b[A-Z][A-Za-z]?\b")
NO_CODE = ("A", "An", "As", "At", "I", "In", "Is", "It", "No", "Of", "So", "To")
LESS = re.compile(r"\b(?:smaller|less|fewer|lower)\b")


@dataclass(frozen=True)
class Check:
    """How answers are checked: `accepted` ones, and for names what else could be named (`among`); `mode` says how it is read."""

    mode: str  # "name", "letters", "number", "time", "choice" or "yes"
    accepted: tuple[str, ...]
    among: tuple[str, ...] = ()


def plain(text: str) -> str:
    """Lower-case text without accents and with straight quotes."""
    text = unicodedata.normalize("NFKD", text.replace("’", "'"))
    return "".join(c for c in text if not unicodedata.combining(c)).lower()


def first_named(text: str, names: set[str]) -> str | None:
    """The name that comes first in a plain text; the longest where several begin there."""
    best = None
    for name in names:
        found = re.search(r"(?<![a-z0-9])" + re.escape(name) + r"(?![a-z0-9])", text) if name in text else None
        if found and (best is None or (found.start(), -len(name)) < (best[0], -len(best[1]))):
            best = found.start(), name
    return best[1] if best else None


def numbers(text: str) -> list[float]:
    return [float(n.replace(",", "")) for n in NUMBER.findall(text)]


def is_right(check: Check, question: str, answer: str) -> bool | None:
    """None where the answer is neither right nor wrong."""
    said, asked = plain(answer), plain(question)
    if not said.strip() or REFUSALS.search(said):
        return None
    accepted = {plain(a) for a in check.accepted}
    if check.mode == "yes":
        first = first_named(said, {"yes", "no", "not"})
        return None if first is None else (first == "yes") == ("yes" in accepted)
    if check.mode == "number":
        given = [n for n in numbers(said) if n not in numbers(asked)]
        return bool(given) and given[0] in {float(a.replace(",", "")) for a in accepted}
    if check.mode == "time":
        hours, minutes = next(iter(accepted)).split(":")
        found = next((f for f in TIME.finditer(said) if f[2] or f[3]), None)
        if found is None:
            return False
        hour = int(found[1]) + (12 if found[3] == "p" and int(found[1]) < 12 else 0)
        return (hour, int(found[2] or 0)) == (int(hours), int(minutes))
    if check.mode == "letters":
        codes = [c for c in CODE.findall(answer) if c not in NO_CODE]
        return bool(codes) and codes[0] in check.accepted
    if check.mode == "choice":
        named = [n for n in accepted | {plain(a) for a in check.among} if first_named(said, {n})]
        if len(named) == 2:
            first = first_named(said, set(named))
            return (
                first in accepted if re.match(r"(?:the )?" + re.escape(first) + r"\b.{0,60}\b(?:more|larger|bigger|higher|greater)\b", said) else None
            )
        return None if LESS.search(said) else named[0] in accepted if named else None
    others = {plain(a) for a in check.among} - accepted
    others = {o for o in others if first_named(asked, {o}) is None}
    return first_named(said, accepted | others) in accepted

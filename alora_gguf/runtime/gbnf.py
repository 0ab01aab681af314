"""llama.cpp's grammars, GBNF, written as Lark's, which llguidance reads."""

from __future__ import annotations

import json
import re
from collections import defaultdict

from ..errors import PromptError
from ..text import printable

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|\#[^\n]*)|(?P<line>\r?\n|\r)|(?P<is>::=)|(?P<name>[A-Za-z0-9_-]+)|(?P<literal>"(?:\\.|[^"\\])*")"""
    r"""|(?P<class>\[(?:\\.|[^\]\\])*\])|(?P<times>\{\s*\d+\s*(?:,\s*\d*\s*)?\})|(?P<mark>[()|*+?.])""",
    re.DOTALL,
)
_CHARACTER = re.compile(r"\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|\\([nrt\"\\\[\]-])|([^\\])", re.DOTALL)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}
_LARK = re.compile(r"(?m)^\s*(?:%llguidance\b|[?!]?start\s*:(?!:))")

Body = list[tuple[str, str]]  # kinds of _TOKEN and what stands for them in Lark; of a name the name


def is_lark(grammar: str) -> bool:
    """Whether it begins a rule as Lark does, `start:`; in GBNF it is `root ::=`."""
    return _LARK.search(grammar) is not None


def gbnf_to_lark(grammar: str) -> str:
    """The same grammar, with a rule `start`. Raises PromptError.

    Rules that no recursion is in become one regular expression, which allows what llama.cpp does. Of others llguidance
    takes such a rule for a word, each as long as it can be.
    """
    rules = _rules(grammar)
    if "root" not in rules:
        raise refused(f"none of that name among {', '.join(rules) or 'no rules'}")
    names = {name: f"r{i}" for i, name in enumerate(rules)}
    names |= {name: names[name].upper() for name in _regular(rules)}
    lines = [f"{names[name]}: {' '.join(names[text] if kind == 'name' else text for kind, text in body)}" for name, body in rules.items()]
    return "\n".join([f"start: {names['root']}", *lines])


def lark_literal(text: str) -> str:
    return "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in json.dumps(text, ensure_ascii=False))


def refused(got: str) -> PromptError:
    return PromptError(f"grammar: expected GBNF with a rule `root`, or Lark with a rule `start`, got {printable(got)}; correct it")


def _rules(grammar: str) -> dict[str, Body]:
    rules: dict[str, Body] = {}
    for (kind, name), *rest in _lines(grammar):
        if kind != "name" or not rest or rest[0][0] != "is" or any(kind == "is" for kind, _ in rest[1:]):
            raise refused(f"a line without `name ::=`, or with two: {' '.join(text for _, text in [(kind, name), *rest])[:80]}")
        if name in rules:
            raise refused(f"the rule {name} twice")
        body = rules[name] = []
        for token in [*rest[1:], ("end", "")]:
            if token[1] in ("|", ")", "") and (not body or body[-1][1] in ("|", "(")):
                body.append(("literal", '""'))
            body.append(token)
    return rules


def _lines(grammar: str) -> list[Body]:
    """One for each rule: within parentheses, and behind ::= and |, a line goes on."""
    lines: list[Body] = [[]]
    at = depth = 0
    while at < len(grammar):
        found = _TOKEN.match(grammar, at)
        if found is None:
            raise refused(grammar[at : at + 40])
        kind, text, at = str(found.lastgroup), found.group(), found.end()
        depth += (text == "(") - (text == ")")
        if kind == "line":
            if not depth and lines[-1] and lines[-1][-1][1] not in ("::=", "|"):
                lines.append([])
        elif kind != "space":
            lines[-1].append((kind, _LARK_OF[kind](text) if kind in _LARK_OF else text))
    return [line for line in lines if line]


def _regular(rules: dict[str, Body]) -> list[str]:
    """The names of the rules from which no rule is reached that refers to itself."""
    users: dict[str, list[str]] = defaultdict(list)
    left = {name: {text for kind, text in body if kind == "name"} for name, body in rules.items()}
    for name, used in left.items():
        for other in used:
            if other not in rules:
                raise refused(f"no rule {other}, which {name} refers to")
            users[other].append(name)
    regular = [name for name, used in left.items() if not used]
    for name in regular:  # it grows
        for user in users[name]:
            left[user].discard(name)
            if not left[user]:
                regular.append(user)
    return regular


def _characters(text: str) -> list[tuple[str, bool]]:
    """Each character, and whether it stands for itself: an escaped one is no range's `-`."""
    characters, at = [], 0
    while at < len(text):
        found = _CHARACTER.match(text, at)
        if found is None:
            raise refused(f"the escape {text[at : at + 10]}")
        *codes, named, plain = found.groups()
        code = next((int(c, 16) for c in codes if c), None)
        if code is not None and (code > 0x10FFFF or 0xD800 <= code < 0xE000):
            raise refused(f"{found.group()}, which is no character")
        characters.append((chr(code) if code is not None else _NAMED.get(named, named) or plain, plain is not None))
        at = found.end()
    return characters


def _literal(text: str) -> str:
    return lark_literal("".join(c for c, _ in _characters(text[1:-1])))


def _class(text: str) -> str:
    negated = text.startswith("[^")
    inside = _characters(text[2 if negated else 1 : -1])
    if not inside and not negated:
        raise refused("[], which no character is in")
    if not inside:
        return _ANY
    is_range = lambda i: inside[i] == ("-", True) and 0 < i < len(inside) - 1
    return f"/[{'^' * negated}{''.join('-' if is_range(i) else _in_class(c) for i, (c, _) in enumerate(inside))}]/"


def _in_class(c: str) -> str:
    return c if c.isalnum() else f"\\x{{{ord(c):x}}}"


def _times(text: str) -> str:
    least, _, most = "".join(text[1:-1].split()).partition(",")
    return f"{{{least},{most if ',' in text else least}}}"


_ANY = "/(?s:.)/"
_LARK_OF = {"literal": _literal, "class": _class, "times": _times, "mark": lambda text: _ANY if text == "." else text}

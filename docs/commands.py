"""Writes docs/commands.md: what `alora --help`, `alora COMMAND --help` and `alora-convert --help` say.

    python docs/commands.py [--check]

With --check nothing is written; if the page is old that is one line and exit code 1. The text is made from the parsers and not
by argparse's own formatter, whose wording and line breaks differ between versions of Python.
"""

import argparse
import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from generated import write_or_check

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPO = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).with_name("commands.md")
WIDTH, COLUMN = 80, 24  # of a line; where the help of an option begins
HEAD = """# Commands

Written by `python docs/commands.py` from what each command says with `--help`.
"""


class _Found(BaseException):
    """The parser of a command, in place of what it would have parsed."""


def parser_of(script: str) -> argparse.ArgumentParser:
    """The parser that a console script of pyproject.toml makes; nothing of the command is run."""
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, function = scripts[script].split(":")
    main = getattr(importlib.import_module(module), function)

    def find(self, *_, **__):
        raise _Found(self)

    before, argparse.ArgumentParser.parse_known_args = argparse.ArgumentParser.parse_known_args, find
    try:
        main([])
    except _Found as found:
        return found.args[0]
    finally:
        argparse.ArgumentParser.parse_known_args = before
    raise SystemExit(f"{script}: expected a parser of arguments, got none; docs/commands.py knows no other way to its options")


def page() -> str:
    alora = parser_of("alora")
    commands = [alora, *_commands(alora).choices.values(), parser_of("alora-convert")]
    return HEAD + "".join(f"\n## {parser.prog}\n\n```text\n{text(parser)}\n```\n" for parser in commands)


def text(parser: argparse.ArgumentParser) -> str:
    """Usage, description, arguments and options, at most 80 columns wide."""
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)]
    options = [action for action in actions if action.option_strings]
    places = [action for action in actions if not action.option_strings]
    rows = {"arguments": [(_value(action), _help(parser, action)) for action in places]}
    if (commands := _commands(parser)) is not None:
        rows["commands"] = [(choice.dest, choice.help) for choice in commands._choices_actions]
    rows["options"] = [(_invocation(action), _help(parser, action)) for action in options]
    parts = ["\n".join(_wrapped(list(_usage(parser, options, places)), indent=len("usage: ") + len(parser.prog) + 1))]
    parts.append(textwrap.fill(parser.description, WIDTH, break_on_hyphens=False))
    parts += [f"{title}:\n" + "\n".join(line for row in lines for line in _row(*row)) for title, lines in rows.items() if lines]
    return "\n\n".join(parts)


def _commands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction | None:
    return next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)


def _usage(parser: argparse.ArgumentParser, options: list[argparse.Action], places: list[argparse.Action]) -> Iterator[str]:
    """Its words, which stay whole: what excludes one another is one of them."""
    yield f"usage: {parser.prog}"
    groups = {id(action): group for group in parser._mutually_exclusive_groups for action in group._group_actions}
    done: set[int] = set()
    for action in options:
        group = groups.get(id(action))
        if group is None:
            yield _invocation(action, one=True) if action.required else f"[{_invocation(action, one=True)}]"
        elif id(group) not in done:
            done.add(id(group))
            yield f"[{' | '.join(_invocation(other, one=True) for other in group._group_actions)}]"
    for action in places:
        yield {"?": f"[{_value(action)}]", "+": f"{_value(action)} ..."}.get(action.nargs, _value(action))
    if _commands(parser) is not None:
        yield "command ..."


def _invocation(action: argparse.Action, *, one: bool = False) -> str:
    """`-o, --out FOLDER`; its last name alone, for the usage."""
    names = action.option_strings[-1:] if one else action.option_strings
    value = {0: "", "+": f" {_value(action)} ..."}.get(action.nargs, f" {_value(action)}")
    return ", ".join(names) + value


def _value(action: argparse.Action) -> str:
    if action.choices and action.metavar is None:
        return f"{{{','.join(map(str, action.choices))}}}"
    return action.metavar or (action.dest.upper() if action.option_strings else action.dest)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return (action.help or "") % {**vars(action), "prog": parser.prog}


def _row(name: str, about: str) -> Iterator[str]:
    lines = textwrap.wrap(about, WIDTH - COLUMN, break_on_hyphens=False)
    first = f"  {name}"
    if len(first) + 2 <= COLUMN and lines:
        first = f"{first:{COLUMN}}{lines.pop(0)}"
    yield first
    yield from (f"{'':{COLUMN}}{line}" for line in lines)


def _wrapped(words: list[str], indent: int) -> Iterator[str]:
    line = words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) > WIDTH:
            yield line
            line = " " * (indent - 1)
        line += f" {word}"
    yield line


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "what --help says now", __doc__))

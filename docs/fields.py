"""Writes the tables of docs/serve.md that say what the server does with each field of a request.

    python docs/fields.py [--check]

With --check nothing is written; if the page is old that is one line and exit code 1.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from generated import write_or_check

from alora_gguf.serve import fields
from alora_gguf.serve.body import Chat, Completion
from alora_gguf.serve.decisions.body import Decide, SystemOne
from alora_gguf.serve.messages.body import Messages
from alora_gguf.serve.ollama.bodies import OllamaChat, OllamaGenerate
from alora_gguf.serve.responses.body import Responses

PAGE = Path(__file__).with_name("serve.md")
BEGIN, BEGIN_OLLAMA, END = (
    "<!-- written by `python docs/fields.py` -->\n",
    "<!-- Ollama's, written by `python docs/fields.py` -->\n",
    "<!-- end -->\n",
)


def tables() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from ("", "Read:", "", "| field | of | |", "|---|---|---|")
    for name, about in fields.ABOUT.items():
        of = [what for what, model in (("chats", Chat), ("completions", Completion)) if name in model.model_fields]
        yield f"| `{name}` | {'both' if len(of) == 2 else of[0]} | {about.replace('|', chr(92) + '|')} |"
    yield from ("", "Accepted, because they change no answer:", "")
    for why, names in fields.WHY.items():
        yield f"- {why}: {_names(names)}"
    yield from ("", "Accepted with the value at which they change nothing, and otherwise 400:", "")
    for whose, only in fields.ONLY.items():
        yield f"- {whose}: {', '.join(_only(name, values) for name, values in only.items())}"
    for title, about, why, only, shared in (
        ("`/v1/responses`", fields.RESPONSES_ABOUT, fields.RESPONSES_WHY, fields.RESPONSES_ONLY, Responses.model_fields),
        ("`/v1/messages`", fields.MESSAGES_ABOUT, fields.MESSAGES_WHY, fields.MESSAGES_ONLY, Messages.model_fields),
        ("`/v1/systemone`", fields.SYSTEMONE_ABOUT, fields.DECIDES_WHY, fields.SYSTEMONE_ONLY, SystemOne.model_fields),
        ("`/v1/decisions`", fields.DECISIONS_ABOUT, fields.DECIDES_WHY, fields.DECISIONS_ONLY, Decide.model_fields),
    ):
        same = tuple(name for name in shared if name not in about)
        yield from ("", f"### {title}", "", f"As in chats: {_names(same)}.", "", "| field | |", "|---|---|")
        for name, what in about.items():
            yield f"| `{name}` | {what.replace('|', chr(92) + '|')} |"
        yield from ("", "Accepted, because they change no answer:", "")
        for reason, names in why.items():
            yield f"- {reason}: {_names(names)}"
        yield from ("", f"Accepted with the value at which they change nothing, and otherwise 400: {', '.join(_only(*one) for one in only.items())}")
    yield ""


def ollama_tables() -> str:
    return "\n".join(_ollama_lines()) + "\n"


def _ollama_lines() -> Iterator[str]:
    yield from ("", "Read:", "", "| field | of | |", "|---|---|---|")
    for name, about in fields.OLLAMA_ABOUT.items():
        of = [what for what, model in (("`/api/chat`", OllamaChat), ("`/api/generate`", OllamaGenerate)) if name in model.model_fields]
        yield f"| `{name}` | {'both' if len(of) == 2 else of[0]} | {about} |"
    for name, about in fields.OLLAMA_OPTIONS_ABOUT.items():
        yield f"| `options.{name}` | both | {about} |"
    yield from ("", "Accepted, because they change no answer:", "")
    for why, names in fields.OLLAMA_WHY.items():
        yield f"- {why}: {_names(names)}"
    for why, names in fields.OLLAMA_OPTIONS_WHY.items():
        yield f"- in `options`, {why}: {_names(names)}"
    yield from ("", "Accepted with the value at which they change nothing, and otherwise 400:", "")
    for where, only in (
        ("`/api/chat`", fields.OLLAMA_ONLY),
        ("`/api/generate`", fields.OLLAMA_ONLY_GENERATE),
        ("`options`", fields.OLLAMA_OPTIONS_ONLY),
    ):
        yield f"- in {where}: {', '.join(_only(name, values) for name, values in only.items())}"
    yield ""


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _only(name: str, values: tuple) -> str:
    return f"`{name}`" + (f" ({' or '.join(f'`{json.dumps(value)}`' for value in values)})" if values else "")


def page() -> str:
    text = PAGE.read_text(encoding="utf-8")
    for mark, lines in ((BEGIN, tables()), (BEGIN_OLLAMA, ollama_tables())):
        head, begin, rest = text.partition(mark)
        _, end, tail = rest.partition(END)
        if not (begin and end):
            raise SystemExit(f"docs/serve.md: expected lines {mark.strip()} and {END.strip()}, got none; put them where the tables belong")
        text = head + begin + lines + end + tail
    return text


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "the fields that the server knows now", __doc__))

"""Names of control tokens in texts of people: kept apart from those that a template writes.

A name is marked, by a character that no text has, before the template is rendered. Whatever the template does with the text,
the mark goes with it; and what is marked is tokenised as text (Vocab.tokenize_prompt).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import PromptError
from .messages import Message

if TYPE_CHECKING:
    from ..runtime.vocab import Vocab
    from .chat_template import ChatTemplate

MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # Unicode's noncharacters
_TAG = re.compile(r"<\|.+\|>", re.DOTALL)


class ControlTokens:
    """Those of a vocabulary, and what else of it stands for something in a template: tokens with a name that it writes, or like <|user|>.

    Without `protects` nothing is marked, and names are tokens wherever they stand.
    """

    def __init__(self, vocab: Vocab, template: ChatTemplate, *, protects: bool = True):
        self._vocab = vocab
        self._protects = protects
        of_template = {
            token: name for token, name in vocab.named_tokens.items() if not name.isspace() and (name in template.source or _TAG.fullmatch(name))
        }
        self._tokens = {**vocab.control_tokens, **of_template}
        self._names = _longest_first(self._tokens.values())
        self._begins = re.compile(f"[{re.escape(''.join({name[0] for name in self._names}))}]" if self._names else "(?!)")  # most texts name nothing
        thinking = template.features.thinking
        tags = "\n".join((thinking.start, thinking.end, thinking.turn, thinking.answer, thinking.answer_end)) if thinking else ""
        self._in_answers = tuple(name for name in self._names if name not in tags)  # a template looks for the tags of thoughts there

    def mark(self, *values: Any) -> str:
        """A character that is in none of the texts of these values of JSON; "" where nothing is protected. Raises PromptError."""
        if not self._protects:
            return ""
        texts = list(texts_of(values))
        for mark in MARKS:
            if not any(mark in text for text in texts):
                return mark
        raise PromptError("messages: expected text, got every one of Unicode's noncharacters U+FDD0 to U+FDEF; take them out")

    def messages(self, messages: Sequence[Message], mark: str) -> list[Message]:
        """The messages with every name in their texts marked. The tags of thoughts stay in what the model said."""
        return [self._protected(m, mark, self._in_answers if m.get("role") == "assistant" else self._names) for m in messages]

    def protected(self, value: Any, mark: str) -> Any:
        """A value of JSON with every name in its texts marked."""
        return self._protected(value, mark, self._names)

    def spelled(self, tokens: Sequence[int]) -> str:
        """The text of generated tokens as it stands in a later prompt: names of tokens as they are, what only spells one marked."""
        runs = itertools.groupby(tokens, lambda token: token in self._tokens)
        mark = self.mark()
        return "".join(self._vocab.detokenize(run) if named else self.protected(self._vocab.detokenize(run), mark) for named, run in runs)

    def _protected(self, value: Any, mark: str, names: Sequence[str]) -> Any:
        if isinstance(value, str):
            return _marked(value, mark, names) if mark and self._begins.search(value) else value
        if isinstance(value, Mapping):
            return {self._protected(key, mark, names): self._protected(part, mark, names) for key, part in value.items()}
        return [self._protected(part, mark, names) for part in value] if isinstance(value, list | tuple) else value


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from texts_of(key)
            yield from texts_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_of(part)


def _marked(text: str, mark: str, names: Sequence[str]) -> str:
    for name in names:
        if name in text:
            text = text.replace(name, name[0] + mark + name[1:])
    return text


def _longest_first(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names), key=lambda name: (-len(name), name)))

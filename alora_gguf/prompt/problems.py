"""What is odd about an io.yaml on a model's vocabulary: no error, but something that whoever loads the adapter should know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import PromptError
from ..text import complaint
from .builder import Intrinsic
from .invocation import find_invocation
from .io_yaml import IntrinsicIO

if TYPE_CHECKING:
    from ..runtime.vocab import Vocab
    from .builder import PromptBuilder

_KEY = re.compile(r'"(\w+)"\s*:')  # as an instruction shows the JSON that it wants


def problems(
    io: IntrinsicIO, invocation: Sequence[int], vocab: Vocab | None, prompts: PromptBuilder | None = None, invoked_after: str | None = None
) -> list[str]:
    """Each a line; none, where nothing is odd.

    invocation: empty for an ordinary LoRA. vocab: None leaves out what is odd on a vocabulary alone. prompts: those of the model
    with its chat template, which may write the invocation; invoked_after: the role whose messages it judges, None for any.
    """
    found = [*_of_keys(io), *_of_history(io)]
    if vocab is not None:
        found = [*_of_invocation(io, invocation, vocab), *_of_labels(io, vocab), *found]
    return [*(_of_prompt(io, invocation, prompts, invoked_after) if prompts else ()), *(complaint(io.where, *said) for said in found)]


def _of_prompt(io: IntrinsicIO, invocation: Sequence[int], prompts: PromptBuilder, invoked_after: str | None) -> list[str]:
    """Whether its invocation is in a prompt that it makes, be it by the chat template."""
    if io.instruction is None or not invocation:
        return []
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]
    given = messages if invoked_after in ("user", None) else [*messages[:-1], {**messages[-1], "role": invoked_after}]
    given = messages[:-1] if invoked_after == "assistant" else given
    try:
        prompts.chat(given)
    except PromptError:  # the base's template is none, or not for this
        return []
    try:
        prompts.intrinsic(given, Intrinsic(invocation, io, None, io.where), arguments=dict.fromkeys(io.arguments, "x"))
    except PromptError as e:
        return [str(e)]
    return []


def _of_invocation(io: IntrinsicIO, invocation: Sequence[int], vocab: Vocab) -> Iterator[tuple[str, ...]]:
    """Whether its text stands in the instruction, but not its tokens."""
    name = vocab.detokenize(invocation) if invocation else ""
    if io.instruction is None or not name:
        return
    asked = io.rewrite([{"role": "user", "content": "x"}], **dict.fromkeys(io.arguments, "x"))
    text = asked.messages[-1]["content"]
    tokens = vocab.tokenize_prompt(text, begins=False)
    if any(name in text[begin:end] for begin, end in asked.own_words) and find_invocation(tokens, invocation) is None:
        end = text.index(name) + len(name)
        got = next(tokens[:i] for i in range(len(tokens) + 1) if len(vocab.detokenize(tokens[:i])) >= end)
        shown = [vocab.detokenize([token]) for token in got[-len(invocation) :]]
        expected = f"the tokens {list(invocation)} of its invocation {name!r}"
        yield "instruction", expected, f"{name!r} as {shown}", "its own tokens are put there; another engine would answer without the adapter"


def _of_labels(io: IntrinsicIO, vocab: Vocab) -> Iterator[tuple[str, ...]]:
    """A likelihood reads the first token of a label: it has to be one of its own, and another label's another."""
    for path, categories in io.likelihoods:
        first: dict[int, Any] = {}
        for label, value in categories.items():
            text = json.dumps({path[-1]: label} if path else label)
            at = text.rindex(json.dumps(label)) + isinstance(label, str)
            tokens = vocab.tokenize_prompt(text, begins=False)
            begins = {len(vocab.detokenize(tokens[:i])): token for i, token in enumerate(tokens)}
            if at not in begins:
                yield (
                    "transformations",
                    f"labels that begin a token, as {label!r} does not in {text}",
                    "one that is joined to the quote",
                    "choose another",
                )
            elif categories[first.setdefault(begins[at], label)] != value:
                other = first[begins[at]]
                yield "transformations", "labels whose first tokens differ", f"{other!r} and {label!r}", "the likelihood takes one for the other"


def _of_keys(io: IntrinsicIO) -> Iterator[tuple[str, ...]]:
    shown = set(_KEY.findall((io.instruction or "").replace("{{", "{")))
    known = set(_keys_of(io.schema))
    if known and shown - known:
        yield (
            "instruction",
            f"the keys of response_format, {', '.join(sorted(known))}",
            ", ".join(sorted(shown - known)),
            "the grammar allows the first",
        )


def _of_history(io: IntrinsicIO) -> Iterator[tuple[str, ...]]:
    rewritten = [source for source in io.tags if source != "last_message"]
    if rewritten:
        yield "sentence_boundaries", "the conversation as it is", f"numbers in {', '.join(rewritten)}", "what is cached is not used again"


def _keys_of(schema: Any) -> Iterator[str]:
    """Every property that it names, at any depth."""
    if isinstance(schema, dict):
        properties = schema.get("properties")
        yield from (properties if isinstance(properties, dict) else ())
        schema = list(schema.values())
    for part in schema if isinstance(schema, list) else ():
        yield from _keys_of(part)

"""The messages of a request to tokens, with the adapter's start among them."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..activation import find_invocation
from ..adapter import Adapter
from ..documents import written
from ..engine.cache import Activation
from ..engine.text import TokenLogprob
from ..errors import PromptError
from ..intrinsic import judged
from ..model import Model
from ..prompt.chat_template import Message
from ..prompt.intrinsic_prompt import intrinsic_prompt, text_tokens
from .known import KnownTexts

_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Prompt:
    """The tokens, and what is known of them.

    n_shared    how many tokens others will have too
    text        of all tokens, where an answer to it is part of a conversation
    result_of   what an io.yaml makes of an answer's text and logprobs, where the request is made by it here
    """

    tokens: list[int]
    activations: list[Activation] = field(default_factory=list)
    n_shared: int | None = None
    text: str | None = None
    result_of: Callable[[str, Sequence[TokenLogprob]], Any] | None = None


def chat_prompt(
    model: Model,
    known: KnownTexts,
    messages: Sequence[Message],
    adapter: Adapter | None,
    documents: Sequence[Mapping[str, Any]] = (),
    variables: Mapping[str, Any] = _NONE,
    arguments: Mapping[str, Any] = _NONE,
    space: Hashable = None,
) -> Prompt:
    """The prompt of a chat, whose texts keep the tokens that they are cached with.

    An intrinsic begins at its invocation behind the conversation: in the last message, as granite-common
    writes it, in the generation prompt, or appended. Where an io.yaml has an instruction and the invocation
    is not there yet, the instruction is added here, with its `arguments`. `variables` are the template's.
    Raises PromptError.
    """
    said, render = _rendering(model, messages, documents, variables)
    text = render(said, add_generation_prompt=True)
    pairs = known.fitting(text, space)
    tokenize = model.vocab.tokenize_prompt
    if adapter is None or not adapter.is_activated:
        tokens = text_tokens(text, tokenize, pairs)
        if not tokens:
            raise PromptError("messages: expected one or more tokens, got none; check the chat template")
        return Prompt(tokens, [Activation(adapter, 0)] if adapter else [], text=text)
    n_conversation = len(said)
    before = render(said[:-1], add_generation_prompt=False) if len(said) > 1 else ""
    if before and text.startswith(before):  # what the last message, perhaps an instruction, asks about
        pairs = [*pairs, (before, text_tokens(before, tokenize, pairs))]
    result_of = None
    start = find_invocation(text_tokens(text, tokenize, pairs), adapter.invocation_tokens)
    if adapter.io is not None and (start is None or start < len(text_tokens(before, tokenize, pairs) if before else ())):
        where = f"intrinsic {adapter.name!r}"
        asked = adapter.io.rewrite(judged(messages, adapter.metadata.invoked_after, where), documents, **arguments)
        result_of = partial(adapter.io.result, asked)
        if asked.n_conversation < len(asked.messages):
            given = dict(asked.template_arguments)
            said, render = _rendering(model, asked.messages, given.pop("documents", ()), {**variables, **given})
            n_conversation = len(said) - 1
            pairs = known.fitting(render(said, add_generation_prompt=True), space)
    prompt = intrinsic_prompt(said, n_conversation, adapter.invocation_tokens, render, tokenize, pairs, f"adapter {adapter.name!r}")
    return Prompt(prompt.tokens, [Activation(adapter, prompt.start)], n_shared=min(prompt.start, prompt.n_conversation) or None,
                  result_of=result_of)


def text_prompt(
    model: Model, known: KnownTexts, prompt: str | Sequence[int], adapter: Adapter | None, space: Hashable = None
) -> Prompt:
    """The prompt of a completion. An adapter is active in it as in PEFT's forward: from the last invocation on, or nowhere."""
    text = prompt if isinstance(prompt, str) else None
    tokens = list(prompt) if text is None else text_tokens(text, model.vocab.tokenize_prompt, known.fitting(text, space))
    start = adapter.start_in(tokens) if adapter else None
    if start is None:
        return Prompt(tokens, text=text)
    return Prompt(tokens, [Activation(adapter, start)], start or None, None if adapter.is_activated else text)


def _rendering(model: Model, messages: Sequence[Message], documents: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]):
    """The messages, and how they are written, with the documents in the one or the other."""
    said, given = written(model.template, messages, documents)
    return said, partial(model.render, **{**variables, **given})


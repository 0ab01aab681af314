"""The prompt of an intrinsic: the tokens of a conversation and what asks about it, and where the adapter begins.

Training and runtime both come here, so that an adapter runs on the very tokens that it was trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..activation import find_invocation
from ..errors import PromptError

Known = tuple[str, Sequence[int]]  # a text, and the tokens that were computed for it


class IntrinsicPrompt(NamedTuple):
    """tokens: of all of it. start: index from which on the adapter is active. text: of the conversation, the first n_conversation tokens."""

    tokens: list[int]
    start: int
    text: str
    n_conversation: int


def text_tokens(text: str, tokenize: Callable[..., list[int]], known: Sequence[Known] = ()) -> list[int]:
    """The tokens of a text from its first character on; what begins with a known text keeps its tokens there.

    tokenize(text, begins=True) gives those of a text that nothing stands before, BOS included if there is one,
    tokenize(text, begins=False) those of one that goes on.
    """
    fitting = [pair for pair in known if text.startswith(pair[0])]
    if not fitting:
        return tokenize(text, begins=True)
    begin, tokens = max(fitting, key=lambda pair: len(pair[0]))
    return [*tokens, *(tokenize(text[len(begin) :], begins=False) if len(text) > len(begin) else [])]


def intrinsic_prompt(
    messages: Sequence[Mapping[str, str]],
    n_conversation: int,
    invocation: Sequence[int],
    render: Callable[..., str],
    tokenize: Callable[..., list[int]],
    known: Sequence[Known] = (),
    where: str = "intrinsic",
) -> IntrinsicPrompt:
    """The prompt of the intrinsic with these invocation tokens.

    messages, n_conversation: as in IntrinsicRequest. An instruction behind the conversation has to hold the
    invocation, whose last occurrence counts, as in PEFT. Without one it is in the last message or in the
    generation prompt, or else is appended.
    render(messages, add_generation_prompt=...) gives the text. tokenize, known: as in text_tokens().
    Raises PromptError.
    """
    text = render(messages[:n_conversation], add_generation_prompt=False) if n_conversation or not messages else ""
    whole = render(messages, add_generation_prompt=True)
    if not whole.startswith(text):  # a template that writes the conversation otherwise when something follows
        if n_conversation == len(messages):
            return _appended(text, text_tokens(text, tokenize, known), invocation)
        text = ""
    conversation = text_tokens(text, tokenize, known) if text or n_conversation == len(messages) else []
    tokens = text_tokens(whole, tokenize, [(text, conversation)] if text else known)
    start = find_invocation(tokens, invocation)
    if n_conversation < len(messages):
        if start is None or start < len(conversation):
            raise PromptError(
                f"{where}: instruction: expected its invocation, tokens {list(invocation)}, behind the conversation, got none there; "
                "put its text into the instruction of io.yaml, with a space or a line break on either side")
        return IntrinsicPrompt(tokens, start, text, len(conversation))
    if start is None or start < _n_before_last(messages, render, tokenize, known):
        return _appended(text, conversation, invocation)
    return IntrinsicPrompt(tokens, start, text, len(conversation))


def _n_before_last(messages: Sequence[Mapping[str, str]], render, tokenize, known: Sequence[Known]) -> int:
    """How many tokens stand before the last message."""
    return len(text_tokens(render(messages[:-1], add_generation_prompt=False), tokenize, known)) if len(messages) > 1 else 0


def _appended(text: str, conversation: Sequence[int], invocation: Sequence[int]) -> IntrinsicPrompt:
    return IntrinsicPrompt([*conversation, *invocation], len(conversation), text, len(conversation))

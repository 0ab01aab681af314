"""The prompt of an intrinsic: the tokens of a conversation and what asks about it, and where the adapter begins.

Training and runtime both come here, so that an adapter runs on the very tokens that it was trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..errors import PromptError
from .invocation import find_invocation
from .token_history import Known, text_tokens


class IntrinsicPrompt(NamedTuple):
    """tokens: of all of it. start: index from which on the adapter is active. text: of the conversation, the first n_conversation tokens.

    is_appended   whether the invocation was in none of the texts, and was put behind them
    """

    tokens: list[int]
    start: int
    text: str
    n_conversation: int
    is_appended: bool = False


def intrinsic_prompt(
    messages: Sequence[Mapping[str, str]],
    n_conversation: int,
    invocation: Sequence[int],
    render: Callable[..., str],
    tokenize: Callable[..., list[int]],
    known: Callable[[str], Sequence[Known]] = lambda text: (),
    where: str = "intrinsic",
) -> IntrinsicPrompt:
    """The prompt of the intrinsic with these invocation tokens.

    messages, n_conversation: as in IntrinsicRequest. An instruction behind the conversation has to hold the
    invocation, whose last occurrence counts, as in PEFT. Without one it is in the last message or in the
    generation prompt, or else is appended.
    render(messages, add_generation_prompt=...) gives the text. tokenize: as in text_tokens(), which gets known(text).
    Raises PromptError.
    """
    text = _conversation(messages[:n_conversation], render) if n_conversation < len(messages) else render(messages, add_generation_prompt=False)
    whole = render(messages, add_generation_prompt=True)
    if not whole.startswith(text):  # a template that writes the conversation otherwise when something follows
        if n_conversation == len(messages):
            return _appended(text, text_tokens(text, tokenize, known(text)), invocation)
        text = ""
    conversation = text_tokens(text, tokenize, known(text)) if text or n_conversation == len(messages) else []
    tokens = text_tokens(whole, tokenize, [(text, conversation)] if text else known(whole))
    start = find_invocation(tokens, invocation)
    if n_conversation < len(messages):
        if start is None or start < len(conversation):
            raise PromptError(
                f"{where}: instruction: expected its invocation, tokens {list(invocation)}, behind the conversation, got none there; "
                "put its text into the instruction of io.yaml, with a space or a line break on either side"
            )
        return IntrinsicPrompt(tokens, start, text, len(conversation))
    if start is None or start < _n_before_last(messages, render, tokenize, known):
        return _appended(text, conversation, invocation)
    return IntrinsicPrompt(tokens, start, text, len(conversation))


def _conversation(messages: Sequence[Mapping[str, str]], render) -> str:
    """The text of what stands before an instruction; "" where the template does not write it alone."""
    try:
        return render(messages, add_generation_prompt=False) if messages else ""
    except PromptError:
        return ""


def _n_before_last(messages: Sequence[Mapping[str, str]], render, tokenize, known) -> int:
    """How many tokens stand before the last message; none where the template does not write the others alone."""
    try:
        before = render(messages[:-1], add_generation_prompt=False) if len(messages) > 1 else ""
    except PromptError:
        return 0
    return len(text_tokens(before, tokenize, known(before))) if before else 0


def _appended(text: str, conversation: Sequence[int], invocation: Sequence[int]) -> IntrinsicPrompt:
    return IntrinsicPrompt([*conversation, *invocation], len(conversation), text, len(conversation), is_appended=True)

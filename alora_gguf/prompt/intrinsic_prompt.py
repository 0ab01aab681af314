"""The prompt of an intrinsic: the tokens of a conversation and what asks about it, and where the adapter begins.

Training and runtime both come here, so that an adapter runs on the very tokens that it was trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PromptError
from .control_tokens import MARKS
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
    place: tuple[int, str] | None = None,
) -> IntrinsicPrompt:
    """The prompt of the intrinsic with these invocation tokens.

    messages, n_conversation: as in IntrinsicRequest. An instruction behind the conversation has to hold the
    invocation, whose last occurrence counts, as in PEFT. Without one it is in the last message or in the
    generation prompt, or else is appended.
    place: where in the content of the last message the text of the invocation stands, and this text. Where it is tokenised as
    something else there (`>:` may be one token), its own tokens are put in its place, and the rest is tokenised around them.
    Of an ordinary LoRA, which has no invocation, it is all of the prompt, with the adapter active from its first token on.
    render(messages, add_generation_prompt=...) gives the text. tokenize: as in text_tokens(), which gets known(text).
    Raises PromptError.
    """
    text = _conversation(messages[:n_conversation], render) if n_conversation < len(messages) else render(messages, add_generation_prompt=False)
    whole = render(messages, add_generation_prompt=True)
    if not whole.startswith(text):  # a template that writes the conversation otherwise when something follows
        if n_conversation == len(messages) and invocation:
            return _appended(text, text_tokens(text, tokenize, known(text)), invocation)
        text = ""
    conversation = text_tokens(text, tokenize, known(text)) if text or n_conversation == len(messages) else []
    tokens = text_tokens(whole, tokenize, [(text, conversation)] if text else known(whole))
    if not invocation:
        return IntrinsicPrompt(tokens, 0, text, len(conversation))
    start = find_invocation(tokens, invocation)
    if n_conversation < len(messages):
        if start is None or start < len(conversation):
            around = [(text, conversation)] if text else known(whole)
            if (split := _split(messages, place, whole, invocation, render, tokenize, around)) is not None:
                return split._replace(text=text, n_conversation=len(conversation))
            raise PromptError(
                f"{where}: instruction: expected its invocation, tokens {list(invocation)}, behind the conversation, got none there; "
                "put its text into the instruction of io.yaml"
            )
        return IntrinsicPrompt(tokens, start, text, len(conversation))
    if start is None or start < _n_before_last(messages, render, tokenize, known):
        if (split := _split(messages, place, whole, invocation, render, tokenize, known(whole))) is not None:
            return split
        return _appended(text, conversation, invocation)
    return IntrinsicPrompt(tokens, start, text, len(conversation))


def place_of(messages: Sequence[Mapping[str, Any]], name: str, own_words: Sequence[tuple[int, int]] = ()) -> tuple[int, str] | None:
    """Where the invocation stands whose text is `name`, in the content of the last message; None if nowhere.

    own_words: as in IntrinsicRequest. What the io.yaml says counts before what it quotes, and the beginning of a message before what follows.
    """
    text = messages[-1].get("content") if messages else None
    if not isinstance(text, str) or not name:
        return None
    at = max((text.rfind(name, *span) for span in own_words), default=-1)
    if at < 0:
        at = len(text) - len(text.lstrip())
        at = at if text.startswith(name, at) else text.rfind(name)
    return (at, name) if at >= 0 else None


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


def _split(messages: Sequence[Mapping[str, str]], place, whole: str, invocation: Sequence[int], render, tokenize, known) -> IntrinsicPrompt | None:
    """The prompt whose text is split at `place`; its `text` ends there. None where the template writes the last message otherwise then.

    whole: the text. known: as in text_tokens.
    """
    cut = next((mark for mark in reversed(MARKS) if mark not in whole), None)
    if place is None or cut is None:
        return None
    content, (at, name) = messages[-1]["content"], place
    head, _, tail = render([*messages[:-1], {**messages[-1], "content": content[:at] + cut + content[at:]}], add_generation_prompt=True).partition(
        cut
    )
    if head + tail != whole or not tail.startswith(name):
        return None
    tokens = text_tokens(head, tokenize, known)
    rest = tail[len(name) :]
    made = [*tokens, *invocation, *(tokenize(rest, begins=False) if rest else [])]
    return IntrinsicPrompt(made, find_invocation(made, invocation) or 0, head, len(tokens))


def _appended(text: str, conversation: Sequence[int], invocation: Sequence[int]) -> IntrinsicPrompt:
    return IntrinsicPrompt([*conversation, *invocation], len(conversation), text, len(conversation), is_appended=True)

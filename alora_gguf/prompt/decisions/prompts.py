"""The prompts of typed questions on one conversation: what is said, then a user's turn with the question, up to where a label answers it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from ...errors import PromptError
from ..builder import PromptBuilder, Setting
from ..control_tokens import MARKS
from ..invocation import find_invocation
from ..messages import Message, check_messages
from ..token_history import Known, text_tokens

if TYPE_CHECKING:
    from ...runtime.vocab import Vocab

_OFF = "enable_thinking", "thinking"  # variables by which templates are told not to think


class DecisionPrompt(NamedTuple):
    """tokens of a prompt, from `start` on with the adapter, None: without one; and those of each label behind it."""

    tokens: list[int]
    start: int | None
    labels: list[list[int]]


class DecisionPrompts:
    """Those of one conversation. The messages are rendered and tokenised once, and each question between what stands around it.

    n_shared   how many tokens the conversation has, which questions have in common
    known      a text and its tokens, beside the history

    Raises PromptError.
    """

    def __init__(self, builder: PromptBuilder, messages: Sequence[Message], setting: Setting = Setting(), *, known: Known | None = None):
        check_messages(messages)
        self._builder, self._vocab = builder, builder.vocab
        template = builder.template
        off = {name: False for name in _OFF if name in template.variables}
        setting = setting._replace(variables={**off, **setting.variables})
        said, setting, mark = builder.protected(messages, setting)
        cut = next(cut for cut in MARKS if cut != mark)
        asked = [*said, {"role": "user", "content": cut}]
        head, tail = self._around(asked, cut, setting, mark, add_generation_prompt=True)
        self._head = text_tokens(
            head, partial(self._vocab.tokenize_prompt, mark=mark), [*builder.history.fitting(head, setting.cache_salt), *([known] if known else [])]
        )
        self._before_invocation = self._around(asked, cut, setting, mark, add_generation_prompt=False)[1]
        thinking = template.features.thinking
        if thinking is not None and (template.features.thinks_in(head + tail) or not off):
            tail += thinking.passed_by(head + tail)
        self._tail = tail
        self.n_shared = len(self._head)

    def _around(self, asked: Sequence[Message], cut: str, setting: Setting, mark: str, *, add_generation_prompt: bool) -> tuple[str, str]:
        """What the template writes before the question and behind it."""
        text = self._builder.render(asked, add_generation_prompt=add_generation_prompt, setting=setting, mark=mark)
        head, found, tail = text.partition(cut)
        if not found or cut in tail:
            raise PromptError("decide: expected a chat template that writes a user's question once, got one that does not; use another")
        return head, tail

    def prompt(
        self, text: str, labels: Sequence[str], invocation: Sequence[int] = (), *, is_lora: bool = False, is_before: bool = False
    ) -> DecisionPrompt:
        """That of a question, as an adapter with this invocation is asked it: the generation prompt has it, or it stands in its place.

        is_lora     an ordinary LoRA answers, active from the first token on
        is_before   the invocation stands before the question, so that the adapter reads it: one that was trained on decisions
        """
        builder = self._builder
        mark = builder.control.mark(text)
        said = builder.control.protected(text, mark)
        if is_before:
            asked = self._vocab.tokenize_prompt(f"{' ' if invocation else ''}{said}{self._tail}", begins=False, mark=mark)
            return DecisionPrompt(
                [*self._head, *invocation, *asked], 0 if is_lora else len(self._head), self.label_tokens(labels, builder.answer_gap)
            )
        rest = lambda tail: self._vocab.tokenize_prompt(said + tail, begins=False, mark=mark)
        tokens, gap, start = [*self._head, *rest(self._tail)], builder.answer_gap, 0 if is_lora else None
        if invocation:
            start = find_invocation(tokens, invocation)
            if start is None or start < len(self._head) + len(self._vocab.tokenize_prompt(said, begins=False, mark=mark)):
                before = [*self._head, *rest(self._before_invocation)]
                tokens, gap, start = [*before, *invocation], "", len(before)
        return DecisionPrompt(tokens, start, self.label_tokens(labels, gap))

    def is_label(self, text: str) -> bool:
        """Whether it is one token where an answer begins."""
        return len(self._vocab.tokenize_more(self._builder.answer_gap + text, special=False)) == 1

    def label_tokens(self, labels: Sequence[str], gap: str) -> list[list[int]]:
        """The tokens of each label, as the model says them. Where one begins another, all of them are followed by the end of an answer."""
        made = [self._vocab.tokenize_more(gap + label, special=False) for label in labels]
        if any(not tokens for tokens in made):
            raise PromptError(f"labels: expected texts that have tokens, got {labels[made.index([])]!r:.80}")
        if len({tuple(tokens) for tokens in made}) < len(made):
            raise PromptError("labels: expected texts with tokens of their own, got two with the same; use others")
        return told_apart(made, self._vocab)


def told_apart(labels: list[list[int]], vocab: Vocab) -> list[list[int]]:
    """The tokens of labels, with the end of an answer behind all of them where one begins another."""
    if not begins_another(labels):
        return labels
    end = vocab.ends[0] if vocab.ends else vocab.eos
    return [[*tokens, end] for tokens in labels]


def begins_another(labels: Sequence[Sequence[int]]) -> bool:
    """Whether a label's tokens are the first of another's."""
    ordered = sorted(tuple(label) for label in labels)
    return any(longer[: len(shorter)] == shorter for shorter, longer in pairwise(ordered))

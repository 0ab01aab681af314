"""A question's tokens with its options in an order, as the runtime writes them."""

import random
from collections.abc import Sequence
from dataclasses import replace

from ..errors import AloraError, TrainError
from ..prompt.builder import PromptBuilder
from ..prompt.chat_template import template_of
from ..prompt.decisions.prompts import DecisionPrompts
from ..prompt.decisions.question import Choice
from ..runtime.vocab import Vocab
from .decision_rows import Drawn
from .decisions import DecisionLine, RightOf
from .prompts import Example


class Questions(Sequence[RightOf]):
    """Those of some rows, of which each is one example, with the vocabulary and template of the base.

    invocation   none for an ordinary LoRA, which is asked without one
    """

    def __init__(self, vocab: Vocab, base_name: str, invocation: Sequence[int], lines: Sequence[DecisionLine]):
        self._invocation = list(invocation)
        self._builder = PromptBuilder(vocab, lambda: template_of(vocab, None, base_name))
        self._asked = [(line, one) for line in lines for one in line.questions]
        self._of: tuple[DecisionLine, DecisionPrompts] | None = None

    def __len__(self) -> int:
        return len(self._asked)

    def __getitem__(self, i):
        return self._asked[i][1]

    def drawn(self, i: int, rng: random.Random | None) -> Drawn:
        """With its options in an order of `rng`, of levels up or down; in their own without one.

        Raises TrainError, with the row, if the runtime would refuse it.
        """
        line, one = self._asked[i]
        order = list(range(one.question.n_options))
        if rng is not None:
            order = rng.sample(order, len(order)) if isinstance(one.question, Choice) else rng.choice((order, order[::-1]))
        try:
            question = replace(one.question, labels="values") if isinstance(one.question, Choice) else one.question
            prompts = self._prompts(line)
            asked = question.asked(order, prompts.is_label)
            prompt = prompts.prompt(asked.text, asked.labels, self._invocation, is_before=True)
        except AloraError as e:
            raise TrainError(f"{one.where}: {e}") from e
        start = prompts.n_shared
        return Drawn(prompt.tokens[:start], prompt.tokens[start:], prompt.labels, list(one.right), order)

    def example(self, i: int) -> Example:
        """With the first of its options for an output."""
        drawn = self.drawn(i, None)
        return Example(drawn.prefix, drawn.suffix, drawn.labels[0])

    def _prompts(self, line: DecisionLine) -> DecisionPrompts:
        if self._of is None or self._of[0] is not line:
            self._of = line, DecisionPrompts(self._builder, line.messages)
        return self._of[1]

"""What an answer may do with tools: how it is read, and what it has to follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import PromptError
from ..thinking import Thinking
from .calls import ToolCalls
from .format import ToolFormat
from .grammar import ToolGrammar
from .schemas import Schema, ToolChoice, parameters_of

if TYPE_CHECKING:
    from ...runtime.constraint import Constraint
    from ...runtime.sampling import SamplingParams
    from ...runtime.vocab import Vocab
    from ..chat_template import ChatTemplate


@dataclass(frozen=True)
class ToolUse:
    """format: of the model's calls. tools: the schemas of the arguments, by the names of those that may be called.

    required   it has to call one; one: it may call one at most
    thinking   the strings around the model's thought, if it may think before; in_thought: the prompt ends within one
    """

    format: ToolFormat
    tools: Mapping[str, Schema]
    required: bool = False
    one: bool = False
    thinking: Thinking | None = None
    in_thought: bool = False

    def reader(self) -> ToolCalls:
        return ToolCalls(self.format, self.tools, one=self.one)

    def constraint(self, vocab: Vocab, params: SamplingParams) -> Constraint | None:
        """What the answer has to follow from its beginning; None: whatever `params` say. Raises PromptError."""
        asked = next((name for name in ("json_schema", "grammar", "regex", "choice") if getattr(params, name) is not None), None)
        if self.required:
            if asked:
                raise PromptError(f"tool_choice: expected 'auto' or 'none' beside {asked}, got a call that is required; give one of them")
            return self._made(vocab, True)
        if asked is None:
            return None
        if asked != "json_schema":
            raise PromptError(f"{asked}: expected json_schema or nothing beside tools, got {asked}; set tool_choice to 'none' for this answer")
        return self._made(vocab, True, params.json_schema)

    def constraint_of_calls(self, vocab: Vocab) -> Constraint | None:
        """What a call has to follow that the model begins by itself; None where that cannot be enforced."""
        try:
            return self._made(vocab, False)
        except PromptError:
            return None

    def _made(self, vocab: Vocab, from_start: bool, answer: Any = None) -> Constraint:
        from ...runtime.constraint import schema_of

        thinking = self.thinking if from_start else None
        grammar = ToolGrammar(self.format, vocab.control_tokens)
        schema = None if answer is None else schema_of(answer)
        text = grammar.of(self.tools, one=self.one, thinking=thinking, in_thought=self.in_thought, answer=schema, after_text=not from_start)
        return vocab.constraints.constraint("tools", text)


def tool_use(template: ChatTemplate, tools: Sequence[Schema], choice: ToolChoice, prompt: str, in_thought: bool) -> ToolUse | None:
    """How an answer to a prompt is read; None: it calls no tools. Raises PromptError where the model's format is not known."""
    if choice.mode == "none" or not choice.names:
        return None
    features = template.features
    thinking = features.thinking
    if thinking is not None and not in_thought and prompt.rstrip().endswith(thinking.end.strip()):
        thinking = None  # it has been closed
    schemas = {name: schema for name, schema in parameters_of(tools).items() if name in choice.names}
    one = choice.one or (features.tool_calls and not features.several_calls)
    return ToolUse(template.check_calls(), schemas, choice.mode == "required", one, thinking, in_thought)

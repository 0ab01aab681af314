"""What a request asks for, as a prompt with the adapter that is active in it."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..engine.adapter import Adapter
from ..engine.cache import Activation
from ..errors import PromptError
from ..model import Model
from ..prompt.builder import Prompt, Setting
from ..prompt.messages import Message
from ..prompt.tools.schemas import ToolChoice
from ..prompt.tools.use import ToolUse, tool_use


@dataclass(frozen=True)
class Prepared:
    """A prompt, and what is active in it.

    checkpoint   how many tokens others will have too
    is_said      whether an answer to it is part of what the next request says
    warnings     of the adapter that was asked for, as where it is active nowhere
    tools        what the answer may do with tools, None: nothing
    """

    prompt: Prompt
    activations: list[Activation] = field(default_factory=list)
    checkpoint: int | None = None
    is_said: bool = True
    warnings: list[str] = field(default_factory=list)
    tools: ToolUse | None = None


def chat_prompt(
    model: Model,
    messages: Sequence[Message],
    adapter: Adapter | None,
    setting: Setting,
    arguments: Mapping[str, Any],
    choice: ToolChoice | None = None,
) -> Prepared:
    """The prompt of a chat. An intrinsic begins at its invocation behind the conversation: in the last message, as granite-common
    writes it, in the generation prompt, or appended. Where an io.yaml has an instruction and the invocation is not there yet, the
    instruction is added here, with its `arguments`. An ordinary LoRA that has an io.yaml is asked so too, unless the last message
    is its instruction already. The answer of an intrinsic calls no tools, of which there is a `choice`. Raises PromptError.
    """
    if adapter is None or not adapter.is_intrinsic:
        prompt, active = model.engine.prompts.chat(messages, setting), [Activation(adapter, 0)] if adapter else []
        tools = tool_use(model.template, setting.variables.get("tools", ()), choice, prompt.text, prompt.thinks) if choice else None
        return Prepared(prompt, active, warnings=adapter.warnings if adapter else [], tools=tools)
    if choice is not None and choice.mode == "required":
        raise PromptError("tool_choice: expected 'auto' or 'none' with an intrinsic, which calls no tools, got a call that is required; leave it out")
    prompt = model.engine.prompts.intrinsic(messages, adapter.intrinsic, setting, arguments=arguments, may_be_asked=True)
    assert prompt.start is not None and prompt.n_shared is not None  # of an intrinsic
    checkpoint = (min(prompt.start, prompt.n_shared) if adapter.is_activated else prompt.n_shared) or None
    return Prepared(prompt, [Activation(adapter, prompt.start)], checkpoint, is_said=False, warnings=adapter.warnings)


def text_prompt(model: Model, text: str | Sequence[int], adapter: Adapter | None, cache_salt: Hashable = None) -> Prepared:
    """The prompt of a completion. An adapter is active in it as in PEFT's forward: from the last invocation on, or nowhere."""
    prompt = model.engine.prompts.completion(text, cache_salt) if isinstance(text, str) else Prompt(list(text))
    start = adapter.start_in(prompt.tokens) if adapter else None
    if adapter is None or start is None:
        return Prepared(prompt, is_said=isinstance(text, str), warnings=adapter.warnings_at(None) if adapter else [])
    is_said = isinstance(text, str) and not adapter.is_activated
    return Prepared(prompt, [Activation(adapter, start)], start or None, is_said=is_said, warnings=adapter.warnings_at(start))


def tokens_prompt(
    model: Model, tokens: Sequence[int], adapter: Adapter | None, tools: Sequence[dict[str, Any]] = (), choice: ToolChoice | None = None
) -> Prepared:
    """The prompt of a chat of which the tokens are given, as /tokenize counts them. An adapter is active in it as in a completion's.

    The answer may call `tools`, of which there is a `choice`, unless it is an intrinsic's. Raises PromptError.
    """
    prepared = text_prompt(model, model.vocab.check(tokens), adapter)
    text = model.vocab.detokenize(tokens)
    thinks = model.template.features.thinks_in(text)
    use = tool_use(model.template, tools, choice, text, thinks) if choice and not (adapter and adapter.is_intrinsic) else None
    return replace(prepared, prompt=replace(prepared.prompt, is_chat=True, thinks=thinks), tools=use)

"""OpenAI's messages, as a chat template takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import PromptError

if TYPE_CHECKING:
    from .features import Features

Message = dict[str, Any]

_FIELDS = "role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking", "reasoning"


def fitted(messages: Sequence[Mapping[str, Any]], features: Features) -> list[Message]:
    return [dict(m) for m in messages]

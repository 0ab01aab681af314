"""A message in Anthropic's shape, whole or in events. The whole one is what its events add up to."""

from __future__ import annotations

import json
import uuid
from collections.abc import Hashable, Mapping
from typing import Any

from ...reply import Chunk, Reply
from ..door import Event, chunks_of
from ..events import Form, named_event
from ..problem import as_json

_REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}


class MessageAnswer:
    """The thought's text is left out if it is not to be shown."""

    form = Form("text/event-stream", named_event, lambda problem: as_json(problem, "/v1/messages"), "")

    def __init__(self, model: str, *, shows_thought: bool = True):
        head = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": model}
        self._message: dict[str, Any] = {**head, "content": [], "stop_reason": None, "stop_sequence": None}
        self._content: list[dict[str, Any]] = self._message["content"]
        self._open: Hashable = None  # of what the last block is: a kind, or a call's index
        self._texts: list[str] = []
        self._shows_thought = shows_thought

    def whole(self, reply: Reply, more: Mapping[str, Any]) -> dict[str, Any]:
        for chunk in chunks_of(reply):
            self.piece(chunk)
        self.end(reply, more)
        return {**self._message, "usage": usage_of(reply), **more}

    def begin(self, reply: Reply) -> list[Event]:
        return [{"type": "message_start", "message": {**self._message, "content": [], "usage": usage_of(reply)}}, {"type": "ping"}]

    def piece(self, piece: Chunk) -> list[Event]:
        if not piece and not piece.call:
            return []
        key: Hashable = piece.call.index if piece.call else piece.kind
        events = [] if key == self._open else [*self._close(), *self._begin(piece)]
        self._open = key
        if not piece or (piece.kind == "reasoning" and not self._shows_thought):
            return events
        self._texts.append(piece)
        deltas = {"text": ("text_delta", "text"), "reasoning": ("thinking_delta", "thinking"), "tool_call": ("input_json_delta", "partial_json")}
        kind, name = deltas[piece.kind]
        return [*events, self._delta({"type": kind, name: str(piece)})]

    def end(self, reply: Reply, more: Mapping[str, Any]) -> list[Event]:
        events = []
        if not self._content:  # clients read the first block
            events += self._begin(Chunk(""))
            self._open = "text"
        events += self._close()
        is_stopped = reply.finish_reason == "stop" and reply.stop_string is not None
        why = {"stop_reason": "stop_sequence" if is_stopped else _REASONS[reply.finish_reason], "stop_sequence": reply.stop_string}
        self._message |= why
        return [*events, {"type": "message_delta", "delta": why, "usage": usage_of(reply), **more}, {"type": "message_stop"}]

    def _begin(self, piece: Chunk) -> list[Event]:
        if piece.call:
            block: dict[str, Any] = {"type": "tool_use", "id": piece.call.id, "name": piece.call.name, "input": {}}
        else:
            block = {"type": "thinking", "thinking": "", "signature": ""} if piece.kind == "reasoning" else {"type": "text", "text": ""}
        self._content.append(block)
        self._texts = []
        return [{"type": "content_block_start", "index": len(self._content) - 1, "content_block": {**block}}]

    def _close(self) -> list[Event]:
        """What is said of a block at its end."""
        if self._open is None:
            return []
        block, text, self._open = self._content[-1], "".join(self._texts), None
        events = []
        if block["type"] == "tool_use":
            block["input"] = _object(text)
        elif block["type"] == "thinking":
            block["thinking"] = text
            events.append(self._delta({"type": "signature_delta", "signature": ""}))  # clients wait for one
        else:
            block["text"] = text
        return [*events, {"type": "content_block_stop", "index": len(self._content) - 1}]

    def _delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": len(self._content) - 1, "delta": delta}


def usage_of(reply: Reply) -> dict[str, Any]:
    """`input_tokens` are those that were not in the cache."""
    usage = reply.usage
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _object(text: str) -> dict[str, Any]:
    """The arguments of a call, as far as they are whole: a stream that is cut has said them in part."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return {}

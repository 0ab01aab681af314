"""Replies in Ollama's shape, whole or in lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from ...reply import CallHead, Chunk, Reply, TokenLogprob
from ..answer import ChatAnswer, TokenBytes

_REASONS = {"tool_calls": "stop"}


class OllamaAnswer:
    """The answer to one request, to `model` as the client named it; `in_chat`, or to a prompt. With `token_bytes` there are logprobs in it.

    `t_start` and `t_begun` are when it came and when it was its turn, in seconds of time.perf_counter().
    """

    def __init__(self, model: str, token_bytes: TokenBytes | None, *, in_chat: bool):
        self._model, self._in_chat = model, in_chat
        self._logprobs = ChatAnswer(model, token_bytes)
        self._calls: dict[int, tuple[CallHead, list[str]]] = {}
        self._n_called = 0
        self.t_start = self.t_begun = time.perf_counter()

    def empty(self, reason: str) -> dict[str, Any]:
        """Where nothing was asked."""
        return {**self._line(), "done": True, "done_reason": reason}

    def pieces(self, piece: Chunk) -> Iterator[dict[str, Any]]:
        """The lines that say it: a tool call is whole in one."""
        if piece.kind == "tool_call" and piece.call is not None:
            self._calls.setdefault(piece.call.index, (piece.call, []))[1].append(piece)
            yield from self._called(before=piece.call.index)
            return
        yield from self._called(before=len(self._calls))
        said = {"thinking": str(piece)} if piece.kind == "reasoning" else {"content": str(piece)}
        yield {**self._line(**said), "done": False, **self._probable(piece.logprobs)}

    def last(self, reply: Reply, warnings: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The lines that end it."""
        for i, call in enumerate(reply.tool_calls[self._n_called :], self._n_called):
            yield {**self._line(tool_calls=[_call(i, call.id, call.name, call.arguments)]), "done": False}
        yield {**self._line(), **self._end(reply, warnings)}

    def whole(self, reply: Reply, warnings: Sequence[str]) -> dict[str, Any]:
        calls = [_call(i, call.id, call.name, call.arguments) for i, call in enumerate(reply.tool_calls)]
        said: dict[str, Any] = {
            "content": reply.text,
            **({"thinking": reply.reasoning} if reply.reasoning else {}),
            **({"tool_calls": calls} if calls else {}),
        }
        return {**self._line(**said), **self._end(reply, warnings), **self._probable(reply.logprobs)}

    def _line(self, content: str = "", **more: Any) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": content, **more}} if self._in_chat else {"response": content, **more}
        return {"model": self._model, "created_at": datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"), **said}

    def _called(self, before: int) -> Iterator[dict[str, Any]]:
        """Calls that are whole, as one behind them has begun."""
        while self._n_called < before and self._n_called in self._calls:
            head, pieces = self._calls[self._n_called]
            with suppress(ValueError):
                yield {**self._line(tool_calls=[_call(self._n_called, head.id, head.name, json.loads("".join(pieces) or "{}"))]), "done": False}
            self._n_called += 1

    def _probable(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Ollama's are as OpenAI's; without wanted alternatives the field is not there."""
        found = self._logprobs.logprobs(logprobs)
        if not found or not found["content"]:
            return {}
        return {"logprobs": [{name: value for name, value in token.items() if name != "top_logprobs" or value} for token in found["content"]]}

    def _end(self, reply: Reply, warnings: Sequence[str]) -> dict[str, Any]:
        """Times in nanoseconds, of which none is 0: clients divide by them. What was before its turn is `load_duration`."""
        total, load = time.perf_counter() - self.t_start, self.t_begun - self.t_start
        prompt = min(reply.usage.ttft_ms / 1e3, total - load)
        as_ns = lambda seconds: max(1, round(seconds * 1e9))
        return {
            "done": True,
            "done_reason": _REASONS.get(reply.finish_reason, reply.finish_reason),
            "total_duration": as_ns(total),
            "load_duration": as_ns(load),
            "prompt_eval_count": reply.usage.prompt_tokens,
            "prompt_eval_duration": as_ns(prompt),
            "eval_count": reply.usage.completion_tokens,
            "eval_duration": as_ns(total - load - prompt),
            **({"warnings": list(warnings)} if warnings else {}),
        }


def _call(index: int, call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": call_id, "function": {"index": index, "name": name, "arguments": arguments}}

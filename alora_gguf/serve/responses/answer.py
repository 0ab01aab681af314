"""A response in OpenAI's shape of Responses, whole or in events. The whole one is what its events add up to."""

from __future__ import annotations

import time
import uuid
from collections.abc import Hashable, Mapping
from typing import Any

from ...reply import Chunk, Reply
from ..answer import TokenBytes, logprobs_of
from ..door import Event, chunks_of
from ..events import Form, named_event
from ..problem import Problem

_PREFIX = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


class ResponseAnswer:
    """`echo` is what the response says of its request; with `token_bytes` there are logprobs in it."""

    def __init__(self, model: str, token_bytes: TokenBytes | None, echo: Mapping[str, Any]):
        self._response: dict[str, Any] = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            **echo,
            "usage": None,
        }
        self._token_bytes = token_bytes
        self._output: list[dict[str, Any]] = self._response["output"]
        self._open: Hashable = None  # of what the last item is: a kind, or a call's index
        self._texts: list[str] = []
        self._n_events = 0
        self.form = Form("text/event-stream", named_event, self._failed, "")

    def whole(self, reply: Reply, more: Mapping[str, Any]) -> dict[str, Any]:
        for chunk in chunks_of(reply):
            self.piece(chunk)
        self.end(reply, more)
        return self._response

    def begin(self, reply: Reply) -> list[Event]:
        return [self._of_response("created"), self._of_response("in_progress")]

    def piece(self, piece: Chunk) -> list[Event]:
        key: Hashable = piece.call.index if piece.call else piece.kind
        events = []
        if key != self._open:
            if not piece and not piece.call:  # nothing is to be seen of it
                return []
            events += [*self._close("completed"), *self._begin(piece)]
            self._open = key
        if not piece and not piece.logprobs:
            return events
        self._texts.append(piece)
        if piece.kind == "text":
            logprobs = self._logprobs(piece)
            self._output[-1]["content"][0]["logprobs"] += logprobs
            return [*events, self._of_part("output_text.delta", delta=str(piece), logprobs=logprobs)]
        if piece.kind == "reasoning":
            return [*events, self._of_part("reasoning_text.delta", delta=str(piece))]
        return [*events, self._of_item("function_call_arguments.delta", delta=str(piece))]

    def end(self, reply: Reply, more: Mapping[str, Any]) -> list[Event]:
        is_cut = reply.finish_reason == "length"
        status = "incomplete" if is_cut else "completed"
        events = []
        if not self._output:  # an answer of nothing is one, too
            events += self._begin(Chunk(""))
            self._open = "text"
        events += self._close(status)
        usage = reply.usage
        self._response |= {
            "status": status,
            "completed_at": None if is_cut else int(time.time()),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.prompt_tokens - usage.cached_tokens},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
            **more,
        }
        return [*events, self._of_response(status)]

    def _failed(self, problem: Problem) -> Event:
        code = "server_error" if problem.status >= 500 else "rate_limit_exceeded" if problem.status == 429 else "invalid_prompt"
        self._close("incomplete")
        self._response |= {"status": "failed", "error": {"code": code, "message": str(problem)}}
        return self._of_response("failed")

    def _begin(self, piece: Chunk) -> list[Event]:
        kind = {"text": "message", "reasoning": "reasoning", "tool_call": "function_call"}[piece.kind]
        item: dict[str, Any] = {"id": f"{_PREFIX[kind]}_{uuid.uuid4().hex}", "type": kind, "status": "in_progress"}
        if piece.call:
            item |= {"call_id": piece.call.id, "name": piece.call.name, "arguments": ""}
        else:
            of_kind: dict[str, Any] = {"role": "assistant"} if kind == "message" else {"summary": [], "encrypted_content": None}
            item |= {"content": [], **of_kind}
        self._output.append(item)
        self._texts = []
        added = self._event("output_item.added", output_index=len(self._output) - 1, item={**item, **({} if piece.call else {"content": []})})
        if piece.call:
            return [added]
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []} if kind == "message" else {"type": "reasoning_text", "text": ""}
        item["content"].append(part)
        return [added, self._of_part("content_part.added", part={**part, **({"logprobs": []} if kind == "message" else {})})]

    def _close(self, status: str) -> list[Event]:
        """What is said of an item at its end."""
        if self._open is None:
            return []
        item, text, self._open = self._output[-1], "".join(self._texts), None
        item["status"] = status
        if item["type"] == "function_call":
            item["arguments"] = text
            events = [self._of_item("function_call_arguments.done", name=item["name"], arguments=text)]
        else:
            [part] = item["content"]
            part["text"] = text
            name, more = ("output_text", {"logprobs": part["logprobs"]}) if item["type"] == "message" else ("reasoning_text", {})
            events = [self._of_part(f"{name}.done", text=text, **more), self._of_part("content_part.done", part=part)]
        return [*events, self._event("output_item.done", output_index=len(self._output) - 1, item=item)]

    def _of_response(self, what: str) -> Event:
        return self._event(what, response={**self._response, "output": [*self._output]})

    def _of_item(self, what: str, **more: Any) -> Event:
        return self._event(what, item_id=self._output[-1]["id"], output_index=len(self._output) - 1, **more)

    def _of_part(self, what: str, **more: Any) -> Event:
        return self._of_item(what, content_index=0, **more)

    def _event(self, what: str, **more: Any) -> Event:
        self._n_events += 1
        return {"type": f"response.{what}", "sequence_number": self._n_events - 1, **more}

    def _logprobs(self, piece: Chunk) -> list[dict[str, Any]]:
        return logprobs_of(piece.logprobs, self._token_bytes) if self._token_bytes else []

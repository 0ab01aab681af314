"""Replies in OpenAI's shape: chats and completions, whole or in chunks."""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ..reply import Chunk, Reply, TokenLogprob

TokenBytes = Callable[[int, bool], bytes]  # of a token; of a control token its name, or nothing


class ChatAnswer:
    """The answer to one chat request. `model` is the name that the client chose; with `token_bytes` there are logprobs in it."""

    kind, prefix = "chat.completion", "chatcmpl-"

    def __init__(self, model: str, token_bytes: TokenBytes | None):
        self._head = {"id": self.prefix + uuid.uuid4().hex, "created": int(time.time()), "model": model}
        self._token_bytes = token_bytes

    def whole(self, replies: Sequence[Reply], n_prompts: int, more: Sequence[dict[str, Any]]) -> dict[str, Any]:
        choices = [
            {"index": i, **self._text(reply), "logprobs": self.logprobs(reply.logprobs), "finish_reason": reply.finish_reason, **more[i]}
            for i, reply in enumerate(replies)
        ]
        return {**self._head, "object": self.kind, "choices": choices, "usage": usage_of(replies, n_prompts)}

    def first(self, n: int) -> list[dict[str, Any]]:
        return [self._chunk(i, {"delta": {"role": "assistant", "content": ""}}) for i in range(n)]

    def piece(self, index: int, piece: Chunk) -> dict[str, Any]:
        return self._chunk(index, {**self._delta(piece), "logprobs": self.logprobs(piece.logprobs)})

    def last(self, index: int, finish_reason: str, more: dict[str, Any]) -> dict[str, Any]:
        return self._chunk(index, {**self._delta(""), "finish_reason": finish_reason, **more})

    def usage(self, replies: Sequence[Reply], n_prompts: int) -> dict[str, Any]:
        return {**self._head, "object": self._chunk_kind, "choices": [], "usage": usage_of(replies, n_prompts)}

    def logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not (own := self._token_bytes):
            return None
        return {"content": logprobs_of(tokens, own), "refusal": None}

    _chunk_kind = "chat.completion.chunk"

    def _text(self, reply: Reply) -> dict[str, Any]:
        thought = {"reasoning_content": reply.reasoning} if reply.reasoning else {}
        calls = {"tool_calls": [call.message for call in reply.tool_calls]} if reply.tool_calls else {}
        content = None if calls and not reply.text else reply.text
        return {"message": {"role": "assistant", "content": content, **thought, **calls, "refusal": None}}

    def _delta(self, text: str) -> dict[str, Any]:
        if isinstance(text, Chunk) and text.call is not None:
            head = {"id": text.call.id, "type": "function"} if not text else {}
            named = {} if text else {"name": text.call.name}
            return {"delta": {"tool_calls": [{"index": text.call.index, **head, "function": {**named, "arguments": str(text)}}]}}
        name = "reasoning_content" if isinstance(text, Chunk) and text.kind == "reasoning" else "content"
        return {"delta": {name: text} if text else {}}

    def _chunk(self, index: int, choice: dict[str, Any]) -> dict[str, Any]:
        return {**self._head, "object": self._chunk_kind, "choices": [{"index": index, "finish_reason": None, **choice}]}


class CompletionAnswer(ChatAnswer):
    """The answer to one completion request."""

    kind, prefix = "text_completion", "cmpl-"
    _chunk_kind = "text_completion"

    def first(self, n: int) -> list[dict[str, Any]]:
        return []

    def logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not (own := self._token_bytes):
            return None
        offsets = [0]
        for t in tokens:
            offsets.append(offsets[-1] + len(t.text))
        return {
            "tokens": [t.text for t in tokens],
            "token_logprobs": [t.logprob for t in tokens],
            "top_logprobs": [_by_name(t.top, own) for t in tokens],
            "text_offset": offsets[:-1],
        }

    def _text(self, reply: Reply) -> dict[str, Any]:
        return {"text": reply.text}

    def _delta(self, text: str) -> dict[str, Any]:
        return {"text": text}


def usage_of(replies: Sequence[Reply], n_prompts: int) -> dict[str, Any]:
    """A prompt counts once, however many choices it has; of these the first found what is cached."""
    n = len(replies) // n_prompts
    prompt = sum(reply.usage.prompt_tokens for reply in replies[::n])
    completion = sum(reply.usage.completion_tokens for reply in replies)
    cached = sum(reply.usage.cached_tokens for reply in replies[::n])
    thought = sum(reply.usage.reasoning_tokens for reply in replies)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def logprobs_of(tokens: Sequence[TokenLogprob], own: TokenBytes) -> list[dict[str, Any]]:
    return [{**_token(t, own), "top_logprobs": [_token(top, own) for top in t.top]} for t in tokens]


def _token(t: TokenLogprob, own: TokenBytes) -> dict[str, Any]:
    """What a control token adds to an answer is nothing, as its text says."""
    return {"token": t.text, "logprob": t.logprob, "bytes": list(own(t.token, bool(t.text)))}


def _by_name(tokens: Sequence[TokenLogprob], own: TokenBytes) -> dict[str, float]:
    """By their texts, or their bytes where these are no text; two of one name are told apart by their ids."""
    named: dict[str, float] = {}
    for t in tokens:
        data = own(t.token, True)
        try:
            name = data.decode("utf-8")
        except UnicodeDecodeError:
            name = "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
        named[f"token_id:{t.token}" if name in named else name] = t.logprob
    return named

"""llama-server, in this process through the wheel xllamacpp: one slot, prompts as token ids, as its API is meant."""

import json
import time
from collections.abc import Sequence
from typing import Any

from ..errors import BenchError
from .worker import Settings


class LlamaServer:
    def __init__(self, settings: Settings):
        import xllamacpp

        api: Any = xllamacpp  # of C++, without types
        params = api.CommonParams()
        params.model.path = str(settings.model)
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = settings.n_ctx, settings.n_ubatch, settings.n_ubatch, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.n_threads
        params.flash_attn_type = api.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.n_gpu_layers = 0
        params.verbosity = -1
        params.cache_ram_mib = 0  # a copy of the cache at each change of prompt, which nothing here asks for
        params.lora_adapters = [api.CommonAdapterLoraInfo(str(path), 0.0) for path in settings.adapters.values()]
        self._ids = {name: i for i, name in enumerate(settings.adapters)}
        self._server = api.Server(params)

    def decode(self, names: Sequence[str | None], n_steps: int) -> list[float]:
        """Milliseconds a token of one sequence, without its first."""
        (name,) = names
        reply, _ = self._complete([1000] * 32, name, n_steps + 1)
        return [reply["timings"]["predicted_ms"] / n_steps]

    def prefill(self, n_tokens: int, name: str | None, n_active: int) -> float:
        """Milliseconds of a prompt of so many tokens on an empty cache."""
        self._complete([9], None, 1)
        reply, _ = self._complete([5000 + 37 * i % 40000 for i in range(n_tokens)], None, 1)
        return reply["timings"]["prompt_ms"]

    def first_token(self, tokens: Sequence[int], new: Sequence[int], name: str) -> float:
        """Milliseconds of an intrinsic's call up to its first token, with `tokens` in the cache."""
        return self._on_cache(tokens, new, name, 1)

    def intrinsics(self, tokens: Sequence[int], calls: dict[str, Sequence[int]], max_tokens: int) -> float:
        """Milliseconds of an intrinsic for each (name, invocation), one after another, with `tokens` in the cache."""
        return sum(self._on_cache(tokens, invocation, name, max_tokens) for name, invocation in calls.items())

    def next_turn(self, tokens: Sequence[int], new: Sequence[int], name: str, prompt: Sequence[int]) -> float:
        """Milliseconds to the first token of the base's answer to `prompt`, after an intrinsic on `tokens`."""
        self.first_token(tokens, new, name)
        return self._complete(prompt, None, 1)[1]

    def top(self, tokens: Sequence[int], name: str | None, start: int) -> dict[int, float]:
        """The log probabilities of the likeliest next tokens. Where the adapter starts is llama-server's to find."""
        reply, _ = self._complete(tokens, name, 1, logprobs=50)
        return {top["id"]: top["logprob"] for top in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}

    def _on_cache(self, tokens: Sequence[int], new: Sequence[int], name: str, n: int) -> float:
        """Milliseconds of a call that finds all of `tokens` but the last in the cache, where llama-server adapts already."""
        reply, ms = self._complete([*tokens, *new], name, n)
        if reply["timings"]["cache_n"] < len(tokens) - 1:
            self._complete(tokens, None, 1)
            reply, ms = self._complete([*tokens, *new], name, n)
        if (cached := reply["timings"]["cache_n"]) < len(tokens) - 1:
            raise BenchError(f"{name}: expected {len(tokens) - 1} tokens in the cache, got {cached}; use another xllamacpp")
        return ms

    def _complete(self, prompt: Sequence[int], name: str | None, n: int, **options) -> tuple[dict, float]:
        """The reply, and milliseconds."""
        request = {
            "prompt": list(prompt),
            "n_predict": n,
            "temperature": 0,
            "ignore_eos": True,
            "id_slot": 0,
            "cache_prompt": True,
            "lora": [{"id": i, "scale": float(other == name)} for other, i in self._ids.items()],
            **options,
        }
        began = time.perf_counter()
        reply = self._server.handle_completions(request)
        ms = (time.perf_counter() - began) * 1e3
        reply = json.loads(reply) if isinstance(reply, (str, bytes)) else reply
        if "timings" not in reply:
            raise BenchError(f"completion of {len(prompt)} tokens: expected timings, got {reply!r:.200}; use another xllamacpp")
        return reply, ms

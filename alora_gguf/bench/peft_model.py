"""PEFT on transformers: the model's weights in float32, the cache kept by hand, as its users have to."""

import os
import time
import warnings
from collections.abc import Sequence
from typing import Any

from .steps import N_PAST, N_WARM, likeliest, words
from .worker import Settings

BASE = "__base__"  # PEFT's name for no adapter in a mixed batch


class PeftModel:
    def __init__(self, settings: Settings):
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")
        warnings.simplefilter("ignore")
        import peft
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache

        torch.set_num_threads(settings.n_threads)
        torch.set_grad_enabled(False)
        self._torch, self._new_cache = torch, DynamicCache
        base: Any = AutoModelForCausalLM.from_pretrained(settings.model.parent, gguf_file=settings.model.name, dtype=torch.float32)
        base.hf_quantizer, base.is_quantized = None, False
        if hasattr(base.config, "quantization_config"):
            del base.config.quantization_config
        (first, path), *others = settings.peft.items()
        self._model = peft.PeftModel.from_pretrained(base, path, adapter_name=first)
        for name, path in others:
            self._model.load_adapter(path, name)
        self._model.eval()
        self._cache = DynamicCache()
        self._cached: list[int] = []

    def decode(self, names: Sequence[str | None], n_steps: int) -> list[float]:
        """One row for each name, one token each: milliseconds of each step."""
        cache, ms = self._new_cache(), []
        self._forward([words(N_PAST)] * len(names), [None] * len(names), cache)
        for step in range(N_WARM + n_steps):
            began = time.perf_counter()
            self._forward([[1000 + i + step] for i in range(len(names))], names, cache)
            ms.append((time.perf_counter() - began) * 1e3)
        return ms[N_WARM:]

    def first_token(self, tokens: Sequence[int], new: Sequence[int], name: str | None) -> float:
        """Milliseconds to the logits after `new`, on the kept cache of `tokens`."""
        if list(tokens) != self._cached:
            self._cache, self._cached = self._new_cache(), list(tokens)
            self._forward([tokens], [None], self._cache)
        if extra := self._cache.get_seq_length() - len(tokens):
            self._cache.crop(-extra)
        began = time.perf_counter()
        self._forward([new], [name], self._cache)
        return (time.perf_counter() - began) * 1e3

    def lora_first_token(self, tokens: Sequence[int], name: str) -> float:
        """Milliseconds to the logits after `tokens`, all of them adapted."""
        began = time.perf_counter()
        self._forward([tokens], [name], self._new_cache())
        return (time.perf_counter() - began) * 1e3

    def next_turn(self, tokens: Sequence[int], new: Sequence[int], name: str, prompt: Sequence[int]) -> float:
        """Milliseconds to the logits of the base's answer to `prompt`, after an intrinsic on `tokens`."""
        self.first_token(tokens, new, name)
        return self.first_token(tokens, prompt[len(tokens) :], None)

    def top(self, tokens: Sequence[int], name: str | None, start: int) -> dict[int, float]:
        """The log probabilities of the likeliest next tokens, with the adapter active from `start` on."""
        cache = self._new_cache()
        if start:
            self._forward([tokens[:start]], [None], cache)
        return likeliest(self._forward([tokens[start:]], [name], cache)[0].numpy())

    def _forward(self, rows: Sequence[Sequence[int]], names: Sequence[str | None], cache):
        """The logits after each row, whose tokens are all adapted by its name."""
        options: dict[str, Any] = {"alora_offsets": [len(row) if name else None for row, name in zip(rows, names)]}
        if len(set(names)) > 1:
            options["adapter_names"] = [name or BASE for name in names]
        elif names[0]:
            self._model.set_adapter(names[0])
        run = lambda: self._model(input_ids=self._torch.tensor(rows), past_key_values=cache, use_cache=True, logits_to_keep=1, **options).logits[
            :, -1
        ]
        if any(names):
            return run()
        with self._model.disable_adapter():
            return run()

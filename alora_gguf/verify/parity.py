"""Does the runtime compute what PEFT computes? Both, on the same weights and random prompts."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..convert import AdapterFile
from ..convert.base.locate import find_base
from ..convert.peft.layout import adapter_folder
from ..errors import AloraError, ConversionError
from ..model import Model
from .dequantize import dequantize

N_TOKENS = 40
TOLERANCES = {"f32": 2e-5, "f16": 1e-3, "bf16": 1e-2, "q8_0": 3e-2}  # by the adapter's coarsest type


@dataclass(frozen=True)
class Compared:
    """One prompt: the relative errors of its logits, that of the worst row, in the Euclidean norm.

    start: where the adapter becomes active, None if nowhere. error: runtime with the adapter against
    PEFT. base_error: runtime without it against transformers. effect: PEFT with it against without.
    """

    start: int | None
    error: float
    base_error: float
    effect: float


@dataclass(frozen=True)
class Verification:
    """limit: the tolerance, or twice the base's own error where that is more."""

    prompts: list[Compared]
    tolerance: float

    @property
    def limit(self) -> float:
        return max(self.tolerance, 2 * max(prompt.base_error for prompt in self.prompts))

    @property
    def is_conclusive(self) -> bool:
        """False where the base's own error hides the adapter: then it would pass without any."""
        return self.limit <= self.tolerance or self.limit < max(prompt.effect for prompt in self.prompts)

    @property
    def passed(self) -> bool:
        return self.is_conclusive and all(prompt.error <= self.limit for prompt in self.prompts)


def verify(
    adapter: str | PathLike[str],
    path: str | PathLike[str],
    base: str | PathLike[str],
    hf_base: str | PathLike[str] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> Verification:
    """Compares the adapter GGUF at `path` on `base` with the PEFT adapter in the folder `adapter`.

    base: the base model's GGUF or a folder with one. hf_base: the same model as transformers loads
    it; None lets transformers read the GGUF, which it can for common architectures, and both compute
    with its weights in float32 (a file of that size is made and removed). tolerance: None
    is that of the adapter's coarsest type. Raises AloraError, also where the extra [verify] is missing.
    """
    path, folder = Path(path), adapter_folder(adapter)
    model_file = find_base(base, None, path)
    file = AdapterFile(path)
    invocation = file.metadata.invocation_tokens
    if tolerance is None:
        tolerance = max(TOLERANCES[tensor.type.name] for pair in file.pairs for tensor in pair.tensors)
    with (
        _weights(model_file, exact=hf_base is None) as weights,
        Model(weights, n_ctx=1024, n_seq_max=16, type_k="f32", type_v="f32", flash_attn=False) as model,
    ):
        prompts = _prompts(model.vocab.n_tokens, invocation, seed)
        name = model.load_adapter(path).name
        starts = [model.adapter(name).start_in(tokens) for tokens in prompts]
        adapted = model.logits([(tokens, name) for tokens in prompts])
        plain = model.logits([(tokens, None) for tokens in prompts])
    theirs = _peft_logits(folder, model_file, hf_base, invocation, prompts)
    return Verification(
        [
            Compared(start, _error(got, want), _error(got_base, want_base), _error(want_base, want))
            for start, got, got_base, (want, want_base) in zip(starts, adapted, plain, theirs)
        ],
        tolerance,
    )


@contextlib.contextmanager
def _weights(base: Path, *, exact: bool) -> Iterator[Path]:
    """The base, or with `exact` its weights in float32: ggml rounds the activations to the type of quantised ones."""
    if not exact:
        yield base
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.gguf"
        dequantize(base, path)
        yield path


def _prompts(n_vocab: int, invocation: list[int], seed: int) -> list[list[int]]:
    """With the invocation first, in the middle, last, twice and not at all; without one, just texts."""
    rng = np.random.default_rng(seed)
    texts = rng.integers(0, n_vocab, (5, N_TOKENS)).tolist()
    if not invocation:
        return texts
    first, middle, last, twice, absent = texts
    return [
        invocation + first,
        middle[:20] + invocation + middle[20:],
        last + invocation,
        twice[:10] + invocation + twice[10:30] + invocation + twice[30:],
        absent,
    ]


def _peft_logits(
    folder: Path, base: Path, hf_base: str | PathLike[str] | None, invocation: list[int], prompts: Sequence[list[int]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(with the adapter, without) of every prompt, float32 [n_tokens, n_vocab] each."""
    try:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
    except ImportError as e:
        raise AloraError(f"verify: expected torch, transformers and peft, got: {e}; install alora_gguf[verify]") from None
    try:
        if hf_base is None:
            model: Any = AutoModelForCausalLM.from_pretrained(base.parent, gguf_file=base.name, dtype=torch.float32)
            # else PEFT takes it for a quantised model, which it no longer is
            model.hf_quantizer, model.is_quantized = None, False
            model.config.__dict__.pop("quantization_config", None)
        else:
            model = AutoModelForCausalLM.from_pretrained(hf_base, dtype=torch.float32)
        model = PeftModel.from_pretrained(model.eval(), folder).eval()
    except Exception as e:  # transformers and peft raise anything
        reason = str(e).split("\n", 1)[0] or type(e).__name__
        raise ConversionError(
            f"{folder}: expected an adapter and a base that PEFT loads, got: {reason}; give the base as transformers loads it with --hf-base"
        ) from None
    saved = getattr(model.active_peft_config, "alora_invocation_tokens", None) or []
    if saved != invocation:
        raise ConversionError(
            f"{folder}: expected alora_invocation_tokens {invocation}, as the GGUF has, got {saved}; PEFT cannot be compared with another invocation"
        )
    results = []
    for tokens in prompts:
        ids = torch.tensor([tokens])
        with torch.no_grad(), model.disable_adapter():
            plain = model(input_ids=ids).logits[0].numpy()
        with torch.no_grad():
            results.append((model(input_ids=ids).logits[0].numpy(), plain))
    return results


def _error(got: np.ndarray, want: np.ndarray) -> float:
    n = min(got.shape[-1], want.shape[-1])  # a base may be padded beyond its vocabulary
    got, want = got[:, :n].astype(np.float64), want[:, :n].astype(np.float64)
    return float((np.linalg.norm(got - want, axis=-1) / np.linalg.norm(want, axis=-1)).max())

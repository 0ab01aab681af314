"""PEFT's folder for a trained adapter: weights, config, io.yaml and card, each replaced in one step."""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save

from ..convert.peft.decisions import FILE as DECISIONS
from ..convert.peft.decisions import TYPES, TrainedDecisions
from ..errors import TrainError
from .settings import Settings


@dataclass(frozen=True)
class Facts:
    """What a card says beside the settings. The counts are of examples."""

    name: str
    base_name: str
    base_file: str
    invocation_tokens: Sequence[int]
    invoked_after: str | None
    n_train: int
    n_held: int
    command: str


def write_weights(folder: Path, model, config: LoraConfig, dtype: torch.dtype = torch.float16) -> None:
    """adapter_model.safetensors and adapter_config.json."""
    state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in get_peft_model_state_dict(model, save_embedding_layers=False).items()}
    _write(folder / "adapter_model.safetensors", save(state, metadata={"format": "pt"}))
    fields = {**config.to_dict(), "inference_mode": True}
    fields["target_modules"] = sorted(fields["target_modules"])  # PEFT has a set
    _write(folder / "adapter_config.json", (json.dumps(fields, indent=2, sort_keys=True, default=str) + "\n").encode())


def write_io_yaml(folder: Path, text: str) -> None:
    _write(folder / "io.yaml", text.encode())


def write_decisions(folder: Path, best: dict[str, float] | None = None) -> None:
    """decisions.json: what the scores of each type of question are divided by, as the best evaluation says; None: 1."""
    trained = TrainedDecisions({name: round(best[name], 4) if best else 1.0 for name in TYPES})
    _write(folder / DECISIONS, trained.to_json().encode())


def io_yaml_of(instruction: str) -> str:
    """An io.yaml that only has an instruction."""
    fields = {"model": None, "response_format": None, "transformations": None, "instruction": instruction}
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def write_card(folder: Path, settings: Settings, facts: Facts, best: dict[str, float]) -> None:
    """README.md, with what the converter reads in its front matter."""
    activated, decides = settings.method == "alora", settings.decisions is not None
    front: dict[str, Any] = {
        "model_name": facts.name,
        "base_model": facts.base_name,
        "library_name": "peft",
        "tags": ["lora", *(["alora"] if activated else []), facts.name],
    }
    if facts.invoked_after:
        front["invoked_after"] = facts.invoked_after
    start = (
        (
            f"Active from the first of the invocation tokens `{list(facts.invocation_tokens)}` on; everything before has the base "
            "model's weights, and its cache."
        )
        if activated
        else "An ordinary LoRA, active on every token."
    )
    held = f"`{settings.eval.name}`" if settings.eval else f"{settings.eval_share:.0%} of the conversations, chosen by the seed"
    lines = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n",
        f"# {facts.name}, {'an activated LoRA' if activated else 'a LoRA'} for {facts.base_name}\n",
        start + "\n",
        "| | |",
        "|---|---|",
        f"| base while training | `{facts.base_file}`, dequantised |",
        f"| data | `{settings.rows.name}`: {facts.n_train} {'questions' if decides else 'examples'} |",
        f"| held out | {held}: {facts.n_held} {'questions' if decides else 'examples'} |",
        f"| {'decisions right' if decides else 'outputs said exactly'}, held out | {best['accuracy']:.1%} |",
        f"| loss, held out | {best['loss']:.4f} nats a {'question, at its temperatures' if decides else 'token'} |",
        f"| checkpoint | step {best['step']:.0f}, the best by {settings.select} |",
        f"| rank, alpha | {settings.rank}, {settings.scaling:g}; {', '.join(settings.targets)} |",
        (
            f"| steps | {settings.epochs:g} epochs, {settings.batch_size} examples a step, AdamW, learning rate {settings.learning_rate:g}, "
            f"warm-up {settings.warm_up:.0%}, cosine |"
        ),
        f"| seed | {settings.seed} |",
        "",
        "The held-out figures are those that the checkpoint was chosen by, so they flatter it a little.\n",
        f"    {facts.command}",
    ]
    _write(folder / "README.md", ("\n".join(lines) + "\n").encode())


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """What `write` gives to a file takes the place of `path` in one step, or nothing does. Raises TrainError."""
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            write(file)
        os.replace(part, path)
    except (OSError, RuntimeError) as e:  # torch has errors of its own for a disk that is full
        with contextlib.suppress(OSError):
            part.unlink()
        reason = getattr(e, "strerror", None) or " ".join(str(e).split())[:200]
        raise TrainError(f"{path}: expected a file that can be written, got: {reason}; make room there and give the command again") from e


def _write(path: Path, data: bytes) -> None:
    write_whole(path, lambda file: file.write(data))

"""One run: from a JSONL file to PEFT's folder, and to the GGUF beside it."""

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from .. import bundled
from ..convert import convert
from ..errors import TrainError
from ..hub.bases import base_file
from ..hub.hf_name import is_hub_name, parse_hub_name
from ..prompt.io_yaml import IntrinsicIO
from ..runtime.memory import free_memory
from ..runtime.vocab import Vocab, load_vocab
from . import decision_passes, passes, temperature
from .base import device, dtype_for, load_base
from .checkpoint import FILE, read_checkpoint
from .data import L, Line, read_lines, split
from .decision_prompts import Questions
from .decision_rows import DecisionRows
from .decisions import read_decisions
from .folder import Facts, io_yaml_of, write_card, write_decisions, write_io_yaml, write_weights
from .linear import fuse
from .packing import Row, pack
from .prefixes import Prefixes
from .progress import Progress
from .prompts import Example, Prompts
from .settings import Settings
from .trainer import Objective, Rows, Trainer

ROW_EXAMPLES = 8  # that begin alike; more share no more, and see each other for nothing
FARTHEST = 0.1  # of the logits' norm, between a row and one of its examples alone; the rest is bfloat16's


def train(settings: Settings, progress: Progress, *, command: str = "", gguf: Path | None = None, restart: bool = False) -> dict[str, float]:
    """Trains, writes PEFT's folder and, if named, the adapter `gguf`; the evaluation of the checkpoint that was kept.

    Goes on from the checkpoint of a run with the same settings and data, unless `restart` says no. Ctrl-C saves
    where it stands and raises KeyboardInterrupt. Raises TrainError, or ConversionError.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|torch")  # of names that both 5.0 and 5.24 have
    with ExitStack() as stack:
        return _train(settings, read_task(settings, stack), progress, command, gguf, restart)


def _train(settings: Settings, task: "Task", progress: Progress, command: str, gguf: Path | None, restart: bool) -> dict[str, float]:
    folder = _folder(settings, restart)
    identity = settings.identity()
    done = read_checkpoint(folder, identity)
    progress.note(f"{len(task.train)} examples to train with, {len(task.held)} held out")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    base = load_base(task.base, task.base_name, device(), settings.dtype or dtype_for(device()))
    config = _config(settings, task)
    model = _adapted(base, config, settings)
    rows, held = (_packed(examples, min(ROW_EXAMPLES, settings.batch_size), settings.row_tokens) for examples in (task.train, task.held))
    _check_base(model, rows[0], task.train, task.base)
    drawn = rows.drawn if isinstance(rows, DecisionRows) else None
    objective = Objective()
    if isinstance(task.held, Questions):
        objective = Objective(decision_passes.loss, partial(temperature.evaluate, questions=task.held))
    with _prefixes(model, [*rows, *held], settings, progress) as prefixes, _interruptible() as stopped:
        trainer = Trainer(model, Rows(rows, prefixes, drawn=drawn), Rows(held, prefixes, len(rows)), settings, folder, identity, done, objective)

        def save_best() -> None:
            write_weights(folder, model, config)
            if task.io_text is not None:
                write_io_yaml(folder, task.io_text)
            if settings.decisions is not None:
                write_decisions(folder, trainer.best)
            if trainer.best is not None:
                facts = Facts(
                    task.name, task.base_name, task.base.name, task.invocation, task.invoked_after, len(task.train), len(task.held), command
                )
                write_card(folder, settings, facts, trainer.best)

        def on_eval(reached: dict[str, float]) -> None:
            what = "right" if settings.decisions else "said exactly"
            mark = ", the best" if reached is trainer.best else ""
            progress.note(f"step {reached['step']:.0f}: held-out loss {reached['loss']:.4f}, {what} {reached['accuracy']:.1%}{mark}")

        progress.begin("training", len(trainer.steps), trainer.step, "step")
        trainer.run(save_best, lambda loss: progress.advance(1, loss), on_eval, stopped.is_set)
        progress.end()
        if trainer.step < len(trainer.steps):
            progress.note(f"{folder}: stopped at step {trainer.step} of {len(trainer.steps)}; the same command goes on from there")
            raise KeyboardInterrupt
    if gguf is not None:
        convert(folder, gguf, base=task.base)
    for left in (FILE, f"{FILE}.part"):  # the latter of a run that was killed while it wrote
        (folder / left).unlink(missing_ok=True)
    assert trainer.best is not None  # the last step has an evaluation
    return trainer.best


@dataclass(frozen=True)
class Task:
    """What the settings stand for, read and checked: nothing of it needs PyTorch."""

    name: str
    base: Path
    base_name: str
    invocation: list[int]
    invoked_after: str | None
    io_text: str | None
    train: "list[Example] | Questions"
    held: "list[Example] | Questions"


def read_task(settings: Settings, stack: ExitStack) -> Task:
    """Raises TrainError, with the line of the data that cannot be used. The vocabulary is closed with the stack."""
    base = base_file(settings.base) if settings.base else bundled.default_model()
    io_text = _io_text(settings)
    io = IntrinsicIO.read(io_text, str(settings.io or "instruction")) if io_text is not None else None
    train: list[Example] | Questions
    held: list[Example] | Questions
    if settings.decisions is not None:
        rows, rows_held = _parts(settings, read_decisions)
        vocab = stack.enter_context(load_vocab(base))
        invocation, role = _invocation(settings, vocab), settings.invoked_after
        asked_by = invocation if settings.method == "alora" else []
        train, held = (Questions(vocab, base.name, asked_by, part) for part in (rows, rows_held))
    else:
        lines, lines_held = _parts(settings, read_lines)
        with load_vocab(base) as vocab:
            prompts = Prompts(vocab, base.name, _invocation(settings, vocab), io)
            invocation, role = prompts.invocation, settings.invoked_after or _common_role([*lines, *lines_held])
            train, held = ([prompts.example(line) for line in part] for part in (lines, lines_held))
    return Task(
        name=settings.name or settings.out.resolve().name,
        base=base,
        base_name=_name_of(settings.base),
        invocation=invocation,
        invoked_after=role,
        io_text=io_text,
        train=train,
        held=held,
    )


def _name_of(base: Path | str | None) -> str:
    """What the adapter's config calls it: on the hub its repository."""
    if base is None:
        return bundled.NAME
    return parse_hub_name(base).repo if is_hub_name(base) else str(base)


def _parts(settings: Settings, read: Callable[[Path], list[L]]) -> tuple[list[L], list[L]]:
    lines = read(settings.rows)
    return (lines, read(settings.eval)) if settings.eval else split(lines, settings.eval_share, settings.seed)


def _packed(examples: "list[Example] | Questions", n_examples: int, n_tokens: int) -> Sequence[Row]:
    if isinstance(examples, Questions):
        return DecisionRows(examples.drawn, len(examples), n_examples, n_tokens)
    return pack(examples, n_examples, n_tokens)


def _io_text(settings: Settings) -> str | None:
    if settings.instruction is not None:
        return io_yaml_of(settings.instruction)
    if settings.io is None:
        return None
    try:
        return settings.io.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise TrainError(f"{settings.io}: expected an io.yaml in UTF-8, got: {getattr(e, 'strerror', None) or e}; check the path") from e


def _invocation(settings: Settings, vocab: Vocab) -> list[int]:
    given = settings.invocation
    return vocab.tokenize(given) if isinstance(given, str) else vocab.check(given)


def _common_role(lines: Sequence[Line]) -> str | None:
    roles = {line.messages[-1]["role"] for line in lines}
    return roles.pop() if len(roles) == 1 else None


def _folder(settings: Settings, restart: bool) -> Path:
    folder = settings.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if restart:
            (folder / FILE).unlink(missing_ok=True)
    except OSError as e:
        raise TrainError(f"{folder}: expected a folder to write in, got: {e.strerror}; name another with -o") from e
    return folder


def _config(settings: Settings, task: Task) -> LoraConfig:
    alpha: Any = settings.scaling  # PEFT says int, and takes any number
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=alpha,
        target_modules=list(settings.targets),
        lora_dropout=0.0,
        alora_invocation_tokens=task.invocation if settings.method == "alora" else None,
        base_model_name_or_path=task.base_name,
    )


def _adapted(base, config: LoraConfig, settings: Settings):
    """The base with a new adapter on it. All that is computed with it here is adapted, so PEFT need not look for an invocation.

    Raises TrainError.
    """
    torch.manual_seed(settings.seed)
    try:
        model = get_peft_model(base, LoraConfig(**{**config.to_dict(), "alora_invocation_tokens": None}))
    except ValueError as e:
        raise TrainError(f"targets: expected layers of the base, got {', '.join(settings.targets)}: {' '.join(str(e).split())[:200]}") from e
    if settings.start is not None:
        _start_from(settings.start, model)
    fuse(model)
    return model


def _start_from(folder: Path, model) -> None:
    """Weights of a smaller rank are widened, without effect on what is computed.

    Raises TrainError if the folder has not just the weights of this adapter.
    """
    path = folder / "adapter_model.safetensors"
    try:
        own = get_peft_model_state_dict(model)
        loaded: Any = set_peft_model_state_dict(model, {name: _widened(name, weight, own.get(name)) for name, weight in load_file(path).items()})
    except Exception as e:  # a missing or damaged file, or weights of other shapes
        raise TrainError(
            f"{path}: expected weights of this rank or a smaller one, and the same targets, got: {' '.join(str(e).split())[:200]}"
        ) from e
    missing = [name for name in loaded.missing_keys if "lora_" in name]
    if missing or loaded.unexpected_keys:
        raise TrainError(f"{path}: expected weights of the same targets, got none for {(missing or loaded.unexpected_keys)[0]}")


def _widened(name: str, weight: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
    """The first rows of A [rank, n_in], or columns of B [n_out, rank], of `own`: new rows of A are random, new columns of B zero."""
    by_rank = 0 if ".lora_A." in name else 1
    if (
        own is None
        or weight.ndim != 2
        or own.ndim != 2
        or weight.shape[1 - by_rank] != own.shape[1 - by_rank]
        or weight.shape[by_rank] >= own.shape[by_rank]
    ):
        return weight
    wide = own.clone()
    wide.narrow(by_rank, 0, weight.shape[by_rank]).copy_(weight)
    return wide


@torch.no_grad()
def _check_base(model, row: Row, examples: "list[Example] | Questions", base: Path) -> None:
    """That the base computes in a row what it computes in a conversation: not every architecture takes such masks.

    Raises TrainError.
    """
    example = examples.example(row.examples[0]) if isinstance(examples, Questions) else examples[row.examples[0]]
    tokens = torch.tensor([[*example.prefix, *example.suffix, *example.output[:-1]]], device=model.device)
    with model.disable_adapter():
        alone = model(input_ids=tokens, logits_to_keep=len(example.output)).logits[0].float()
        [packed] = passes.logits(model, [row], None)
        packed = packed[: len(example.output)]
    error = ((packed - alone).norm() / alone.norm()).item()
    if not error < FARTHEST:
        raise TrainError(
            f"{base}: expected the same logits for tokens that are packed side by side, got a relative difference of {error:.1e}; "
            "train this architecture with PEFT itself"
        )


@contextmanager
def _prefixes(model, rows: Sequence[Row], settings: Settings, progress: Progress) -> Iterator[Prefixes | None]:
    """Those of all rows; None for an ordinary LoRA, which adapts them too."""
    if settings.method == "lora":
        yield None
        return
    memory = settings.cache_memory if settings.cache_memory is not None else free_memory() // 2
    kept = Prefixes(model, rows, memory, settings.cache_disk)
    try:
        progress.begin("prefixes", sum(row.n_prefix for row in rows))
        kept.fill(progress.advance)
        progress.end()
        used = ", ".join(f"{n / 1e6:.0f} MB {where}" for where, n in kept.n_bytes.items() if n)
        progress.note(f"prefixes kept: {used or 'none'}{'' if kept.is_complete else '; the others are computed at every step'}")
        yield kept
    finally:
        kept.close()


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Set by Ctrl-C, which then ends no step; a second one ends at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(*_) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)

"""What is trained, on what, and how: the options of `alora train`, from the command line or a TOML file."""

import dataclasses
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TrainError
from ..hub.hf_name import is_hub_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
METHODS = ("alora", "lora")
SELECT = ("accuracy", "loss")
DECIDE = "<decide>"  # the invocation of an adapter for decisions that is given none
PATHS = ("data", "decisions", "out", "base", "eval", "io", "start")


@dataclass(frozen=True)
class Settings:
    """Raises TrainError for values that cannot be.

    data            JSONL file of examples; eval: others to choose the best checkpoint by, else `eval_share` of the data
    decisions       in place of data: JSONL file of rows of decisions
    base            GGUF model, or its name on the hub, None: the embedded one
    out             PEFT's folder to write
    name            what the intrinsic is called, None: the folder's name
    invocation      text whose tokens activate it; tokens are taken as they are
    io              io.yaml file; instruction: the same as its field, without a file
    invoked_after   the role of the message that it judges, None: that of all examples, if they agree
    start           PEFT folder whose weights are the first ones, None: random ones; targets have to be its own, and the rank at least its own
    method          alora, or lora: an ordinary LoRA, active everywhere, of the same prompts, to compare with
    rank, alpha     of every weight; alpha None: twice the rank
    learning_rate   the highest: it rises over `warm_up` of the steps and falls as a cosine
    batch_size      examples a step
    row_tokens      most tokens of a row: of examples that begin alike and are computed together
    n_evals         evaluations, evenly over the run
    select          what is best: the share of outputs said exactly, or the loss
    dtype           of the base's weights while training, None: bfloat16 where the processor computes in it
    cache_memory    most bytes of keys and values in memory, None: half of what is free; cache_disk: on disk
    """

    out: Path
    data: Path | None = None
    decisions: Path | None = None
    base: Path | str | None = None
    eval: Path | None = None
    name: str | None = None
    invocation: str | list[int] = ""
    io: Path | None = None
    instruction: str | None = None
    invoked_after: str | None = None
    start: Path | None = None
    method: str = "alora"
    rank: int = 32
    alpha: float | None = None
    targets: tuple[str, ...] = LINEAR
    epochs: float = 3
    learning_rate: float = 5e-4
    warm_up: float = 0.06
    batch_size: int = 16
    row_tokens: int = 512
    eval_share: float = 0.1
    n_evals: int = 10
    select: str = "accuracy"
    seed: int = 0
    dtype: str | None = None
    threads: int | None = None
    cache_memory: int | None = None
    cache_disk: int = 0

    def __post_init__(self):
        if self.decisions is not None and not self.invocation:
            object.__setattr__(self, "invocation", DECIDE)
        for name in PATHS:
            value = getattr(self, name)
            object.__setattr__(self, name, value if value is None or is_hub_name(value) else Path(value))
        object.__setattr__(self, "targets", tuple(self.targets))
        for name, right, expected in (
            ("data, decisions", (self.data is None) != (self.decisions is None), "one of them"),
            ("io, instruction", self.decisions is None or (self.io is None and self.instruction is None), "none of them for decisions"),
            ("invocation", bool(self.invocation), "text or tokens, not empty"),
            ("method", self.method in METHODS, " or ".join(METHODS)),
            ("select", self.select in SELECT, " or ".join(SELECT)),
            ("dtype", self.dtype in (None, "float32", "bfloat16"), "float32 or bfloat16"),
            ("rank", self.rank >= 1, "1 or more"),
            ("alpha", self.alpha is None or self.alpha > 0, "more than 0"),
            ("targets", bool(self.targets), "one or more names of layers"),
            ("epochs", self.epochs > 0, "more than 0"),
            ("learning_rate", self.learning_rate > 0, "more than 0"),
            ("warm_up", 0 <= self.warm_up < 1, "0 to less than 1"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("row_tokens", self.row_tokens >= 1, "1 or more"),
            ("eval_share", 0 < self.eval_share < 1, "between 0 and 1"),
            ("n_evals", self.n_evals >= 1, "1 or more"),
            ("io, instruction", self.io is None or self.instruction is None, "one of them"),
        ):
            if not right:
                got = getattr(self, name, "neither" if name == "data, decisions" and self.data is None else "both")
                raise TrainError(f"{name}: expected {expected}, got {got!r}; correct it")

    @property
    def rows(self) -> Path:
        """The file that is trained with."""
        path = self.data or self.decisions
        assert path is not None  # of which there is one
        return path

    @property
    def scaling(self) -> float:
        """lora_alpha."""
        alpha = self.alpha if self.alpha is not None else 2 * self.rank
        return int(alpha) if alpha == int(alpha) else alpha

    def identity(self) -> str:
        """Differs where another run would compute something else: a run is resumed only with the same."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name not in _OF_THE_MACHINE}
        weights = self.start and self.start / "adapter_model.safetensors"
        files = {str(path): _sha256(path) for path in (self.data, self.decisions, self.eval, self.io, weights) if path is not None}
        return hashlib.sha256(json.dumps([fields, files], default=str, sort_keys=True).encode()).hexdigest()


_OF_THE_MACHINE = ("out", "threads", "cache_memory", "cache_disk")


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file; its paths are relative to it. Raises TrainError."""
    try:
        with open(path, "rb") as f:
            fields = tomllib.load(f)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise TrainError(f"{path}: expected a TOML file, got: {getattr(e, 'strerror', None) or e}; correct it") from e
    known = [f.name for f in dataclasses.fields(Settings)]
    for name, value in fields.items():
        if name not in known:
            raise TrainError(f"{path}: {name}: expected one of {', '.join(known)}, got {name!r}; correct it")
        if name in PATHS and not is_hub_name(value):
            fields[name] = path.parent / value
    return fields


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise TrainError(f"{path}: expected a file, got: {e.strerror}; check the path") from e

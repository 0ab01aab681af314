"""Where a run stands, on disk, so that it can be killed at any time and go on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import TrainError
from .folder import write_whole

FILE = "checkpoint.pt"


@dataclass
class Checkpoint:
    """identity: of the settings; step: steps done; weights, optimizer: state dicts; best: the best evaluation."""

    identity: str
    step: int
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    best: dict[str, float] | None

    def write(self, folder: Path) -> None:
        """Replaces the one before in one step. Raises TrainError."""
        write_whole(folder / FILE, lambda file: torch.save(vars(self), file))


def read_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The one that a run with the same settings left; None if there is none. Raises TrainError for another's."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = Checkpoint(**torch.load(path, weights_only=True))
    except Exception as e:  # torch raises what it likes for a damaged file
        raise TrainError(f"{path}: expected a checkpoint, got: {' '.join(str(e).split())[:200]}; remove it to begin again") from e
    if found.identity != identity:
        raise TrainError(f"{path}: expected a run with these settings and data, got one with others; give --restart, or another -o")
    return found

"""What training writes: whole, or not at all."""

import os

import pytest

from alora_gguf.errors import TrainError


def test_a_full_disk_leaves_the_checkpoint_before(full_disk, tmp_path):
    import torch

    from alora_gguf.train.checkpoint import Checkpoint, read_checkpoint
    from alora_gguf.train.folder import write_io_yaml

    Checkpoint("one", 1, {"w": torch.ones(3)}, {}, None).write(tmp_path)
    write_io_yaml(tmp_path, "model: ~\n")
    for write in (Checkpoint("one", 2, {"w": torch.ones(100_000)}, {}, None).write, lambda folder: write_io_yaml(folder, "# long\n" * 10_000)):
        with full_disk(), pytest.raises(TrainError, match=r"^[^\n]*: expected a file that can be written, got: [^\n]*; make room"):
            write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "io.yaml"]
    assert (tmp_path / "io.yaml").read_text() == "model: ~\n" and read_checkpoint(tmp_path, "one").step == 1

"""The tensors that lie beside an adapter's config, in whatever kind of file."""

import json
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConversionError
from ...text import complaint
from ..lazy import Lazy
from .safetensors_file import DAMAGED, SafetensorsFile
from .torch_file import read_torch_file

SAFETENSORS, BIN = "adapter_model.safetensors", "adapter_model.bin"
MAX_INDEX = 100_000_000  # bytes


@dataclass(frozen=True)
class TensorFiles:
    """path: the file to name in complaints, the index of a sharded adapter; tensors: in the files' order."""

    path: Path
    tensors: dict[str, Lazy]

    def complaint(self, what: str, expected: str, got: object, action: str) -> ConversionError:
        return ConversionError(complaint(self.path, what, expected, got, action))


def read_tensor_files(folder: Path) -> TensorFiles:
    """The adapter's tensors: safetensors, one file or sharded, else torch's `.bin`.

    Raises ConversionError if there is no such file, or it is damaged.
    """
    single, index, binary = folder / SAFETENSORS, folder / f"{SAFETENSORS}.index.json", folder / BIN
    if single.exists() or not (index.exists() or binary.exists()):
        return TensorFiles(single, SafetensorsFile(single).tensors())
    if index.exists():
        return TensorFiles(index, _sharded(index))
    return TensorFiles(binary, read_torch_file(binary))


def _sharded(index: Path) -> dict[str, Lazy]:
    def refuse(what: str, expected: str, got: object) -> ConversionError:
        return ConversionError(complaint(index, what, expected, got, DAMAGED))

    try:
        with open(index, "rb") as file:
            fields = json.loads(file.read(MAX_INDEX))
        shard_of = fields["weight_map"]
        shards = sorted(set(shard_of.values()))
    except OSError as e:
        raise refuse("file", "a readable index", e.strerror or e) from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise refuse("file", "a JSON object with weight_map, names and their files", "something else") from None
    tensors: dict[str, Lazy] = {}
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise refuse("weight_map", "names of files in the same folder", shard)
        found = SafetensorsFile(index.parent / shard).tensors()
        if found.keys() != {name for name, where in shard_of.items() if where == shard}:
            raise refuse("weight_map", f"the tensors of {shard}", "others")
        tensors |= found
    return tensors

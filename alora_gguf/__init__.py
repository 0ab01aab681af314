"""Activated LoRA for llama.cpp: small experts inside a conversation, on one KV cache.

    from alora_gguf import Model

    model = Model("base.gguf", n_ctx=4096)
    model.load_adapter("answerability.gguf")
    chat = model.conversation()
    chat.ask("...")
    chat.invoke("answerability").text

Importing this module loads no native library; the first name that needs one does.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from .versions import VERSION as __version__

# The public names, twice: for type checkers, and where each is found when it is asked for.
if _TYPE_CHECKING:
    from .bundled import bundled_adapters as bundled_adapters, default_model as default_model
    from .conversation.conversation import Conversation as Conversation
    from .engine.adapter import Adapter as Adapter
    from .engine.stream import Stream as Stream
    from .errors import (
        AdapterFileError as AdapterFileError,
        AdapterMemoryError as AdapterMemoryError,
        AdapterMismatchError as AdapterMismatchError,
        AloraError as AloraError,
        ClosedError as ClosedError,
        ContextFullError as ContextFullError,
        ConversionError as ConversionError,
        DecodeError as DecodeError,
        EvalError as EvalError,
        ForeignLibraryError as ForeignLibraryError,
        IoYamlError as IoYamlError,
        ModelLoadError as ModelLoadError,
        NoInvocationError as NoInvocationError,
        PromptError as PromptError,
        ResultError as ResultError,
        SavedConversationError as SavedConversationError,
        SequenceLimitError as SequenceLimitError,
        ServeError as ServeError,
        TrainError as TrainError,
        UnknownAdapterError as UnknownAdapterError,
    )
    from .llama import Llama as Llama
    from .model import Model as Model
    from .prompt.invocation import find_invocation as find_invocation
    from .reply import Chunk as Chunk, Reply as Reply, TokenLogprob as TokenLogprob, Usage as Usage, Verdict as Verdict
    from .runtime.sampling import SamplingParams as SamplingParams

_HOME = {
    "Adapter": "engine.adapter",
    "AdapterFileError": "errors",
    "AdapterMemoryError": "errors",
    "AdapterMismatchError": "errors",
    "AloraError": "errors",
    "Chunk": "reply",
    "ClosedError": "errors",
    "ContextFullError": "errors",
    "Conversation": "conversation.conversation",
    "ConversionError": "errors",
    "DecodeError": "errors",
    "EvalError": "errors",
    "ForeignLibraryError": "errors",
    "IoYamlError": "errors",
    "Llama": "llama",
    "Model": "model",
    "ModelLoadError": "errors",
    "NoInvocationError": "errors",
    "PromptError": "errors",
    "Reply": "reply",
    "ResultError": "errors",
    "SamplingParams": "runtime.sampling",
    "SavedConversationError": "errors",
    "SequenceLimitError": "errors",
    "ServeError": "errors",
    "Stream": "engine.stream",
    "TokenLogprob": "reply",
    "TrainError": "errors",
    "UnknownAdapterError": "errors",
    "Usage": "reply",
    "Verdict": "reply",
    "bundled_adapters": "bundled",
    "default_model": "bundled",
    "find_invocation": "prompt.invocation",
}

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

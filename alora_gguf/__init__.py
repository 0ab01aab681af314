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
    from .bundled import bundled_adapters as bundled_adapters
    from .bundled import default_model as default_model
    from .conversation.conversation import Conversation as Conversation
    from .documents.document import Document as Document
    from .documents.reader import read_document as read_document
    from .engine.adapter import Adapter as Adapter
    from .engine.stream import Stream as Stream
    from .errors import AdapterFileError as AdapterFileError
    from .errors import AdapterMemoryError as AdapterMemoryError
    from .errors import AdapterMismatchError as AdapterMismatchError
    from .errors import AloraError as AloraError
    from .errors import ClosedError as ClosedError
    from .errors import ContextFullError as ContextFullError
    from .errors import ConversionError as ConversionError
    from .errors import DecodeError as DecodeError
    from .errors import DocumentError as DocumentError
    from .errors import EvalError as EvalError
    from .errors import ForeignLibraryError as ForeignLibraryError
    from .errors import HubError as HubError
    from .errors import IoYamlError as IoYamlError
    from .errors import ModelLoadError as ModelLoadError
    from .errors import NoInvocationError as NoInvocationError
    from .errors import PromptError as PromptError
    from .errors import ResultError as ResultError
    from .errors import SavedConversationError as SavedConversationError
    from .errors import SequenceLimitError as SequenceLimitError
    from .errors import ServeError as ServeError
    from .errors import TrainError as TrainError
    from .errors import UnknownAdapterError as UnknownAdapterError
    from .llama import Llama as Llama
    from .model import Model as Model
    from .prompt.decisions.question import Choice as Choice
    from .prompt.decisions.question import Predicate as Predicate
    from .prompt.decisions.question import Score as Score
    from .prompt.invocation import find_invocation as find_invocation
    from .reply import Chunk as Chunk
    from .reply import Decision as Decision
    from .reply import Decisions as Decisions
    from .reply import Reply as Reply
    from .reply import TokenLogprob as TokenLogprob
    from .reply import ToolCall as ToolCall
    from .reply import Usage as Usage
    from .reply import Verdict as Verdict
    from .runtime.sampling import SamplingParams as SamplingParams

_HOME = {
    "Adapter": "engine.adapter",
    "AdapterFileError": "errors",
    "AdapterMemoryError": "errors",
    "AdapterMismatchError": "errors",
    "AloraError": "errors",
    "Choice": "prompt.decisions.question",
    "Chunk": "reply",
    "ClosedError": "errors",
    "ContextFullError": "errors",
    "Conversation": "conversation.conversation",
    "ConversionError": "errors",
    "Decision": "reply",
    "Decisions": "reply",
    "DecodeError": "errors",
    "Document": "documents.document",
    "DocumentError": "errors",
    "EvalError": "errors",
    "ForeignLibraryError": "errors",
    "HubError": "errors",
    "IoYamlError": "errors",
    "Llama": "llama",
    "Model": "model",
    "ModelLoadError": "errors",
    "NoInvocationError": "errors",
    "Predicate": "prompt.decisions.question",
    "PromptError": "errors",
    "Reply": "reply",
    "ResultError": "errors",
    "SamplingParams": "runtime.sampling",
    "SavedConversationError": "errors",
    "Score": "prompt.decisions.question",
    "SequenceLimitError": "errors",
    "ServeError": "errors",
    "Stream": "engine.stream",
    "TokenLogprob": "reply",
    "ToolCall": "reply",
    "TrainError": "errors",
    "UnknownAdapterError": "errors",
    "Usage": "reply",
    "Verdict": "reply",
    "bundled_adapters": "bundled",
    "default_model": "bundled",
    "find_invocation": "prompt.invocation",
    "read_document": "documents.reader",
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

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

__version__ = "0.1.0"

_HOME = {
    "Adapter": "adapter",
    "AdapterMemoryError": "errors",
    "Conversation": "conversation",
    "Llama": "llama",
    "Model": "model",
    "Piece": "engine.piece",
    "Reply": "reply",
    "Stream": "reply",
    "TokenLogprob": "engine.piece",
    "Usage": "reply",
    "Verdict": "reply",
    "default_model": "embedded_model",
    "find_invocation": "activation",
    "AdapterFileError": "errors",
    "AdapterMismatchError": "errors",
    "AloraError": "errors",
    "ClosedError": "errors",
    "ContextFullError": "errors",
    "ConversionError": "errors",
    "DecodeError": "errors",
    "EvalError": "errors",
    "ForeignLibraryError": "errors",
    "IoYamlError": "errors",
    "ModelLoadError": "errors",
    "NoInvocationError": "errors",
    "PromptError": "errors",
    "ResultError": "errors",
    "SavedConversationError": "errors",
    "SequenceLimitError": "errors",
    "TrainError": "errors",
    "UnknownAdapterError": "errors",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""Every error that this package raises by design.

The text of each is one line: which file or object, what was expected, what came, what to do.
"""

import copy


class AloraError(Exception):
    """The base of them all."""


class ForeignLibraryError(AloraError, ImportError):
    """llama_cpp was imported before alora_gguf, with a library that has no activated LoRA in it."""


class ModelLoadError(AloraError):
    """The base model cannot be loaded, or no context can be made for it."""


class AdapterFileError(AloraError):
    """The adapter file cannot be read, or is damaged."""


class AdapterMismatchError(AloraError):
    """The adapter was made for another base model."""


class AdapterMemoryError(AloraError):
    """The adapter is larger than all the memory that adapters may have."""


class NoInvocationError(AloraError):
    """The adapter has no invocation tokens, so it cannot be invoked in a conversation."""


class UnknownAdapterError(AloraError, KeyError):
    """No adapter of this name is loaded."""

    def __str__(self) -> str:  # KeyError would quote it
        return str(self.args[0])


class IoYamlError(AloraError):
    """The io.yaml of an intrinsic is damaged, or asks for something that does not exist."""


class ResultError(AloraError):
    """What an intrinsic said is not what its io.yaml makes a result of."""


class PromptError(AloraError, ValueError):
    """Messages, tokens or options that cannot be a prompt."""


class DocumentError(PromptError):
    """A document that cannot be read as text, or not within the limits."""


class ContextFullError(AloraError):
    """The KV cache has no room for the tokens of this call."""


class SequenceLimitError(AloraError):
    """More calls at once than the context has sequences."""


class SavedConversationError(AloraError):
    """The file is no saved conversation, is damaged, or was saved with another model, adapter or version."""


class ClosedError(AloraError):
    """The model or the conversation was closed before the call or during it."""


class DecodeError(AloraError):
    """The computation failed in the native library."""


class ConversionError(AloraError):
    """A PEFT adapter cannot be converted exactly."""


class HubError(AloraError):
    """A name on the hub cannot be understood, found or fetched, or what is there is refused."""


class BenchError(AloraError):
    """A benchmark cannot be run, or what an engine computed is not what it was asked for."""


class TrainError(AloraError):
    """An adapter cannot be trained on this data, with these settings, or on this base."""


class EvalError(AloraError):
    """An intrinsic cannot be measured as its plan says."""


class ServeError(AloraError):
    """The server cannot be started as it was asked to."""


def copied(error: BaseException) -> BaseException:
    """The same error as an object of its own, with the first as its cause: each caller raises one, and adds its own traceback to it."""
    try:
        one = copy.copy(error)
    except Exception:  # its constructor takes something else than its args
        one = type(error).__new__(type(error), *error.args)
        one.__dict__.update(error.__dict__)
    one.__cause__ = error
    return one

"""The metadata of an adapter GGUF: the keys that llama.cpp reads, and ours beside them (docs/format.md)."""

from dataclasses import dataclass

from .base.gguf_base import Base
from .gguf.file import ARRAY, FLOAT32, STRING, UINT32
from .gguf.writer import Key
from .peft.card import Card
from .peft.decisions import TYPES, TrainedDecisions
from .peft.published import judged_by_name

FORMAT_VERSION = 1
QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION

TYPE = "general.type"
ARCHITECTURE = "general.architecture"
NAME = "general.name"
DESCRIPTION = "general.description"
LICENSE = "general.license"
FILE_TYPE = "general.file_type"
QUANTIZATION = "general.quantization_version"
REPOSITORY = "general.source.huggingface.repository"
REVISION = "alora.source.revision"
BASE_COUNT = "general.base_model.count"
BASE_NAME = "general.base_model.0.name"
BASE_ORGANIZATION = "general.base_model.0.organization"
ADAPTER_TYPE = "adapter.type"
ALPHA = "adapter.lora.alpha"
INVOCATION_TOKENS = "adapter.alora.invocation_tokens"
FORMAT = "alora.format_version"
TOOL = "alora.tool_version"
KIND = "alora.kind"
INVOCATION_TEXT = "alora.invocation_text"
FINGERPRINT = "alora.base.fingerprint"
INVOKED_AFTER = "alora.invoked_after"
IO_YAML = "alora.io_yaml"
DECISIONS = "alora.decisions.format"
TEMPERATURES = {name: f"alora.decisions.temperature.{name}" for name in TYPES}

ALORA, LORA = "alora", "lora"


@dataclass(frozen=True)
class Description:
    """An adapter without its tensors. Optional texts are None where nobody wrote them, the fingerprint for a base that is no GGUF."""

    name: str
    kind: str
    architecture: str
    alpha: float
    invocation_tokens: list[int]
    invocation_text: str | None
    fingerprint: str | None
    base_name: str | None
    base_organization: str | None
    description: str | None
    license: str | None
    invoked_after: str | None
    io_yaml: str | None
    decisions: TrainedDecisions | None = None
    repository: str | None = None
    revision: str | None = None


def describe_adapter(alpha: float, invocation_tokens: list[int], base: Base, card: Card) -> Description:
    """alpha: adapter.lora.alpha. invocation_tokens: ids of the base's vocabulary, none for a plain LoRA."""
    return Description(
        name=card.name,
        kind=ALORA if invocation_tokens else LORA,
        architecture=base.architecture,
        alpha=float(alpha),
        invocation_tokens=invocation_tokens,
        invocation_text=base.vocabulary.text(invocation_tokens) if invocation_tokens else None,
        fingerprint=base.fingerprint,
        base_name=base.name,
        base_organization=base.organization,
        description=card.description,
        license=card.license,
        invoked_after=card.invoked_after or judged_by_name(card.io_yaml),
        io_yaml=card.io_yaml,
        decisions=card.decisions,
        repository=card.repository,
        revision=card.revision,
    )


def adapter_keys(adapter: Description, file_type: int, tool_version: str) -> list[Key]:
    """The keys in the order of the file; texts that nobody wrote are left out."""
    decisions = adapter.decisions
    keys = [
        Key(ARCHITECTURE, STRING, adapter.architecture),
        Key(TYPE, STRING, "adapter"),
        Key(NAME, STRING, adapter.name),
        Key(DESCRIPTION, STRING, adapter.description),
        Key(LICENSE, STRING, adapter.license),
        Key(REPOSITORY, STRING, adapter.repository),
        Key(BASE_COUNT, UINT32, 1 if adapter.base_name else None),
        Key(BASE_NAME, STRING, adapter.base_name),
        Key(BASE_ORGANIZATION, STRING, adapter.base_organization if adapter.base_name else None),
        Key(FILE_TYPE, UINT32, file_type),
        Key(QUANTIZATION, UINT32, QUANTIZATION_VERSION),
        Key(ADAPTER_TYPE, STRING, "lora"),
        Key(ALPHA, FLOAT32, adapter.alpha),
        Key(INVOCATION_TOKENS, ARRAY, adapter.invocation_tokens or None, UINT32),
        Key(FORMAT, UINT32, FORMAT_VERSION),
        Key(TOOL, STRING, tool_version),
        Key(KIND, STRING, adapter.kind),
        Key(INVOCATION_TEXT, STRING, adapter.invocation_text),
        Key(FINGERPRINT, STRING, adapter.fingerprint),
        Key(INVOKED_AFTER, STRING, adapter.invoked_after),
        Key(IO_YAML, STRING, adapter.io_yaml),
        Key(DECISIONS, UINT32, decisions.format if decisions else None),
        *(Key(TEMPERATURES[name], FLOAT32, decisions.temperature[name] if decisions else None) for name in TYPES),
        Key(REVISION, STRING, adapter.revision),
    ]
    return [key for key in keys if key.value is not None]

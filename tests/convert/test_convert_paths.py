"""The table of weights that no adapter reaches, against the graphs of the pinned llama.cpp."""

import re
from functools import cache

import pytest
from upstream import upstream_source

from alora_gguf.convert.mapping.architectures import FAMILIES, FUSED, STORED
from alora_gguf.convert.mapping.unadapted import UNADAPTED, unadapted

# Functions that multiply by the weights they are given through build_lora_mm or build_lora_mm_id.
ADAPTED_CALLS = ("build_lora_mm", "build_lora_mm_id", "build_ffn", "build_moe_ffn", "build_attn")
WEIGHT = re.compile(r"\b(?:model|layer)(?:\.layers\[il\])?\.(\w+)\b")


@cache
def source(name: str) -> str:
    return (upstream_source() / "src" / name).read_text()


@cache
def model_files() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((upstream_source() / "src" / "models").glob("*.cpp"))}


def graph_of(architecture: str) -> str:
    """The text of every file that builds the architecture's graph."""
    arch = {name: key for key, name in re.findall(r"\{ (LLM_ARCH_\w+), +\"([^\"]+)\"", source("llama-arch.cpp"))}[architecture]
    model = re.search(rf"case {arch}:\s*(?:case \w+:\s*)*return new (llama_model_\w+)\(", source("llama-model.cpp"))[1]
    struct = re.search(rf"struct {model} :.*?\n}};", source("models/models.h"), re.S)[0]
    borrowed = re.findall(r"using graph = (llama_model_\w+)::graph", struct)
    bases = re.findall(
        r"struct graph : public (llm_build_\w+)",
        struct + "".join(re.search(rf"struct {name} :.*?\n}};", source("models/models.h"), re.S)[0] for name in borrowed),
    )
    owners = {model, *borrowed, *bases}
    return "\n".join(text for text in model_files().values() if any(re.search(rf"\b{owner}(?:::|<)", text) for owner in owners))


def kinds_of_members(text: str) -> dict[str, str]:
    """layer.wq -> attn_q, from where the tensors are loaded."""
    kinds = {key: name.removeprefix("blk.%d.") for key, name in re.findall(r"\{ (LLM_TENSOR_\w+), +\"([^\"]+)\" \}", source("llama-arch.cpp"))}
    loads = re.findall(r"(\w+)\s+=\s+create_tensor\(\s*tn\((LLM_TENSOR_\w+), +\"weight\"", source("llama-model.cpp") + text)
    return {member: kinds[tensor] for member, tensor in loads} | {"output": "output"}  # not token_embd, where it is tied


def arguments(text: str, function: str) -> list[str]:
    """The text between the brackets of every call."""
    found = []
    for match in re.finditer(rf"\b{function}\(", text):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.append(text[match.end() : end - 1])
    return found


def weights_used(architecture: str) -> tuple[set[str], set[str]]:
    """(kinds multiplied where adapters apply, kinds multiplied directly)."""
    text = graph_of(architecture)
    members = kinds_of_members(text)
    adapted = {name for call in ADAPTED_CALLS for args in arguments(text, call) for name in WEIGHT.findall(args)}
    if arguments(text, "build_qkv"):
        adapted |= {"wq", "wk", "wv", "wqkv"}
    if arguments(text, "build_inp_embd"):
        adapted.add("tok_embd")
    direct = {name for call in ("ggml_mul_mat", "ggml_mul_mat_id") for args in arguments(text, call) for name in WEIGHT.findall(args.split(",")[1])}
    return tuple({members[name] for name in names if name in members} for names in (adapted, direct))


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_table_is_what_the_graphs_do(architecture):
    adapted, direct = weights_used(architecture)
    kinds = FAMILIES[architecture].kinds
    assert direct & kinds == unadapted(architecture)
    for kind in {*FAMILIES[architecture].modules.values(), "token_embd", "output"}:
        assert {*FUSED.get(kind, (kind,))} <= adapted | direct or {kind, STORED.get(kind)} & adapted


def test_the_table_is_of_families():
    assert UNADAPTED.keys() <= FAMILIES.keys()

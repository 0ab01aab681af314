"""Weights that llama.cpp multiplies outside its adapted paths (build_lora_mm, build_lora_mm_id, build_inp_embd).

An adapter of one would be ignored without a word. tests/convert/test_convert_paths.py derives the
table from the pinned source.
"""

# general.architecture -> kinds
UNADAPTED: dict[str, set[str]] = {"deepseek2": {"attn_q", "attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "output"}}


def unadapted(architecture: str) -> set[str]:
    return UNADAPTED.get(architecture, set())

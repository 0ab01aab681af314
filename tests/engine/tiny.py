"""Files that the tests of the engine make: random adapters for the embedded model, and tiny random models; and what their logits say."""

from functools import cache
from pathlib import Path

import gguf
import numpy as np

INVOCATIONS = {"A": [901, 902], "B": [903]}


def random_adapter(
    base: Path,
    out: Path,
    invocation: list[int],
    seed: int,
    targets=("attn_q", "ffn_down"),
    rank: int = 4,
    invoked_after: str | None = None,
    description: str | None = None,
    io_yaml: str | None = None,
) -> Path:
    """A LoRA that changes the logits much; with an invocation, an activated one."""
    reader = _reader(base)
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", rank)
    if invocation:
        writer.add_key_value("adapter.alora.invocation_tokens", invocation, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
    if invoked_after:
        writer.add_string("alora.invoked_after", invoked_after)
    if description:
        writer.add_description(description)
    if io_yaml:
        writer.add_string("alora.io_yaml", io_yaml)
    for tensor in reader.tensors:
        if tensor.name.startswith("blk.") and tensor.name.split(".")[2] in targets and tensor.name.endswith(".weight"):
            n_in, n_out = (int(n) for n in tensor.shape)
            writer.add_tensor(f"{tensor.name}.lora_a", rng.normal(0, 0.1, (rank, n_in)).astype(np.float32))
            writer.add_tensor(f"{tensor.name}.lora_b", rng.normal(0, 0.1, (n_out, rank)).astype(np.float32))
    _finish(writer)
    return out


def bytes_vocabulary(out: Path) -> Path:
    """No model: a vocabulary of 256 bytes and few words, so that a model is small and most answers are no text in UTF-8."""
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(256)), *(f"\u2581w{i}".encode() for i in range(41))]
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * 41])
    writer.add_chat_template("{% for m in messages %}<s>{{ m.role[0] }}{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>a{% endif %}")
    _finish(writer)
    return out


def llama(vocab_of: Path, out: Path, pooling: int | None = None, chat_template: str | None = None) -> Path:
    """A plain transformer, which does not repeat its prompt. pooling: llama.cpp's number of a way to make an embedding."""
    n_embd, n_head, n_ff = 64, 4, 64
    writer, n_vocab, rng = _begin("llama", vocab_of, out, n_embd, chat_template=chat_template)
    for key, value in (("feed_forward_length", n_ff), ("attention.head_count", n_head), ("rope.dimension_count", n_embd // n_head)):
        writer.add_uint32(f"llama.{key}", value)
    if pooling is not None:
        writer.add_uint32("llama.pooling_type", pooling)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    random = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
    writer.add_tensor("token_embd.weight", random(n_vocab, n_embd))
    writer.add_tensor("output.weight", random(n_vocab, n_embd))
    writer.add_tensor("output_norm.weight", np.ones(n_embd, np.float32))
    for i in range(2):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{norm}.weight", np.ones(n_embd, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{i}.{name}.weight", random(n_embd, n_embd))
        for name, shape in (("ffn_gate", (n_ff, n_embd)), ("ffn_up", (n_ff, n_embd)), ("ffn_down", (n_embd, n_ff))):
            writer.add_tensor(f"blk.{i}.{name}.weight", random(*shape))
    _finish(writer)
    return out


def mamba2(vocab_of: Path, out: Path) -> Path:
    """A recurrent model of two layers, with the vocabulary of another."""
    n_embd, n_inner, n_state, n_head, n_group, n_conv = 64, 128, 16, 4, 1, 4
    writer, n_vocab, rng = _begin("mamba2", vocab_of, out, n_embd)
    for key, value in (
        ("conv_kernel", n_conv),
        ("inner_size", n_inner),
        ("state_size", n_state),
        ("time_step_rank", n_head),
        ("group_count", n_group),
    ):
        writer.add_uint32(f"mamba2.ssm.{key}", value)
    writer.add_float32("mamba2.attention.layer_norm_rms_epsilon", 1e-5)
    n_xbc = n_inner + 2 * n_group * n_state
    random = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
    writer.add_tensor("token_embd.weight", random(n_vocab, n_embd))
    writer.add_tensor("output_norm.weight", np.ones(n_embd, np.float32))
    for i in range(2):
        writer.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(n_embd, np.float32))
        writer.add_tensor(f"blk.{i}.ssm_in.weight", random(n_inner + n_xbc + n_head, n_embd))
        writer.add_tensor(f"blk.{i}.ssm_conv1d.weight", random(n_xbc, n_conv))
        writer.add_tensor(f"blk.{i}.ssm_conv1d.bias", random(n_xbc))
        writer.add_tensor(f"blk.{i}.ssm_dt.bias", random(n_head))
        writer.add_tensor(f"blk.{i}.ssm_a", -np.ones((n_head, 1), np.float32))
        writer.add_tensor(f"blk.{i}.ssm_d", np.ones((n_head, 1), np.float32))
        writer.add_tensor(f"blk.{i}.ssm_norm.weight", np.ones((n_group, n_inner // n_group), np.float32))
        writer.add_tensor(f"blk.{i}.ssm_out.weight", random(n_embd, n_inner))
    _finish(writer)
    return out


def gemma3(vocab_of: Path, out: Path, window: int) -> Path:
    """A model of which five layers in six see `window` tokens back."""
    n_embd, n_head, n_dim, n_ff, n_layer = 64, 4, 16, 64, 6
    writer, n_vocab, rng = _begin("gemma3", vocab_of, out, n_embd, n_layer)
    for key, value in (
        ("feed_forward_length", n_ff),
        ("attention.head_count", n_head),
        ("attention.head_count_kv", n_head),
        ("attention.key_length", n_dim),
        ("attention.value_length", n_dim),
        ("attention.sliding_window", window),
    ):
        writer.add_uint32(f"gemma3.{key}", value)
    writer.add_float32("gemma3.attention.layer_norm_rms_epsilon", 1e-6)
    random = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
    writer.add_tensor("token_embd.weight", random(n_vocab, n_embd))
    writer.add_tensor("output_norm.weight", np.ones(n_embd, np.float32))
    for i in range(n_layer):
        for norm, n in (
            ("attn_norm", n_embd),
            ("attn_q_norm", n_dim),
            ("attn_k_norm", n_dim),
            ("post_attention_norm", n_embd),
            ("ffn_norm", n_embd),
            ("post_ffw_norm", n_embd),
        ):
            writer.add_tensor(f"blk.{i}.{norm}.weight", np.ones(n, np.float32))
        for name in ("attn_q", "attn_k", "attn_v"):
            writer.add_tensor(f"blk.{i}.{name}.weight", random(n_head * n_dim, n_embd))
        writer.add_tensor(f"blk.{i}.attn_output.weight", random(n_embd, n_head * n_dim))
        writer.add_tensor(f"blk.{i}.ffn_gate.weight", random(n_ff, n_embd))
        writer.add_tensor(f"blk.{i}.ffn_up.weight", random(n_ff, n_embd))
        writer.add_tensor(f"blk.{i}.ffn_down.weight", random(n_embd, n_ff))
    _finish(writer)
    return out


def first_logprobs(model, tokens, adapter):
    """What a fresh computation says of the token after `tokens`: float [n_vocab]."""
    row = model.logits([(tokens, adapter)])[0][-1].astype(np.float64)
    row -= row.max()
    return row - np.log(np.exp(row).sum())


@cache
def _reader(path: Path) -> gguf.GGUFReader:
    """Reading a vocabulary takes a second or two."""
    return gguf.GGUFReader(path)


def _begin(architecture: str, vocab_of: Path, out: Path, n_embd: int, n_layer: int = 2, chat_template: str | None = None):
    reader = _reader(vocab_of)
    writer = gguf.GGUFWriter(out, architecture)
    for field in reader.fields.values():
        if field.name == "tokenizer.chat_template" and chat_template is not None:
            writer.add_chat_template(chat_template)
        elif field.name.startswith("tokenizer."):
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for key, value in (("context_length", 2048), ("embedding_length", n_embd), ("block_count", n_layer)):
        writer.add_uint32(f"{architecture}.{key}", value)
    return writer, len(reader.fields["tokenizer.ggml.tokens"].data), np.random.default_rng(7)


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

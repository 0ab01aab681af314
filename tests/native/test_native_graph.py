"""Every path of a graph that an adapter can enter, on tiny models, against the same models with the adapter merged in."""

import ctypes

import gguf
import numpy as np
import pytest
from native_models import TinyAdapter, write_adapter
from native_runtime import Runtime, llama_cpp, prompt, relative_error

TOLERANCE = 2e-5
DECODERS = ["dense", "tied", "experts", "hybrid"]


@pytest.fixture(params=DECODERS)
def kind(request) -> str:
    return request.param


@pytest.mark.parametrize("start", [0, 1, 7, 19])
def test_an_adapter_on_every_weight_equals_the_merged_model(zoo, kind, start):
    adapter, tokens = zoo.adapter(kind), prompt(1, 20)
    with Runtime(zoo.base(kind)) as runtime:
        base = runtime.logits((0, tokens, 0))[0]
        runtime.clear()
        runtime.activate(0, zoo.load(runtime, kind, adapter), start)
        got = runtime.logits((0, tokens, 0))[0]
    assert relative_error(got, zoo.expected(kind, tokens, start, (adapter, 1.0))) < TOLERANCE
    assert np.array_equal(got[:start], base[:start])
    assert relative_error(base[start:], got[start:]) > 1000 * TOLERANCE  # else nothing was shown


@pytest.mark.parametrize(
    "kind, weight",
    [
        ("dense", "output.weight"),
        ("tied", "output.weight"),
        ("dense", "token_embd.weight"),
        ("tied", "token_embd.weight"),
        ("dense", "blk.1.attn_k.weight"),
        ("dense", "blk.1.ffn_down.weight"),
        ("experts", "blk.1.ffn_gate_inp.weight"),
        ("experts", "blk.1.ffn_up_exps.weight"),
        ("experts", "blk.1.ffn_down_exps.weight"),
        ("hybrid", "blk.2.ssm_in.weight"),
        ("hybrid", "blk.2.ssm_out.weight"),
        ("hybrid", "blk.1.attn_q.weight"),
    ],
)
@pytest.mark.parametrize("outputs", ["all", "last"])
def test_an_adapter_on_one_weight_equals_the_merged_model(zoo, kind, weight, outputs):
    """With "last", the rows of what comes after the last attention are the outputs, not the tokens."""
    adapter, tokens, others = zoo.adapter(kind, weights=[weight]), prompt(2, 12), prompt(3, 12)
    want = [zoo.expected(kind, tokens, 4, (adapter, 1.0)), zoo.expected(kind, others, 12)]
    with Runtime(zoo.base(kind)) as runtime:
        loaded = zoo.load(runtime, kind, adapter)
        runtime.activate(3, loaded, 4)
        got = runtime.logits((0, others, 0), (3, tokens, 0), outputs=outputs)
    for row, expected in zip(got, reversed(want)):
        assert relative_error(row, expected if outputs == "all" else expected[-1:]) < TOLERANCE
    assert relative_error(zoo.expected(kind, tokens, 12)[-1:], want[0][-1:]) > 100 * TOLERANCE


def test_a_batch_without_outputs_only_fills_the_cells(zoo, kind):
    adapter, tokens = zoo.adapter(kind), prompt(4, 16)
    with Runtime(zoo.base(kind)) as runtime:
        runtime.activate(0, zoo.load(runtime, kind, adapter), 3)
        assert runtime.decode((0, tokens[:10], 0), outputs="none") == 0
        got = runtime.logits((0, tokens[10:], 10))[0]
    assert relative_error(got, zoo.expected(kind, tokens, 3, (adapter, 1.0))[10:]) < TOLERANCE


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, -1.0), (0.0, 2.0)])
def test_adapters_on_one_sequence_add_up(zoo, kind, scales):
    first, second = zoo.adapter(kind, 1), zoo.adapter(kind, 2, r=6, alpha=5.0)
    tokens = prompt(5, 14)
    with Runtime(zoo.base(kind)) as runtime:
        for adapter, scale in zip((first, second), scales):
            runtime.activate(0, zoo.load(runtime, kind, adapter), 6, scale)
        got = runtime.logits((0, tokens, 0))[0]
    assert relative_error(got, zoo.expected(kind, tokens, 6, *zip((first, second), scales))) < TOLERANCE


def test_each_adapter_of_a_sequence_has_its_own_start(zoo, kind):
    first, second, tokens = zoo.adapter(kind, 1), zoo.adapter(kind, 2), prompt(6, 14)
    with Runtime(zoo.base(kind)) as runtime:
        first_ptr, second_ptr = (zoo.load(runtime, kind, a) for a in (first, second))
        runtime.activate(0, first_ptr, 4)
        runtime.activate(0, second_ptr, 9)
        got = runtime.logits((0, tokens, 0))[0]
        # the same by hand: one token after the other, and an adapter is given when its time has come
        runtime.clear()
        want = []
        for i, token in enumerate(tokens):
            if i in (4, 9):
                runtime.activate(0, first_ptr if i == 4 else second_ptr, i)
            want += runtime.logits((0, [token], i))
    assert relative_error(got[:9], zoo.expected(kind, tokens[:9], 4, (first, 1.0))) < TOLERANCE
    assert relative_error(got, np.concatenate(want)) < TOLERANCE


def test_a_scale_of_zero_is_the_base_bit_for_bit(zoo, kind):
    tokens = prompt(7, 10)
    with Runtime(zoo.base(kind)) as runtime:
        base = runtime.logits((0, tokens, 0))[0]
        runtime.clear()
        runtime.activate(0, zoo.load(runtime, kind, zoo.adapter(kind)), 0, 0.0)
        assert np.array_equal(runtime.logits((0, tokens, 0))[0], base)


MIXED = [(20, 0, (0,)), (9, 4, (1,)), (20, None, ()), (13, 12, (0, 1)), (1, 0, (1,)), (20, 11, (2,)), (6, None, ())]


@pytest.mark.parametrize("n_ubatch", [1, 2, 3, 7, 32, 512])
def test_a_mixed_batch_equals_each_row_alone_wherever_ubatches_end(zoo, kind, n_ubatch):
    """Sequences of uneven lengths, each with its own adapters and start, or none: (length, start, adapters)."""
    adapters = [zoo.adapter(kind, 1), zoo.adapter(kind, 2, r=1, alpha=0.0), zoo.adapter(kind, 3, r=9, weights=zoo.model(kind).weights[1:4])]
    rows = [(seq, prompt(seq, n), 0) for seq, (n, _, _) in enumerate(MIXED)]
    with Runtime(zoo.base(kind), n_ubatch=n_ubatch) as runtime:
        loaded = [zoo.load(runtime, kind, a) for a in adapters]
        base = runtime.logits(*rows)
        runtime.clear()
        for seq, (_, start, names) in enumerate(MIXED):
            for i in names:
                runtime.activate(seq, loaded[i], start)
        got = runtime.logits(*rows)
    for (_, tokens, _), (n, start, names), row, unadapted in zip(rows, MIXED, got, base):
        want = zoo.expected(kind, tokens, n if start is None else start, *((adapters[i], 1.0) for i in names))
        assert relative_error(row, want) < TOLERANCE
        assert np.array_equal(row[:start], unadapted[:start])  # an adapter elsewhere in the ubatch changes no bit


@pytest.mark.parametrize("dtype, tolerance", [("F16", 5e-3), ("BF16", 5e-2), ("Q8_0", 2e-2)])
def test_types_of_an_adapter(zoo, dtype, tolerance):
    """ggml multiplies such a weight by activations rounded like it, hence the tolerance."""
    kind, tokens = "dense", prompt(8, 12)
    dtype = gguf.GGMLQuantizationType[dtype]
    adapter = zoo.adapter(kind, r=32, alpha=4.0)
    rounded = TinyAdapter(
        {name: tuple(gguf.quants.dequantize(gguf.quants.quantize(x, dtype), dtype) for x in pair) for name, pair in adapter.pairs.items()},
        adapter.alpha,
    )
    with Runtime(zoo.base(kind)) as runtime:
        loaded = runtime.load(write_adapter(zoo.path(), "llama", adapter, dtype))
        runtime.activate(0, loaded, 5)
        got = runtime.logits((0, tokens, 0))[0]
    want = zoo.expected(kind, tokens, 5, (rounded, 1.0))
    assert relative_error(got, want) < tolerance
    assert relative_error(zoo.expected(kind, tokens, 12)[5:], want[5:]) > 3 * tolerance


def test_streams_of_their_own_equal_a_unified_cache(zoo, kind):
    adapter, rows = zoo.adapter(kind), [(seq, prompt(seq, 8), 0) for seq in range(3)]
    with Runtime(zoo.base(kind), unified=False, n_seq_max=4) as runtime:
        runtime.activate(1, zoo.load(runtime, kind, adapter), 3)
        got = runtime.logits(*rows)
    for (seq, tokens, _), row in zip(rows, got):
        assert relative_error(row, zoo.expected(kind, tokens, 3 if seq == 1 else 8, (adapter, 1.0))) < TOLERANCE


def test_embeddings_given_instead_of_tokens_are_adapted_but_for_their_lookup(zoo):
    """An image's embeddings, for example: there is no row of the embedding matrix to adapt."""
    kind, tokens = "dense", prompt(9, 12)
    adapter = zoo.adapter(kind)
    rest = TinyAdapter({name: pair for name, pair in adapter.pairs.items() if name != "token_embd.weight"}, adapter.alpha)
    embeddings = zoo.model(kind).tensors["token_embd.weight"][tokens]
    with Runtime(zoo.base(kind)) as runtime:
        runtime.activate(0, zoo.load(runtime, kind, adapter), 5)
        got = runtime.logits((0, embeddings, 0))[0]
        runtime.clear()
        runtime.activate(0, zoo.load(runtime, kind, adapter), 5)
        as_tokens = runtime.logits((0, tokens, 0))[0]  # and back to tokens in one context
    assert relative_error(got, zoo.expected(kind, tokens, 5, (rest, 1.0))) < TOLERANCE
    assert relative_error(as_tokens, zoo.expected(kind, tokens, 5, (adapter, 1.0))) < TOLERANCE


def test_an_adapter_of_the_whole_context_and_one_of_a_sequence_add_up(zoo, kind):
    """llama.cpp's own adapters, which read the same file, go on working."""
    whole, part = zoo.adapter(kind, 1, weights=["blk.1.attn_q.weight", "blk.1.attn_output.weight"]), zoo.adapter(kind, 2)
    tokens = prompt(10, 12)
    with Runtime(zoo.base(kind)) as runtime:
        upstream = llama_cpp.llama_adapter_lora_init(runtime.model, str(write_adapter(zoo.path(), zoo.model(kind).architecture, whole)).encode())
        assert upstream
        scale = (ctypes.c_float * 1)(0.5)
        llama_cpp.llama_set_adapters_lora(runtime.ctx, (type(upstream) * 1)(upstream), 1, scale)
        runtime.activate(0, zoo.load(runtime, kind, part), 0)
        got = runtime.logits((0, tokens, 0))[0]
    assert relative_error(got, zoo.expected(kind, tokens, 0, (whole, 0.5), (part, 1.0))) < TOLERANCE

"""model.logits against PEFT on the same weights, and against llama.cpp without the patch."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import pytest
from reference import INVOCATIONS, PRECISE, RANDOM_ADAPTERS, peft_logits, relative_error
from rpc_server import rpc_server

from alora_gguf import Model

TOLERANCE = 2e-5
PARITY = {"n_ctx": 2048, **PRECISE}

UNPATCHED = """
import sys, numpy as np
import llama_cpp.llama_cpp as L
base, n_ubatch, rows_file, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
rows = [r.tolist() for r in np.load(rows_file).values()]
assert not hasattr(L._lib, "alora_abi_version")
L.llama_backend_init()
model = L.llama_model_load_from_file(base.encode(), L.llama_model_default_params())
params = L.llama_context_default_params()
params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max, params.kv_unified = 2048, 512, n_ubatch, 64, True
params.type_k = params.type_v = params.flash_attn_type = 0
params.n_threads = params.n_threads_batch = int(sys.argv[5])
ctx = L.llama_init_from_model(model, params)
n, i = sum(map(len, rows)), 0
batch = L.llama_batch_init(n, 0, 1)
for seq, row in enumerate(rows):
    for pos, token in enumerate(row):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, pos, 1, seq, 1
        i += 1
batch.n_tokens = n
assert L.llama_decode(ctx, batch) == 0
n_vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
np.save(out, np.ctypeslib.as_array(L.llama_get_logits(ctx), shape=(n, n_vocab)))
"""


def filler(seed: int, n: int) -> list[int]:
    """Ordinary tokens, none of which is part of an invocation."""
    return np.random.default_rng(seed).integers(100, 40000, n).tolist()


def placements(invocation: list[int], seed: int) -> list[list[int]]:
    """Prompts with the invocation in every awkward place."""
    text = filler(seed, 40)
    first, last = invocation[0], invocation[-1]
    return [
        invocation + text,  # first token
        text + invocation,  # last token
        text[:10] + invocation + text[10:20] + invocation + text[20:25],  # repeated: the last counts
        text[:9] + [first] + invocation + [last] + text[9:15],  # the token that breaks a match begins one
        text[:6] + invocation + invocation[:1] + invocation + text[6:12],  # overlapping
        text[:31] + invocation + text[31:],  # across a ubatch boundary of 32 tokens
        text,  # absent
    ]


@pytest.fixture(scope="module")
def rows() -> list[tuple[list[int], str | None]]:
    """One mixed batch: every adapter in every placement, and the base on some of the same prompts."""
    rows = [(p, name) for seed, name in enumerate(RANDOM_ADAPTERS) for p in placements(INVOCATIONS[name], seed)]
    rows += [(rows[i][0], None) for i in (0, 5, 9, 20)]
    return [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]


@pytest.fixture(scope="module", params=[32, 512], ids=lambda n: f"ubatch{n}")
def model_f32(request, base_f32, adapter_files):
    with Model(base_f32, n_ubatch=request.param, n_batch=512, **PARITY) as model:
        model.n_ubatch = request.param
        for path in adapter_files.values():
            model.load_adapter(path)
        yield model


@pytest.fixture(scope="module")
def expected(peft_model, rows):
    return [peft_logits(peft_model, tokens, name) for tokens, name in rows]


def test_a_mixed_batch_equals_peft(model_f32, rows, expected):
    errors = [relative_error(got, want) for got, want in zip(model_f32.logits(rows), expected)]
    assert max(errors) < TOLERANCE


def test_the_adapters_matter(peft_model, rows, expected):
    """Else the parity above would prove nothing."""
    for (tokens, name), want in zip(rows, expected):
        changed = relative_error(peft_logits(peft_model, tokens, None), want)
        assert changed == 0 if name is None or tokens == filler_of(tokens, name) else changed > 100 * TOLERANCE


def filler_of(tokens, name):
    """The tokens themselves where the invocation is absent."""
    from alora_gguf import find_invocation

    return tokens if find_invocation(tokens, INVOCATIONS[name]) is None else None


def test_before_the_start_rows_are_the_bases_bit_for_bit(model_f32, rows):
    adapted = model_f32.logits(rows)
    base = model_f32.logits([(tokens, None) for tokens, _ in rows])
    for (tokens, name), got, want in zip(rows, adapted, base):
        start = model_f32.adapter(name).start_in(tokens) if name else None
        assert np.array_equal(got[:start], want[:start])


def test_base_rows_equal_the_unpatched_library_bit_for_bit(model_f32, rows, base_f32, unpatched_lib, tmp_path):
    few = [rows[i] for i in range(12)]  # 512 tokens at most: one batch on both sides
    np.savez(tmp_path / "rows.npz", *[np.array(tokens) for tokens, _ in few])
    out = tmp_path / "logits.npy"
    subprocess.run(
        [sys.executable, "-c", UNPATCHED, str(base_f32), str(model_f32.n_ubatch), str(tmp_path / "rows.npz"), str(out), str(os.cpu_count())],
        check=True,
        capture_output=True,
        env={**os.environ, "LLAMA_CPP_LIB_PATH": str(unpatched_lib)},
    )
    unpatched = np.split(np.load(out), np.cumsum([len(tokens) for tokens, _ in few])[:-1])
    for (tokens, name), got, want in zip(few, model_f32.logits(few), unpatched):
        start = model_f32.adapter(name).start_in(tokens) if name else None
        assert np.array_equal(got[:start], want[:start])
    for got, want in zip(model_f32.logits([(tokens, None) for tokens, _ in few]), unpatched):
        assert np.array_equal(got, want)


def test_64_greedy_tokens_equal_pefts(base_f32, peft_model, adapter_files):
    import torch

    with Model(base_f32, **PARITY) as model:
        for name, path in adapter_files.items():
            model.load_adapter(path)
        for name, question in zip(RANDOM_ADAPTERS, ("What is the tallest mountain?", "Tell me a story.", "Count to ten.")):
            chat = model.conversation(messages=[{"role": "user", "content": question}])
            got = chat.invoke(name, max_tokens=64).tokens
            prompt = model.tokenize(model.render(chat.messages)) + INVOCATIONS[name]
            peft_model.set_adapter(name)
            with torch.no_grad():
                out = peft_model.generate(
                    input_ids=torch.tensor([prompt]),
                    attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                    max_new_tokens=64,
                    do_sample=False,
                    repetition_penalty=1.0,
                    pad_token_id=2,
                )
            want = out[0, len(prompt) :].tolist()
            eog = [i for i, t in enumerate(want) if model.vocab.is_eog(t)]
            assert got == want[: eog[0] if eog else None]
            chat.close()


@pytest.mark.parametrize("n_servers", [2, 3])
def test_parity_through_rpc(base_f32, adapter_files, rows, expected, n_servers):
    """Devices with their own memory: all layers in other processes."""
    code = RPC.format(base=str(base_f32), options=PARITY, files={n: str(p) for n, p in adapter_files.items()}, rows=rows)
    with ExitStack() as stack:
        servers = [stack.enter_context(rpc_server()) for _ in range(n_servers)]
        done = subprocess.run([sys.executable, "-c", code, *servers], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    got = np.frombuffer(done.stdout, np.float32).reshape(-1, expected[0].shape[1])
    assert b"offloaded 31/31 layers" in done.stderr
    assert len(re.findall(rb"RPC0\[\S+\] model buffer size", done.stderr)) == n_servers  # the log says where the layers went
    assert relative_error(got, np.concatenate(expected)) < TOLERANCE


RPC = """
import sys
from alora_gguf import Model
model = Model({base!r}, n_gpu_layers=-1, rpc_servers=sys.argv[1:], verbose=True, **{options!r})
for name, path in {files!r}.items():
    model.load_adapter(path, name)
for row in model.logits({rows!r}):
    sys.stdout.buffer.write(row.tobytes())
"""

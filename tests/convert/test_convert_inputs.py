"""Every kind of adapter and base that can be named gives the bytes of the plain ones; what is ambiguous or broken is said."""

import json
import shutil

import numpy as np
import pytest

from alora_gguf.convert import ConversionError, convert, read_adapter_metadata
from alora_gguf.convert.base.gguf_base import read_base
from alora_gguf.convert.base.hf_base import read_hf_base
from alora_gguf.convert.base.invocation import tokenize

MODULES = ["self_attn.q_proj", "mlp.down_proj"]
TARGETS = ["q_proj", "down_proj"]


@pytest.fixture
def plain(tiny, base, tmp_path):
    """(folder `check`, the bytes that it converts to)."""
    folder = tiny.write_adapter(
        tmp_path / "plain" / "check", tiny.adapter_tensors(modules=MODULES), target_modules=TARGETS, alora_invocation_tokens=[1, 2]
    )
    convert(folder, tmp_path / "plain.gguf", base=base)
    return folder, (tmp_path / "plain.gguf").read_bytes()


def converted(path, base, tmp_path, **options) -> bytes:
    convert(path, tmp_path / "out.gguf", base=base, **options)
    return (tmp_path / "out.gguf").read_bytes()


# -- files of tensors --------------------------------------------------------------------------------


def shard(folder, tiny, change=lambda weight_map: weight_map):
    """Splits the folder's tensors over two files, and writes their index."""
    (folder / "adapter_model.safetensors").unlink()
    tensors, weight_map = tiny.adapter_tensors(modules=MODULES), {}
    for i, names in enumerate((list(tensors)[:3], list(tensors)[3:]), 1):
        shard = f"adapter_model-0000{i}-of-00002.safetensors"
        (folder / shard).write_bytes(tiny.safetensors_bytes({name: tensors[name] for name in names}))
        weight_map |= dict.fromkeys(names, shard)
    (folder / "adapter_model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": change(weight_map)}))


def test_sharded(plain, tiny, base, tmp_path):
    folder, expected = plain
    shard(folder, tiny)
    assert converted(folder, base, tmp_path) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda m: {},
        lambda m: None,
        lambda m: [1],
        lambda m: dict.fromkeys(m, 3),
        lambda m: dict.fromkeys(m, "../x.safetensors"),
        lambda m: dict.fromkeys(m, "adapter_model-00001-of-00002.safetensors"),
        lambda m: dict(list(m.items())[1:]),
        lambda m: dict.fromkeys(m, "missing.safetensors"),
        lambda m: {key: ["a"] for key in m},
    ],
)
def test_an_index_that_lies(change, plain, tiny, refusal):
    shard(plain[0], tiny, change)
    refusal(plain[0])


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_file(legacy, dtype, plain, tiny, base, tmp_path):
    torch = pytest.importorskip("torch")
    folder, _ = plain
    tensors = {name: torch.tensor(v).to(getattr(torch, dtype)) for name, v in tiny.adapter_tensors(modules=MODULES).items()}
    (folder / "adapter_model.safetensors").unlink()
    torch.save(tensors, folder / "adapter_model.bin", _use_new_zipfile_serialization=not legacy)
    got = converted(folder, base, tmp_path, outtype="auto")
    (folder / "adapter_model.bin").unlink()
    as_numpy = {name: v.view(torch.uint16).numpy() if dtype == "bfloat16" else v.numpy() for name, v in tensors.items()}
    (folder / "adapter_model.safetensors").write_bytes(tiny.safetensors_bytes(as_numpy))
    assert got == converted(folder, base, tmp_path, outtype="auto")


class Evil:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    "make",
    [
        lambda torch: [torch.ones(2)],
        lambda torch: {"a": 1},
        lambda torch: {"a": Evil()},
        lambda torch: {1: torch.ones(2)},
        lambda torch: {"a": torch.ones(2, dtype=torch.int8)},
        lambda torch: {"a": torch.ones(2, 2).to_sparse()},
        lambda torch: {},
    ],
)
def test_torch_files_of_something_else(make, plain, refusal, capsys):
    torch = pytest.importorskip("torch")
    (plain[0] / "adapter_model.safetensors").unlink()
    torch.save(make(torch), plain[0] / "adapter_model.bin")
    assert "adapter_model.bin" in refusal(plain[0])
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("n", [0, 1, 100, 700])
def test_torch_files_cut_short(n, plain, refusal):
    torch = pytest.importorskip("torch")
    (plain[0] / "adapter_model.safetensors").unlink()
    torch.save({"a": torch.ones(300)}, plain[0] / "adapter_model.bin")
    (plain[0] / "adapter_model.bin").write_bytes((plain[0] / "adapter_model.bin").read_bytes()[:n])
    assert "adapter_model.bin" in refusal(plain[0])


# -- folders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["{root}/check", "{root}/check/tiny-1b", "{root}"])
@pytest.mark.parametrize("inner", ["check/tiny-1b/alora", "check/alora/tiny-1b"])
def test_hub_layouts(layout, inner, plain, base, tmp_path):
    folder, expected = plain
    if layout.endswith("tiny-1b") and inner.endswith("tiny-1b"):
        layout = "{root}/check/alora"
    root = tmp_path / "hub"
    shutil.copytree(folder, root / inner)
    assert converted(layout.format(root=root), base, tmp_path) == expected


def test_hub_cache(plain, base, tmp_path):
    folder, expected = plain
    repo = tmp_path / "hub" / "models--who--check"
    for revision in ("abc", "def"):
        shutil.copytree(folder, repo / "snapshots" / revision)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("def\n")
    (repo / "snapshots" / "abc" / "adapter_config.json").write_text("{")
    assert converted(repo, base, tmp_path) == expected
    assert converted(repo / "snapshots" / "def", base, tmp_path) == expected


@pytest.mark.parametrize("to", ["../../elsewhere", "/", "..", "a/b"])
def test_a_hub_cache_that_points_out_of_itself(to, plain, tmp_path, refusal):
    shutil.copytree(plain[0], tmp_path / "elsewhere")
    main = tmp_path / "models--who--check" / "refs" / "main"
    main.parent.mkdir(parents=True)
    main.write_text(to)
    assert "main: file: expected the name of a folder in snapshots" in refusal(main.parent.parent)


def test_several_adapters_in_a_folder_are_named(plain, tmp_path, refusal):
    for kind in ("lora", "alora"):
        shutil.copytree(plain[0], tmp_path / "hub" / "check" / "tiny" / kind)
    line = refusal(tmp_path / "hub")
    assert "got check/tiny/alora, check/tiny/lora; name one" in line


def test_an_adapter_elsewhere_in_a_folder_is_not_guessed(plain, tmp_path, refusal):
    runs = tmp_path / "runs"
    shutil.copytree(plain[0], runs / "checkpoint-500")
    assert "got none here, but in checkpoint-500; name that folder" in refusal(runs)
    for name in ("checkpoint-1000", "reward", "old/a"):
        shutil.copytree(plain[0], runs / name)
    assert "but in checkpoint-500, checkpoint-1000, old/a, reward; name one of these folders" in refusal(runs)
    for i in range(20):
        shutil.copytree(plain[0], runs / "more" / str(i))
    assert "and 14 more; name one" in refusal(runs)
    (tmp_path / "file").write_text("")
    assert "got a file" in refusal(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "got none; name the folder" in refusal(tmp_path / "empty")


def test_the_tensors_of_a_folder_are_the_folder(plain, base, tmp_path, refusal):
    folder, expected = plain
    assert converted(folder / "adapter_model.safetensors", base, tmp_path) == expected
    shutil.copy(folder / "adapter_model.safetensors", tmp_path / "alone.safetensors")
    assert "got a file" in refusal(tmp_path / "alone.safetensors")
    assert "got nothing" in refusal(folder / "other.safetensors")


# -- invocations -------------------------------------------------------------------------------------


def test_given_tokens_replace_the_adapters_own(plain, base, tmp_path):
    assert convert(plain[0], tmp_path / "out.gguf", base=base, invocation=[7, 8]).invocation_tokens == [7, 8]


def test_a_plain_lora_becomes_an_activated_one(tiny, base, tmp_path):
    folder = tiny.write_adapter(tmp_path / "a")
    assert convert(folder, tmp_path / "out.gguf", base=base, invocation="</s>").kind == "alora"
    assert read_adapter_metadata(tmp_path / "out.gguf").invocation_tokens == [2]


def test_the_deprecated_packages_text(tiny, base, tmp_path):
    """Tokenised by the base's vocabulary: special tokens by their names, and nothing put before them."""
    folder = tiny.write_adapter(tmp_path / "a", peft_type="ALORA", invocation_string="<s></s>")
    done = convert(folder, tmp_path / "out.gguf", base=base)
    assert (done.invocation_tokens, done.invocation_text) == ([1, 2], "<s></s>")
    folder = tiny.write_adapter(tmp_path / "a", invocation_string="<s>", alora_invocation_tokens=[5])
    assert convert(folder, tmp_path / "out.gguf", base=base).invocation_tokens == [5]


@pytest.mark.parametrize(
    ("invocation", "named"),
    [([], "got none"), ("", "got none"), ([-1], "got -1"), ([300], "got 300"), ([1.0], "got 1.0"), ([True], "got True"), (["a"], "got a")],
)
def test_bad_invocations(invocation, named, plain, refusal):
    assert named in refusal(plain[0], invocation=invocation)


def test_a_text_that_nothing_can_tokenise(tiny, tmp_path, refusal):
    folder = tiny.write_adapter(tmp_path / "a")
    line = refusal(folder, tiny.write_base(tmp_path / "b.gguf", tokens=[b"same"] * tiny.N_VOCAB), invocation="text")
    assert "--invocation-tokens" in line


def test_tokens_are_llama_cpps(base_q4):
    tokens = tokenize(read_base(base_q4), "<|im_start|>check\n")
    assert read_base(base_q4).vocabulary.text(tokens) == "<|im_start|>check\n" and tokens[0] == 1


# -- a Hugging Face folder as the base ---------------------------------------------------------------


def write_hf(folder, tiny, **changes):
    folder.mkdir()
    config = {
        "model_type": "llama",
        "hidden_size": tiny.N_EMBD,
        "intermediate_size": tiny.N_FF,
        "vocab_size": tiny.N_VOCAB,
        "num_hidden_layers": tiny.N_LAYER,
        "num_attention_heads": tiny.N_HEAD,
        "num_key_value_heads": tiny.N_HEAD_KV,
        "tie_word_embeddings": False,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    vocab = {
        "<unk>": 0,
        "<s>": 1,
        "</s>": 2,
        **{f"<0x{i:02X}>": 3 + i for i in range(256)},
        **{f"\u2581w{i}": 259 + i for i in range(tiny.N_VOCAB - 259)},
    }
    added = [
        {"id": i, "content": text, "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        for i, text in ((1, "<s>"), (2, "</s>"))
    ]
    (folder / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "model": {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>", "byte_fallback": True},
                "added_tokens": added,
                "decoder": {"type": "ByteFallback"},
            }
        )
    )
    return folder


def test_hugging_face_folder(plain, tiny, base, tmp_path):
    """Everything but what only the GGUF knows: its name and fingerprint."""
    from alora_gguf.convert import render_diffable

    folder = write_hf(tmp_path / "hf", tiny)
    done = convert(plain[0], tmp_path / "out.gguf", base=folder)
    assert done.fingerprint is None and done.invocation_text == "<s></s>"
    got, expected = (set(render_diffable(tmp_path / name).split("\n")) for name in ("out.gguf", "plain.gguf"))
    assert {line.split(" = ")[0] for line in got ^ expected} == {
        "alora.base.fingerprint",
        "general.base_model.0.name",
        "general.base_model.0.organization",
        "general.base_model.count",
    }


def test_hugging_face_folder_is_found_after_a_gguf(plain, tiny, base, tmp_path):
    folder = write_hf(tmp_path / "hf", tiny)
    config = json.loads((plain[0] / "adapter_config.json").read_text()) | {"base_model_name_or_path": str(folder)}
    (plain[0] / "adapter_config.json").write_text(json.dumps(config))
    assert convert(plain[0], tmp_path / "out.gguf").base == folder
    shutil.copy(base, folder / "base.gguf")
    assert convert(plain[0], tmp_path / "out.gguf").base == folder / "base.gguf"


def test_its_tokenizer(tiny, tmp_path):
    pytest.importorskip("tokenizers")
    base = read_hf_base(write_hf(tmp_path / "hf", tiny))
    tokens = tokenize(base, "<s>a\n</s>")
    assert tokens == [1, 3 + ord("a"), 3 + ord("\n"), 2] and base.vocabulary.text(tokens) == "<s>a\n</s>"


@pytest.mark.parametrize("changes", [{"tie_word_embeddings": True}, {"head_dim": 8}, {"model_type": "mixtral", "num_local_experts": 4}])
def test_its_shapes_are_those_of_transformers(changes, tiny, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = write_hf(tmp_path / "hf", tiny, **changes)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    shapes = read_hf_base(folder).shapes
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for leaf, kind in tiny.WEIGHTS.items():
        name = f"model.layers.1.{leaf}.weight"
        if name in state and f"blk.1.{kind}.weight" in shapes:
            assert shapes[f"blk.1.{kind}.weight"] == state[name][::-1]
    assert shapes["token_embd.weight"] == state["model.embed_tokens.weight"][::-1]
    assert ("output.weight" in shapes) == (not changes.get("tie_word_embeddings"))
    if "num_local_experts" in changes:
        experts, fused, n_in = state["model.layers.1.mlp.experts.gate_up_proj"]
        assert shapes["blk.1.ffn_up_exps.weight"] == (n_in, fused // 2, experts)
        assert shapes["blk.1.ffn_down_exps.weight"] == state["model.layers.1.mlp.experts.down_proj"][::-1]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "t5"}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"head_dim": -1}, "head_dim"),
    ],
)
def test_bad_config(changes, named, plain, tiny, tmp_path, refusal):
    assert f"key {named}" in refusal(plain[0], write_hf(tmp_path / "hf", tiny, **changes))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"model": 3}',
        '{"model": {"vocab": {"a": "b"}}}',
        '{"model": {"vocab": {"a": 99999999999}}}',
        '{"model": {"vocab": [["a"]]}}',
        '{"model": {"vocab": {}}, "added_tokens": [3]}',
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_bad_json_of_the_base(name, text, plain, tiny, tmp_path, refusal):
    folder = write_hf(tmp_path / "hf", tiny)
    (folder / name).write_text(text)
    assert name in refusal(plain[0], folder)


def test_a_base_without_tokens_is_enough_for_a_plain_lora(tiny, tmp_path):
    folder = write_hf(tmp_path / "hf", tiny)
    (folder / "tokenizer.json").unlink()
    adapter = tiny.write_adapter(tmp_path / "a")
    assert convert(adapter, tmp_path / "out.gguf", base=folder).written
    with pytest.raises(ConversionError, match="ids below 0"):
        convert(adapter, tmp_path / "out.gguf", base=folder, invocation=[1])


def test_values_of_numpy_are_no_token_ids_of_another_kind(plain, base, tmp_path):
    assert convert(plain[0], tmp_path / "out.gguf", base=base, invocation=np.array([3, 4]).tolist()).invocation_tokens == [3, 4]

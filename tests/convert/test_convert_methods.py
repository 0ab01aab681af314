"""Adapters of other methods than plain LoRA: each is the very update that its method computes."""

import json

import numpy as np
import pytest

from alora_gguf.convert import AdapterFile, convert

PREFIX = "base_model.model."
DOWN = "model.layers.{}.mlp.down_proj"  # a weight whose rows stay in order


def updates(path) -> dict[str, np.ndarray]:
    """weight -> what a loader adds to it, float64 [n_out, n_in]."""
    file = AdapterFile(path)
    return {pair.weight: file.read(pair.b).astype(np.float64) @ file.read(pair.a) * pair.scale for pair in file.pairs}


def close(got: np.ndarray, expected: np.ndarray) -> bool:
    return np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()


def product(tensors, name: str, *between: np.ndarray) -> np.ndarray:
    b, a = (tensors[f"{PREFIX}{name}.lora_{side}.weight"].astype(np.float64) for side in "BA")
    for factor in between:
        b = b @ factor
    return b @ a


@pytest.mark.parametrize("method", ["LoRA-FA", "LoRA-RITE"])
def test_methods_that_only_train_otherwise(method, tiny, base, tmp_path):
    """LoRA-FA freezes its random A, LoRA-RITE is an optimiser: the tensors are LoRA's."""
    tensors = tiny.adapter_tensors(modules=["mlp.down_proj"])
    if method == "LoRA-FA":  # A of Kaiming's initialisation, shared by nobody
        tensors = {k: v * 3 if ".lora_A." in k else v for k, v in tensors.items()}
    folder = tiny.write_adapter(tmp_path / "a", tensors, target_modules=["down_proj"], use_rslora=True)
    convert(folder, tmp_path / "out.gguf", base=base, outtype="f32")
    for layer in range(tiny.N_LAYER):
        assert close(updates(tmp_path / "out.gguf")[f"blk.{layer}.ffn_down.weight"], product(tensors, DOWN.format(layer)) * 8 / 2)


@pytest.mark.parametrize("name", ["_lora_latent_mapping.weight", ".default_lora_latent_mapping.weight"])
def test_lora_xs(name, tiny, base, tmp_path):
    tensors = tiny.adapter_tensors(modules=["mlp.down_proj"])
    rng = np.random.default_rng(2)
    inner = {layer: rng.normal(size=(4, 4)).astype(np.float32) for layer in range(tiny.N_LAYER)}
    saved = {f"{PREFIX}{DOWN.format(layer)}{name}": r for layer, r in inner.items()}
    folder = tiny.write_adapter(tmp_path / "a", tensors | saved, target_modules=["down_proj"])
    convert(folder, tmp_path / "out.gguf", base=base, outtype="f32")
    for layer, r in inner.items():
        assert close(updates(tmp_path / "out.gguf")[f"blk.{layer}.ffn_down.weight"], product(tensors, DOWN.format(layer), r) * 2)


def test_nora_takes_the_inner_rank(tiny, base, tmp_path):
    tensors = tiny.adapter_tensors(r=16, modules=["mlp.down_proj"])
    rng = np.random.default_rng(2)
    inner = {layer: (rng.normal(size=(16, 3)).astype(np.float32), rng.normal(size=(3, 16)).astype(np.float32)) for layer in range(2)}
    saved = {f"{PREFIX}{DOWN.format(layer)}.lora_R{side}": r for layer, (b, a) in inner.items() for side, r in (("B", b), ("A", a))}
    folder = tiny.write_adapter(tmp_path / "a", tensors | saved, r=16, target_modules=["down_proj"])
    assert convert(folder, tmp_path / "out.gguf", base=base, outtype="f32").ranks == [3]
    for layer, (b, a) in inner.items():
        assert close(updates(tmp_path / "out.gguf")[f"blk.{layer}.ffn_down.weight"], product(tensors, DOWN.format(layer), b, a) / 2)


@pytest.mark.parametrize(
    "shapes",
    [
        {"_lora_latent_mapping.weight": (4, 3)},
        {".lora_RA": (3, 4)},
        {".lora_RA": (3, 5), ".lora_RB": (4, 3)},
        {".lora_RA": (0, 4), ".lora_RB": (4, 0)},
    ],
)
def test_inner_matrices_that_do_not_fit(shapes, tiny, tmp_path, refusal):
    saved = {f"{PREFIX}{DOWN.format(0)}{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    assert "NoRA" in refusal(tiny.write_adapter(tmp_path / "a", tiny.adapter_tensors() | saved))


# -- chains ------------------------------------------------------------------------------------------


def chain(tiny, folder):
    """Three adapters of different ranks, scales and modules."""
    modules = ["mlp.down_proj", "self_attn.v_proj"]
    options = [dict(r=4), dict(r=2, lora_alpha=3, use_rslora=True), dict(r=5, alpha_pattern={"v_proj": 0})]
    folders, sums = [], {}
    for i, option in enumerate(options):
        here = modules if i else modules[:1]
        tensors = {k: np.roll(v, i, 0) for k, v in tiny.adapter_tensors(option["r"], here).items()}
        folders.append(tiny.write_adapter(folder / str(i), tensors, target_modules=[m.split(".")[1] for m in here], **option))
        r, alpha = option["r"], option.get("lora_alpha", 8)
        for layer in range(tiny.N_LAYER):
            for module in here:
                name = f"model.layers.{layer}.{module}"
                scaling = alpha / (r**0.5 if "use_rslora" in option else r) * (i < 2 or "v_proj" not in module)
                weight = f"blk.{layer}.{tiny.WEIGHTS[module]}.weight"
                sums[weight] = sums.get(weight, 0) + product(tensors, name) * scaling
    return folders, sums


def test_a_chain_is_the_sum(tiny, base, tmp_path):
    folders, sums = chain(tiny, tmp_path)
    done = convert(folders, tmp_path / "out.gguf", base=base, outtype="f32")
    assert done.ranks == [7, 11]
    got = updates(tmp_path / "out.gguf")
    assert got.keys() == sums.keys() and all(close(got[weight], sums[weight]) for weight in sums)


def test_equal_scales_lose_nothing(tiny, base, tmp_path):
    """The sum of two adapters of one shape holds their very values, in their own type."""
    half = {k: v.astype(np.float16) for k, v in tiny.adapter_tensors().items()}
    folders = [tiny.write_adapter(tmp_path / name, half) for name in "ab"]
    convert(folders, tmp_path / "out.gguf", base=base, outtype="auto")
    file = AdapterFile(tmp_path / "out.gguf")
    pair = next(pair for pair in file.pairs if pair.weight == "blk.0.ffn_down.weight")
    assert (pair.a.type.name, pair.b.type.name, pair.scale) == ("f16", "f16", 2.0)
    b = half[f"{PREFIX}{DOWN.format(0)}.lora_B.weight"]
    np.testing.assert_array_equal(file.read(pair.b), np.concatenate([b, b], 1))


def test_a_chain_of_one_is_that_one(tiny, base, tmp_path):
    folder = tiny.write_adapter(tmp_path / "a", use_rslora=True, alora_invocation_tokens=[1])
    convert(folder, tmp_path / "1.gguf", base=base)
    convert([folder], tmp_path / "2.gguf", base=base)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()


def test_a_chain_needs_one_invocation(tiny, base, tmp_path):
    from alora_gguf.convert import ConversionError

    folders = [tiny.write_adapter(tmp_path / str(i), alora_invocation_tokens=[i]) for i in (1, 2)]
    with pytest.raises(ConversionError, match=r"expected \[1\].*got \[2\]; give the sum's with --invocation"):
        convert(folders, tmp_path / "out.gguf", base=base)
    assert convert(folders, tmp_path / "out.gguf", base=base, invocation=[3]).invocation_tokens == [3]


def test_a_chain_needs_one_base(tiny, base, tmp_path):
    from alora_gguf.convert import ConversionError

    tensors = tiny.adapter_tensors() | {f"{PREFIX}{DOWN.format(0)}.lora_A.weight": np.zeros((4, 95), np.float32)}
    folders = [tiny.write_adapter(tmp_path / "a"), tiny.write_adapter(tmp_path / "b", tensors)]
    with pytest.raises(ConversionError, match=r"\[95, 64\]; add adapters of one base"):
        convert(folders, tmp_path / "out.gguf", base=base)


# -- ResLoRA -----------------------------------------------------------------------------------------


def write_reslora(folder, tiny, **options):
    torch = pytest.importorskip("torch")
    folder.mkdir()
    config = {"rank": 4, "lora_alpha": 8, "lora_num": 1, "res_flag": 0, "merge_flag": 0, "pre_num": 0, **options}
    (folder / "reslora_config.json").write_text(json.dumps(config))
    tensors = tiny.adapter_tensors(modules=["mlp.down_proj"])
    saved = {k.removeprefix(PREFIX).replace(".lora_", ".loras.0.lora_").removesuffix(".weight"): torch.tensor(v) for k, v in tensors.items()}
    torch.save(saved, folder / "pytorch_model_lora.bin")
    return tensors


@pytest.mark.parametrize(("res_flag", "pre_num", "n_before"), [(0, 0, 0), (2, 0, 0), (2, 1, 1), (2, -1, 1)])
def test_reslora(res_flag, pre_num, n_before, tiny, base, tmp_path):
    tensors = write_reslora(tmp_path / "a", tiny, res_flag=res_flag, pre_num=pre_num)
    convert(tmp_path / "a", tmp_path / "out.gguf", base=base, outtype="f32")
    got = updates(tmp_path / "out.gguf")
    first, second = (product(tensors, DOWN.format(layer)) * 2 for layer in (0, 1))
    assert close(got["blk.0.ffn_down.weight"], first)
    assert close(got["blk.1.ffn_down.weight"], second + first * n_before)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(res_flag=1), "res_flag"),
        (dict(res_flag=3), "res_flag"),
        (dict(res_flag="2"), "res_flag"),
        (dict(rank=0), "rank"),
        (dict(rank=8), "lora_A [8, n_in]"),
        (dict(lora_alpha=None), "lora_alpha"),
        (dict(pre_num=-2), "pre_num"),
    ],
)
def test_reslora_that_is_no_update(options, named, tiny, tmp_path, refusal):
    write_reslora(tmp_path / "a", tiny, **options)
    assert named in refusal(tmp_path / "a")

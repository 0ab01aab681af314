"""Every field of the installed PEFT's LoraConfig is handled, and what is refused is refused by name."""

import dataclasses
import json

import pytest

from alora_gguf.convert.peft.options import OPTIONS, REFUSED, refusals

VALUES = {  # a value of each refused option that would change something
    "peft_type": "LOHA",
    "task_type": "SEQ_CLS",
    "init_lora_weights": "pissa_niter_4",
    "bias": "lora_only",
    "modules_to_save": ["embed_tokens"],
    "trainable_token_indices": [1, 2],
    "layer_replication": [[0, 2], [1, 2]],
    "ensure_weight_tying": True,
    "use_qalora": True,
    "use_bdlora": {"nblocks": 2},
    "arrow_config": {"top_k": 2},
    "monteclora_config": {"num_samples": 8},
    "kasa_config": {"beta": 1.0},
    "megatron_config": {"hidden_size": 64},
}


def test_every_field_of_lora_config_is_in_the_table():
    peft = pytest.importorskip("peft")
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert fields - OPTIONS.keys() == set(), "PEFT has options that convert/peft/options.py does not know"
    assert OPTIONS.keys() - fields == set(), "convert/peft/options.py has options that PEFT does not know"


def test_defaults_of_lora_config_are_accepted():
    peft = pytest.importorskip("peft")
    config = json.loads(json.dumps(peft.LoraConfig(task_type="CAUSAL_LM").to_dict(), default=list))
    assert refusals(config) == []


def test_every_refused_option_has_a_value_here():
    assert VALUES.keys() == {name for name, option in OPTIONS.items() if option.handling == REFUSED}


@pytest.mark.parametrize("option", VALUES)
def test_refused_by_name(option, tiny, tmp_path, refusal):
    line = refusal(tiny.write_adapter(tmp_path / "a", **{option: VALUES[option]}))
    assert f"option {option}:" in line and OPTIONS[option].reason in line and "adapter_config.json" in line


@pytest.mark.parametrize("init", ["pissa", "olora", "corda", "loftq", "lora_ga", ["eva"], 2])
def test_inits_that_change_the_base_are_refused(init, tiny, tmp_path, refusal):
    assert "init_lora_weights" in refusal(tiny.write_adapter(tmp_path / "a", init_lora_weights=init))


@pytest.mark.parametrize("init", [None, True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_inits_that_keep_the_base_are_accepted(init):
    assert refusals({"peft_type": "LORA", "init_lora_weights": init}) == []


def test_an_unknown_option_is_refused_unless_it_is_off(tiny, tmp_path, refusal):
    assert refusals({"use_next_year": False, "next_year_config": None}) == []
    assert "option use_next_year" in refusal(tiny.write_adapter(tmp_path / "a", use_next_year=True))

"""Decisions against PEFT: the full softmax over each label's tokens, in float32, of a model whose tokens are bytes, so that every label has several."""

import numpy as np
import pytest
from tiny_peft import N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_LAYER, N_VOCAB, write_base

from alora_gguf import Choice, Model, Predicate, Score
from alora_gguf.convert import convert

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

TEMPLATE = "{% for m in messages %}<s>{{ m.role[0] }}{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>a{% endif %}"
INVOCATION = [3 + ord("@"), 3 + ord("#")]
QUESTIONS = {
    "predicate": (Predicate("Is it so?", "a", "b"), "Is it so?\nYes: a\nNo: b\nIs that so? Answer Yes or No.", ["Yes", "No"]),
    "choice": (Choice("Who?", ["bill", "billing", "it"], labels="values"), "Who?\n- bill\n- billing\n- it\nAnswer with one of them.", None),
    "letters": (Choice("Who?", ["x", "y"]), "Who?\nA: x\nB: y\nAnswer with the letter of one.", ["A", "B"]),
    "score": (Score("How?", ["low", "high"]), "How?\n0: low\n1: high\nAnswer with one of these numbers.", ["0", "1"]),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same weights here and in PEFT, with an activated adapter."""
    folder = tmp_path_factory.mktemp("decide-parity")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=N_VOCAB,
        hidden_size=N_EMBD,
        intermediate_size=N_FF,
        num_hidden_layers=N_LAYER,
        num_attention_heads=N_HEAD,
        num_key_value_heads=N_HEAD_KV,
        max_position_embeddings=256,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    base = transformers.LlamaForCausalLM(config).eval()
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = write_base(folder / "base.gguf", {name: value.numpy() for name, value in base.state_dict().items()})
    options = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", alora_invocation_tokens=INVOCATION)
    adapted = peft.get_peft_model(base, options).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter.data, std=0.1)
    adapted.save_pretrained(folder / "adapter")
    convert(folder / "adapter", folder / "adapter.gguf", base=path, outtype="f32")
    with Model(path, n_ctx=512, n_threads=1, type_k="f32", type_v="f32", flash_attn=False, chat_template=TEMPLATE) as model:
        model.load_adapter(folder / "adapter.gguf", "adapter")
        yield model, adapted


def expected(both, adapter, text, labels):
    model, adapted = both
    said = f"<s>uHello</s><s>u{text}</s>"
    prompt = model.tokenize(said if adapter else said + "<s>a") + (INVOCATION if adapter else [])
    sums = []
    for label in labels:
        ids = torch.tensor([[*prompt, *label]])
        with torch.no_grad():
            if adapter:
                logits = adapted(input_ids=ids).logits
            else:
                with adapted.disable_adapter():
                    logits = adapted(input_ids=ids).logits
        logprobs = torch.log_softmax(logits[0].double(), -1)
        sums.append(float(sum(logprobs[len(prompt) - 1 + i, token] for i, token in enumerate(label))))
    p = np.exp(np.array(sums) - max(sums))
    return p / p.sum()


@pytest.mark.parametrize("adapter", [None, "adapter"])
def test_probabilities_are_pefts(both, adapter):
    model, _ = both
    found = model.decide("Hello", {name: question for name, (question, _, _) in QUESTIONS.items()}, adapter=adapter)
    for name, (_, text, words) in QUESTIONS.items():
        closed = [2] if words is None else []  # "bill" begins "billing": the end of an answer tells them apart
        labels = [[*(3 + byte for byte in word.encode()), *closed] for word in words or ["bill", "billing", "it"]]
        got = np.array(list(found[name].probabilities.values()))
        assert np.abs(got - expected(both, adapter, text, labels)).max() < 1e-5, name

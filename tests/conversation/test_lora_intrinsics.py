"""Intrinsics that are ordinary LoRAs with an io.yaml: asked as others, computed from the first token on, and `usage` says so."""

import json
import shutil

import numpy as np
import pytest
from reference import PRECISE

from alora_gguf import Model
from alora_gguf.convert import convert

SAID = [{"role": "user", "content": "The ferry leaves at nine. How long does it take?"}]
HEAD = "model: ~\nresponse_format: ~\ntransformations: ~\n"
ASKED = HEAD + 'instruction: "Judge: {last_message} In {words} words."\nparameters: {max_completion_tokens: 4}\n'
VERDICT = """
model: ~
response_format: '{"type": "string", "enum": ["yes", "no"]}'
transformations:
  - {type: likelihood, input_path: [], categories_to_values: {"yes": 1.0, "no": 0.0}}
  - {type: nest, input_path: [], field_name: likely}
parameters: {max_completion_tokens: 6}
"""
NUMBERED = HEAD + "parameters: {max_completion_tokens: 4}\nsentence_boundaries: {last_message: r, documents: c}\n"


@pytest.fixture(scope="module")
def lora(repo, base_q4, tmp_path_factory):
    """(PEFT folder, GGUF) of an ordinary LoRA without an io.yaml, strong enough to be seen."""
    folder = tmp_path_factory.mktemp("lora") / "lora"
    shutil.copytree(repo / "tests" / "adapters" / "answerability", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "alora_invocation_tokens": None, "lora_alpha": 48}))
    (folder / "io.yaml").unlink()
    convert(folder, folder.parent / "lora.gguf", base=base_q4, outtype="f32")
    return folder, folder.parent / "lora.gguf"


@pytest.fixture(scope="module")
def loaded(base_f32, answerability):
    with Model(base_f32, n_ctx=1024, n_batch=64, n_seq_max=8, **PRECISE) as model:
        model.load_adapter(answerability)
        yield model


@pytest.fixture
def model(loaded, lora, tmp_path):
    for name, text in {"asked": ASKED, "verdict": VERDICT, "numbered": NUMBERED}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
        loaded.load_adapter(lora[1], name, io_yaml=tmp_path / f"{name}.yaml")
    loaded.load_adapter(lora[1], "held")
    yield loaded
    for name in ("asked", "verdict", "numbered", "held"):
        loaded.unload_adapter(name)
    loaded.clear_cache()


def tokens_of(model, messages):
    return model.tokenize(model.render(messages, add_generation_prompt=True))


def test_which_can_be_invoked(model):
    assert {name: adapter.is_intrinsic for name, adapter in model.adapters.items()} == {
        "answerability": True,
        "asked": True,
        "verdict": True,
        "numbered": True,
        "held": False,
    }
    assert not model.adapter("asked").is_activated


def test_all_of_the_prompt_is_the_adapters(model):
    with model.conversation(messages=SAID) as chat:
        chat.ask("And back?", max_tokens=3, temperature=0)
        said = list(chat.messages)
        reply = chat.invoke("asked", words="two")
        asked = [*said, {"role": "user", "content": f"Judge: {said[-1]['content']} In two words."}]
        tokens = tokens_of(model, asked)
        usage = reply.usage
        assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (len(tokens), 0, len(reply.tokens))
        rows = model.logits([(tokens + reply.tokens, "asked"), (tokens + reply.tokens, None)])
        adapted, base = (row[len(tokens) - 1 : len(tokens) - 1 + len(reply.tokens)] for row in rows)
        assert all(row[token] > row.max() - 1e-3 for row, token in zip(adapted, reply.tokens)) and np.abs(adapted - base).max() > 1
        assert chat.messages == said
        # asked again its own cells are there, and the base's and the aLoRA's are untouched by it
        assert chat.invoke("asked", words="two").usage.cached_tokens == len(tokens)
        assert chat.invoke("answerability").usage.cached_tokens >= len(chat.cells()[1]) - 6


def test_a_result_and_the_others_beside_it(model):
    with model.conversation(messages=SAID) as chat:
        replies = chat.invoke_all(["verdict", "answerability", "numbered"], documents=["It takes two hours."])
        assert 0 <= replies["verdict"].result["likely"] <= 1 and all(reply.error is None for reply in replies.values())
        assert replies["verdict"].usage.cached_tokens == 0
        verdicts = chat.ask("So?", watch=["verdict"], max_tokens=2, temperature=0).verdicts
        assert verdicts and {verdict.name for verdict in verdicts} == {"verdict"}


def test_it_takes_the_place_of_the_lora_that_the_conversation_is_held_with(model):
    with model.conversation(messages=SAID, adapter="held") as held, model.conversation(messages=SAID) as plain:
        held.ask("And back?", max_tokens=3, temperature=0)
        plain.messages = list(held.messages)
        assert held.invoke("asked", words="two").text == plain.invoke("asked", words="two").text


@pytest.mark.torch
def test_the_text_is_pefts(model, lora, peft_model):
    """Greedy, on the very same tokens."""
    torch = pytest.importorskip("torch")
    with model.conversation(messages=SAID) as chat:
        reply = chat.invoke("asked", words="two", max_tokens=8)
    tokens = tokens_of(model, [*SAID, {"role": "user", "content": f"Judge: {SAID[0]['content']} In two words."}])
    before = peft_model.active_adapter
    peft_model.load_adapter(lora[0], "ordinary")
    peft_model.set_adapter("ordinary")
    try:
        with torch.no_grad():
            logits = peft_model(torch.tensor([tokens + reply.tokens])).logits[0, len(tokens) - 1 : -1].numpy()
    finally:
        peft_model.set_adapter(before)
        peft_model.delete_adapter("ordinary")
    rows = model.logits([(tokens + reply.tokens, "asked")])[0][len(tokens) - 1 : -1]
    assert np.abs(rows - logits).max() < 2e-2 and (logits.argmax(-1) == reply.tokens).all()


# the request as clients of the server make it


@pytest.mark.parametrize("name", ["asked", "numbered"])
def test_a_request_that_was_made_already_is_left_alone(model, name):
    """granite-common's clients rewrite themselves; others leave that to whoever has the io.yaml. Both ask the same."""
    io = model.adapter(name).io
    arguments = dict.fromkeys(io.arguments, "two")
    made = io.rewrite(SAID, [{"text": "It takes two hours.", "doc_id": "1"}], **arguments)
    documents = made.template_arguments.get("documents") or []
    assert io.is_asked(made.messages, documents) and not io.is_asked(SAID, documents if name == "asked" else [])
    from alora_gguf.prompt.builder import Setting

    builder, intrinsic = model.engine.prompts, model.adapter(name).intrinsic
    ready = builder.intrinsic(made.messages, intrinsic, Setting(documents), may_be_asked=True)
    plain = builder.intrinsic(SAID, intrinsic, Setting(["It takes two hours."]), arguments=arguments, may_be_asked=True)
    assert ready.tokens == plain.tokens and ready.start == plain.start == 0
    assert plain.result_of is not None and ready.result_of is None

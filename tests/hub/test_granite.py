"""Granite from the hub to an intrinsic's result: architectures, templates and adapters as they are published, beside transformers and PEFT.

The weights are random. What is compared is what the model is asked, where the adapter begins, and the probabilities of every token of the reply.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: F401  these tests need it
from hub_server import Hub, environment, run_alora, run_python
from reference import PRECISE, peft_logits, relative_error
from tiny_granite import ALL_BASES, ANSWERING, GRANITES, INTRINSICS

from alora_gguf import Model
from alora_gguf.convert import convert
from alora_gguf.prompt.invocation import find_invocation
from alora_gguf.prompt.io_yaml import IntrinsicIO

DOCUMENTS = [
    {"text": "The night ferry to Saint Maren departs at 21:30. A seat costs 14 euros.", "doc_id": "1"},
    {"text": 'Dogs travel free, "on a lead".\nTom\'s caf\u00e9 <opens> at 9.', "title": "Aboard & after", "doc_id": "b"},
]
CHAT = [
    {"role": "user", "content": "When does the ferry leave?"},
    {"role": "assistant", "content": "It departs at 21:30. Be early!"},
    {"role": "user", "content": "And what does a seat cost?"},
]
ANSWERED = [*CHAT, {"role": "assistant", "content": "A seat costs 14 euros. Dogs travel free."}]
ARGUMENTS = {"context_relevance": {"document_content": "A seat costs 14 euros."}, "requirement-check": {"requirement": "It is short."}}
JUDGED = {name: ANSWERED if name in ("citations", "uncertainty", "requirement-check") else CHAT for name in INTRINSICS}
CASES = [(base, name) for base in ALL_BASES for name, intrinsic in INTRINSICS.items() if base in intrinsic.alora]
LORA_ONLY = [(base, name) for base in ALL_BASES for name, i in INTRINSICS.items() if base in i.lora and base not in i.alora]

WHOLE_WAY = """
from alora_gguf import Model
base, names, judged, documents, arguments, stub, precise = (json.loads(a) for a in sys.argv[1:])
with Model(base, n_ctx=4096, **precise) as model:
    said = {}
    for name in names:
        for called, io_yaml in {"": None, "stub": stub}.items():
            adapter = model.load_adapter(name, called or None, io_yaml=io_yaml)
            chat = model.conversation(messages=judged[name.rpartition("/")[2]])
            chat.documents = documents
            given = {} if called else arguments.get(adapter.name, {})
            fork = chat.fork(adapter, chat.messages, arguments=given)
            later = chat.fork(adapter, [*chat.messages, {"role": "assistant", "content": "14 euros."}], arguments=given)
            [reply] = chat.invoke_all([adapter.name], arguments=given, logprobs=True, max_tokens=24).values()  # texts without an end are an error
            said[f"{name} {called}"] = {
                "prompt": fork.tokens[:fork.n_prompt], "start": fork.activations[0].start, "tokens": reply.tokens,
                "judges_questions": later.tokens == fork.tokens, "logprobs": [one.logprob for one in reply.logprobs], "result": reply.result, "cached": reply.usage.cached_tokens,
                "problems": adapter.problems(model.vocab),
            }
    chat = model.conversation(messages=judged["answerability"][:-1])
    chat.documents = documents
    answer = chat.ask(judged["answerability"][-1]["content"], temperature=0, max_tokens=12)
    out([model.path.name, said, answer.tokens])
"""


@pytest.fixture(scope="module")
def served(granites, tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    for granite in granites.values():
        granite.publish(root)
    return root


@pytest.fixture(scope="module")
def hub(served):
    """In place of that of the other tests."""
    with Hub(served) as hub:
        yield hub


@pytest.fixture(scope="module")
def said(hub, tmp_path_factory):
    """What WHOLE_WAY says of a base and its intrinsics, after `alora pull` from nothing, and of the same without a network."""
    stub = tmp_path_factory.mktemp("stub") / "io.yaml"
    stub.write_text("name: stub\n")

    @cache
    def said(base):
        env = environment(hub, tmp_path_factory.mktemp("home"))
        model = f"hf:{GRANITES[base].repo}"
        names = [INTRINSICS[name].hub_name for of, name in [*CASES, *LORA_ONLY] if of == base]
        code, paths, err = run_alora(env, "pull", model, *names)
        assert (code, err) == (0, "") and [Path(path).parts[-3:] for path in paths.splitlines()[1:]] == [
            (name.rpartition("/")[2], base, "lora" if (base, name.rpartition("/")[2]) in LORA_ONLY else "alora") for name in names
        ]
        asked = len(hub.asked)
        given = [model, names, JUDGED, DOCUMENTS, ARGUMENTS, str(stub), PRECISE]
        made = run_python(env, WHOLE_WAY, *map(json.dumps, given), HF_HUB_OFFLINE="1")
        assert isinstance(made, list), made
        assert len(hub.asked) == asked
        return made

    return said


def reference_prompt(granite, messages, documents, invocation, *, answering=True):
    """The tokens as transformers makes them, and where PEFT begins. Where the invocation's text is tokenised as something else, it is split there."""
    tokenizer = granite.tokenizer
    text = tokenizer.apply_chat_template(messages, documents=documents, add_generation_prompt=answering, tokenize=False)
    tokenize = lambda part: tokenizer(part, add_special_tokens=False).input_ids
    tokens = tokenize(text) if answering else [*tokenize(text), *invocation]
    if find_invocation(tokens, invocation) is None:
        head, _, tail = text.rpartition(tokenizer.decode(invocation))
        tokens = [*tokenize(head), *invocation, *tokenize(tail)]
    return tokens, find_invocation(tokens, invocation)


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits.astype(np.float64), axis=-1, keepdims=True)


def compared(base, name, granite, tokens, made):
    """What was generated after `tokens`, beside PEFT's probabilities of the same: whether each token is its likeliest."""
    n = len(made["logprobs"])
    rows = log_softmax(peft_logits(granite.model, [*tokens, *made["tokens"]], name)[len(tokens) - 1 : -1])[:n]
    got, want = np.array(made["logprobs"]), rows[np.arange(n), made["tokens"][:n]]
    base_rows = log_softmax(peft_logits(granite.model, [*tokens, *made["tokens"]], None)[len(tokens) - 1 : -1])[:n]
    change = np.abs(base_rows - rows).max()
    print(
        f"\n{base} {name}: {len(tokens)} + {n} tokens, log probabilities within {np.abs(got - want).max():.1e}, changed by {change:.1e}; {made['result']!r:.60}"
    )
    assert n > 3 and change > 0.02
    np.testing.assert_allclose(got, want, rtol=0, atol=5e-6)
    return [want[i] == rows[i].max() for i in range(n)]


@pytest.mark.parametrize("base, name", CASES)
def test_an_intrinsic_from_the_hub_answers_as_pefts(base, name, said, granites):
    """Its reply follows its schema; the probabilities are those before that."""
    granite, made = granites[base], said(base)[1][f"{INTRINSICS[name].hub_name} "]
    asked = IntrinsicIO.read(INTRINSICS[name].io, name).rewrite(JUDGED[name], DOCUMENTS, **ARGUMENTS.get(name, {}))
    tokens, start = reference_prompt(granite, asked.messages, asked.template_arguments["documents"], granite.invocation(name))
    assert granite.tokenizer.decode(made["prompt"]) == granite.tokenizer.decode(tokens)
    assert (made["prompt"], made["start"]) == (tokens, start)
    odd = {"requirement-check": "instruction: expected the tokens", "citations": "sentence_boundaries: expected the conversation as it is"}
    assert [odd[name] in problem for problem in made["problems"]] == [True] * (name in odd)
    assert made["judges_questions"] == (JUDGED[name] == CHAT)
    compared(base, f"{name}-alora", granite, tokens, made)
    result = made["result"]
    match name:
        case "answerability":
            assert result["answerability"] in ("answerable", "unanswerable")
        case "context_relevance":
            assert result["context_relevance"] in ("relevant", "irrelevant", "partially relevant")
        case "uncertainty":
            assert 0.05 <= result["certainty"] <= 0.95
        case "requirement-check":
            assert 0 <= result["requirement_check"]["score"] <= 1
        case "citations":
            assert result is None or isinstance(result, list)
        case _:  # texts, which random weights hardly end
            assert result is None or result.keys() <= {"rewritten_question", "clarification"}


@pytest.mark.parametrize("base, name", LORA_ONLY)
def test_an_intrinsic_that_is_an_ordinary_lora_is_active_from_the_first_token_on(base, name, said, granites):
    granite, made = granites[base], said(base)[1][f"{INTRINSICS[name].hub_name} "]
    asked = IntrinsicIO.read(INTRINSICS[name].io, name).rewrite(JUDGED[name], DOCUMENTS, **ARGUMENTS.get(name, {}))
    tokens, _ = reference_prompt(granite, asked.messages, asked.template_arguments["documents"], granite.invocation(name))
    assert (made["prompt"], made["start"], made["cached"]) == (tokens, 0, 0)
    compared(base, f"{name}-lora", granite, tokens, made)


@pytest.mark.parametrize("base, name", CASES)
def test_where_its_io_yaml_is_a_name_it_says_what_pefts_says(base, name, said, granites):
    """Greedily, with the invocation behind the conversation, or in the generation prompt."""
    granite, made = granites[base], said(base)[1][f"{INTRINSICS[name].hub_name} stub"]
    answering = INTRINSICS[name].invocation == ANSWERING
    tokens, start = reference_prompt(granite, JUDGED[name], DOCUMENTS, granite.invocation(name), answering=answering)
    assert (made["prompt"], made["start"]) == (tokens, start)
    assert all(compared(base, f"{name}-alora", granite, tokens, made))


@pytest.mark.parametrize("base", ALL_BASES)
def test_the_base_answers_as_transformers(base, said, granites):
    file, _, answer = said(base)
    assert file == f"{base}-Q4_K_M.gguf"
    tokens, _ = reference_prompt(granites[base], CHAT, DOCUMENTS, granites[base].invocation("answerability"))
    rows = peft_logits(granites[base].model, [*tokens, *answer], None)[len(tokens) - 1 : -1]
    assert rows.argmax(-1).tolist() == answer


@pytest.mark.parametrize("base", ALL_BASES)
def test_logits_of_every_published_adapter(base, granites, served, tmp_path):
    """aLoRA and LoRA, by their modules, ranks and scales; on the whole prompt of an invocation."""
    granite = granites[base]
    folders = {
        f"{name}-{technology}": served / INTRINSICS[name].library / name / base / technology
        for name in INTRINSICS
        for technology in granite.technologies(name)
    }
    rows = {
        name: reference_prompt(granite, JUDGED[name.rpartition("-")[0]], DOCUMENTS, granite.invocation(name.rpartition("-")[0]))[0]
        for name in folders
    }
    with Model(granite.gguf, n_ctx=8192, **PRECISE) as model:
        for name, folder in folders.items():
            convert(folder, tmp_path / f"{name}.gguf", base=granite.gguf, outtype="f32")
            model.load_adapter(tmp_path / f"{name}.gguf")
        got = dict(zip(rows, model.logits([(tokens, name) for name, tokens in rows.items()])))
    worst = {name: relative_error(got[name], peft_logits(granite.model, tokens, name)) for name, tokens in rows.items()}
    print(f"\n{base}: {len(worst)} adapters, logits within {max(worst.values()):.1e} of {max(worst, key=worst.get)}")
    assert max(worst.values()) < 2e-5, worst

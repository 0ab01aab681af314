"""/v1/systemone and /v1/decisions, in their own forms and by their own clients."""

import json
import shutil
from types import SimpleNamespace

import pytest

from alora_gguf.convert import AdapterFile
from alora_gguf.errors import PromptError
from alora_gguf.serve.decisions import _of, _unprocessable
from alora_gguf.serve.decisions.body import Decide
from alora_gguf.serve.responses.body import Responses

STATE = "I was charged twice for my order. Give me my money back."
MESSAGES = [{"role": "system", "content": "You are a clerk."}, {"role": "user", "content": STATE}, {"role": "assistant", "content": "I am sorry."}]
NOUL = {"type": "noul", "instructions": "Is it a complaint?", "criteria": {"true": "Somebody is not content.", "false": None}}
CHOICE = {"type": "choice", "instructions": "Who takes it?", "criteria": {"billing": "Payments.", "technical": None}}
SCORE = {"type": "score", "instructions": None, "criteria": ["calm", "annoyed", {"means": "furious"}]}
QUESTIONS = [
    {"type": "predicate", "name": "refund", "instructions": "The customer wants the money back."},
    {"type": "choice", "instructions": "Who?", "choices": [{"value": "billing", "description": "Payments."}, {"value": True}, {"value": "true"}]},
    {
        "type": "score",
        "name": "anger",
        "instructions": [{"type": "input_text", "text": "How angry?"}],
        "levels": [{"label": "calm"}, {"label": "furious"}],
    },
]


def systemone(server, status=200, **body):
    got, _, answer = server.call("POST", "/v1/systemone", {"model": "tiny", "state": STATE, "questions": {"q": NOUL}, **body})
    assert got == status, answer
    return answer


def decisions(server, status=200, **body):
    got, _, answer = server.call("POST", "/v1/decisions", {"model": "tiny", "input": STATE, "questions": QUESTIONS, **body})
    assert got == status, answer
    return answer


def test_systemone_answers_in_its_form(server):
    answer = systemone(server, questions={"complaint": NOUL, "team": CHOICE, "anger": SCORE})
    assert list(answer) == ["model", "answers", "usage"]
    assert list(answer["answers"]) == ["complaint", "team", "anger"]
    noul, choice, score = answer["answers"].values()
    assert noul == {"type": "noul", "noul": noul["noul"]}
    assert 0 <= noul["noul"] <= 1
    assert set(choice) == {"type", "choice", "confidence", "probabilities"}
    assert choice["choice"] == max(choice["probabilities"], key=choice["probabilities"].get)
    assert sum(choice["probabilities"].values()) == pytest.approx(1)
    assert score["legend"] == {"0": "calm", "1": "annoyed", "2": {"means": "furious"}}
    assert score["score"] == pytest.approx(score["probabilities"]["1"] + 2 * score["probabilities"]["2"])
    assert answer["usage"]["output_tokens"] == 0
    again = systemone(server, questions={"complaint": NOUL, "team": CHOICE, "anger": SCORE})
    assert again["answers"] == answer["answers"]
    assert again["usage"]["input_tokens_details"]["cached_tokens"] == again["usage"]["input_tokens"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"state": None}, ["body", "state"]),
        ({"state": "  "}, ["body", "state"]),
        ({"state": 3}, ["body", "state"]),
        ({"questions": {}}, ["body", "questions"]),
        ({"questions": {"q": {"type": "choice", "instructions": "x"}}}, ["body", "questions", "q", "criteria"]),
        ({"questions": {"q": {"type": "box", "instructions": "The dog"}}}, ["body", "questions"]),
        ({"questions": {"q": {"type": "score", "criteria": []}}}, ["body", "questions", "q", "criteria"]),
        ({"questions": {"q": {"type": "choice", "criteria": dict.fromkeys(map(str, range(256)))}}}, ["body", "questions", "q", "criteria"]),
        ({"assets": {"i": {"type": "image"}}}, ["body", "assets"]),
        ({"images": ["AAAA"]}, ["body", "images"]),
        ({"temperature": 1}, ["body", "temperature"]),
        ({"questions": {"q": {"type": "noul", "criteria": {"true": None}}}}, ["body", "questions", "q", "instructions"]),
        ({"questions": {"q": {"type": "choice", "instructions": "x", "criteria": [True, "true"]}}}, ["body", "questions", "q", "criteria"]),
        ({"questions": {"a.b: c": {"type": "score", "criteria": "calm"}, "a": NOUL}}, ["body", "questions", "a.b: c", "criteria"]),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_what_systemone_refuses_it_says_where(server, body, where):
    answer = systemone(server, 422, **body)
    assert answer["detail"][0]["loc"][: len(where)] == where
    assert {"loc", "msg", "type"} <= set(answer["detail"][0])
    assert answer["error"]["message"]


def test_an_unknown_model_is_none(server):
    assert systemone(server, 404, model="jev-latest")["error"]["code"] == "model_not_found"
    assert decisions(server, 404, model="gpt-6-luna")["error"]["code"] == "model_not_found"


def test_decisions_by_openais_client(server):
    client = server.client()
    found = client.decisions.create(model="tiny", input=MESSAGES, questions=QUESTIONS)
    predicate, choice, score = found.answers
    assert (predicate.name, choice.name, score.name) == ("refund", None, "anger")
    assert 0 <= predicate.probability <= 1
    assert [p.value for p in choice.probabilities] == ["billing", True, "true"]
    assert [(p.value, p.label) for p in score.probabilities] == [(0, "calm"), (1, "furious")]
    assert score.score == pytest.approx(score.probabilities[1].probability)
    assert found.usage.total_tokens == found.usage.input_tokens
    assert found.usage.input_tokens_details.cached_tokens + found.usage.input_tokens_details.cache_write_tokens == found.usage.input_tokens


def test_a_chat_is_found_in_the_cache(server):
    messages = [{"role": "user", "content": "Tell me of the sea. " * 20}]
    chat = server.client().chat.completions.create(model="tiny", messages=messages, max_tokens=4)
    said = [*messages, {"role": "assistant", "content": chat.choices[0].message.content}]
    usage = decisions(server, input=said, questions=QUESTIONS[:1])["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] >= chat.usage.prompt_tokens
    other = decisions(server, input=said, questions=QUESTIONS[:1], cache_salt="another")["usage"]
    assert other["input_tokens_details"]["cached_tokens"] == 0
    as_state = systemone(server, state=said)["usage"]
    assert as_state["input_tokens_details"]["cached_tokens"] >= chat.usage.prompt_tokens


def test_warnings_of_an_adapter_are_said(server):
    path = server.files["more"] / "nothing.gguf"
    shutil.copy(server.files["first"], path)
    data, file = bytearray(path.read_bytes()), AdapterFile(path)
    for pair in file.pairs:
        begin = file.file.data_start + pair.b.info.offset
        data[begin : begin + pair.b.n_bytes] = bytes(pair.b.n_bytes)
    path.write_bytes(data)
    server.call("POST", "/v1/load_lora_adapter", {"lora_name": "nothing", "lora_path": str(path)})
    try:
        for answer in (decisions(server, model="nothing"), systemone(server, model="nothing")):
            [warning] = answer["warnings"]
            assert warning.startswith("adapter 'nothing': expected weights that change something")
    finally:
        server.call("POST", "/v1/unload_lora_adapter", {"lora_name": "nothing"})
    assert "warnings" not in decisions(server) and "warnings" not in systemone(server)


def test_both_ask_alike(server):
    messages = [{"role": "developer", "content": "You are a clerk."}, {"role": "user", "content": STATE}]
    for state in (STATE, messages):
        noul = systemone(server, state=state, questions={"q": {"type": "noul", "instructions": "Is it?"}})["answers"]["q"]["noul"]
        [predicate] = decisions(server, input=state, questions=[{"type": "predicate", "instructions": "Is it?"}])["answers"]
        assert predicate["probability"] == noul


def test_documents_are_those_of_the_chat(server):
    documents = [{"title": "A log", "text": "The ship left at nine. " * 20}]
    messages = [{"role": "user", "content": "When?"}]
    chat = server.client().chat.completions.create(model="tiny", messages=messages, max_tokens=4, extra_body={"documents": documents})
    usage = decisions(server, input=messages, documents=documents, questions=QUESTIONS[:1])["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] >= chat.usage.prompt_tokens - 16  # all but where the answer would begin
    assert decisions(server, input=messages, questions=QUESTIONS[:1])["usage"]["input_tokens"] < usage["input_tokens"] - 100


def test_calls_of_tools_are_read(server):
    call = {"type": "function_call", "call_id": "c1", "name": "pay", "arguments": '{"to": "me"}'}
    result = {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "paid"}]}
    with_call = decisions(server, input=[{"role": "user", "content": "Pay."}, call, result], questions=QUESTIONS[:1])
    without = decisions(server, input=[{"role": "user", "content": "Pay."}], questions=QUESTIONS[:1])
    assert with_call["usage"]["input_tokens"] > without["usage"]["input_tokens"]
    assert "call_id" in decisions(server, 400, input=[{"role": "user", "content": "Pay."}, result])["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}, "input_image"),
        ({"questions": [{"type": "predicate", "instructions": [{"type": "input_image", "image_url": "data:,"}]}]}, "input_image"),
        ({"questions": []}, "questions"),
        ({"questions": [{"type": "predicate", "instructions": "x"}] * 401}, "questions"),
        ({"questions": [{"type": "choice", "instructions": "x", "choices": [{"value": "a"}]}]}, "choices"),
        ({"questions": [{"type": "choice", "instructions": "x", "choices": [{"value": "a"}, {"value": "a"}]}]}, "once"),
        ({"questions": [{"type": "score", "instructions": "x"}]}, "levels"),
        ({"questions": [{"type": "box", "instructions": "x"}]}, "type"),
        ({"input": []}, "input"),
        ({"top_p": 1}, "top_p"),
        ({"stream": True}, "stream"),
        ({"input": " "}, "input: expected text or messages"),
        ({"input": 3}, "input: Input should be a valid"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role: "),
        ({"questions": [QUESTIONS[0], {"type": "predicate", "instructions": " "}]}, "questions[1].instructions: expected"),
        ({"questions": [{"type": "choice", "instructions": "x", "choices": [{"value": 3}, {"value": "a"}]}]}, "value: expected a text or a boolean"),
        ({"questions": [{"type": "choice", "instructions": "x", "choices": [{"value": "a"}, {"value": ""}]}]}, "questions[0].choices: expected"),
        ({"questions": [{**QUESTIONS[0], "instructions": [{"type": "input_text"}]}]}, "questions.0.instructions.0: expected a part of type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 3}]}]}, "input.0.content.0.text: Input should be a valid string"),
        ({"input": [{"role": "user", "content": "x", "output": "y"}]}, "input.0: expected role and content in a message, got output too"),
        ({"lora": [{"id": "first", "scale": 0.5}]}, "scale"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_what_decisions_refuses_is_a_400_that_names_it(server, body, said):
    assert said in decisions(server, 400, **body)["error"]["message"]


def test_a_question_that_does_not_fit_is_a_refusal_alone(server):
    long = {"type": "predicate", "name": "long", "instructions": "word " * 3000}
    answers = decisions(server, questions=[long, *QUESTIONS])["answers"]
    assert answers[0] == {"type": "refusal", "name": "long"}
    assert [answer["type"] for answer in answers[1:]] == ["predicate", "choice", "score"]
    error = decisions(server, 400, questions=[long])["error"]
    assert error["code"] == "context_length_exceeded" and error["message"].startswith("questions[0]: context: expected")
    error = systemone(server, 400, questions={"a": NOUL, "long": {"type": "noul", "instructions": "word " * 3000}})["error"]
    assert error["code"] == "context_length_exceeded" and error["message"].startswith("questions.long: context: expected")


def test_what_is_wrong_with_a_question_when_it_is_asked_says_where():
    """As options that are the same as texts, which an adapter for decisions answers by these."""
    answer = _unprocessable(_of("questions.a: b", PromptError("labels: expected others")), ["a", "a: b"])
    assert answer.status_code == 422
    [detail] = json.loads(answer.body)["detail"]
    assert (detail["loc"], detail["msg"]) == (["body", "questions", "a: b"], "questions.a: b: labels: expected others")


def test_text_and_calls_that_follow_each_other_are_one_message():
    """As in a chat that the server answered, so that it is found in the cache."""
    item = lambda type, **more: {"type": type, "call_id": more.pop("id"), **more}
    said = [
        {"role": "user", "content": [{"type": "input_text", "text": "Pay "}, {"type": "input_text", "text": "both."}]},
        {"role": "assistant", "content": "I will."},
        item("function_call", id="a", name="pay", arguments="{}"),
        item("function_call", id="b", name="pay", arguments="{}"),
        item("function_call_output", id="a", output="paid"),
        item("function_call", id="c", name="ask", arguments="{}"),
    ]
    features = SimpleNamespace(several_calls=True, tool_results=True, calls_with_text=True)
    body = {"model": "tiny", "input": said}
    messages = Decide.model_validate({**body, "questions": QUESTIONS}).messages(features)
    of_chat = [message.plain for message in Responses.model_validate(body).as_chat().messages]
    assert [{name: value for name, value in m.items() if name != "name" and value is not None} for m in messages] == [
        {name: value for name, value in m.items() if value is not None} for m in of_chat
    ]
    assert [len(message.get("tool_calls", ())) for message in messages] == [0, 2, 0, 1]
    features.calls_with_text = False  # the template would write one of the two
    messages = Decide.model_validate({**body, "questions": QUESTIONS}).messages(features)
    assert [len(message.get("tool_calls", ())) for message in messages] == [0, 0, 2, 0, 1]


def test_an_adapter_answers(server):
    base, first = decisions(server), decisions(server, model="first")
    assert (base["model"], first["model"]) == ("tiny", "first")
    assert base["answers"] != first["answers"]
    one = decisions(server, questions=[{**QUESTIONS[0], "adapter": "first"}, *QUESTIONS[1:]])
    assert one["answers"][0]["probability"] == pytest.approx(first["answers"][0]["probability"], abs=1e-3)
    assert one["answers"][1]["probabilities"][0]["probability"] == pytest.approx(base["answers"][1]["probabilities"][0]["probability"], abs=1e-3)


def test_by_typesafes_client(server):
    typesafe = pytest.importorskip("typesafe_sdk")
    with typesafe.TypeSafeClient(api_key="none", base_url=server.url, model="tiny") as client:
        questions = {
            "complaint": typesafe.Noul(instructions="Is it a complaint?"),
            "team": typesafe.Choice(instructions="Who takes it?", criteria={"billing": "Payments.", "technical": None}),
            "anger": typesafe.Score(instructions="How angry?", criteria=["calm", "furious"]),
        }
        found = client.system_one(state={"mail": STATE}, questions=questions)
        assert 0 <= found.nouls["complaint"].noul <= 1
        assert found.choices["team"].choice in ("billing", "technical")
        assert 0 <= found.scores["anger"].score <= 1
        with pytest.raises(typesafe.TypeSafeUnprocessableEntityError, match="box"):
            client.system_one(state=STATE, questions={"dog": typesafe.Box(instructions="The dog")})
        with pytest.raises(typesafe.TypeSafeUnprocessableEntityError, match="reads text only"):
            client.system_one(state=typesafe.Image(b"\x89PNG\r\n\x1a\n"), questions=questions)
        assert {"tiny", "first"} <= {model.name for model in client.models.list().models}
        with pytest.raises(typesafe.TypeSafeNotFoundError):
            client.system_one(state=STATE, questions=questions, model="jev-latest")


def test_by_langchain(server):
    decisions = pytest.importorskip("langchain_openai.decisions")
    from langchain_core.messages import AIMessage, HumanMessage

    model = decisions.OpenAIDecisions(model="tiny", base_url=f"{server.url}/v1", api_key="none")
    questions = {
        "refund": decisions.Predicate(instructions="The customer wants the money back."),
        "team": decisions.Choice(instructions="Who?", choices={"billing": "Payments.", "technical": None}),
        "anger": decisions.Score(instructions="How angry?", levels=["calm", "furious"]),
    }
    for state in (STATE, HumanMessage(STATE), [HumanMessage(STATE), AIMessage("I am sorry.")], {"mail": STATE}):
        found = model.invoke({"input": state, "questions": questions})
        assert 0 <= found.predicates["refund"].probability <= 1
        assert found.choices["team"].choice in ("billing", "technical")
        assert 0 <= found.scores["anger"].score <= 1

"""Programs that agents are made with, unmodified, against a running server: openai, anthropic and LangChain."""

import anthropic
import openai
import pytest
from pydantic import BaseModel

HELLO = "Say something odd about whales."
GREEDY = {"temperature": 0, "max_tokens": 8}


class Sure(BaseModel):
    sure: bool


@pytest.fixture(scope="module")
def said(server):
    body = {"model": "tiny", "messages": [{"role": "user", "content": HELLO}], **GREEDY}
    return server.call("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def claude(server):
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_openai_s_responses(client, said):
    asked = {"model": "tiny", "input": HELLO, "temperature": 0, "max_output_tokens": 8}
    assert client.responses.create(**asked).output_text == said
    events = list(client.responses.create(**asked, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == said
    with client.responses.stream(model="tiny", input="Are you sure?", temperature=0, text_format=Sure) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_response()
    assert {"response.created", "response.output_text.delta", "response.output_text.done", "response.completed"} <= kinds
    parsed = client.responses.parse(model="tiny", input="Are you sure?", temperature=0, text_format=Sure)
    assert isinstance(parsed.output_parsed, Sure) and whole.output_parsed == parsed.output_parsed


def test_openai_s_responses_go_on(client):
    """What a response says goes back as it is, as agents send it."""
    asked = [{"role": "user", "content": HELLO}]
    for _ in range(2):
        response = client.responses.create(model="tiny", input=asked, temperature=0, max_output_tokens=6)
        asked = [*asked, *response.output, {"role": "user", "content": "And?"}]
    assert response.usage.input_tokens_details.cached_tokens > 0


def test_openai_s_responses_are_refused_by_openai_s_errors(client):
    with pytest.raises(openai.BadRequestError, match="previous_response_id: expected none"):
        client.responses.create(model="tiny", input="Hi", previous_response_id="resp_1")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="nobody", input="Hi")


def test_anthropic_s_messages(claude, said):
    asked = {"model": "tiny", "messages": [{"role": "user", "content": HELLO}], "max_tokens": 8, "extra_body": {"temperature": 0}}
    message = claude.messages.create(**asked)
    assert message.content[0].text == said and message.stop_reason == "max_tokens"
    with claude.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == said
        assert stream.get_final_message().usage.output_tokens == message.usage.output_tokens == 8
    counted = claude.messages.count_tokens(model="tiny", messages=asked["messages"])
    assert counted.input_tokens == message.usage.input_tokens + message.usage.cache_read_input_tokens
    assert claude.beta.messages.create(**asked, betas=["whatever-2026-01-01"]).content[0].text == said


def test_anthropic_s_client_parses_and_names_its_errors(claude):
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Are you sure?"}], "max_tokens": 60}
    parsed = claude.messages.parse(**asked, output_format=Sure, extra_body={"temperature": 0})
    assert isinstance(parsed.parsed_output, Sure)
    with pytest.raises(anthropic.NotFoundError, match="expected tiny or an adapter"):
        claude.messages.create(**{**asked, "model": "nobody"})
    for stream in (False, True):
        with pytest.raises(anthropic.BadRequestError, match="thinking: expected"):
            claude.messages.create(**asked, thinking={"type": "enabled", "budget_tokens": 1024}, stream=stream)


@pytest.mark.parametrize("by_responses", [False, True])
def test_langchain_s_openai(server, said, by_responses):
    from langchain_openai import ChatOpenAI

    made = {"model": "tiny", "base_url": f"{server.url}/v1", "api_key": "none", "temperature": 0, "max_retries": 0, "use_responses_api": by_responses}
    model = ChatOpenAI(**made, max_tokens=8)
    answer = model.invoke(HELLO)
    assert answer.text == said and answer.usage_metadata["output_tokens"] == 8
    assert "".join(chunk.text for chunk in model.stream(HELLO)) == said
    sure = ChatOpenAI(**made, max_tokens=60).with_structured_output(Sure, method="json_schema")
    assert isinstance(sure.invoke("Are you sure?"), Sure)
    assert ChatOpenAI(**{**made, "model": "first"}, max_tokens=8).invoke(HELLO).text != said


def test_langchain_s_anthropic(server, said):
    from langchain_anthropic import ChatAnthropic
    from langchain_core.messages import HumanMessage

    made = {"model": "tiny", "base_url": server.url, "api_key": "none", "max_retries": 0, "temperature": 0}
    model = ChatAnthropic(**made, max_tokens=8)
    answer = model.invoke(HELLO)
    assert answer.text == said and answer.usage_metadata["output_tokens"] == 8
    assert "".join(chunk.text for chunk in model.stream(HELLO)) == said
    assert model.get_num_tokens_from_messages([HumanMessage(HELLO)]) == answer.usage_metadata["input_tokens"]


def test_the_page_s_example_runs(demo, repo, capsys):
    section = (repo / "docs" / "serve.md").read_text(encoding="utf-8").partition("## Responses and Messages\n")[2].partition("\n## ")[0]
    code = "\n".join(line.removeprefix("    ") for line in section.splitlines() if line.startswith("    "))
    exec("from openai import OpenAI\nfrom anthropic import Anthropic\n" + code.replace("http://127.0.0.1:8080", demo.url), {})
    by_responses, by_messages = capsys.readouterr().out.splitlines()
    assert by_responses == by_messages and "answerable" in by_responses

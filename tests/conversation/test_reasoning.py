"""Models that think before they answer: thought and answer apart, in replies, streams, the history, the chat and the server.

The embedded model does not think. Here its template says that it does, and its sampler is told what to say; all else is as it is.
"""

import io
import json

import pytest

from alora_gguf import Model
from alora_gguf.runtime.sampling import Sampler
from alora_gguf.terminal.chat import Chat
from alora_gguf.terminal.screen import Screen

OPEN = "<think>\n"
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and m.reasoning_content and loop.last %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
)
PLAIN = TURNS + "{% endif %}"
OPENING = TURNS + "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
THOUGHT, ANSWER = "The user asks. So yes.", "Yes. It is open."


@pytest.fixture(scope="module")
def opened(base_q4, variants):
    def opened(template):
        model = Model(base_q4, n_ctx=1024, chat_template=template)
        model.load_adapter(variants["answerability"])
        return model

    return opened


@pytest.fixture
def says(monkeypatch):
    """says(model, text): from now on a call that follows no grammar says this, and ends."""

    def says(model, text):
        script = [*model.vocab.tokenize_more(text), model.vocab.eos]
        said: dict = {}

        def sample(self, logits, *, constrained=True):
            if self.constraint is not None:
                seen.append(constrained)
            n = said[self] = said.get(self, -1) + 1
            return script[min(n, len(script) - 1)]

        seen: list[bool] = []
        monkeypatch.setattr(Sampler, "sample", sample)
        return seen

    return says


@pytest.mark.parametrize(
    "template, said", [(PLAIN, f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"), (OPENING, f"{THOUGHT}\n</think>\n\n{ANSWER}")], ids=["tags", "begun"]
)
def test_thought_and_answer_are_apart(opened, says, template, said):
    with opened(template) as model, model.conversation() as chat:
        says(model, said)
        reply = chat.ask("Is it open?")
        assert (reply.reasoning, reply.text, reply.finish_reason) == (THOUGHT, ANSWER, "stop")
        assert model.detokenize(reply.tokens) == said
        assert chat.messages[-1] == {"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT}
        stream = chat.ask("And now?", stream=True, logprobs=True)
        chunks = list(stream)
        for kind, text in (("reasoning", THOUGHT), ("text", ANSWER)):
            assert "".join(p for p in chunks if p.kind == kind) == text
        assert "".join(t.text for t in stream.result.logprobs) == ANSWER
        cut = chat.ask("And?", max_tokens=6)
        assert cut.finish_reason == "length" and cut.text == "" and cut.reasoning and THOUGHT.startswith(cut.reasoning)


def test_what_the_template_drops_gives_no_wrong_cells(opened, says):
    """It writes the thought of the last message alone: behind a next question the answer is computed without it, and usage says so."""
    with opened(PLAIN) as model, model.conversation() as chat:
        says(model, f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}")
        first = chat.ask("Is it open?").usage
        second = chat.ask("And now?").usage
        text = model.render([*chat.messages[:2], {"role": "user", "content": "And now?"}], add_generation_prompt=True)
        tokens = model.tokenize(text)
        assert second.prompt_tokens == len(tokens) and THOUGHT not in text
        assert second.cached_tokens == first.prompt_tokens  # and the answer, which was said behind a thought, is not in it
        fresh = model.conversation(messages=[*chat.messages[:2], {"role": "user", "content": "And now?"}])
        assert model.engine.prompts.chat(fresh.messages).tokens == tokens


def test_an_intrinsic_judges_the_answer_and_not_the_thought(opened, says):
    with opened(PLAIN) as model, model.conversation() as chat:
        says(model, f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}")
        chat.ask("Is it open?")
        adapter = model.adapter("answerability")
        said = lambda **how: model.detokenize(chat.fork(adapter, chat.messages, **how).tokens)
        assert THOUGHT not in said() and ANSWER in said()
        assert THOUGHT in said(with_reasoning=True)
        n = [chat.invoke("answerability", with_reasoning=how, max_tokens=1).usage for how in (False, True)]
        assert n[1].prompt_tokens > n[0].prompt_tokens
        assert n[1].cached_tokens > n[0].cached_tokens  # with the thought it is what was computed


def test_a_watcher_of_an_answer_behind_a_thought(opened, says):
    with opened(PLAIN) as model, model.conversation() as chat:
        says(model, f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}")
        seen = []
        prompt = model.engine.prompts.intrinsic
        model.engine.prompts.intrinsic = lambda *args, **how: seen.append(made := prompt(*args, **how)) or made
        reply = chat.ask("Is it open?", watch=["answerability"])
        assert [v.n_chars for v in reply.verdicts] == [len("Yes."), len(ANSWER)] and not any(v.error for v in reply.verdicts)
        texts = [model.detokenize(p.tokens) for p in seen]
        assert all(THOUGHT not in text for text in texts) and "Yes.<|im_end|>" in texts[0] and ANSWER in texts[1]


def test_a_grammar_holds_the_answer_and_not_the_thought(opened, says):
    with opened(OPENING) as model, model.conversation() as chat:
        constrained = says(model, f"{THOUGHT}\n</think>\n\nyes")
        chat.ask("Is it open?", grammar='root ::= "yes" | "no"')
        n_thought = len(model.vocab.tokenize_more(f"{THOUGHT}\n</think>"))
        assert constrained[:n_thought] == [False] * n_thought and all(constrained[n_thought + 1 :])


def test_template_variables(opened, says):
    with opened(OPENING) as model:
        says(model, ANSWER)
        with model.conversation(chat_template_kwargs={"enable_thinking": False}) as chat:
            reply = chat.ask("Is it open?")
            assert (reply.reasoning, reply.text) == ("", ANSWER)
            assert chat.ask("And?", chat_template_kwargs={"enable_thinking": True}).reasoning == ANSWER  # the thought was begun, and never ended


def test_a_chat_shows_the_thought_before_the_answer(opened, says):
    out = io.StringIO()
    with opened(PLAIN) as model:
        says(model, f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}")
        chat = Chat(model.conversation, model.restore, {}, Screen(out))
        chat.run(["Is it open?"])
    assert out.getvalue().startswith(f"{THOUGHT}\n\n{ANSWER}\n")


def test_a_saved_conversation_keeps_thoughts_variables_and_its_date(opened, says, tmp_path):
    dated = OPENING.replace("{% for", "{{ strftime_now('%Y-%m-%d %H:%M:%S.%f') }}{% for", 1)
    with opened(dated) as model:
        says(model, f"{THOUGHT}\n</think>\n\n{ANSWER}")
        with model.conversation(chat_template_kwargs={"enable_thinking": True}) as chat:
            chat.ask("Is it open?")
            chat.save(tmp_path / "chat")
            text = chat.cells()[0]
        model.clear_cache()
        with model.restore(tmp_path / "chat") as again:
            assert (again.messages, again.chat_template_kwargs, again.began) == (chat.messages, chat.chat_template_kwargs, chat.began)
            assert again.cells()[0] == text
            usage = again.ask("And now?").usage
            assert usage.cached_tokens >= len(model.tokenize(text.split("<|im_start|>assistant")[0]))


# the server


@pytest.fixture
def app(opened, says):
    from starlette.testclient import TestClient

    from alora_gguf.serve.adapter_files import AdapterFiles
    from alora_gguf.serve.app import make_app
    from alora_gguf.serve.service import Limits, Service

    with opened(OPENING) as model:
        says(model, f"{THOUGHT}\n</think>\n\n{ANSWER}")
        service = Service(model, ["base"], Limits(n_running=4, n_waiting=4, n_tokens=200), AdapterFiles(model))
        with TestClient(make_app(service), base_url="http://127.0.0.1") as client:
            yield client


CHAT = {"messages": [{"role": "user", "content": "Is it open?"}]}


def test_the_server_has_thoughts_apart(app):
    message = app.post("/v1/chat/completions", json=CHAT).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (THOUGHT, ANSWER)
    lines = app.post("/v1/chat/completions", json={**CHAT, "stream": True}).text.split("\n\n")
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines if line.startswith("data: {")]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == THOUGHT
    assert "".join(d.get("content") or "" for d in deltas) == ANSWER
    for how in ({"chat_template_kwargs": {"enable_thinking": False}}, {"enable_thinking": False}, {"reasoning_effort": "none"}):
        without = app.post("/v1/chat/completions", json={**CHAT, **how}).json()
        assert "reasoning_content" not in without["choices"][0]["message"]
    assert app.post("/v1/chat/completions", json={**CHAT, "enable_thinking": True}).json()["choices"][0]["message"] == message
    assert app.post("/v1/chat/completions", json={**CHAT, "reasoning_effort": "high"}).json()["error"]["param"] == "reasoning_effort"


def test_the_server_takes_openai_s_messages(app):
    """What it sent comes back, with null for what is not there."""
    echoed = {"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT, "refusal": None, "tool_calls": None, "annotations": []}
    parts = {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "now?"}]}
    answer = app.post("/v1/chat/completions", json={"messages": [*CHAT["messages"], echoed, parts]})
    assert answer.status_code == 200, answer.text
    null = {"role": "assistant", "content": None, "reasoning_content": THOUGHT}
    assert app.post("/v1/chat/completions", json={"messages": [*CHAT["messages"], null, parts]}).status_code == 200
    for message, named in (
        ({**null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "tool_calls"),
        ({**echoed, "audio": {"id": "1"}}, "audio"),
    ):
        refused = app.post("/v1/chat/completions", json={"messages": [*CHAT["messages"], message, parts]})
        assert refused.status_code == 400 and named in refused.json()["error"]["message"], refused.text


# a budget of thinking tokens


def tags(model, template):
    thinking = model.template.features.thinking
    return model.vocab.tokenize_more(thinking.closing if template is OPENING else thinking.without)


@pytest.mark.parametrize("budget", [0, 5])
@pytest.mark.parametrize("logprobs", [False, True])
def test_a_budget_ends_the_thought_and_the_answer_goes_on(opened, budget, logprobs):
    """As if the thought had been the model's own, and a constraint holds the answer."""
    with opened(OPENING) as model:
        prompt = model.engine.prompts.chat([{"role": "user", "content": "Is it open?"}])
        for how in ({"max_tokens": 24}, {"choice": ["Yes, it is.", "No, it is not."]}):
            reply = model.conversation().ask("Is it open?", temperature=0, thinking_budget=budget, logprobs=logprobs, **how)
            thought, rest = reply.tokens[:budget], reply.tokens[budget:]
            written = tags(model, OPENING)
            assert rest[: len(written)] == written and reply.usage.reasoning_tokens == len(thought) == budget
            assert reply.reasoning == model.detokenize(thought).strip()
            free = model.generate(prompt.tokens, temperature=0, max_tokens=max(1, budget), logprobs=True)
            assert thought == free.tokens[:budget]
            model.clear_cache()
            alone = model.generate([*prompt.tokens, *thought, *written], temperature=0, **{**how, "max_tokens": 24 - budget - len(written)})
            assert reply.text.strip() == alone.text.strip() if "choice" in how else rest[len(written) :][:3] == alone.tokens[:3]
            if logprobs:
                assert "".join(t.text for t in reply.logprobs) == reply.text


def test_no_thought_where_the_model_would_begin_one(opened, says):
    with opened(PLAIN) as model:
        says(model, ANSWER)
        chat = model.conversation()
        reply = chat.ask("Is it open?", thinking_budget=0)
        assert (reply.reasoning, reply.text, reply.usage.reasoning_tokens) == ("", ANSWER, 0)
        assert model.detokenize(reply.tokens) == f"<think>\n\n</think>\n\n{ANSWER}" and reply.tokens[: len(tags(model, PLAIN))] == tags(model, PLAIN)
        assert chat.messages[-1] == {"role": "assistant", "content": ANSWER}
        says(model, f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}")
        whole = model.conversation().ask("Is it open?", thinking_budget=100)
        assert (whole.reasoning, whole.text) == (THOUGHT, ANSWER)
        assert whole.usage.reasoning_tokens == len(model.vocab.tokenize_more(f"\n{THOUGHT}\n</think>")) - 1


def test_a_budget_ends_between_characters_and_within_max_tokens(opened, says):
    with opened(OPENING) as model:
        n = len(model.vocab.tokenize_more("🦘"))
        assert n > 1
        says(model, "🦘🦘")
        reply = model.conversation().ask("Is it open?", thinking_budget=1, max_tokens=n + 1)
        assert (reply.reasoning, reply.usage.reasoning_tokens, reply.finish_reason, reply.text) == ("🦘", n, "length", "")
        assert len(reply.tokens) == n + 1


def test_a_budget_on_a_memory_that_cannot_roll_back(base_q4, tmp_path):
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
    from tiny import mamba2

    for template in (OPENING, PLAIN):
        with Model(mamba2(base_q4, tmp_path / "base.gguf"), n_ctx=512, n_threads=1, chat_template=template) as model:
            for _ in range(2):  # from what is kept, too
                reply = model.conversation().ask("Is it open?", thinking_budget=0, temperature=0, choice=["yes"])
                assert (reply.reasoning, reply.text) == ("", "yes") and reply.tokens[: len(tags(model, template))] == tags(model, template)


def test_a_budget_is_refused_where_nothing_is_thought(opened, says):
    from alora_gguf import PromptError

    with opened(OPENING) as model, opened(PLAIN.replace("<think>", "").replace("</think>", "")) as plain, model.conversation() as chat:
        for call in (
            lambda: model.generate("x", thinking_budget=3),
            lambda: chat.invoke("answerability", thinking_budget=3),
            lambda: plain.conversation().ask("Is it?", thinking_budget=3),
        ):
            with pytest.raises(PromptError, match="^thinking_budget: expected a chat with a model that thinks"):
                call()
        for wrong in (-1, 1.5, "3"):
            with pytest.raises(PromptError, match="^thinking_budget: expected a whole number from 0 on or None, got "):
                chat.ask("Is it?", thinking_budget=wrong)


def test_variables_that_the_template_does_not_read_are_warned_of(opened, says):
    with opened(OPENING) as model:
        says(model, ANSWER)
        with model.conversation(chat_template_kwargs={"enable_thinking": False}) as chat:
            assert chat.ask("Is it open?").warnings == []
            [warning] = chat.ask("Is it open?", chat_template_kwargs={"enable_thinkin": True}).warnings
            assert (
                warning.startswith("chat_template_kwargs: expected variables that the chat template reads, got 'enable_thinkin'")
                and "\n" not in warning
            )
            assert chat.invoke("answerability", chat_template_kwargs={"x": 1}).warnings[-1].count("'x'") == 1


NAMES = "thinking_budget", "thinking_budget_tokens", "reasoning_budget_tokens", "thinking_token_budget"


def test_the_server_s_budgets(app):
    post = lambda **more: app.post("/v1/chat/completions", json={**CHAT, **more})
    whole = post().json()
    n = whole["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert n > 3
    for name in NAMES:
        for unlimited in (-1, 1000):
            assert post(**{name: unlimited}).json()["choices"] == whole["choices"]
        cut = post(**{name: 3}).json()
        assert cut["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
        thought = cut["choices"][0]["message"]["reasoning_content"]
        assert THOUGHT.startswith(thought) and len(thought) < len(THOUGHT)
        assert "reasoning_content" not in post(**{name: 0}).json()["choices"][0]["message"]
        assert name in post(**{name: -2}).json()["error"]["message"]
    assert post(thinking_budget=3, thinking_token_budget=3).status_code == 200
    assert post(thinking_budget=3, thinking_token_budget=4).json()["error"]["param"] == "thinking_token_budget"
    intrinsic = post(model="answerability", thinking_budget=3)
    assert intrinsic.status_code == 400 and intrinsic.json()["error"]["message"].startswith("thinking_budget: ")
    assert post(chat_template_kwargs={"nobody": 1}).json()["warnings"][0].count("'nobody'") == 1


def test_the_server_s_streams_count_thoughts(app):
    body = {**CHAT, "stream": True, "thinking_budget": 4, "stream_options": {"include_usage": True}}
    lines = app.post("/v1/chat/completions", json=body).text.split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert chunks[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4}
    thought = "".join(c["choices"][0]["delta"].get("reasoning_content", "") for c in chunks if c["choices"])
    assert thought and THOUGHT.startswith(thought)


def test_the_other_doors_have_thoughts_apart(app):
    asked = {"input": "Is it open?"}
    response = app.post("/v1/responses", json=asked).json()
    told = lambda items: [(item["type"], item["content"][0]["text"]) for item in items]
    assert told(response["output"]) == [("reasoning", THOUGHT), ("message", ANSWER)]
    assert 0 < response["usage"]["output_tokens_details"]["reasoning_tokens"] < response["usage"]["output_tokens"]
    events = [
        json.loads(line[6:]) for line in app.post("/v1/responses", json={**asked, "stream": True}).text.splitlines() if line.startswith("data: ")
    ]
    of = lambda name: "".join(event["delta"] for event in events if event["type"] == f"response.{name}.delta")
    assert (of("reasoning_text"), of("output_text")) == (THOUGHT, ANSWER) and told(events[-1]["response"]["output"]) == told(response["output"])
    again = [{"role": "user", "content": "Is it open?"}, *response["output"], {"role": "user", "content": "And now?"}]
    assert app.post("/v1/responses", json={"input": again, "include": ["reasoning.encrypted_content"]}).status_code == 200

    say = lambda **more: app.post("/v1/messages", json={**CHAT, **more}).json()
    content = say()["content"]
    assert content == [{"type": "thinking", "thinking": THOUGHT, "signature": ""}, {"type": "text", "text": ANSWER}]
    assert say(thinking={"type": "adaptive", "display": "omitted"})["content"] == [{**content[0], "thinking": ""}, content[1]]
    assert [block["type"] for block in say(thinking={"type": "disabled"})["content"]] == ["text"]
    enough, few = (say(thinking={"type": "enabled", "budget_tokens": n}) for n in (1024, 2))
    assert enough["content"] == content and few["content"][0]["thinking"] in THOUGHT[:-1]
    assert few["usage"]["output_tokens_details"]["thinking_tokens"] <= 2 < enough["usage"]["output_tokens_details"]["thinking_tokens"]
    again = [*CHAT["messages"], {"role": "assistant", "content": content}, {"role": "user", "content": "And now?"}]
    assert say(messages=again)["content"] == content
    for more, named in (
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens: expected"),
        ({"thinking": {"type": "disabled"}, "enable_thinking": True}, "enable_thinking: expected false"),
    ):
        assert say(**more)["error"]["message"].startswith(named)

"""chat.decide and model.decide: what they ask, what they find, and what it costs."""

import asyncio
import json
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from tiny import llama, random_adapter

from alora_gguf import Choice, ContextFullError, Model, Predicate, PromptError, Score, UnknownAdapterError
from alora_gguf.prompt.decisions.prompts import DecisionPrompts
from alora_gguf.prompt.decisions.question import letters, orders, question_in, question_of

MESSAGES = [{"role": "user", "content": "I was charged twice, give me my money back."}, {"role": "assistant", "content": "I am sorry."}]
QUESTIONS = {
    "refund": Predicate("The customer wants the money back."),
    "team": Choice("Who should take it?", {"billing": "Payments.", "technical": "Errors.", "sales": None}),
    "anger": Score("How angry?", ["calm", "annoyed", "furious"]),
}
IO = json.dumps(
    {
        "model": None,
        "response_format": json.dumps({"type": "string", "enum": ["right", "wrong", "right now"]}),
        "transformations": [{"type": "likelihood", "categories_to_values": {"right": 1.0, "wrong": 0.0, "right now": 0.5}, "input_path": []}],
        "instruction": "<judge> {last_message}",
        "parameters": {"max_completion_tokens": 12},
        "sentence_boundaries": None,
    }
)

FINDS_FIRST = json.dumps(
    {
        **json.loads(IO),
        "response_format": json.dumps(
            {
                "type": "object",
                "properties": {"found": {"type": "string", "maxLength": 6}, "verdict": {"type": "string", "enum": ["yes", "no"]}},
                "required": ["found", "verdict"],
                "additionalProperties": False,
                "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
            }
        ),
        "transformations": [],
        "parameters": {"max_completion_tokens": 60},
    }
)

RATES = {
    name: json.dumps({**json.loads(IO), "response_format": json.dumps(schema), "transformations": []})
    for name, schema in {
        "rater": {"type": "object", "properties": {"rating": {"type": "integer", "enum": [1, 2, 10]}}},
        "liner": {"type": "object", "properties": {"rating": {"enum": [1, 2, 10]}, "why": {"type": "string"}}},
        "number": {"type": "integer", "enum": [1, 2, 10]},
    }.items()
}


@pytest.fixture(scope="module")
def model(base_q4, tmp_path_factory):
    """A random model, with an activated adapter, an intrinsic and a LoRA."""
    folder = tmp_path_factory.mktemp("decide")
    base = llama(base_q4, folder / "tiny.gguf")
    with Model(base, n_ctx=2048, n_threads=1, type_k="f32", type_v="f32", flash_attn=False) as model:
        judge = model.tokenize("<judge>")
        model.load_adapter(random_adapter(base, folder / "activated.gguf", [901, 902], 1))
        model.load_adapter(random_adapter(base, folder / "lora.gguf", [], 2))
        model.load_adapter(random_adapter(base, folder / "judge.gguf", judge, 3, io_yaml=IO))
        model.load_adapter(random_adapter(base, folder / "finder.gguf", judge, 4, io_yaml=FINDS_FIRST))
        for name, io_yaml in RATES.items():
            model.load_adapter(random_adapter(base, folder / f"{name}.gguf", judge, 5, io_yaml=io_yaml))
        yield model


@pytest.fixture
def chat(model):
    model.clear_cache()
    return model.conversation(messages=MESSAGES)


class Counted(list):
    """The number of tokens of each batch from now on."""

    def __init__(self, model, monkeypatch):
        decode = model.engine.context.decode
        monkeypatch.setattr(model.engine.context, "decode", lambda spans: (self.append(sum(len(s.tokens) for s in spans)), decode(spans))[1])


def logprobs_of(model, prompt, label, adapter=None):
    [row] = model.logits([([*prompt, *label], adapter)])
    row = row.astype(np.float64)
    row -= row.max(axis=1, keepdims=True)
    row -= np.log(np.exp(row).sum(axis=1, keepdims=True))
    return sum(row[len(prompt) - 1 + i, token] for i, token in enumerate(label))


def shares(logprobs):
    p = np.exp(np.array(logprobs) - max(logprobs))
    return p / p.sum()


# what is found


@pytest.mark.parametrize("adapter", [None, "activated", "lora"])
def test_probabilities_are_those_of_the_labels_after_the_rendered_prompt(model, chat, adapter):
    found = chat.decide({"q": Choice("Which is it?", ["alpha romeo", "betamax"], labels="values")}, adapter=adapter)["q"]
    text = "Which is it?\n- alpha romeo\n- betamax\nAnswer with one of them."
    asked = [*MESSAGES, {"role": "user", "content": text}]
    prompt = model.tokenize(model.render(asked, add_generation_prompt=adapter != "activated"))
    prompt += [901, 902] if adapter == "activated" else []
    labels = [model.tokenize(value) for value in ("alpha romeo", "betamax")]
    assert max(map(len, labels)) > 1
    expected = shares([logprobs_of(model, prompt, label, adapter) for label in labels])
    np.testing.assert_allclose([found.probabilities["alpha romeo"], found.probabilities["betamax"]], expected, atol=1e-5)


def test_each_kind_has_what_it_says(chat):
    found = chat.decide(QUESTIONS)
    assert list(found) == list(QUESTIONS)
    assert [list(one.probabilities) for one in found.values()] == [[True, False], ["billing", "technical", "sales"], [0, 1, 2]]
    for one in found.values():
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert 0 <= one.confidence <= 1
    assert found["refund"].probability == found["refund"].probabilities[True]
    assert found["team"].choice == max(found["team"].probabilities, key=found["team"].probabilities.get)
    assert found["anger"].score == pytest.approx(found["anger"].probabilities[1] + 2 * found["anger"].probabilities[2])
    for name, wrong in (("team", "probability"), ("refund", "score")):
        with pytest.raises(AttributeError, match=wrong):
            getattr(found[name], wrong)


def test_nothing_is_added_and_the_conversation_is_computed_once(model, chat, monkeypatch):
    text = chat.cells()[0]
    counted = Counted(model, monkeypatch)
    first = chat.decide(QUESTIONS)
    assert chat.messages == MESSAGES
    assert chat.cells()[0] == text
    n_new = first.usage.prompt_tokens - first.usage.cached_tokens
    assert sum(counted) == n_new
    n_conversation = len(chat.cells()[1])
    assert n_new < 2 * n_conversation + sum(one.usage.prompt_tokens - n_conversation for one in first.values())
    counted.clear()
    again = chat.decide(QUESTIONS)
    assert (list(counted), again.usage.cached_tokens) == ([], again.usage.prompt_tokens)
    assert {name: one.probabilities for name, one in again.items()} == {name: one.probabilities for name, one in first.items()}


def test_questions_on_a_conversation_in_the_cache_are_one_batch(model, chat, monkeypatch):
    chat.decide({"first": Predicate("Warm?")})
    counted = Counted(model, monkeypatch)
    chat.decide({f"q{i}": Choice(f"Number {i}: which?", ["alpha", "beta gamma"], labels="values") for i in range(8)})
    assert len(counted) == 1


def test_own_words_of_which_one_begins_another(model, chat):
    found = chat.decide({"q": Choice("Which?", ["bill", "billing"], labels="values")})["q"]
    prompt = model.tokenize(
        model.render([*MESSAGES, {"role": "user", "content": "Which?\n- bill\n- billing\nAnswer with one of them."}], add_generation_prompt=True)
    )
    labels = [model.tokenize(value) for value in ("bill", "billing")]
    if labels[1][: len(labels[0])] == labels[0]:
        labels = [[*label, model.vocab.eos] for label in labels]
    np.testing.assert_allclose(list(found.probabilities.values()), shares([logprobs_of(model, prompt, label) for label in labels]), atol=1e-5)


def test_255_options(chat):
    found = chat.decide(
        {"q": Choice("Which?", [f"option {i}" for i in range(255)]), "w": Choice("Which?", [f"option {i}" for i in range(255)], labels="values")}
    )
    for one in found.values():
        assert (len(one.probabilities), sum(one.probabilities.values())) == (255, pytest.approx(1))


def test_orders_are_averaged(chat):
    question = Choice("Which?", ["alpha", "beta", "gamma"])
    turned = [Choice("Which?", [["alpha", "beta", "gamma"][i] for i in order]) for order in orders(question, 3, 0)]
    single = [chat.decide({"q": one})["q"].probabilities for one in turned]
    [found] = chat.decide({"q": question}, n_orders=3).values()
    assert found.probabilities == pytest.approx({value: np.mean([p[value] for p in single]) for value in ("alpha", "beta", "gamma")}, abs=1e-5)


def test_a_state_is_text_json_or_messages(model):
    model.clear_cache()
    text = model.decide(json.dumps({"a": [1, "b"]}), QUESTIONS)
    same = model.decide({"a": [1, "b"]}, QUESTIONS)
    messages = model.decide([{"role": "user", "content": json.dumps({"a": [1, "b"]})}], QUESTIONS)
    assert text["team"].probabilities == same["team"].probabilities == messages["team"].probabilities
    assert same.usage.cached_tokens == same.usage.prompt_tokens
    staff = [{"role": "engineer", "name": "Ann"}]  # is no conversation
    assert model.decide(staff, QUESTIONS)["team"].probabilities == model.decide(json.dumps(staff), QUESTIONS)["team"].probabilities


def test_an_intrinsic_by_its_name(model, chat):
    found = chat.decide({"j": "judge"})["j"]
    prompt = model.tokenize(model.render([*MESSAGES, {"role": "user", "content": "<judge> I am sorry."}], add_generation_prompt=True))
    labels = [model.tokenize(text) for text in ('"right"', '"wrong"', '"right now"')]
    expected = shares([logprobs_of(model, prompt, label, "judge") for label in labels])
    np.testing.assert_allclose(list(found.probabilities.values()), expected, atol=1e-5)
    assert found.likelihood == found.probability == pytest.approx(expected[0] + expected[2] / 2, abs=1e-5)


@pytest.mark.parametrize(("name", "before", "behind"), [("rater", '{"rating": ', "}"), ("liner", '{"rating": ', ","), ("number", "", None)])
def test_numbers_of_which_one_begins_another_have_an_end(model, chat, name, before, behind):
    found = chat.decide({"r": name})["r"]
    prompt = model.tokenize(model.render([*MESSAGES, {"role": "user", "content": "<judge> I am sorry."}], add_generation_prompt=True))
    labels = [model.tokenize(f"{before}{value}{behind or ''}") for value in (1, 2, 10)]
    labels = [[*label, model.vocab.ends[0]] for label in labels] if behind is None else labels
    expected = shares([logprobs_of(model, prompt, label, name) for label in labels])
    np.testing.assert_allclose([found.probabilities[value] for value in (1, 2, 10)], expected, atol=1e-5)


def test_an_intrinsic_that_says_something_first(model, chat):
    found = chat.decide({"f": "finder", "refund": QUESTIONS["refund"]})
    said = chat.invoke("finder").text
    before = said[: said.rindex('"yes"' if said.endswith('"yes"}') else '"no"')]
    prompt = model.tokenize(model.render([*MESSAGES, {"role": "user", "content": "<judge> I am sorry."}], add_generation_prompt=True))
    labels = [model.tokenize(before + label) for label in ('"yes', '"no')]
    expected = shares([logprobs_of(model, prompt, label, "finder") for label in labels])
    np.testing.assert_allclose(list(found["f"].probabilities.values()), expected, atol=1e-5)
    assert found["f"].usage.completion_tokens > 0
    assert found["refund"].error is None


def test_what_an_intrinsic_says_first_is_counted_too(model, chat, monkeypatch):
    counted = Counted(model, monkeypatch)
    whole = chat.decide({"f": "finder"})
    usage = whole["f"].usage
    computed = usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens
    assert 0 <= computed - sum(counted) < 4  # nothing is behind the last that are said
    assert usage.prompt_tokens < len(chat.cells()[1]) + 30
    assert whole.usage == usage


def test_a_saved_conversation_is_not_computed_for_a_question(model, chat, tmp_path):
    """Its questions are, once."""
    n_said = len(chat.cells()[1])
    before = chat.decide(QUESTIONS, adapter="activated")
    chat.save(tmp_path / "chat.alora")
    model.clear_cache()
    after = model.restore(tmp_path / "chat.alora").decide(QUESTIONS, adapter="activated")
    usage = after.usage
    assert n_said - 8 <= usage.cached_tokens < usage.prompt_tokens
    assert {n: one.probabilities for n, one in after.items()} == {n: pytest.approx(one.probabilities, abs=1e-4) for n, one in before.items()}


# failing and ending


def test_one_that_fails_leaves_the_others_theirs(model, chat):
    found = chat.decide(
        {"long": Predicate("word " * 3000), "team": QUESTIONS["team"], "none": Choice("Which?", ["a", "a "], labels="letters"), "open": "judge"}
    )
    assert isinstance(found["long"].error, ContextFullError)
    with pytest.raises(ContextFullError):
        _ = found["long"].probability
    assert [one.error is None for one in found.values()] == [False, True, True, True]


def test_warnings_are_those_of_other_calls(chat):
    said = chat.ask("Hm?", chat_template_kwargs={"mood": "sad"}, max_tokens=1).warnings
    found = chat.decide(QUESTIONS, chat_template_kwargs={"mood": "sad"})
    assert said[0].startswith("chat_template_kwargs: expected variables")
    assert [one.warnings for one in found.values()] == [said] * 3
    assert [one.warnings for one in chat.decide(QUESTIONS).values()] == [[]] * 3


def test_what_concerns_the_call_as_a_whole_is_raised(model, chat):
    for questions, options, error in (
        ({}, {}, PromptError),
        ({"q": 3}, {}, PromptError),
        ({"q": "nobody"}, {}, UnknownAdapterError),
        (QUESTIONS, {"adapter": "nobody"}, UnknownAdapterError),
        (QUESTIONS, {"n_orders": 0}, PromptError),
        ({"q": Predicate("x", adapter="")}, {}, UnknownAdapterError),
        (QUESTIONS, {"adapter": ["activated"]}, UnknownAdapterError),
    ):
        with pytest.raises(error):
            chat.decide(questions, **options)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for state in ("", [], 3, {"a": object()}, deep):
        with pytest.raises(PromptError, match="state"):
            model.decide(state, QUESTIONS)


def test_a_cancelled_call_has_those_that_were_decided(model, monkeypatch):
    chat = model.conversation(messages=[{"role": "user", "content": "word " * 800}])
    known = chat.decide({"team": QUESTIONS["team"]})
    model.engine.loop.call(model.engine.cache.clear)  # what was decided is known all the same
    decode, enter, go = model.engine.context.decode, threading.Event(), threading.Event()
    monkeypatch.setattr(model.engine.context, "decode", lambda spans: (enter.set(), go.wait(60), decode(spans))[2])
    stream = chat.decide(QUESTIONS, stream=True)
    assert enter.wait(60)
    stream.cancel()
    go.set()
    assert {name: one.probabilities for name, one in stream.result.items()} == {"team": known["team"].probabilities}
    assert stream.result.usage.prompt_tokens > 800 and stream.result.usage.cached_tokens == 0  # of those that were not, too


def test_a_cancelled_call_makes_no_more_prompts(chat, monkeypatch):
    """Many questions in many orders take long before the first is asked."""
    made, streams, begun = [], [], threading.Event()
    prompt = DecisionPrompts.prompt

    def counted(*args, **options):
        made.append(begun.wait(60))
        if len(made) == 3:
            streams[0].cancel()
        return prompt(*args, **options)

    async def ask():
        streams.append(chat.decide({f"q{i}": Predicate(f"Is it {i}?") for i in range(9)}, n_orders=2, stream=True))
        begun.set()
        return await streams[0]

    monkeypatch.setattr(DecisionPrompts, "prompt", counted)
    assert asyncio.run(ask()) == {}
    assert len(made) == 3


def test_by_a_stream_and_in_asyncio(chat):
    whole = chat.decide(QUESTIONS)
    heard = {}
    chat.decide(QUESTIONS, on_decision=heard.__setitem__)
    streamed = dict(chat.decide(QUESTIONS, stream=True))

    async def gather():
        stream = chat.decide(QUESTIONS, stream=True)
        return {name: one async for name, one in stream}, await chat.decide(QUESTIONS, stream=True)

    first, second = asyncio.run(gather())
    for other in (heard, streamed, first, second):
        assert {name: one.probabilities for name, one in other.items()} == {name: one.probabilities for name, one in whole.items()}


# watching


def test_questions_watch_an_answer(model, chat):
    reply = chat.ask("Say it.", watch={"odd": Predicate("It is odd."), "team": QUESTIONS["team"]}, watch_every=8, max_tokens=24, temperature=0)
    assert {verdict.name for verdict in reply.verdicts} == {"odd", "team"}
    last = reply.verdicts[-1].n_chars
    asked = [*MESSAGES, {"role": "user", "content": "Say it."}]
    for n_chars in {verdict.n_chars for verdict in reply.verdicts}:
        said = model.conversation(messages=[*asked, {"role": "assistant", "content": reply.text[:n_chars]}])
        expected = said.decide({"odd": Predicate("It is odd.")})["odd"].probability
        [verdict] = [v for v in reply.verdicts if (v.name, v.n_chars) == ("odd", n_chars)]
        if n_chars == last:  # earlier ones saw the answer's own tokens, which its text alone may have others for
            assert verdict.decision.probability == pytest.approx(expected, abs=0.02)
    assert (last, reply.finish_reason) == (len(reply.text), "length")


@pytest.mark.parametrize(
    ("watch", "error"),
    [
        (3, PromptError),
        ("judge", PromptError),
        ([Predicate(["It is odd."])], UnknownAdapterError),
        ({"odd": 3}, PromptError),
        ({"odd": "nobody"}, UnknownAdapterError),
    ],
)
def test_what_cannot_watch_is_refused_before_anything_is_said(chat, watch, error):
    with pytest.raises(error, match="expected"):
        chat.ask("Say it.", watch=watch)
    assert chat.messages == MESSAGES


def test_a_threshold_ends_the_answer(chat):
    verdicts = []
    question = Predicate("It is odd.", stop_above=0.0)
    reply = chat.ask("Say it.", watch={"odd": question}, watch_every=4, max_tokens=800, temperature=0, on_verdict=verdicts.append)
    assert reply.finish_reason == "cancelled"
    assert verdicts[0].decision.probability > 0
    assert chat.messages[-1] == {"role": "assistant", "content": reply.text}  # what was said is part of it
    whole = chat.ask("Say it.", watch={"odd": Predicate("It is odd.", stop_above=1.0, stop_below=0.0)}, watch_every=8, max_tokens=16, temperature=0)
    assert whole.finish_reason == "length"


# the words


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: Predicate(""), "instructions"),
        (lambda: Predicate("x", stop_above=2), "stop_above"),
        (lambda: Choice("x", []), "options"),
        (lambda: Choice("x", "ab"), "options"),
        (lambda: Choice("x", [1]), "options"),
        (lambda: Choice("x", ["a", "a"]), "options"),
        (lambda: Choice("x", [str(i) for i in range(256)]), "options"),
        (lambda: Choice("x", [True, "true"], labels="values"), "labels"),
        (lambda: Choice("x", ["a"], labels="digits"), "labels"),
        (lambda: Score("x", []), "levels"),
    ],
)
def test_questions_that_are_none_are_refused(make, said):
    with pytest.raises(PromptError, match=rf"^{said}: expected"):
        make()


def test_an_option_that_is_there_twice_is_named():
    with pytest.raises(PromptError, match="^options: expected each once, got 'b' twice"):
        Choice("x", ["a", "b", "c", "b"])


def test_true_and_the_word_are_two_options(chat):
    found = chat.decide({"q": Choice("Which?", [True, "true", False])})["q"]
    assert list(found.probabilities) == [True, "true", False]


def test_letters_are_tokens_and_none_begins_another():
    every = letters(255, lambda text: True)
    assert len(set(every)) == 255
    for some in (letters(3, lambda text: False), every, letters(255, lambda text: False)):
        assert not any(longer.startswith(shorter) for shorter, longer in pairwise(sorted(some)))
    assert letters(30, lambda text: text[0] != "A")[0] == "BA"


def test_orders_turn_the_options_round():
    question = Choice("x", list("abcd"))
    made = orders(question, 4, 0)
    assert made[0] == [0, 1, 2, 3]
    assert all(sorted(order[place] for order in made) == [0, 1, 2, 3] for place in range(4))
    assert orders(question, 9, 1) == orders(question, 9, 1) != orders(question, 9, 2)
    for n in (8, 12, 24, 64):
        made = orders(question, n, 1)
        assert len({tuple(order) for order in made}) == min(n, 24)
        assert all([order[place] for order in made].count(option) == len(made) // 4 for place in range(4) for option in range(4))
    assert orders(Predicate("x"), 5, 0) == [[0, 1], [1, 0]]
    assert orders(Score("x", ["a"]), 5, 0) == [[0]]


def test_questions_in_json():
    assert question_of({"type": "noul", "instructions": "x", "criteria": {"true": "y"}}, "q") == Predicate("x", "y")
    assert question_of({"type": "choice", "instructions": "x", "criteria": {"a": None}}, "q") == Choice("x", {"a": None})
    assert question_of({"type": "score", "instructions": None, "criteria": ["a", "b"]}, "q") == Score(None, ["a", "b"])
    assert question_of({"type": "choice", "criteria": ["a", "b"], "labels": None}, "q") == Choice("Which is it?", ["a", "b"])
    assert question_of({"type": "predicate", "criteria": {"true": "y"}}, "q") == Predicate("Is it so?", "y")
    for wrong, said in (
        ({"type": "noul", "criteria": {"true": None}}, r"^q\.instructions: expected"),
        ({"type": "box"}, r"^q\.type: expected"),
        ({"type": ["noul"]}, r"^q\.type: expected"),
        ({"type": "noul", "instructions": "x", "adapter": ["a"]}, r"^q\.adapter: expected"),
        ([], "^q: expected"),
        ({"type": "noul", "instructions": "x", "levels": []}, "^q: expected some of"),
        ({"type": "choice", "instructions": "x"}, r"^q\.criteria: expected"),
    ):
        with pytest.raises(PromptError, match=said):
            question_of(wrong, "q")


def test_questions_in_a_line():
    assert question_in("It rains?") == Predicate("It rains?")
    for line, asks, options in (
        ("Who takes it? billing | sales", "Who takes it?", ["billing", "sales"]),
        ("Who said this|that? Ann | Bo", "Who said this|that?", ["Ann", "Bo"]),
        ("Who? why? | when?", "Who?", ["why?", "when?"]),
        ("this | that?", "Which is it?", ["this", "that?"]),
    ):
        assert question_in(line) == Choice(asks, options)

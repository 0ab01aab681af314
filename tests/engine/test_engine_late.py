"""What a constraint allows is found beside the loop: whose takes long waits alone, and the tokens are those that would come anyway."""

import threading
import time

import numpy as np
import pytest
from tiny import INVOCATIONS

from alora_gguf import ClosedError, PromptError
from alora_gguf.runtime.constraint import Constraint, Constraints
from alora_gguf.runtime.sampling import Sampler

TEXT = [300 + i % 7 for i in range(24)]
FIND = Constraint._find_allowed
SLOW = {"regex": "[0-9]{40}"}  # whose likeliest tokens are not allowed, so that a greedy one asks for a mask too
HOWS = pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 0.9, "seed": 3}], ids=["greedy", "drawn"])


class Gate(threading.Event):
    """`begun`: somebody waits for it. At the end of a `with` it is set, so that a model can be closed."""

    def __init__(self):
        super().__init__()
        self.begun = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.set()


@pytest.fixture
def gate(monkeypatch):
    """A constraint named regex finds nothing until it is set."""
    gate = Gate()

    def find(self):
        if self._name == "regex":
            gate.begun.set()
            gate.wait()
        return FIND(self)

    monkeypatch.setattr(Constraint, "_find_allowed", find)
    monkeypatch.setattr("alora_gguf.engine.loop.SECONDS", 600)
    yield gate
    gate.set()


def said(reply):
    return reply.tokens, reply.text, reply.finish_reason, reply.logprobs


_OTHERS: set[threading.Thread] = set()  # of models that other tests have open


@pytest.fixture(autouse=True)
def _of_others():
    _OTHERS.update(threading.enumerate())


def lookers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "alora_gguf mask" and thread not in _OTHERS]


@HOWS
@pytest.mark.parametrize("logprobs", [False, True])
def test_one_that_takes_long_waits_alone(open_model, gate, how, logprobs):
    with open_model() as model, gate:
        gate.set()
        alone = model.generate(TEXT, max_tokens=6, logprobs=logprobs, **SLOW, **how)
        model.clear_cache()
        gate.clear()
        slow = model.generate(TEXT, max_tokens=6, logprobs=logprobs, stream=True, **SLOW, **how)
        gate.begun.wait()
        others = [model.generate(TEXT[:i], max_tokens=12, stream=True, **more) for i, more in ((9, {}), (12, {"choice": ["yes", "no"], **how}))]
        assert [stream.result.finish_reason in ("length", "stop") for stream in others] == [True, True]
        gate.set()
        assert said(slow.result) == said(alone)


def test_a_constraint_that_would_take_all_time_ends_alone(open_model, gate, monkeypatch):
    monkeypatch.setattr("alora_gguf.engine.loop.SECONDS", 0.1)
    with open_model() as model, gate:
        other = model.generate(TEXT[:9], max_tokens=60, temperature=0, stream=True)
        for _ in range(3):  # each has a thread of its own to wait for
            with pytest.raises(
                PromptError, match=r"^regex: expected one whose next tokens are found within 1 s, got one that takes longer; simplify it$"
            ):
                model.generate(TEXT, temperature=1, **SLOW)
        monkeypatch.setattr("alora_gguf.engine.loop.SECONDS", 600)
        assert other.result.usage.completion_tokens
        assert model.generate(TEXT, temperature=1, choice=["yes", "no"]).text in ("yes", "no")
        gate.set()
        assert model.generate(TEXT, temperature=1, **SLOW).text.isdecimal()
    assert not lookers()


@HOWS
def test_cancelled_while_a_worker_looks(open_model, gate, how):
    with open_model() as model, gate:
        stream = model.generate(TEXT, stream=True, **SLOW, **how)
        gate.begun.wait()
        stream.cancel()
        assert stream.result.finish_reason == "cancelled"
        assert model.generate(TEXT, max_tokens=3, temperature=0).usage.cached_tokens > 0
        gate.set()
    assert not lookers()


def test_closed_while_a_worker_looks(open_model, gate):
    model = open_model()
    stream = model.generate(TEXT, temperature=1, stream=True, **SLOW)
    gate.begun.wait()
    closing = threading.Thread(target=model.close)
    closing.start()
    with pytest.raises(ClosedError):
        stream.result  # noqa: B018
    gate.set()
    closing.join()
    assert not lookers()


def test_an_error_that_a_worker_meets_is_of_this_answer_and_no_other(open_model, monkeypatch):
    def broken(self):
        if self._name == "regex":
            raise PromptError("regex: expected one that has few ways to go on after any text, got: too many")
        return FIND(self)

    monkeypatch.setattr(Constraint, "_find_allowed", broken)
    with open_model() as model, model.generate(TEXT, stream=True, max_tokens=30, temperature=0) as other:
        with pytest.raises(PromptError, match="^regex: .* too many$"):
            model.generate(TEXT, temperature=1, **SLOW)
        assert other.result.text and model.generate(TEXT, temperature=1, choice=["yes"]).text == "yes"


KINDS = [
    {
        "json_schema": {
            "type": "object",
            "properties": {"a": {"type": "string", "maxLength": 9}, "b": {"enum": ["left", "right"]}},
            "required": ["a", "b"],
        }
    },
    {"regex": "[a-c]{3} is [0-9]{2}(, and .*)?"},
    {"choice": ["yes", "yesterday", "no"]},
    {"grammar": 'root ::= "(" root* ")" | [a-f]+'},
    {},
]


@HOWS
@pytest.mark.parametrize("slow", [False, True], ids=["in time", "late"])
def test_the_tokens_are_those_of_one_thread(open_model, monkeypatch, how, slow):
    """To the last bit, also where every second look comes too late for its step. No matcher is called by two threads at once."""
    with open_model(type_k="f16", type_v="f16", flash_attn=True) as model:

        def forget():
            model.clear_cache()
            model.generate(TEXT, max_tokens=1, temperature=0)

        def begin(kind, i):
            return model.generate(TEXT + INVOCATIONS["A"], adapter="A", max_tokens=24, logprobs=i == 1, stream=True, **kind, **how)

        def alone(kind, i):
            forget()
            return said(begin(kind, i).result)

        monkeypatch.setattr(Sampler, "look_ahead", lambda self, workers, **_: None)
        expected = [alone(kind, i) for i, kind in enumerate(KINDS)]
        monkeypatch.undo()
        checked(monkeypatch)
        n_looks = iter(range(10**6))
        if slow:
            monkeypatch.setattr("alora_gguf.engine.loop._PATIENCE", 0.0)
            monkeypatch.setattr(Constraint, "_find_allowed", lambda self: (time.sleep(0.02 * (next(n_looks) % 2)), FIND(self))[1])
        assert [alone(kind, i) for i, kind in enumerate(KINDS)] == expected
        forget()
        together = [begin(kind, i) for i, kind in enumerate(KINDS)]
        assert [said(stream.result) for stream in together] == expected


def checked(monkeypatch):
    """From now on matchers find out whether two threads call them."""

    class Alone:
        def __init__(self, matcher):
            self._matcher, self._lock = matcher, threading.Lock()

        def __getattr__(self, name):
            def call(*args):
                assert self._lock.acquire(blocking=False), f"{name}: a thread calls it while another does"
                try:
                    return getattr(self._matcher, name)(*args)
                finally:
                    self._lock.release()

            return call

    make = Constraints.constraint

    def constraint(self, name, value):
        made = make(self, name, value)
        made._matcher = Alone(made._matcher)
        return made

    monkeypatch.setattr(Constraints, "constraint", constraint)


def test_free_answers_need_no_workers(open_model):
    with open_model() as model:
        model.generate(TEXT, max_tokens=4, temperature=1)
        model.generate(TEXT, max_tokens=4, temperature=0)
        assert not lookers()


def test_what_is_added_to_the_logits(small):
    """0, or minus infinity: of each token what the matcher's own mask says."""
    made = small.vocab.constraints.constraint("json_schema", {"type": "string"})
    made.accept(small.vocab.tokenize_more('"', special=False)[0])
    added, are_few = made.allowed()
    bits = np.unpackbits(np.frombuffer(made._matcher.compute_bitmask(), np.uint8), bitorder="little")[: small.vocab.n_tokens]
    assert not are_few and np.array_equal(added, np.where(bits, np.float32(0), np.float32(-np.inf)))

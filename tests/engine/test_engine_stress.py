"""Conversations, intrinsics, cancelled answers, loads and unloads from 16 threads, against what one thread makes of the same.

Two adapters take turns at each name: cells that one computed must not be the other's.
ALORA_STRESS=N does some N operations, `make stress` 100,000.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tiny import bytes_vocabulary, llama, random_adapter

from alora_gguf import Conversation, Model, Reply, UnknownAdapterError

N_OPERATIONS = int(os.environ.get("ALORA_STRESS", "500"))
N_THREADS, N_STEPS = 16, 12
NAMES = {"A": [291, 292], "B": [293], "C": [294, 291]}  # and invocations
N_VERSIONS = 2  # of an adapter
WORDS = ["ferry", "moon", "seven", "why"]
NEAR = 1e-3  # of log probabilities: batches of another shape round otherwise
MOST_MESSAGES = 8

OPERATION = st.tuples(
    st.sampled_from(["ask", "cancel", "leave", "invoke", "invoke", "invoke", "invoke all", "say", "copy", "load", "load", "unload"]),
    st.integers(0, N_THREADS - 1), st.sampled_from(WORDS), st.integers(1, 4))  # fmt: skip
GREEDY = {"temperature": 0, "logprobs": True, "top_logprobs": 2}


@dataclass
class Pair:
    """The same conversation, on the model that all threads use and on one that a single thread uses."""

    real: Conversation
    twin: Conversation


class StressMachine(RuleBasedStateMachine):
    model: Model
    alone: Model  # with all versions of the adapters, as A0
    files: dict[str, Path]
    counts: dict[str, int]
    pool: ThreadPoolExecutor
    budget: int  # of adapters in memory, bytes
    failures: list[Exception]  # hypothesis would tell of its second try, and with threads that is another

    @initialize()
    def begin(self):
        self.pairs: list[Pair] = []
        self.versions: dict[str, int | None] = dict.fromkeys(NAMES)  # None: not loaded
        for name in list(self.model.adapters):
            self.model.unload_adapter(name)

    @rule(drawn=st.lists(OPERATION, min_size=N_THREADS, max_size=N_THREADS))
    def together(self, drawn):
        """Operations at once, each on a conversation or an adapter's name of its own; then each one's result is looked at."""
        free, changes, todo = list(self.pairs), {}, []
        for kind, i, word, n in drawn:
            name, pair = list(NAMES)[i % len(NAMES)], None
            if kind in ("load", "unload"):
                if name in changes or kind == "unload" and self.versions[name] is None:
                    continue
                changes[name] = n % N_VERSIONS if kind == "load" else None
            else:
                pair = free.pop(i % len(free)) if free else self.new()
            todo.append((kind, pair, name, word, n))
        results = list(self.pool.map(lambda operation: _outcome(self.do, *operation), todo))
        try:
            self.look(todo, results, changes)
        except Exception as e:
            self.failures.append(e)
            raise
        self.counts["operations"] += len(todo)

    def look(self, todo, results, changes):
        """Whether each result is what a single thread gets."""
        meant = {name: {version, changes.get(name, version)} for name, version in self.versions.items()}
        self.versions |= changes
        assert set(self.model.adapters) == {name for name, version in self.versions.items() if version is not None}
        self.alone.clear_cache()
        for (kind, pair, name, word, n), result in zip(todo, results):
            if kind in ("invoke", "invoke all"):
                self.look_at_verdicts(pair, [name] if kind == "invoke" else list(NAMES), n, result, meant)
            else:
                assert not isinstance(result, Exception), result
                if pair:
                    self.look_at_answer(kind, pair, word, n, result)

    def new(self, messages=()) -> Pair:
        pair = Pair(self.model.conversation(messages=messages), self.alone.conversation(messages=messages))
        self.pairs.append(pair)
        return pair

    def do(self, kind, pair, name, word, n):
        """On any thread."""
        if kind == "load":
            return self.model.load_adapter(self.files[f"{name}{n % N_VERSIONS}"], name)
        if kind == "unload":
            return self.model.unload_adapter(name)
        if kind == "say":
            return pair.real.add("user", word)
        if kind == "copy":
            return pair.real.messages
        if kind == "invoke":
            return {name: pair.real.invoke(name, max_tokens=n, **GREEDY)}
        if kind == "invoke all":
            return pair.real.invoke_all(list(NAMES), max_tokens=n, **GREEDY)
        if kind == "ask":
            return pair.real.ask(word, max_tokens=n, **GREEDY)
        answer = pair.real.ask(word, max_tokens=30, stream=True, **GREEDY)
        for _ in range(n):
            next(answer, None)
        if kind == "leave":
            return answer.close()
        answer.cancel()
        return answer.result

    def look_at_verdicts(self, pair, names, n, result, meant):
        if isinstance(result, UnknownAdapterError):
            assert any(None in meant[name] for name in names)
            return
        assert not isinstance(result, Exception), result
        assert list(result) == names
        for name, got in result.items():
            self.is_one_of(got, [pair.twin.invoke(f"{name}{version}", max_tokens=n, **GREEDY) for version in meant[name] if version is not None])

    def look_at_answer(self, kind, pair, word, n, result):
        if kind == "say":
            pair.twin.add("user", word)
        elif kind == "copy":
            self.new(result)
        elif kind == "leave":
            pass  # nothing of it is kept
        elif result.tokens or result.finish_reason == "stop":
            most = n if kind == "ask" else len(result.tokens) + (result.finish_reason == "stop")
            if not self.is_one_of(result, [pair.twin.ask(word, max_tokens=most, **GREEDY)]):
                self.pairs.remove(pair)
                return
        assert pair.real.messages == pair.twin.messages
        if len(pair.real.messages) > MOST_MESSAGES:
            pair.real.close()
            self.pairs.remove(pair)

    def is_one_of(self, got: Reply, wanted: list[Reply]) -> bool:
        """Whether it is; if not, it parts from one of them where two tokens are as likely as each other."""
        self.counts["tokens"] += len(got.tokens)
        if any(got.tokens == want.tokens and got.text == want.text and _agree(got, want, len(got.logprobs)) for want in wanted):
            return True
        assert any(_part_at_a_tie(got, want) for want in wanted), (got, wanted)
        self.counts["ties"] += 1
        return False

    @invariant()
    def nothing_is_left_over(self):
        cache, context = self.model.engine.cache, self.model.engine.context
        n_cells, n_seqs = self.model.engine.loop.call(lambda: (cache.n_cells, context.n_seq_max - context.n_free_seqs))
        assert n_cells <= context.n_ctx and n_seqs <= context.n_seq_max
        assert self.model.adapters.n_bytes <= self.budget

    def teardown(self):
        self.model.clear_cache()
        context = self.model.engine.context
        assert (self.model.engine.cache.n_cells, context.n_free_seqs) == (0, context.n_seq_max)
        assert not any(context.activations(seq) for seq in range(context.n_seq_max))
        print("\r{operations} operations, {tokens} tokens, {ties} ties".format(**self.counts), end="", flush=True)


def _outcome(function, *arguments):
    try:
        return function(*arguments)
    except Exception as e:
        return e


def _agree(got: Reply, want: Reply, n: int) -> bool:
    return all(abs(a.logprob - b.logprob) < NEAR for a, b in zip(got.logprobs[:n], want.logprobs))


def _part_at_a_tie(got: Reply, want: Reply) -> bool:
    i = next((i for i, (a, b) in enumerate(zip_longest(got.tokens, want.tokens)) if a != b), None)
    if i is None or not _agree(got, want, i):
        return False
    first, second = max(got.logprobs, want.logprobs, key=len)[i].top
    return first.logprob - second.logprob < NEAR


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stress")
    base = llama(bytes_vocabulary(folder / "vocabulary.gguf"), folder / "base.gguf")
    versions = [(f"{name}{i}", invocation) for name, invocation in NAMES.items() for i in range(N_VERSIONS)]
    return {"base": base} | {
        name: random_adapter(base, folder / f"{name}.gguf", invocation, seed, targets=("attn_k", "attn_v", "ffn_down"))
        for seed, (name, invocation) in enumerate(versions)
    }


@pytest.mark.parametrize("options", [{"n_ctx": 4096, "n_seq_max": 64}, {"n_ctx": 512, "n_seq_max": 9}], ids=["roomy", "narrow"])
def test_threads_get_what_one_thread_gets(files, options):
    common = {"n_threads": 1, "n_ubatch": 32, "type_k": "f32", "type_v": "f32", "flash_attn": False}
    counts = dict.fromkeys(("operations", "tokens", "ties"), 0)
    n_machines = 2 + N_OPERATIONS // 2 // 140  # of some 140 operations each; the first is always of the simplest
    with Model(files["base"], n_ctx=2048, **common) as alone, ThreadPoolExecutor(N_THREADS) as pool:
        for name in files.keys() - {"base"}:
            alone.load_adapter(files[name], name)
        budget = int(2.5 * max(max(a.n_bytes, a.n_bytes_file) for a in alone.adapters.values()))  # for two of the three
        with Model(files["base"], adapter_memory=budget, **options, **common) as model:
            machine = type(
                "Machine",
                (StressMachine,),
                {"model": model, "alone": alone, "files": files, "counts": counts, "pool": pool, "budget": budget, "failures": []},
            )
            try:
                run_state_machine_as_test(
                    machine,
                    settings=settings(
                        max_examples=n_machines,
                        stateful_step_count=N_STEPS,
                        deadline=None,
                        derandomize=True,
                        suppress_health_check=list(HealthCheck),
                        phases=[Phase.generate],
                        database=None,
                    ),
                )
            except Exception as e:
                raise (machine.failures or [e])[0] from None
    assert counts["operations"] >= N_OPERATIONS // 2 and counts["ties"] <= 1 + counts["tokens"] // 50

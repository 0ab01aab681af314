"""Conversations, intrinsics, cancelled answers, loads and unloads from 16 threads, against what one thread makes of the same.

ALORA_STRESS=N does about N operations, `make stress` 100,000.
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
from tiny import llama, random_adapter

from alora_gguf import Conversation, Model, UnknownAdapterError

N_OPERATIONS = int(os.environ.get("ALORA_STRESS", "150"))
N_THREADS, N_STEPS = 16, 12
INVOCATIONS = {"A": [901, 902], "B": [903], "C": [904, 901]}
WORDS = ["ferry", "moon", "seven", "why"]
NEAR = 1e-3  # of log probabilities: batches of another shape round otherwise
MOST_MESSAGES = 8

OPERATION = st.tuples(
    st.sampled_from(["ask", "ask", "cancel", "invoke", "invoke all", "say", "copy", "load", "unload"]),
    st.integers(0, N_THREADS - 1), st.sampled_from(WORDS), st.integers(1, 4))  # fmt: skip
GREEDY = {"temperature": 0, "logprobs": True, "top_logprobs": 2}


@dataclass
class Pair:
    """The same conversation, on the model that all threads use and on one that a single thread uses."""

    real: Conversation
    twin: Conversation


class StressMachine(RuleBasedStateMachine):
    model: Model
    alone: Model
    files: dict[str, Path]
    counts: dict[str, int]
    pool: ThreadPoolExecutor
    budget: int  # of adapters in memory, bytes

    @initialize()
    def begin(self):
        self.pairs: list[Pair] = []
        for name in set(self.files) - set(self.model.adapters):
            self.model.load_adapter(self.files[name], name)

    @rule(drawn=st.lists(OPERATION, min_size=1, max_size=N_THREADS))
    def together(self, drawn):
        """Operations at once, each on a conversation or an adapter's name of its own; then each one's result is looked at."""
        free, changed, todo = list(self.pairs), set(), []
        before = set(self.model.adapters)
        for kind, i, word, n in drawn:
            name = list(INVOCATIONS)[i % len(INVOCATIONS)]
            if kind in ("load", "unload"):
                if name in changed or (name in before) == (kind == "load"):
                    continue
                changed.add(name)
                pair = None
            else:
                pair = free.pop(i % len(free)) if free else self.new()
            todo.append((kind, pair, name, word, n))
        results = list(self.pool.map(lambda operation: _outcome(self.do, *operation), todo))
        self.counts["operations"] += len(todo)
        assert set(self.model.adapters) == before ^ changed
        for (kind, pair, name, word, n), result in zip(todo, results):
            if pair:
                self.look(kind, pair, name, word, n, result, surely=before - changed, never=set(INVOCATIONS) - before - changed)

    def new(self, messages=()) -> Pair:
        pair = Pair(self.model.conversation(messages=messages), self.alone.conversation(messages=messages))
        self.pairs.append(pair)
        return pair

    def do(self, kind, pair, name, word, n):
        """On any thread."""
        if kind == "load":
            return self.model.load_adapter(self.files[name], name)
        if kind == "unload":
            return self.model.unload_adapter(name)
        if kind == "say":
            return pair.real.add("user", word)
        if kind == "copy":
            return pair.real.messages
        if kind == "invoke":
            return pair.real.invoke(name, max_tokens=n, **GREEDY)
        if kind == "invoke all":
            return pair.real.invoke_all(list(INVOCATIONS), max_tokens=n, **GREEDY)
        if kind == "ask":
            return pair.real.ask(word, max_tokens=n, **GREEDY)
        answer = pair.real.ask(word, max_tokens=30, stream=True, **GREEDY)
        for _ in range(n):
            next(answer, None)
        answer.close()
        return answer.result

    def look(self, kind, pair, name, word, n, result, surely, never):
        """Whether the result is what a single thread gets."""
        self.alone.clear_cache()
        if kind in ("invoke", "invoke all"):
            names = [name] if kind == "invoke" else list(INVOCATIONS)
            if isinstance(result, UnknownAdapterError):
                assert not surely.issuperset(names)
            else:
                assert not isinstance(result, Exception), result
                assert not never.intersection(names)
                got = result if kind == "invoke all" else {name: result}
                assert list(got) == names
                same = [self.same(got[one], pair.twin.invoke(one, max_tokens=n, **GREEDY)) for one in names]
                if not all(same):
                    self.pairs.remove(pair)
            return
        assert not isinstance(result, Exception), result
        if kind == "say":
            pair.twin.add("user", word)
        elif kind == "copy":
            self.new(pair.real.messages)
        elif kind == "ask" or result.finish_reason == "stop" or result.tokens:
            most = n if kind == "ask" else 30 if result.finish_reason == "stop" else len(result.tokens)
            same = self.same(result, pair.twin.ask(word, max_tokens=most, **GREEDY))
            if not same:
                self.pairs.remove(pair)
                return
        assert pair.real.messages == pair.twin.messages
        if len(pair.real.messages) > MOST_MESSAGES:
            pair.real.close()
            self.pairs.remove(pair)

    def same(self, got, want) -> bool:
        """Whether they are; if not, it was for two tokens that are as likely as each other."""
        self.counts["tokens"] += len(got.tokens)
        different = [i for i, (a, b) in enumerate(zip_longest(got.tokens, want.tokens)) if a != b]
        if not different:
            assert got.text == want.text
            return True
        first, second = max(got.logprobs, want.logprobs, key=len)[different[0]].top
        assert first.logprob - second.logprob < NEAR, (got, want)
        self.counts["near"] += 1
        return False

    @invariant()
    def nothing_is_left_over(self):
        cache, context = self.model.cache, self.model.context
        n_cells, n_seqs = self.model.loop.call(lambda: (cache.n_cells, context.n_seq_max - context.n_free_seqs))
        assert n_cells <= context.n_ctx and n_seqs <= context.n_seq_max
        assert self.model.adapters.n_bytes <= self.budget

    def teardown(self):
        for pair in getattr(self, "pairs", ()):
            pair.real.close()


def _outcome(function, *arguments):
    try:
        return function(*arguments)
    except Exception as e:
        return e


@pytest.mark.parametrize("options", [{"n_ctx": 4096, "n_seq_max": 64}, {"n_ctx": 512, "n_seq_max": 9}], ids=["roomy", "narrow"])
def test_threads_get_what_one_thread_gets(base_q4, tmp_path, options):
    base = llama(base_q4, tmp_path / "tiny.gguf")
    files = {name: random_adapter(base, tmp_path / f"{name}.gguf", invocation, seed, targets=("attn_k", "attn_v", "ffn_down"))
             for seed, (name, invocation) in enumerate(INVOCATIONS.items())}
    common = {"n_threads": 1, "n_ubatch": 32, "type_k": "f32", "type_v": "f32", "flash_attn": False}
    counts = dict.fromkeys(("operations", "tokens", "near"), 0)
    with Model(base, n_ctx=2048, **common) as alone, ThreadPoolExecutor(N_THREADS) as pool:
        for name, path in files.items():
            alone.load_adapter(path, name)
        budget = int(2.5 * max(max(a.n_bytes, a.n_bytes_file) for a in alone.adapters.values()))  # for two of the three
        with Model(base, adapter_memory=budget, **options, **common) as model:
            machine = type("Machine", (StressMachine,), {
                "model": model, "alone": alone, "files": files, "counts": counts, "pool": pool, "budget": budget})
            run_state_machine_as_test(machine, settings=settings(
                max_examples=max(1, N_OPERATIONS // 2 // (N_STEPS * N_THREADS // 3)), stateful_step_count=N_STEPS, deadline=None, derandomize=True,
                suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None))
    print(f"{counts['operations']} operations, {counts['tokens']} tokens, {counts['near']} near ties")
    assert counts["operations"] >= N_OPERATIONS // 4 and counts["near"] <= 1 + counts["tokens"] // 50

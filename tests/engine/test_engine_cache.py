"""The cache: every result is that of a fresh computation, and nothing is computed twice."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tiny import INVOCATIONS, first_logprobs, gemma3, llama, mamba2, random_adapter

from alora_gguf import ContextFullError, Model, find_invocation

TOLERANCE = 1e-3  # of a log probability
WORDS = [300, 301, 302]
PROMPTS = st.tuples(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=12),
    st.sampled_from([None, None, *INVOCATIONS]),
    st.lists(st.sampled_from(WORDS), max_size=4),
)


def prompt_of(drawn) -> tuple[list[int], str | None]:
    before, name, after = drawn
    return (before + INVOCATIONS[name] + after if name else before + after), name


def path_of(tokens, name, n_prompt) -> list[tuple[int, str | None]]:
    """What identifies each cell: the definition, written without the cache."""
    start = find_invocation(tokens[:n_prompt], INVOCATIONS[name]) if name else None
    return [(token, name if start is not None and i >= start else None) for i, token in enumerate(tokens)]


def n_common(a, b) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


class CacheMachine(RuleBasedStateMachine):
    """Generations one after another and together. `computed` has the path of everything that ever was, `asked` those of prompts."""

    model: Model
    exact = True  # nothing has to go
    most_kept: int  # bytes of logits

    @initialize()
    def begin(self):
        self.model.clear_cache()
        self.computed: list = []
        self.asked: list = []

    def expected(self, path) -> int:
        """All of a prompt, or at most all but its last token, for its logits."""
        return len(path) if path in self.asked else min(max((n_common(path, p) for p in self.computed), default=0), len(path) - 1)

    def check(self, reply, tokens, name, expected):
        if self.exact:
            assert reply.usage.cached_tokens == expected
        else:
            assert reply.usage.cached_tokens <= expected
        first = reply.logprobs[0]
        fresh = first_logprobs(self.model, tokens, name)
        assert abs(first.top[0].logprob - fresh[first.top[0].token]) < TOLERANCE
        assert abs(first.top[0].logprob - fresh.max()) < TOLERANCE

    @rule(drawn=PROMPTS, n=st.integers(1, 3))
    def generate(self, drawn, n):
        tokens, name = prompt_of(drawn)
        path = path_of(tokens, name, len(tokens))
        expected = self.expected(path)
        self.asked.append(path)
        reply = self.model.generate(tokens, adapter=name, max_tokens=n, temperature=0, logprobs=True, top_logprobs=1)
        self.computed.append(path_of(tokens + reply.tokens[:-1], name, len(tokens)))
        if reply.logprobs:
            self.check(reply, tokens, name, expected)

    @rule(drawn=st.lists(PROMPTS, min_size=2, max_size=4))
    def generate_together(self, drawn):
        prompts, expected = [prompt_of(d) for d in drawn], []
        for tokens, name in prompts:
            path = path_of(tokens, name, len(tokens))
            expected.append(self.expected(path))
            self.computed.append(path)
            self.asked.append(path)
        streams = [
            self.model.generate(tokens, adapter=name, max_tokens=2, temperature=0, logprobs=True, top_logprobs=1, stream=True)
            for tokens, name in prompts
        ]
        for (tokens, name), stream, n in zip(prompts, streams, expected):
            reply = stream.result
            self.computed.append(path_of(tokens + reply.tokens[:-1], name, len(tokens)))
            if reply.logprobs:
                self.check(reply, tokens, name, n)

    @rule(drawn=PROMPTS, n=st.integers(0, 3))
    def cancel(self, drawn, n):
        tokens, name = prompt_of(drawn)
        stream = self.model.generate(tokens, adapter=name, max_tokens=40, temperature=0, stream=True)
        for _ in range(n):
            next(stream, None)
        stream.close()
        reply = stream.result
        self.computed.append(path_of(tokens + reply.tokens, name, len(tokens)))
        self.asked.append(path_of(tokens, name, len(tokens)))
        if self.exact:  # nobody knows how far it came
            self.begin()

    @invariant()
    def the_cache_is_within_its_context(self):
        cache, context = self.model.engine.cache, self.model.engine.context
        n_cells, n_seqs = self.model.engine.loop.call(lambda: (cache.n_cells, context.n_seq_max - context.n_free_seqs))
        assert n_cells <= context.n_ctx
        assert n_seqs <= context.n_seq_max

    @invariant()
    def logits_are_kept_with_their_cells(self):
        kept = self.model.engine.loop.call(lambda: [(b.start, n, b.ready_end) for b in self.model.engine.cache._branches() for n in b.kept])
        assert all(start < n <= end for start, n, end in kept)
        assert len(kept) <= max(1, self.most_kept // (4 * self.model.engine.context.n_vocab))


@pytest.fixture(scope="module")
def tiny(base_q4, tmp_path_factory):
    """Opens one of the tiny models, in float32, with the adapters A and B."""
    folder = tmp_path_factory.mktemp("tiny")
    makers = {"llama": llama, "mamba2": mamba2, "gemma3": lambda *paths: gemma3(*paths, window=16)}

    def open_tiny(name: str, **options) -> Model:
        path = folder / f"{name}.gguf"
        if not path.exists():
            makers[name](base_q4, path)
        model = Model(path, **{"n_threads": 1, "n_ubatch": 16, "type_k": "f32", "type_v": "f32", "flash_attn": False, **options})
        for seed, (adapter, invocation) in enumerate(INVOCATIONS.items()):
            file = folder / f"{name}-{adapter}.gguf"
            if not file.exists():
                random_adapter(path, file, invocation, seed, targets=("ssm_in",) if name == "mamba2" else ("attn_k", "attn_v", "ffn_down"))
            model.load_adapter(file, adapter)
        return model

    return open_tiny


@pytest.mark.parametrize(
    "name, exact, most_kept, options",
    [
        ("llama", True, 64 << 20, {"n_ctx": 2048, "n_seq_max": 64}),
        ("llama", False, 1 << 20, {"n_ctx": 256, "n_seq_max": 4}),  # llama.cpp has no smaller contexts
        ("llama", False, 0, {"n_ctx": 256, "n_seq_max": 4}),
        ("mamba2", False, 64 << 20, {"n_ctx": 256, "n_seq_max": 5}),
        ("mamba2", False, 0, {"n_ctx": 256, "n_seq_max": 5}),
        ("gemma3", False, 64 << 20, {"n_ctx": 256, "n_seq_max": 8, "swa_full": False}),
    ],
)
def test_nothing_is_computed_twice_and_all_is_right(tiny, monkeypatch, name, exact, most_kept, options):
    monkeypatch.setattr("alora_gguf.engine.cache._MOST_KEPT", most_kept)
    with tiny(name, **options) as model:
        machine = type("Machine", (CacheMachine,), {"model": model, "exact": exact, "most_kept": most_kept})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=8,
                stateful_step_count=10,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
                database=None,
            ),
        )


def test_the_adapters_matter(tiny):
    """Else what is above would prove little."""
    with tiny("llama") as model:
        tokens = WORDS + INVOCATIONS["A"]
        assert abs(first_logprobs(model, tokens, "A") - first_logprobs(model, tokens, None)).max() > 1


def test_back_and_forth_between_base_and_adapters(small):
    small.clear_cache()
    text = WORDS * 10
    cached = lambda tokens, name: small.generate(tokens, adapter=name, max_tokens=1, temperature=0).usage.cached_tokens
    a, b = text + INVOCATIONS["A"], text + INVOCATIONS["B"]
    assert cached(text, None) == 0
    assert cached(a, "A") == len(text)
    assert cached(text + WORDS, None) == len(text)
    assert cached(b, "B") == len(text)
    assert cached(a, "A") == len(a)
    assert cached(a, None) == len(text)  # the same tokens on the base are not A's
    assert cached(a + WORDS, "A") == len(a)
    assert cached(text + WORDS + [7], None) == len(text) + len(WORDS)


def test_conversations_find_what_others_have_computed(small):
    small.clear_cache()
    first = small.conversation(system="You are a poet.")
    reply = first.ask("Write a line.", max_tokens=5, temperature=0)
    second = small.conversation(system="You are a poet.")
    again = second.ask("Write a line.", max_tokens=5, temperature=0)
    assert again.usage.cached_tokens == again.usage.prompt_tokens
    assert again.text == reply.text
    before = len(first.cells()[1])
    assert first.invoke("A", max_tokens=2).usage.cached_tokens < before
    assert first.ask("Another.", max_tokens=2).usage.cached_tokens >= before
    verdicts = first.invoke_all(["A", "B"], max_tokens=2)
    tail = verdicts["A"].usage.prompt_tokens - len(INVOCATIONS["A"])
    assert verdicts["B"].usage.cached_tokens == tail  # the first of them has computed it


def test_what_was_used_least_recently_goes_first(open_model):
    with open_model(n_ctx=256, n_seq_max=8) as model:
        prompts = [[300 + i] * 80 for i in range(4)]
        cached = lambda i: model.generate(prompts[i], max_tokens=1).usage.cached_tokens
        assert [cached(i) for i in (0, 1, 2, 0)] == [0, 0, 0, 80]
        assert cached(3) == 0  # 1 has to go
        assert [cached(i) for i in (0, 3, 2)] == [80, 80, 80]
        assert cached(1) == 0


def test_more_branches_than_sequences(open_model):
    with open_model(n_seq_max=2) as model:
        for i in range(6):
            assert model.generate(WORDS * 4 + [310 + i], max_tokens=1).usage.cached_tokens == (0 if i == 0 else 12)


def test_short_branches_go_before_a_long_prompt(open_model):
    """More branches than sequences, of a few conversations: what all questions of one begin with stays."""
    with open_model(n_ctx=2048, n_seq_max=8) as model:
        prompts = [[300 + i] * 100 for i in range(8)]
        for i, prompt in enumerate(prompts):
            for question in range(4 if i < 2 else 1):
                model.generate([*prompt, 400 + question], max_tokens=1)
        assert [model.generate([*prompt, 500], max_tokens=1).usage.cached_tokens for prompt in prompts] == [100] * 8


def test_a_call_loses_its_own_tail_rather_than_another_more(open_model):
    with open_model(n_seq_max=2) as model:
        prompts = [[300 + i] * 60 for i in range(2)]
        cached = [model.generate(prompts[i], max_tokens=4).usage.cached_tokens for i in (0, 1, 0, 1, 0)]
        assert cached == [0, 0, 60, 60, 60]


def test_a_prompt_that_cannot_fit_is_refused_and_nothing_is_lost(open_model):
    with open_model(n_ctx=256) as model:
        model.generate(WORDS, max_tokens=1)
        with pytest.raises(ContextFullError, match="256"):
            model.generate(WORDS * 100, max_tokens=1)
        assert model.generate(WORDS, max_tokens=1).usage.cached_tokens == 3
        full = model.generate(WORDS * 84, max_tokens=50, temperature=1.5, seed=1, grammar="root ::= [a-z]*")
        assert full.finish_reason == "length"
        assert len(full.tokens) == 256 - 252 + 1


def test_a_recurrent_memory_is_forked_and_never_rolled_back(tiny):
    with tiny("mamba2", n_ctx=256, n_seq_max=8) as model:
        assert not model.engine.context.rolls_back
        text = WORDS * 13
        a = text + INVOCATIONS["A"]
        for tokens, name, n in (
            (text, None, 0),
            (text, None, len(text)),  # where a state was kept
            (a, "A", len(text)),
            (a, "A", len(a)),  # another was kept behind the adapter's tokens
            (text + WORDS, None, len(text)),
            (text[:20], None, 0),  # inside of a run there is no state
            (a, None, len(text)),
        ):
            assert model.generate(tokens, adapter=name, max_tokens=2, temperature=0).usage.cached_tokens == n


def test_a_sliding_window_is_continued_only_where_it_is_whole(tiny):
    with tiny("gemma3", n_ctx=1024, n_seq_max=4, swa_full=False) as model:  # llama.cpp keeps 256 cells for the window
        text = [300 + i % 37 for i in range(400)]
        seen = [
            model.generate(tokens, max_tokens=2, temperature=0).usage.cached_tokens for tokens in (text, text + WORDS, text[:30], text[:30] + WORDS)
        ]
        assert seen == [0, len(text), 0, 30]


def test_spaces_share_nothing(tiny, tmp_path):
    with tiny("llama", n_ctx=2048) as model:
        ask = lambda **space: model.conversation(**space).ask("word " * 40, max_tokens=6, temperature=0)
        first = ask(cache_salt="one")
        n = first.usage.prompt_tokens
        for space, n_cached in (("two", 0), ("one", n), ("two", n), (None, 0), (("one", 1), 0), (None, n)):
            again = ask(cache_salt=space)
            assert (again.usage.cached_tokens, again.text) == (n_cached, first.text)
        chats = [model.conversation(cache_salt=space, messages=[{"role": "user", "content": "word " * 40}]) for space in ("one", "four")]
        assert [chat.invoke("A", max_tokens=2).usage.cached_tokens > 40 for chat in chats] == [True, False]  # nor does an invocation lead there
        chats[0].save(tmp_path / "chat")
        assert model.restore(tmp_path / "chat", cache_salt="five").invoke("A", max_tokens=1).usage.cached_tokens > 40
        assert model.conversation(cache_salt="six", messages=chats[0].messages).invoke("A", max_tokens=1).usage.cached_tokens == 0

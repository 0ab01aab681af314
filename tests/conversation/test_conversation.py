"""Conversations and intrinsics on one cache: nothing is computed twice, nothing leaks from one to the other."""

import re
import signal
import threading

import pytest
from reference import PRECISE

from alora_gguf import ClosedError, ContextFullError, Model, NoInvocationError, Predicate, PromptError, UnknownAdapterError

PASSAGE = "The ferry to Saint Maren leaves at nine and takes two hours. How long does the ferry take?"
GREEDY = {"temperature": 0, "max_tokens": 5}
ENDLESS = "root ::= [a-z ] root"  # a call that ends when it is ended


@pytest.fixture(scope="module")
def shared_model(base_f32, variants):
    """In float32: with weights of 4 bits, what other cells there are is enough to change a token now and then."""
    with Model(base_f32, n_ctx=2048, n_batch=64, n_seq_max=16, **PRECISE) as model:
        for path in variants.values():
            model.load_adapter(path)
        yield model


@pytest.fixture(scope="module")
def small(base_f32, variants):
    """Little room: 256 cells, three sequences."""
    with Model(base_f32, n_ctx=256, n_batch=64, n_seq_max=3, **PRECISE) as model:
        for path in variants.values():
            model.load_adapter(path)
        yield model


@pytest.fixture(autouse=True)
def nothing_cached(request):
    """The small model, where a test uses it, begins with an empty cache; `shared` does so itself."""
    if "small" in request.fixturenames:
        request.getfixturevalue("small").clear_cache()


def prompt_of(model, messages, generation_prompt=False):
    return model.tokenize(model.render(messages, add_generation_prompt=generation_prompt))


def is_greedy(model, prompt, name, reply) -> bool:
    """Whether each token of the reply is the likeliest after those before it, in one forward over all of them.

    Or as likely but for the rounding of another batch's shape: as measured, below 1e-4.
    """
    rows = model.logits([(prompt + reply.tokens, name)])[0][len(prompt) - 1 :]
    tokens = reply.tokens + [model.vocab.eos] * (reply.finish_reason == "stop")
    return all(row[token] > row.max() - 1e-3 for row, token in zip(rows, tokens))


def start(model, n_turns=1):
    """A conversation after some turns."""
    chat = model.conversation(system="Be brief.")
    for question in (PASSAGE, "And what does it cost?")[:n_turns]:
        chat.ask(question, **GREEDY)
    return chat


# the cache


def test_after_invoke_the_next_ask_decodes_only_its_own_tokens(shared):
    with start(shared) as chat:
        verdict = chat.invoke("answerability").usage
        n_said = verdict.prompt_tokens - len(shared.adapter("answerability").invocation_tokens)
        second = chat.ask("And what does it cost?", **GREEDY).usage
        assert second.cached_tokens == n_said
        own = "<|im_start|>user\nAnd what does it cost?<|im_end|>\n<|im_start|>assistant\n"
        assert second.prompt_tokens == n_said + len(shared.tokenize(own))


def test_usage_counts_what_was_in_the_cache_before_the_call(shared):
    with shared.conversation(messages=[{"role": "user", "content": PASSAGE}]) as chat:
        n = len(prompt_of(shared, chat.messages))
        first, again = chat.invoke("answerability").usage, chat.invoke("answerability").usage
        assert (first.prompt_tokens, first.cached_tokens) == (n + 4, 0)
        assert (again.prompt_tokens, again.cached_tokens) == (n + 4, n + 4)
        assert chat.invoke("other").usage.cached_tokens == n  # of the first adapter's cells, none
        reply = chat.ask("And back?", **GREEDY)
        assert reply.usage.cached_tokens == n
        assert reply.usage.completion_tokens == len(reply.tokens) == 5


def test_together_the_prefix_is_paid_for_once(shared):
    with shared.conversation(messages=[{"role": "user", "content": PASSAGE}]) as chat:
        n = len(prompt_of(shared, chat.messages))
        usages = [r.usage for r in chat.invoke_all(["other", "answerability"]).values()]
        assert [u.cached_tokens for u in usages] == [0, n]
        for name in ("other", "answerability"):
            usage = chat.invoke(name).usage
            assert usage.cached_tokens == usage.prompt_tokens


def test_usage_is_true_about_time(shared):
    import time

    with shared.conversation() as chat:
        began = time.perf_counter()
        usage = chat.ask("Tell me about the sea.", temperature=0, max_tokens=12).usage
        seconds = time.perf_counter() - began
        assert 0 < usage.ttft_ms / 1e3 < usage.ttft_ms / 1e3 + (usage.completion_tokens - 1) / usage.tokens_per_second <= seconds


def test_messages_of_the_user_that_differ_cost_what_differs(shared):
    with start(shared, n_turns=2) as chat:
        before = prompt_of(shared, chat.messages)
        chat.messages[-2]["content"] = "And what is on board?"
        after = prompt_of(shared, chat.messages)
        same = next(i for i, (a, b) in enumerate(zip(before, after)) if a != b)
        reply = chat.invoke("answerability")
        assert reply.usage.cached_tokens == same
        assert is_greedy(shared, after + shared.adapter("answerability").invocation_tokens, "answerability", reply)


def test_a_prompt_longer_than_a_batch(shared):
    question = "Say which one is missing: " + ", ".join(map(str, range(100, 123)))
    with shared.conversation() as chat:
        reply = chat.ask(question, **GREEDY)
        assert reply.usage.prompt_tokens > 2 * shared.engine.context.n_batch
        assert is_greedy(shared, prompt_of(shared, [{"role": "user", "content": question}], True), None, reply)
    with shared.conversation(messages=[{"role": "user", "content": question}]) as chat:
        verdict = chat.invoke("other", max_tokens=4)
        assert is_greedy(shared, prompt_of(shared, chat.messages) + shared.adapter("other").invocation_tokens, "other", verdict)


# intrinsics


@pytest.mark.parametrize("name", ["answerability", "other"])
@pytest.mark.parametrize("n_turns", [1, 2])
def test_invoke_is_the_adapters_own_greedy_answer(shared, name, n_turns):
    with start(shared, n_turns) as chat:
        prompt = prompt_of(shared, chat.messages) + shared.adapter(name).invocation_tokens
        reply = chat.invoke(name, max_tokens=6)
        assert reply.tokens and is_greedy(shared, prompt, name, reply)


def test_invoke_leaves_the_conversation_as_it_was(shared):
    with start(shared) as chat:
        before = [dict(m) for m in chat.messages]
        chat.invoke("answerability")
        chat.invoke_all(["other", "answerability"], max_tokens=3)
        assert chat.messages == before
        prompt = prompt_of(shared, [*before, {"role": "user", "content": "And back?"}], True)
        assert is_greedy(shared, prompt, None, chat.ask("And back?", **GREEDY))


def test_a_fork_takes_no_base_cell_after_its_start(shared):
    """Cells of the removed answer begin with the very token that the invocation begins with."""
    with start(shared) as chat:
        del chat.messages[-1]
        prompt = prompt_of(shared, chat.messages)
        reply = chat.invoke("answerability", max_tokens=4)
        assert reply.usage.cached_tokens <= len(prompt)
        assert is_greedy(shared, prompt + shared.adapter("answerability").invocation_tokens, "answerability", reply)
        want = shared.logits([(prompt + shared.adapter("answerability").invocation_tokens, "answerability")])[0][-1]
        shared.clear_cache()
        with shared.conversation(messages=chat.messages) as fresh:
            assert fresh.invoke("answerability", max_tokens=4).tokens == reply.tokens
        assert want.argmax() == reply.tokens[0]


def test_all_together_equal_each_alone(shared):
    with start(shared) as chat:
        together = chat.invoke_all(["answerability", "other"], max_tokens=6)
        assert list(together) == ["answerability", "other"]
        for name, reply in together.items():
            alone = chat.invoke(name, max_tokens=6)
            assert (reply.tokens, reply.text, reply.finish_reason) == (alone.tokens, alone.text, alone.finish_reason)


def test_base_a_base_b_a_equals_fresh_computations(shared):
    steps = [("ask", PASSAGE), ("invoke", "answerability"), ("ask", "And what does it cost?"), ("invoke", "other"), ("invoke", "answerability")]
    with shared.conversation(system="Be brief.") as chat:
        for kind, argument in steps:
            said = [dict(m) for m in chat.messages]
            if kind == "ask":
                reply = chat.ask(argument, **GREEDY)
                prompt = prompt_of(shared, [*said, {"role": "user", "content": argument}], True)
                assert is_greedy(shared, prompt, None, reply)
            else:
                reply = chat.invoke(argument, max_tokens=5)
                assert is_greedy(shared, prompt_of(shared, said) + shared.adapter(argument).invocation_tokens, argument, reply)


def test_a_message_that_nobody_answers_is_judged(shared):
    with shared.conversation() as chat:
        chat.add("user", PASSAGE)
        assert chat.invoke("answerability").text in ("answerable", "unanswerable")
        assert [m["role"] for m in chat.messages] == ["user"]


def test_none_of_them_is_nothing(shared):
    with start(shared) as chat:
        assert chat.invoke_all([]) == {}


# streams


def test_pieces_make_the_text(shared):
    with start(shared) as chat:
        for begin in (lambda: chat.ask("And back?", stream=True, **GREEDY), lambda: chat.invoke("answerability", stream=True)):
            stream = begin()
            chunks = list(stream)
            assert "".join(chunks) == stream.result.text == str(stream.result)
        chunks = []
        assert chat.ask("Once more?", on_text=chunks.append, **GREEDY).text == "".join(chunks)
        chunks = {"answerability": "", "other": ""}
        with chat.invoke_all(list(chunks), stream=True, max_tokens=4) as stream:
            for name, chunk in stream:
                chunks[name] += chunk
        assert chunks == {name: r.text for name, r in stream.result.items()}
        heard = []
        chat.invoke_all(["answerability"], on_text=lambda name, chunk: heard.append((name, chunk)))
        assert {name for name, _ in heard} == {"answerability"}


def test_what_came_before_a_stream_was_cancelled_was_said(shared):
    with shared.conversation() as chat, shared.conversation() as twin:
        with chat.ask("Count to ten.", stream=True, temperature=0, grammar=ENDLESS) as stream:
            first = next(stream) + next(stream)
            stream.cancel()
        reply = stream.result
        assert reply.finish_reason == "cancelled" and reply.text.startswith(first)
        assert chat.messages[-1] == {"role": "assistant", "content": reply.text}
        twin.add("user", "Count to ten.")
        twin.add("assistant", reply.text)
        assert chat.ask("Go on.", **GREEDY).tokens == twin.ask("Go on.", **GREEDY).tokens


def test_a_stream_that_is_closed_leaves_nothing(shared):
    with start(shared) as chat:
        before = [dict(m) for m in chat.messages]
        stream = chat.ask("Hm?", stream=True, grammar=ENDLESS)
        with pytest.raises(PromptError, match="being answered"):
            chat.ask("Hello?", **GREEDY)
        stream.close()
        assert chat.messages == before
        assert stream.result.finish_reason == "cancelled"
        with chat.ask("Hm?", stream=True, grammar=ENDLESS) as stream:
            next(stream)
        assert chat.messages == before
        chat.invoke("other", stream=True, grammar=ENDLESS).close()
        assert chat.messages == before
        assert chat.ask("Hello?", **GREEDY).usage.cached_tokens > 0


def test_cancel_ends_before_the_next_token(shared):
    """Between two steps of the loop, so that what has come by then is known."""
    with shared.conversation() as chat:
        stream = chat.ask("Count to ten.", stream=True, temperature=0, grammar=ENDLESS)
        heard = next(stream)

        def cancel():
            stream.cancel()
            return "".join(stream._call.channel._items)

        heard += shared.engine.loop.call(cancel)
        assert (stream.result.finish_reason, stream.result.text) == ("cancelled", heard)
        stream = chat.invoke_all(["answerability", "other"], stream=True, grammar=ENDLESS)
        stream.cancel()
        assert {r.finish_reason for r in stream.result.values()} == {"cancelled"}


def test_a_message_added_while_an_answer_comes_is_kept(shared):
    with shared.conversation() as chat:
        with chat.ask("Hello.", stream=True, grammar=ENDLESS) as stream:
            next(stream)
            chat.add("system", "Be brief.")
            stream.cancel()
        assert [m["role"] for m in chat.messages] == ["system", "user", "assistant"]


def test_a_stop_string_ends_the_answer_and_the_next_turn_is_right(shared):
    with shared.conversation() as chat, shared.conversation() as twin:
        whole = twin.ask("Count to ten.", temperature=0, max_tokens=12).text
        stop = whole[5:8]
        reply = chat.ask("Count to ten.", temperature=0, max_tokens=12, stop=stop)
        assert (reply.text, reply.finish_reason) == (whole[: whole.index(stop)], "stop")
        assert chat.messages[-1]["content"] == reply.text
        after = [*chat.messages, {"role": "user", "content": "Go on."}]
        assert is_greedy(shared, prompt_of(shared, after, True), None, chat.ask("Go on.", **GREEDY))


# sampling


def test_a_seed_decides(shared):
    def said(seed):
        with shared.conversation() as chat:
            return chat.ask("Tell me a story.", temperature=1.5, max_tokens=8, seed=seed).tokens

    assert said(1) == said(1)
    assert len({tuple(said(seed)) for seed in (1, 2, 3)}) == 3


# failures


class Stop(Exception):
    pass


def fail(text):
    raise Stop(text)


FAILURES = {
    "unknown adapter": (UnknownAdapterError, lambda c: c.invoke("nobody")),
    "no invocation": (NoInvocationError, lambda c: c.invoke_all(["answerability", "plain"])),
    "one name": (PromptError, lambda c: c.invoke_all("answerability")),
    "sampling": (PromptError, lambda c: c.ask("Hm?", temperature=-1)),
    "sampling of an intrinsic": (PromptError, lambda c: c.invoke("other", max_tokens="many")),
    "unknown argument": (PromptError, lambda c: c.ask("Hm?", heat=1)),
    "content": (PromptError, lambda c: c.ask(b"Hm?")),
    "lone surrogate": (PromptError, lambda c: c.ask("Hm \udc80?")),
    "longer than the context": (ContextFullError, lambda c: c.ask("so " * 300)),
    "callback": (Stop, lambda c: c.ask("Count.", on_text=fail)),
    "callback at the last chunk": (Stop, lambda c: c.ask("Count.", max_tokens=1, on_text=fail)),
    "callback of an intrinsic": (Stop, lambda c: c.invoke("other", on_text=fail)),
    "callback of several": (Stop, lambda c: c.invoke_all(["other", "answerability"], on_text=lambda n, t: fail(t))),
    "Ctrl-C": (KeyboardInterrupt, lambda c: c.ask("Count.", on_text=lambda _: signal.raise_signal(signal.SIGINT))),
    "Ctrl-C in an intrinsic": (KeyboardInterrupt, lambda c: c.invoke("other", on_text=lambda _: signal.raise_signal(signal.SIGINT))),
}


@pytest.fixture(scope="module")
def untroubled(small):
    """What a conversation that nothing happened to goes on with."""
    small.clear_cache()
    with start(small) as chat:
        reply = chat.ask("And back?", **GREEDY)
    return reply.tokens, reply.usage.cached_tokens, reply.usage.prompt_tokens


@pytest.mark.parametrize("error, call", FAILURES.values(), ids=FAILURES)
def test_a_call_that_fails_changes_nothing(small, untroubled, error, call):
    small.clear_cache()
    with start(small) as chat:
        before = [dict(m) for m in chat.messages]
        with pytest.raises(error) as raised:
            call(chat)
        assert "\n" not in str(raised.value)
        assert chat.messages == before
        reply = chat.ask("And back?", **GREEDY)
        tokens, cached, prompt = untroubled
        assert (reply.tokens, reply.usage.prompt_tokens) == (tokens, prompt)
        own = len(small.tokenize("And back?<|im_end|>\n<|im_start|>assistant\n"))
        assert cached <= reply.usage.cached_tokens <= prompt - own  # the failed call may have computed the beginning that it shares


def test_a_prompt_that_fits_takes_the_cells_of_who_is_silent(small):
    with small.conversation() as silent, small.conversation() as chat:
        silent.ask("so " * 110, **GREEDY)
        before = [dict(m) for m in silent.messages]
        assert chat.ask("so it " * 75, **GREEDY).usage.prompt_tokens > 150
        assert silent.messages == before
        reply = silent.ask("And?", **GREEDY)  # computed again
        prompt = prompt_of(small, [*before, {"role": "user", "content": "And?"}], True)
        assert is_greedy(small, prompt, None, reply)


def test_more_calls_than_sequences_take_turns(small, variants):
    small.load_adapter(variants["other"], "third")
    small.load_adapter(variants["answerability"], "fourth")
    with start(small) as chat:
        replies = chat.invoke_all(["answerability", "other", "third", "fourth"], max_tokens=4)
        assert replies["third"].tokens == replies["other"].tokens and replies["fourth"].tokens == replies["answerability"].tokens
        prompt = prompt_of(small, chat.messages) + small.adapter("other").invocation_tokens
        assert is_greedy(small, prompt, "other", replies["other"])
    for name in ("third", "fourth"):
        small.unload_adapter(name)


@pytest.mark.slow
def test_a_context_that_fills_up_ends_the_answer(small):
    with small.conversation() as chat:
        chat.add("user", "Write a long story. " + "Really long. " * 40)
        reply = chat.ask("Go on.", temperature=0, max_tokens=1000, repeat_penalty=1.3)
        assert reply.finish_reason in ("length", "stop")
        with pytest.raises(ContextFullError, match="n_ctx"):
            for _ in range(9):
                assert chat.ask("Go on, it has to be much longer than that.", temperature=0.5, seed=1, max_tokens=1000).text
        assert chat.messages[-1]["role"] == "assistant"
    with start(small) as chat:  # its cells are free again
        assert chat.invoke("answerability").text


@pytest.mark.parametrize("messages", [
    ["hello"], [{"role": "user"}], [{"role": "user", "content": 5}], [{"content": "x"}], [5], [{"role": "user", "content": ["x"]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
])  # fmt: skip
def test_messages_that_are_none(shared, messages):
    with pytest.raises(PromptError, match=r"messages\[0\]: (content: )?expected "):
        shared.conversation(messages=messages)
    with shared.conversation() as chat:
        chat.messages = messages
        for call in (lambda: chat.ask("Hm?"), lambda: chat.invoke("answerability")):
            with pytest.raises(PromptError, match=r"messages\[0\]"):
                call()


def test_a_closed_conversation_says_so(shared):
    chat = start(shared)
    chat.close()
    chat.close()
    for call in (lambda: chat.ask("Hm?"), lambda: chat.invoke("answerability")):
        with pytest.raises(ClosedError, match="begin a new one"):
            call()


@pytest.mark.slow
def test_closing_while_an_answer_comes_takes_nothing_from_it(shared):
    alone = shared.generate(prompt_of(shared, [{"role": "user", "content": "Count to ten."}], True), temperature=0, max_tokens=40).text
    shared.clear_cache()
    chat = shared.conversation()
    stream = chat.ask("Count to ten.", stream=True, temperature=0, max_tokens=40)
    text = next(stream)
    chat.close()
    with pytest.raises(ClosedError):
        chat.ask("And?")
    others = [shared.conversation() for _ in range(2 * shared.engine.context.n_seq_max)]
    said = [other.ask("Count to ten.", temperature=0, max_tokens=40).text for other in others[:2]]
    assert [text + "".join(stream), *said] == [alone] * 3


# threads


@pytest.mark.slow
def test_two_threads_with_two_conversations(shared):
    calls = []

    def talk(question):
        with shared.conversation() as chat:
            for _ in range(2):
                said = [*chat.messages, {"role": "user", "content": question}]
                calls.append((prompt_of(shared, said, True), None, chat.ask(question, **GREEDY)))
                prompt = prompt_of(shared, chat.messages) + shared.adapter("other").invocation_tokens
                calls.append((prompt, "other", chat.invoke("other", max_tokens=3)))

    threads = [threading.Thread(target=talk, args=(question,)) for question in ("Name a colour.", "Name a river.")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 8
    assert all(is_greedy(shared, *call) for call in calls)


@pytest.mark.slow
def test_a_conversation_of_three_times_the_context(small, tmp_path):
    """Nothing ends; what is left out is said once, whole turns of it; and most of each prompt is in the cache."""
    chat = small.conversation(system="Be brief.", on_full="drop-oldest")
    n_said = n_prompt = n_cached = 0
    cuts = []
    while n_said < 3 * 256:
        before, reply = chat.n_dropped, chat.ask(f"Tell me of ship number {len(chat.messages)}.", temperature=0, max_tokens=12)
        assert reply.usage.prompt_tokens + reply.usage.completion_tokens <= 256
        assert bool(reply.warnings) == (chat.n_dropped > before) and not any("oldest" not in line for line in reply.warnings)
        cuts += [chat.n_dropped] if chat.n_dropped > before else []
        n_said += 20 + reply.usage.completion_tokens
        n_prompt, n_cached = n_prompt + reply.usage.prompt_tokens, n_cached + reply.usage.cached_tokens
        verdict = chat.invoke("other", max_tokens=4)
        assert verdict.usage.cached_tokens >= reply.usage.prompt_tokens
    assert len(cuts) >= 3 and n_cached > 0.6 * n_prompt and len(chat.messages) == 1 + 2 * sum(m["role"] == "user" for m in chat.messages)
    kept = [chat.messages[0], *chat.messages[1 + chat.n_dropped :]]
    assert chat.cells()[1] == prompt_of(small, kept)[: len(chat.cells()[1])] and kept[1]["role"] == "user"
    chat.save(tmp_path / "long")
    small.clear_cache()
    again = small.restore(tmp_path / "long", on_full="drop-oldest")
    assert (again.messages, again.n_dropped) == (chat.messages, chat.n_dropped)
    assert again.invoke("other", max_tokens=4).usage.cached_tokens >= len(chat.cells()[1]) - 8
    del again.messages[3:]  # as /undo does, back into what was left out
    assert again.n_dropped == 0 and again.invoke("other", max_tokens=4).usage.prompt_tokens > len(prompt_of(small, again.messages[:2]))
    for _ in range(chat.n_dropped):  # they are others than those that had been left out
        again.add("user", "I am still here.")
    assert again.n_dropped == 0
    del again.messages[3:]
    assert again.ask("And now?", **GREEDY).text and again.n_dropped == 0  # all of it has room again
    said = prompt_of(small, again.messages[:3])
    assert again.cells()[1][: len(said)] == said


def test_what_was_left_out_is_there_again_in_a_larger_context(small, shared, tmp_path):
    chat = small.conversation(system="Be brief.", on_full="drop-oldest")
    while not chat.n_dropped:
        chat.ask(f"Tell me of ship number {len(chat.messages)}.", temperature=0, max_tokens=12)
    chat.save(tmp_path / "long")
    assert small.restore(tmp_path / "long").n_dropped == chat.n_dropped
    for on_full in ("error", "drop-oldest"):
        again = shared.restore(tmp_path / "long", on_full=on_full)
        said = prompt_of(shared, again.messages)
        assert again.n_dropped == 0
        reply = again.ask("And now?", **GREEDY)
        assert reply.usage.prompt_tokens > len(said) and not reply.warnings and again.n_dropped == 0


@pytest.mark.slow
def test_intrinsics_and_decisions_have_room_in_a_full_context(small):
    """They see less, and say so; the conversation stays as it is. Where an error is asked for, they are one."""
    document = "The ferry to Saint Maren leaves at nine. " * 14
    chats = {on_full: small.conversation(on_full=on_full) for on_full in ("drop-oldest", "error")}
    for on_full, chat in chats.items():
        for i in range(4):
            chat.ask(f"Tell me of ship number {i}.", temperature=0, max_tokens=12)
        chat.attach(document)
        before = list(chat.messages), chat.n_dropped
        replies = [chat.invoke_all(["other"], max_tokens=4)["other"], chat.decide({"q": Predicate("It is late.")})["q"]]
        assert (list(chat.messages), chat.n_dropped) == before == (chat.messages, 0)
        for reply in replies:
            if on_full == "error":
                assert isinstance(reply.error, ContextFullError)
            else:
                assert reply.error is None and re.fullmatch(
                    r"context: the oldest [246] messages are left out for this, to make room; .*", reply.warnings[-1]
                )
    assert chats["drop-oldest"].ask("And now?", **GREEDY).warnings


def test_intrinsics_and_decisions_have_room_on_what_came_from_elsewhere(small):
    """As a conversation that was saved in a larger context, before its next question."""
    said = [{"role": role, "content": f"{i} {'so ' * 40}"} for i in range(12) for role in ("user", "assistant")]
    chat = small.conversation(messages=said, on_full="drop-oldest")
    assert len(prompt_of(small, said)) > 3 * 256
    for reply in (chat.invoke("other", max_tokens=4), chat.decide({"q": Predicate("It is late.")})["q"]):
        assert reply.error is None and "are left out for this" in reply.warnings[-1] and reply.usage.prompt_tokens < 256
    assert chat.messages == said and chat.n_dropped == 0


@pytest.mark.slow
def test_a_full_context_is_an_error_where_nothing_else_is_asked_for(small):
    chat = small.conversation(system="Be brief.")
    with pytest.raises(ContextFullError):
        for _ in range(30):
            chat.ask("Tell me more of the ship.", temperature=0, max_tokens=12)
    n = len(chat.messages)
    chat.on_full = "drop-oldest"
    assert chat.ask("Tell me more of the ship.", temperature=0, max_tokens=12).warnings and len(chat.messages) == n + 2


def test_a_question_that_is_too_long_alone_is_an_error_and_nothing_is_left_out(small):
    chat = small.conversation(system="Be brief.", on_full="drop-oldest")
    chat.ask("Hello", **GREEDY)
    with pytest.raises(ContextFullError):
        chat.ask("so " * 300, **GREEDY)
    assert chat.n_dropped == 0 and len(chat.messages) == 3

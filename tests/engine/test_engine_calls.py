"""Calls that hold: none hangs, none ends the process, none hurts another. Each in a process of its own, with a time limit."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from tiny import bytes_vocabulary, llama, random_adapter

SECONDS = 120  # of a process; each is done in a few
PRELUDE = """
import asyncio, faulthandler, gc, os, random, sys, threading, time
faulthandler.enable()
from alora_gguf import ClosedError, ContextFullError, Llama, Model, PromptError, ResultError

base, pooling, A, B, folder = sys.argv[1:]
ENDLESS = {"grammar": "root ::= [a-z] root", "temperature": 0, "max_tokens": 100_000}
SHORT = {"temperature": 0, "max_tokens": 4, "grammar": "root ::= [a-z]+"}
QUESTION = {"role": "user", "content": "why"}

def opened(**options):
    model = Model(options.pop("path", base), **{"n_ctx": 1024, "n_threads": 1, "n_ubatch": 32, **options})
    for path in (A, B):
        model.register_adapter(path)
    return model

def is_idle(model):
    return model.engine.loop.call(lambda: not model.engine.loop._running and not model.engine.loop._waiting)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("calls")
    vocabulary = bytes_vocabulary(folder / "vocabulary.gguf")
    base = llama(vocabulary, folder / "base.gguf")
    adapters = [
        random_adapter(base, folder / f"{name}.gguf", invocation, seed)
        for seed, (name, invocation) in enumerate({"A": [291, 292], "B": [293]}.items())
    ]
    return [base, llama(vocabulary, folder / "pooling.gguf", pooling=1), *adapters, folder]


@pytest.fixture
def alone(files):
    """Runs a script after PRELUDE; that it hangs, crashes or raises is an error, and what it writes on standard error is returned."""

    def alone(script: str) -> str:
        script = dedent(script).strip()
        try:
            done = subprocess.run([sys.executable, "-c", f"{PRELUDE}\n{script}", *map(str, files)], capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as e:
            pytest.fail(f"it hangs: {e.stdout!r} {e.stderr!r}")
        assert done.returncode == 0, done.stderr
        return done.stderr

    return alone


# C1: watchers


def test_a_watched_answer_ends_in_a_context_that_is_too_narrow_for_its_watchers(alone):
    """Of every length from one that fits with its judgement to one that does not fit at all."""
    alone("""
    with opened(n_ctx=256) as model:
        judged, narrow, refused = 0, 0, 0
        for n in range(236, 262, 2):
            chat = model.conversation()
            try:
                reply = chat.ask("w" * n, watch=["A", "B"], watch_every=2, **SHORT)
            except ContextFullError:
                refused += 1
                assert chat.messages == []
                continue
            assert [m["role"] for m in chat.messages] == ["user", "assistant"]
            for verdict in reply.verdicts:
                assert (verdict.reply is None) == isinstance(verdict.error, ContextFullError), verdict
                judged += verdict.reply is not None
                narrow += verdict.reply is None
            assert {v.name for v in reply.verdicts} == {"A", "B"}
        assert judged and narrow and refused, (judged, narrow, refused)
        assert is_idle(model)
        assert not [t for t in threading.enumerate() if "watcher" in t.name]
    """)


def test_a_watchers_work_is_done_on_a_thread_of_its_own(alone):
    """Whatever the template, the tokenizer or an io.yaml raises there is a verdict, and the answer does not know of it."""
    alone("""
    with opened() as model:
        seen, render = set(), model.engine.prompts.render
        def rendering(messages, **arguments):
            seen.add(threading.current_thread().name)
            if messages[-1]["role"] == "assistant":
                raise ZeroDivisionError("of a template")
            return render(messages, **arguments)
        model.engine.prompts.render = rendering
        verdicts = []
        def on_verdict(verdict):
            seen.add(threading.current_thread().name)
            verdicts.append(verdict)
        reply = model.conversation().ask("why", watch=["A"], watch_every=2, on_verdict=on_verdict, **SHORT)
        assert len(reply.tokens) == 4 and len(verdicts) == 2, verdicts
        assert all(isinstance(v.error, ZeroDivisionError) and v.reply is None for v in verdicts)
        assert seen == {"MainThread", "alora_gguf watcher"}, seen
    """)


# C2: close() beside anything


def test_close_beside_any_call_of_any_thread(alone):
    alone("""
    def saves(model):
        chat = model.conversation(messages=[QUESTION])
        return lambda: chat.save(f"{folder}/{threading.get_ident()}")

    def streams(model):
        def stream():
            with model.conversation().ask("why", stream=True, **SHORT) as chunks:
                for chunk in chunks:
                    break
        return stream

    def awaits(model):
        async def ask():
            await model.conversation().ask("why", stream=True, **SHORT)
        return lambda: asyncio.run(ask())

    from alora_gguf.engine.embedding import embed
    CALLS = {
        "tokenize": lambda m: lambda: m.tokenize("w1 why not? " * 50),
        "detokenize": lambda m: lambda: m.detokenize(list(range(3, 250))),
        "render": lambda m: lambda: m.render([QUESTION]),
        "template": lambda m: lambda: (setattr(m, "_template", None), m.template),
        "generate": lambda m: lambda: m.generate("why", **SHORT),
        "grammar": lambda m: lambda: m.generate("why", stream=True, **ENDLESS).close(),
        "ask": lambda m: lambda: m.conversation().ask("why", **SHORT),
        "watch": lambda m: lambda: m.conversation().ask("why", watch=["A"], watch_every=1, **SHORT),
        "stream": streams,
        "await": awaits,
        "invoke": lambda m: lambda: m.conversation(messages=[QUESTION]).invoke("A", max_tokens=2),
        "invoke_all": lambda m: lambda: m.conversation(messages=[QUESTION]).invoke_all(["A", "B"], max_tokens=2),
        "load": lambda m: lambda: m.load_adapter(A),
        "unload": lambda m: lambda: (m.register_adapter(B, "C"), m.unload_adapter("C")),
        "logits": lambda m: lambda: m.logits([([3, 4, 291, 292], "A"), ([5, 6], None)]),
        "save": saves,
        "embed": lambda m: lambda: embed(m.engine, [[3, 4, 5]]),
        "clear": lambda m: m.clear_cache,
        "metrics": lambda m: lambda: (m.adapters.n_bytes, m.engine.context.n_ctx, m.vocab.is_eog(2), m.vocab.ptr),
    }
    random.seed(1)
    ended = dict.fromkeys(CALLS, 0)

    def work(name, call, closed):
        try:
            while not closed.is_set() or name != "render":  # which needs no model once the template is known
                call()
            ended[name] += 1
        except ClosedError:
            ended[name] += 1
        except BaseException as e:
            failures.append((name, e))
            raise

    failures = []
    for i in range(240):
        names = [list(CALLS)[i % len(CALLS)], random.choice(list(CALLS))]
        model = opened(path=pooling if "embed" in names else base)
        closed = threading.Event()
        calls = [(name, CALLS[name](model), closed) for name in names if "embed" not in names or name in ("embed", "tokenize", "load")]
        threads = [threading.Thread(target=work, args=call) for call in calls]
        for thread in threads:
            thread.start()
        time.sleep(random.random() * 0.02)
        closers = [threading.Thread(target=model.close) for _ in range(2)]
        for thread in closers:
            thread.start()
        model.close()
        closed.set()
        for thread in closers + threads:
            thread.join(60)
        assert not failures, failures
        assert not any(t.is_alive() for t in closers + threads), names
    assert all(ended.values()), ended
    """)


def test_a_model_that_nobody_has_any_more_is_freed_at_once(alone):
    """Also behind calls of every kind; and what still has a part of it is told."""
    alone("""
    import weakref
    gc.disable()
    model = opened()
    chat = model.conversation()
    chat.ask("why", **SHORT)
    chat.ask("why", watch=["A"], watch_every=1, **SHORT)
    with chat.ask("why", stream=True, **SHORT) as stream:
        for chunk in stream:
            pass
    chat.invoke("A", max_tokens=2), chat.invoke_all(["A", "B"], max_tokens=2)
    left = chat.ask("why", stream=True, **ENDLESS)
    next(left)
    left.close()
    async def talk():
        async for chunk in chat.ask("why", stream=True, **ENDLESS):
            break
        await chat.invoke("A", stream=True, max_tokens=2)
    asyncio.run(talk())
    for watch in ([], ["A"]):
        unread = model.conversation().ask("why", stream=True, watch=watch, **SHORT)
        stopped = model.conversation().ask("why", stream=True, watch=watch, **ENDLESS)
        stopped.cancel()
        stopped._call.channel.wait(), unread._call.channel.wait()
    of_calls = lambda: [t for t in threading.enumerate() if t.name in ("alora_gguf call", "alora_gguf watcher")]
    deadline = time.monotonic() + 30
    while of_calls() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not of_calls()
    vocab, there = model.vocab, weakref.ref(model)
    del model, chat, stream, left, unread, stopped
    assert there() is None
    try:
        vocab.tokenize("why")
        raise SystemExit("it was open")
    except ClosedError:
        pass
    """)


def test_what_loses_the_model_on_the_loops_own_thread(alone):
    """The last who knows it is a callback, which is let go of there: it is freed, and nobody waits for ever."""
    alone("""
    model = opened()
    loop, stands, go_on = model.engine.loop, threading.Event(), threading.Event()
    threading.Thread(target=loop.call, args=(lambda: (stands.set(), go_on.wait()),)).start()
    stands.wait()
    stream = model.generate("why", stream=True, **SHORT)
    request = stream._call._under_way[0]
    request.on_chunk = lambda chunk, put=request.on_chunk, model=model: put(chunk)
    del model, request
    go_on.set()
    assert stream.result.finish_reason in ("stop", "length")
    loop._thread.join(60)
    assert not loop._thread.is_alive()
    """)


def test_a_llama_that_was_closed_says_so_in_every_method(alone):
    alone("""
    import inspect
    llm = Llama(base, n_ctx=256, n_threads=1, verbose=False, logits_all=True)
    tokenizer, chunks = llm.tokenizer(), llm.create_completion("why", stream=True, max_tokens=50)
    next(chunks)
    llm.close()
    llm.close()
    plain = [name for name in dir(llm) if not name.startswith("_") and not isinstance(inspect.getattr_static(llm, name), (staticmethod, classmethod))]
    methods = [name for name in plain if name not in vars(llm) and name != "close"]
    assert len(methods) > 25, methods
    arguments = {"tokenize": [b"x"], "detokenize": [[3]], "eval": [[3]], "embed": ["x"], "create_embedding": ["x"], "create_completion": ["x"],
                 "create_chat_completion": [[QUESTION]], "create_chat_completion_openai_v1": [[QUESTION]], "generate": [[3]],
                 "load_state": [None], "set_cache": [None], "set_seed": [1], "load_adapter": [A], "unload_adapter": ["A"]}
    def refused(call):
        try:
            got = call()
            got = next(got) if hasattr(got, "__next__") else got
        except ClosedError:
            return True
        return False
    def using(name):
        got = getattr(llm, name)
        return got(*arguments.get(name, [])) if callable(got) else got
    assert not [name for name in methods if not refused(lambda: using(name))]
    assert refused(lambda: llm("x")) and refused(lambda: next(chunks))
    assert refused(lambda: tokenizer.encode("x")) and refused(lambda: tokenizer.decode([3]))
    """)


def test_close_beside_a_llamas_calls(alone):
    alone("""
    CALLS = [lambda l: l.tokenize(b"w1 why not? " * 50), lambda l: l.create_completion([3, 4, 5], max_tokens=100),
             lambda l: [None for _ in l.create_completion([3, 4, 5], max_tokens=100, stream=True)], lambda l: l.save_state(),
             lambda l: l.create_completion([3, 291, 292], max_tokens=100, adapter="A")]
    random.seed(2)
    for i in range(100):
        llm = Llama(base, n_ctx=256, n_threads=1, verbose=False, adapters={"A": A})
        ended = []
        def work():
            try:
                while True:
                    CALLS[i % len(CALLS)](llm)
            except ClosedError as e:
                ended.append(e)
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(random.random() * 0.01)
        llm.close()
        thread.join(60)
        assert not thread.is_alive() and ended
    """)


def test_a_llama_that_could_not_be_made_goes_silently(alone):
    said = alone("""
    for arguments in ((), ("/nowhere.gguf",), (__import__("os").devnull,), (base, 5)):
        try:
            Llama(*arguments, verbose=False)
            raise SystemExit("it was made")
        except (TypeError, ValueError):
            gc.collect()
    try:
        Llama(base, verbose=False, n_ctx=64, adapters={"no": folder})
        raise SystemExit("it was made")
    except Exception:
        gc.collect()
    """)
    assert "Exception ignored" not in said


# C3: an exception of one request


def test_what_one_request_raises_ends_that_one(alone):
    """Wherever it comes up; all others give what they give alone."""
    alone("""
    class Broken(Exception):
        pass

    class Sampler:  # in the place of a request's own
        def __init__(self, own, n): self.own, self.n = own, n
        def sample(self, logits, **how):
            self.n -= 1
            if self.n < 0:
                raise Broken("sampling")
            return self.own.sample(logits, **how)
        def take_forced(self, n): return self.own.take_forced(n)
        def look_ahead(self, *_, **__): pass
        def free(self): self.own.free()
        is_over = False

    def broken(*_, **__):
        raise Broken("a callback")

    def ahead(request): request.look_ahead = broken
    def sampler(request): request._sampler = Sampler(request._sampler, 2)
    def logprob(request): request._logprob = broken
    def chunk(request): request.on_chunk = broken
    def begin(request): request.begin = broken
    def late(request):
        begin = request.begin
        request.begin = lambda *a: (begin(*a), broken())
    def result(request): request._result_of = broken
    def end(request): request._text.flush = broken

    from alora_gguf.engine.call import Call
    from alora_gguf.engine.request import Request
    from alora_gguf.engine.stream import Stream
    from alora_gguf.runtime.sampling import SamplingParams
    with opened() as model:
        wanted = model.conversation().ask("why", temperature=0, max_tokens=40, grammar="root ::= [a-z]+").text
        for spoil in (ahead, sampler, logprob, chunk, begin, late, result, end):
            others = [model.conversation().ask("why", stream=True, temperature=0, max_tokens=40, grammar="root ::= [a-z]+") for _ in range(3)]
            call = Call()
            def prepare():
                request = Request([3, 4, 291, 292], SamplingParams(max_tokens=6, temperature=0, logprobs=True, grammar="root ::= [a-z]+"), model.vocab,
                                  on_chunk=call.channel.put, on_end=call.channel.end)
                spoil(request)
                call.follow(request.reply, request)
                model.engine.loop.submit(request)
            call.begin(prepare, aside=False)
            stream = Stream(call)
            for _ in range(2):  # to each caller an error of its own
                try:
                    stream.result
                    raise SystemExit(f"{spoil.__name__}: nothing was raised")
                except Broken as e:
                    last = locals().get("error")
                    error = e
                    assert error is not last
            assert [other.result.text for other in others] == [wanted] * 3, spoil
            assert is_idle(model)
        model.clear_cache()
        assert model.engine.context.n_free_seqs == model.engine.context.n_seq_max and not model.adapters._held
    """)


def test_an_end_that_cannot_be_told_takes_nothing_from_the_others(alone):
    said = alone("""
    with opened() as model:
        stream, other = (model.conversation().ask("why", stream=True, **SHORT) for _ in range(2))
        for one in stream._call._under_way:
            one.on_end = lambda: 1 / 0
        assert other.result.text
        assert model.conversation().ask("why", **SHORT).text == other.result.text
    """)
    assert "ZeroDivisionError" in said


# C4: asyncio


LEAVING = {
    "a cancelled task": """
        task = asyncio.create_task(read(stream))
        await ready.wait()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
    """,
    "a task that waits for all": """
        task = asyncio.ensure_future(stream)
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
    """,
    "a time limit": """
        try:
            async with asyncio.timeout(0.1):
                await stream
        except asyncio.TimeoutError:
            pass
    """,
    "wait_for": """
        try:
            await asyncio.wait_for(stream, 0.1)
        except asyncio.TimeoutError:
            pass
    """,
    "break": """
        async for chunk in stream:
            break
    """,
    "an exception": """
        try:
            async for chunk in stream:
                raise KeyError(chunk)
        except KeyError:
            pass
    """,
    "break of a plain loop": """
        for chunk in stream:
            break
    """,
    "async with": """
        async with stream:
            await anext(stream)
    """,
    "with": """
        with stream:
            await anext(stream)
    """,
    "aclose": """
        await anext(stream)
        await stream.aclose()
        assert request.has_ended
    """,
    "close": """
        await anext(stream)
        stream.close()
    """,
    "nobody": """
        del stream
    """,
}


@pytest.mark.parametrize("way", LEAVING)
def test_whoever_leaves_ends_the_call_and_frees_the_conversation(alone, way):
    """The engine stands still until the event loop lets it go on: a way that made the event loop wait would never end."""
    if way == "a time limit" and sys.version_info < (3, 11):
        pytest.skip("asyncio.timeout is Python 3.11's")
    alone(
        """
    async def read(stream):
        async for chunk in stream:
            ready.set()

    async def leave(chat):
        stream = chat.ask("go on", stream=True, **ENDLESS)
        while len(stream._call.channel._items) < 3:
            await asyncio.sleep(0.001)
        [request] = stream._call._under_way
        requests.append(request)
        stands, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(target=model.engine.loop.call, args=(lambda: (loop.call_soon_threadsafe(stands.set), go_on.wait()),)).start()
        await stands.wait()
        loop.call_later(0.2, go_on.set)
"""
        + LEAVING[way]
        + """
    async def main():
        global ready
        ready = asyncio.Event()
        chat = model.conversation()
        said = await chat.ask("why", stream=True, **SHORT)
        before = list(chat.messages)
        assert [m["role"] for m in before] == ["user", "assistant"]
        await leave(chat)
        again = await chat.ask("and then", stream=True, **SHORT)  # at once, without an error
        assert chat.messages == [*before, {"role": "user", "content": "and then"}, {"role": "assistant", "content": again.text}]
        deadline = time.monotonic() + 30
        while not requests[0].has_ended and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        assert requests[0].has_ended and requests[0].finish_reason is None
        assert len(chat.messages) == 4

    requests = []
    with opened(n_ctx=4096) as model:
        asyncio.run(main())
        assert is_idle(model)
    """
    )


def test_leaving_a_plain_loop_frees_the_conversation_too(alone):
    alone("""
    def leave_by_break(stream):
        for chunk in stream:
            break
    def leave_by_error(stream):
        try:
            for chunk in stream:
                raise KeyError
        except KeyError:
            pass
    def leave_with(stream):
        with stream:
            next(stream)
    def close(stream):
        stream.close()
    def forget(stream):
        pass
    with opened(n_ctx=4096) as model:
        chat = model.conversation()
        for leave in (leave_by_break, leave_by_error, leave_with, close, forget):
            for call in (lambda: chat.ask("go on", stream=True, **ENDLESS), lambda: chat.ask("go on", stream=True, watch=["A"], watch_every=1, **ENDLESS)):
                leave(call())
                assert chat.messages == []
                left = call()
                leave_by_break(left)
                assert left.result.finish_reason == "cancelled" and chat.messages == []
                assert chat.ask("why", **SHORT).text == chat.messages.pop()["content"]
                chat.messages.clear()
        chat.messages.append(QUESTION)
        for leave in (leave_by_break, leave_by_error, leave_with, close, forget):
            leave(chat.invoke("A", stream=True, **ENDLESS))
            leave(chat.invoke_all(["A", "B"], stream=True, **ENDLESS))
        while not is_idle(model):
            pass
    """)


def test_cancel_keeps_what_has_come(alone):
    """Also where the next question comes before the answer has ended, or nobody reads it to its end."""
    alone("""
    async def main():
        chat = model.conversation()
        stream = chat.ask("go on", stream=True, **ENDLESS)
        first = await anext(stream)
        stream.cancel()
        said = await chat.ask("and then", stream=True, **SHORT)
        part = (await stream).text
        assert part.startswith(first) and stream.result.finish_reason == "cancelled"
        assert [m["content"] for m in chat.messages] == ["go on", part, "and then", said.text]

    with opened(n_ctx=4096) as model:
        asyncio.run(main())
        chat = model.conversation()
        for n in range(2):
            for chunk in (stream := chat.ask("go on", stream=True, **ENDLESS)):
                stream.cancel()
                break
            chat.ask("and then", **SHORT)
            assert len(chat.messages) == 4 * (n + 1)
            assert chat.messages[-3]["content"] == stream.result.text
    """)


def test_a_call_can_be_ended_before_it_has_begun(alone):
    """While its prompt is made on another thread."""
    alone("""
    async def main():
        render, go_on = model.engine.prompts.render, threading.Event()
        def rendering(*args, **kwargs):
            go_on.wait()
            return render(*args, **kwargs)
        for end in (lambda s: s.cancel(), lambda s: s.close(), lambda s: s.throw(KeyError("why"))):
            for watch in ([], ["A"]):
                for begin in (lambda c: c.ask("go on", stream=True, watch=watch, **ENDLESS), lambda c: c.invoke("A", stream=True, **ENDLESS),
                              lambda c: c.invoke_all(["A", "B"], stream=True, **ENDLESS)):
                    chat = model.conversation(messages=[QUESTION])
                    go_on.clear()
                    model.engine.prompts.render = rendering
                    stream = begin(chat)
                    end(stream)
                    asyncio.get_running_loop().call_soon(go_on.set)
                    try:
                        got = await stream
                    except KeyError:
                        got = None
                    model.engine.prompts.render = render
                    for reply in got.values() if isinstance(got, dict) else [got] if got else []:
                        assert (reply.finish_reason, reply.text) == ("cancelled", "")
                    assert (await chat.ask("why", stream=True, **SHORT)).text == chat.messages[-1]["content"]
                    assert len(chat.messages) == 3
    with opened() as model:
        asyncio.run(main())
        assert is_idle(model)
    """)


def test_an_answer_that_nobody_reads_is_part_of_the_conversation_when_it_has_ended(alone):
    alone("""
    with opened() as model:
        chat = model.conversation()
        stream = chat.ask("why", stream=True, **SHORT)
        deadline = time.monotonic() + 30
        while not chat.messages and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(chat.messages) == 2
        assert chat.ask("and", **SHORT).text == chat.messages[3]["content"]
        assert stream.result.text == chat.messages[1]["content"]
        del stream
        assert len(chat.messages) == 4
    """)


def test_prompts_are_made_beside_the_event_loop(alone):
    """Their errors are raised where the stream is read; those of the names and options where the call is made."""
    alone("""
    async def main():
        chat = model.conversation(messages=[QUESTION])
        seen, render = set(), model.engine.prompts.render
        asked = threading.Semaphore(0)
        def rendering(*args, **kwargs):
            seen.add(threading.current_thread().name)
            asked.acquire()  # until the event loop lets it go on
            asked.release()
            return render(*args, **kwargs)
        model.engine.prompts.render = rendering
        done = asyncio.gather(chat.ask("why", stream=True, **SHORT), chat.invoke("A", stream=True, max_tokens=2),
                              chat.invoke_all(["A", "B"], stream=True, max_tokens=2))
        await asyncio.sleep(0.01)
        asked.release()
        reply, verdict, verdicts = await done
        assert reply.text and verdict.tokens and set(verdicts) == {"A", "B"}
        assert seen == {"alora_gguf call"}, seen
        def broken(*args, **kwargs):
            raise ZeroDivisionError("of a template")
        model.engine.prompts.render = broken
        for begin in (lambda: chat.ask("why", stream=True), lambda: chat.invoke("A", stream=True), lambda: chat.invoke_all(["A"], stream=True)):
            for read in (lambda s: s.__aiter__().__anext__(), lambda s: s):
                stream = begin()
                try:
                    await read(stream)
                    raise SystemExit("nothing was raised")
                except ZeroDivisionError:
                    pass
        model.engine.prompts.render = render
        for begin, error in ((lambda: chat.ask("why", stream=True, heat=1), PromptError), (lambda: chat.ask("why", stream=True, watch=["no"]), KeyError)):
            try:
                begin()
                raise SystemExit("nothing was raised")
            except error:
                pass
        assert (await chat.ask("why", stream=True, **SHORT)).text
    with opened() as model:
        asyncio.run(main())
    """)


# C5: several intrinsics, one of which fails


def test_one_of_several_that_fails_leaves_the_others_theirs(alone):
    alone("""
    from pathlib import Path
    import json
    common = "model: ~\\ntransformations: ~\\nresponse_format: "
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 50}
    Path(folder, "cut.io.yaml").write_text(common + json.dumps(json.dumps(schema)))
    Path(folder, "asks.io.yaml").write_text(common + "~\\ninstruction: no invocation in it\\n")
    with opened(n_ctx=256) as model:
        model.load_adapter(B, "cut", io_yaml=Path(folder, "cut.io.yaml"))
        model.load_adapter(B, "asks", io_yaml=Path(folder, "asks.io.yaml"))
        chat = model.conversation(messages=[QUESTION])
        alone = chat.invoke("A", max_tokens=6)
        replies = chat.invoke_all(["cut", "A", "asks"], max_tokens=6)
        assert list(replies) == ["cut", "A", "asks"]
        assert (replies["A"].tokens, replies["A"].error) == (alone.tokens, None)
        cut, asks = replies["cut"], replies["asks"]
        assert isinstance(cut.error, ResultError) and cut.text and cut.result is None
        assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 6)
        assert isinstance(asks.error, PromptError) and (asks.text, asks.finish_reason) == ("", "error")
        for name, error in (("cut", ResultError), ("asks", PromptError)):  # one alone raises
            try:
                chat.invoke(name, max_tokens=6)
                raise SystemExit("nothing was raised")
            except error:
                pass

        async def main():
            return await chat.invoke_all(["asks", "A", "cut"], stream=True, max_tokens=6)
        again = asyncio.run(main())
        assert {n: (r.text, type(r.error)) for n, r in again.items()} == {n: (r.text, type(r.error)) for n, r in replies.items()}

        chat.messages[0] = {"role": "user", "content": "w" * 248}  # with two tokens of an invocation it is too long, with one it is not
        fits = chat.invoke_all(["A", "B"], max_tokens=1)
        tries = 0
        while not isinstance(fits["A"].error, ContextFullError) and tries < 20:
            chat.messages[0]["content"] += "w"
            tries += 1
            fits = chat.invoke_all(["A", "B"], max_tokens=1)
        assert isinstance(fits["A"].error, ContextFullError) and fits["B"].error is None, fits
        for call, error in ((lambda: chat.invoke_all(["A", "no"]), KeyError), (lambda: chat.invoke_all(["A"], heat=1), PromptError),
                            (lambda: chat.invoke_all(["A"], documents="text"), PromptError), (lambda: chat.invoke_all(["A"], max_tokens=0), PromptError)):
            try:
                call()
                raise SystemExit("nothing was raised")
            except error:
                pass
        stream = model.conversation(messages=[QUESTION]).invoke_all(["A", "B"], stream=True, **ENDLESS)
        next(stream)
        model.close()
        try:
            stream.result
            raise SystemExit("nothing was raised")
        except ClosedError:
            pass
    """)

"""The figures: what is divided by what, on which model, and what it must be."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from .measure import Bar, Measured, across_processes
from .models import QUESTION, invocation_of
from .registered import BUDGET
from .run import N_ADAPTERS, Run
from .worker import Worker

FIGURES: list["Figure"] = []


@dataclass(frozen=True)
class Figure:
    """`bars` has every model that it is measured on, with None where there is nothing that it must be.

    The docstring of `measure` says what both sides do; the page has it.
    """

    name: str
    title: str
    bars: dict[str, Bar | None]
    measure: Callable[[Run], Measured]


def figure(name: str, title: str, **bars: Bar | None):
    """Registers the function below as a figure; bars by model, a digit first as in `_135m`."""

    def register(measure: Callable[[Run], Measured]):
        FIGURES.append(Figure(name, title, {model.lstrip("_"): bar for model, bar in bars.items()}, measure))
        return measure

    return register


def most(value: float) -> Bar:
    return Bar(high=value)


def least(value: float) -> Bar:
    return Bar(low=value)


# one step


@figure("decode", "decode, one adapted sequence / base", _135m=most(1.25), _1b=None, _3b=None)
def decode(run: Run) -> Measured:
    """One sequence, a token a step; 32 tokens of the base before them, adapted from there on."""
    steps = run["steps"]
    return run.pace.ratio(("adapted", lambda: steps.decode(run.names(1), run.n_steps)), ("base", lambda: steps.decode([None], run.n_steps)))


@figure("decode-q8", "decode, one sequence with a q8_0 adapter / base", _135m=most(1.15), _1b=None, _3b=None)
def decode_q8(run: Run) -> Measured:
    """The same, the adapter in q8_0."""
    steps = run["steps"]
    return run.pace.ratio(("adapted", lambda: steps.decode(["q8_0-0"], run.n_steps)), ("base", lambda: steps.decode([None], run.n_steps)))


@figure("batch", "decode, 8 sequences with 8 adapters / base batch of 8", _135m=most(1.30), _1b=most(1.20), _3b=None)
def batch(run: Run) -> Measured:
    """8 sequences forked after 32 tokens of the base, a token each a step, in one batch."""
    steps = run["steps"]

    def of(n: int) -> Measured:
        return run.pace.ratio(("adapted", lambda: steps.decode(run.names(n), run.n_steps)), ("base", lambda: steps.decode([None] * n, run.n_steps)))

    return _with_points("adapters", {n: of(n) for n in run.batches}, 8)


@figure("switch", "8 adapters, one new token each: stock bindings, a switch before each / ours", _135m=least(5), _1b=least(2), _3b=None)
def switch(run: Run) -> Measured:
    """Stock: llama_set_adapters_lora and a decode for each sequence. Ours: one decode."""
    stock, steps = run["stock"], run["steps"]

    def of(n: int) -> Measured:
        return run.pace.ratio(("stock", lambda: stock.switch(run.names(n), run.n_steps)), ("ours", lambda: steps.decode(run.names(n), run.n_steps)))

    return _with_points("adapters", {n: of(n) for n in run.batches}, 8)


@figure("alternate", "alternating two adapters / keeping one, per decode", _135m=most(1.03), _1b=None, _3b=None)
def alternate(run: Run) -> Measured:
    """Two sequences, decoded in turn, with two adapters or with one."""
    steps, (a, b) = run["steps"], run.names(2)
    return run.pace.ratio(("alternating", lambda: steps.alternate([a, b], run.n_steps)), ("keeping", lambda: steps.alternate([a, a], run.n_steps)))


@figure("prefill", "mixed prefill, 256 tokens with the last 8 active / base", _135m=most(1.05), _1b=None, _3b=None)
def prefill(run: Run) -> Measured:
    """One batch on an empty sequence."""
    steps, (name,) = run["steps"], run.names(1)
    return run.pace.ratio(("mixed", lambda: steps.prefill(256, name, 8)), ("base", lambda: steps.prefill(256, None, 0)))


@figure("unpatched-decode", "base-only speed / unpatched library, decode", _135m=Bar(0.98, 1.02), _1b=Bar(0.98, 1.02), _3b=None)
def unpatched_decode(run: Run) -> Measured:
    """The same steps without an adapter on both libraries, in fresh pairs of processes: where a process's memory lies
    makes several percent. Measured is the median of the pairs of processes, spread their quartiles.
    """
    return _fresh(run, lambda worker: worker.decode([None], run.n_steps))


@figure("unpatched-prefill", "base-only speed / unpatched library, prefill of 256 tokens", _135m=Bar(0.98, 1.02))
def unpatched_prefill(run: Run) -> Measured:
    """One batch of 256 tokens on an empty sequence, on both libraries, in fresh pairs of processes whose work buffers begin alike."""
    # ggml's work buffer for it, 408 KiB, lies wherever malloc has room, and flash attention takes 4% longer where that is not
    # the beginning of a cache line. Over a fixed threshold it has pages of its own in both processes, and begins alike.
    return _fresh(run, lambda worker: worker.prefill(256, None, 0), GLIBC_TUNABLES="glibc.malloc.mmap_threshold=393216")


# what a user feels


@figure("first-token", "first token of an intrinsic / same tokens on the base, 512 to 8k context, the worst", _135m=most(1.10))
def first_token(run: Run) -> Measured:
    """Conversation.invoke of an adapter that the conversation has never had, up to its first token; the base: a
    fork and a decode of the invocation's tokens, nothing else.
    """
    ours, steps, (name,) = run["ours"], run["steps"], run.names(1)

    def of(n: int) -> Measured:
        tokens = ours.conversation(n)
        return run.pace.ratio(("intrinsic", lambda: ours.first_token(n, name)), ("base", lambda: steps.first_token(tokens, invocation_of(0))))

    by_context = {n: of(n) for n in run.contexts}
    return _with_points("tokens", by_context, max(by_context, key=lambda n: by_context[n].value))


@figure("reprefill", "LoRA re-prefill / ours, first token at 7,680 tokens", _135m=least(500))
def reprefill(run: Run) -> Measured:
    """Stock: the conversation and the invocation on an empty cache, adapted from the first token on. Ours:
    Conversation.invoke.
    """
    ours, stock, (name,) = run["ours"], run["stock"], run.names(1)

    def of(n: int, pace) -> Measured:
        tokens = [*ours.conversation(n), *invocation_of(0)]
        ours.first_token(n, name)  # computes the conversation
        return pace.ratio(("LoRA", lambda: stock.lora_first_token(tokens, name)), ("ours", lambda: ours.first_token(n, name)), warm=False)

    *shorter, longest = run.contexts
    return _with_points("tokens", {**{n: of(n, run.once) for n in shorter}, longest: of(longest, run.pace)}, longest)


@figure("intrinsics", "16 intrinsics of 16 tokens on a 2,048-token conversation: llama-server one after another / ours in one batch", _135m=least(3))
def intrinsics(run: Run) -> Measured:
    """The conversation is in the cache of both. llama-server: a request for each, the adapter in it. Ours:
    Conversation.invoke_all.
    """
    ours, steps, server, names, n = run["ours"], run["steps"], run["llama-server"], run.names(16), run.n_conversation
    tokens, calls = ours.conversation(n), {name: invocation_of(i) for i, name in enumerate(names)}
    measured = run.pace.ratio(("llama-server", lambda: server.intrinsics(tokens, calls, 16)), ("ours", lambda: ours.intrinsics(n, names, 16)))
    kernels = run.pace.ratio(("llama-server", lambda: server.decode(names[:1], run.n_steps)), ("ours", lambda: steps.decode(names[:1], run.n_steps)))
    measured.note = _kernels(measured, kernels, "one adapted token")
    return measured


@figure("back", "back to the base after an intrinsic, to a question of a word: llama-server / ours, 2,048 tokens", _135m=least(100))
def back(run: Run) -> Measured:
    """After an intrinsic on the conversation, the next question up to the first token of the answer: llama-server
    with the adapter's scale 0, ours by Conversation.ask. The question is a word, so that what is measured is the way
    back; the note has a question of a sentence, whose tokens are new to both.
    """
    ours, server, (name,), n = run["ours"], run["llama-server"], run.names(1), run.n_conversation
    tokens, theirs, mine = ours.conversation(n), count(), count()

    def of(question: str) -> Measured:
        return run.pace.ratio(
            ("llama-server", lambda: server.next_turn(tokens, invocation_of(0), name, ours.next_turn_tokens(n, next(theirs), question))),
            ("ours", lambda: ours.next_turn(n, name, next(mine), question)),
        )

    by_length = {len(ours.next_turn_tokens(n, 0, question)) - n: of(question) for question in ("", QUESTION)}
    short, long = by_length
    measured = _with_points("new tokens", by_length, short)
    kernels = run.pace.ratio(("llama-server", lambda: server.prefill(256, None, 0)), ("ours", lambda: run["steps"].prefill(256, None, 0)))
    measured.note = (
        f"{short} new tokens; with {long}, a question of a sentence: {by_length[long].value:.3g}, "
        f"ours {by_length[long].sides['ours']:.3g} ms; {_kernels(measured, kernels, 'a prefill')}"
    )
    return measured


@figure("throughput", "16 conversations with 8 adapters at once: tokens/s over one at a time", _135m=least(2.2))
def throughput(run: Run) -> Measured:
    """An intrinsic of 16 tokens on each conversation of about 128 tokens, from one thread or from 16. Milliseconds
    a token.
    """
    ours, names = run["ours"], run.names(8)
    ours.forget()
    measured = run.pace.ratio(
        ("one at a time, per token", lambda: ours.one_at_a_time(16, names, run.n_short, 16)),
        ("at once, per token", lambda: ours.at_once(16, names, run.n_short, 16)),
    )
    return measured


@figure("watch", "an answer's own tokens with an intrinsic at each sentence / without", _135m=most(1.15))
def watch(run: Run) -> Measured:
    """Conversation.ask with watch=[one intrinsic], which goes on for up to 64 tokens at each sentence, or with none: from
    the answer's first token to its last, milliseconds a token.
    """
    ours, (name,) = run["ours"], run.names(1)
    measured = run.pace.ratio(
        ("watched, per token", lambda: ours.answer(run.n_answer, [name])), ("alone, per token", lambda: ours.answer(run.n_answer, []))
    )
    measured.note = f"{ours.judged(run.n_answer, name)} verdicts in {run.n_answer} tokens"
    return measured


@figure("memory", "1,000 registered adapters, 64 MB budget: peak memory above base / budget", _135m=most(1.10))
def memory(run: Run) -> Measured:
    """Calls of up to 25 of the names at each number of them, spread evenly; the process's peak, less its peak
    after an answer of the base.
    """
    with run.alone("registered") as registered:
        points = []
        for n in run.registered:
            registered.register(n)
            for i in range(0, n, max(1, n // 25)):
                registered.call(i)
            points.append({"registered": n, "megabytes": registered.peak_megabytes()})
    peak = points[-1]["megabytes"]
    ratio = peak * 1e6 / BUDGET
    return Measured(ratio, ratio, ratio, 1, {}, points, f"{peak:.1f} MB")


@figure("cold", "1,000 registered adapters, 64 MB budget: extra time of a cold call / reading its file", _135m=most(2))
def cold(run: Run) -> Measured:
    """A first call less a second one of the same name, both of one token; and reading the file, which is in the
    page cache, into new memory.
    """
    with run.alone("registered") as registered:
        registered.register(run.registered[-1])
        for i in range(N_ADAPTERS[run.model]):
            registered.call(i)  # computes each adapter's cells, so that cold and warm calls decode the same
        numbers = iter(range(N_ADAPTERS[run.model], run.registered[-1]))

        def extra() -> float:
            number = next(numbers)
            return registered.call(number) - registered.call(number)

        return run.pace.ratio(("extra", extra), ("reading", lambda: registered.read(0)))


def _fresh(run: Run, side: Callable[[Worker], float | list[float]], **environment: str) -> Measured:
    """The unpatched library's time over ours, in pairs of processes that begin in the other order each time."""
    measured = []
    for n in range(run.n_processes):
        first, second = ("stock", "steps") if n % 2 == 0 else ("steps", "stock")
        with run.alone(first, **environment) as a, run.alone(second, **environment) as b:
            stock, steps = (a, b) if n % 2 == 0 else (b, a)
            measured.append(run.short.ratio(("unpatched", lambda: side(stock)), ("ours", lambda: side(steps))))
    return across_processes(measured)


def _with_points(x: str, measured: dict[int, Measured], chosen: int) -> Measured:
    """The chosen one, with all of them as points."""
    measured[chosen].points = [{x: n, "ratio": m.value, **m.sides} for n, m in measured.items()]
    return measured[chosen]


def _kernels(measured: Measured, kernels: Measured, what: str) -> str:
    return f"the wheel's own kernels take {kernels.value:.2f} times ours for {what}: with equal kernels {measured.value / kernels.value:.3g}"

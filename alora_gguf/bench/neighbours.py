"""Every engine side by side, in milliseconds, and whether they computed the same."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from statistics import median
from typing import Any

from .models import QUESTION, invocation_of
from .run import NotInstalled, Run

ENGINES = "ours", "stock", "llama-server", "PEFT"
HOW = {
    "ours": "this package: step times on its context, the rest through Model and Conversation",
    "stock": "the unpatched library, low-level functions of llama_cpp; forks of the cache made by hand",
    "llama-server": "xllamacpp's Server, one slot, prompts as token ids, cache_prompt; the adapter's scale in each request",
    "PEFT": "transformers, the same weights dequantised to float32; the cache kept and cropped by hand",
}


def side_by_side(run: Run) -> list[dict[str, Any]]:
    """Rows {"task", engine: milliseconds or None}, the engines measured in turn."""
    ours, steps = run["ours"], run["steps"]
    peers = {name: _worker(run, name) for name in ENGINES[1:]}
    n, names, k = run.n_conversation, run.names(8), run.n_steps
    tokens, prompt, new = ours.conversation(n), ours.next_turn_tokens(n, 0, QUESTION), invocation_of(0)
    turns = count()
    first = names[0]
    tasks: dict[str, dict[str, Callable[..., Any]]] = {
        "one token of the base": {
            "ours": lambda: steps.decode([None], k),
            "stock": lambda w: w.decode([None], k),
            "llama-server": lambda w: w.decode([None], k),
            "PEFT": lambda w: w.decode([None], k),
        },
        "one adapted token": {
            "ours": lambda: steps.decode([first], k),
            "stock": lambda w: w.alternate([first], k),
            "llama-server": lambda w: w.decode([first], k),
            "PEFT": lambda w: w.decode([first], k),
        },
        "8 adapters, one token each": {
            "ours": lambda: steps.decode(names, k),
            "stock": lambda w: w.switch(names, k),
            "PEFT": lambda w: w.decode(names, k),
        },
        f"first token of an aLoRA, {n} tokens in the cache": {
            "ours": lambda: ours.first_token(n, first),
            "stock": lambda w: w.first_token(tokens, new, first),
            "llama-server": lambda w: w.first_token(tokens, new, first),
            "PEFT": lambda w: w.first_token(tokens, new, first),
        },
        "the same as a LoRA": {
            "stock": lambda w: w.lora_first_token([*tokens, *new], first),
            "PEFT": lambda w: w.lora_first_token([*tokens, *new], first),
        },
        "the base's next first token": {
            "ours": lambda: ours.next_turn(n, first, next(turns), QUESTION),
            "stock": lambda w: w.first_token(tokens, prompt[n:]),
            "llama-server": lambda w: w.next_turn(tokens, new, first, prompt),
            "PEFT": lambda w: w.next_turn(tokens, new, first, prompt),
        },
    }
    rows = []
    for task, sides in tasks.items():
        bound: dict[str, Callable[[], Any]] = {
            name: side if name == "ours" else partial(side, peers[name]) for name, side in sides.items() if name == "ours" or peers[name]
        }
        ms = run.pace.rounds(bound, warm=not run.quick)
        rows.append({"task": task, **{name: median(ms[name]) if name in ms else None for name in ENGINES}})
    return rows


@dataclass(frozen=True)
class Check:
    """Natural logarithms of probabilities of the next token: the mean difference from our step's, over its likeliest tokens.

    without: the same difference if the adapter were not active, or None for the base.
    """

    engine: str
    what: str
    difference: float
    without: float | None

    @property
    def ok(self) -> bool:
        # llama.cpp rounds activations to 8 bits, in other places in each build: on the base that makes 0.1 to 0.2
        return self.difference < (0.3 if self.without is None else self.without / 3)


def checks(run: Run) -> list[Check]:
    """Each engine's next token after a conversation and an invocation: on the base, as a LoRA, and as an aLoRA.

    llama-server adapts from one token before the invocation on, so ours does here what it does.
    """
    steps, n, (name,) = run["steps"], run.contexts[0], run.names(1)
    tokens = [*run["ours"].conversation(n), *invocation_of(0)]
    found = []

    def check(engine: str, what: str, got: dict[int, float], adapter: str | None, start: int) -> None:
        wanted, base = steps.top(tokens, adapter, start), steps.top(tokens, None, 0)
        found.append(Check(engine, what, _difference(got, wanted), _difference(base, wanted) if adapter else None))

    wanted = steps.top(tokens, name, n)
    found.append(Check("ours", "what an intrinsic says", max(wanted.values()) - wanted.get(run["ours"].said(n, name), -99), None))
    check("ours", "aLoRA through Model.logits", run["ours"].top(tokens, name), name, n)
    for engine in ENGINES[1:]:
        if worker := _worker(run, engine):
            check(engine, "base", worker.top(tokens, None, 0), None, 0)
            if engine == "llama-server":
                check(engine, "aLoRA from one token before", worker.top(tokens, name, n), name, n - 1)
            else:
                check(engine, "LoRA", worker.top(tokens, name, 0), name, 0)
                check(engine, "aLoRA", worker.top(tokens, name, n), name, n)
    return found


def _difference(got: dict[int, float], wanted: dict[int, float]) -> float:
    """Over the 10 likeliest tokens of `wanted`; one that `got` does not have counts as its least likely."""
    likeliest = sorted(wanted, key=wanted.__getitem__)[-10:]
    return sum(abs(wanted[t] - got.get(t, min(got.values()))) for t in likeliest) / len(likeliest)


def _worker(run: Run, engine: str) -> Any:
    try:
        return run[engine]
    except NotInstalled:
        return None

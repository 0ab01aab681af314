"""What an intrinsic found, for people."""

import json
from typing import Any

from ..reply import Decision, Reply
from ..text import printable

_MOST = 5  # options in a line


def summary(reply: Reply, intrinsic: str = "") -> str:
    """`answerable, answerability likelihood 0.93`, a rewritten question, `certainty 0.71, why ...`, the text as it is, or an error.

    Where the name of the `intrinsic` stands before it, what begins with that is said without: `likelihood 0.93`.
    """
    if reply.error is not None:
        return f"error: {printable(str(reply.error).removeprefix(f'intrinsic {intrinsic!r}: '), limit=2000)}"
    if reply.finish_reason == "cancelled":
        return "stopped"
    if reply.result is None:
        return reply.text
    name, value = _unwrapped(reply.result)
    if isinstance(value, float):
        said = _unwrapped(json.loads(reply.text))[1]
        return (f"{said}, " if isinstance(said, str) else "") + _named(name, value, intrinsic)
    if isinstance(value, dict) and any(isinstance(v, float) for v in value.values()) and all(isinstance(v, float | str) for v in value.values()):
        return ", ".join(_named(name, v, intrinsic) for name, v in value.items() if v != "")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut_line(reply: Reply, n_ctx: int) -> str | None:
    """That it ended before its end, and what makes room; None if it did not."""
    if reply.finish_reason != "length":
        return None
    is_full = reply.usage.prompt_tokens + reply.usage.completion_tokens >= n_ctx
    return f"the answer was cut{' where the context ends; --ctx' if is_full else '; --max-tokens'} N gives it more room"


def _named(name: str, value: float | str, intrinsic: str) -> str:
    name = name.removeprefix(intrinsic).replace("_", " ").strip()
    return f"{name} {value:.2f}".strip() if isinstance(value, float) else f"{name}: {value}".removeprefix(": ")


def _unwrapped(value: Any) -> tuple[str, Any]:
    """The name and value of an object's only field; no name for anything else."""
    return next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else ("", value)


def decided(decision: Decision) -> str:
    """One line of a decision: the probability, the likeliest options first, or the expected level."""
    if decision.error is not None:
        return f"error: {printable(str(decision.error), limit=2000)}"
    if decision.kind == "predicate":
        return f"{'yes' if decision.choice else 'no'}, {decision.probability:.2f}"
    if decision.kind == "score":
        return f"{decision.score:.2f} of 0 to {len(decision.probabilities) - 1}"
    ordered = sorted(decision.probabilities.items(), key=lambda pair: -pair[1])
    more = f", and {len(ordered) - _MOST} more" if len(ordered) > _MOST else ""
    said = [value if isinstance(value, str) else json.dumps(value) for value, _ in ordered[:_MOST]]
    return ", ".join(f"{printable(value)} {p:.2f}" for value, (_, p) in zip(said, ordered)) + more

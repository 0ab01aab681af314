"""What Python says of its arguments, as the command line has them."""

import re
from collections.abc import Collection

_OPTIONS = {
    "n_ctx": "ctx", "n_threads": "threads", "n_gpu_layers": "gpu_layers", "n_orders": "orders", "rpc_servers": "rpc",
    "chat_template_kwargs": "template_kwarg",
}  # fmt: skip
_SAME = {  # but for dashes
    "max_tokens", "min_p", "top_k", "top_p", "repeat_penalty", "frequency_penalty", "presence_penalty", "seed", "temperature", "thinking_budget",
}  # fmt: skip
_ADVICE = (  # an option that it is for, what Python says, and what is said here
    ("ctx", r" n_ctx \(--ctx\)", " n_ctx"),
    ("ctx", r"\(--ctx, n_ctx\)", "(n_ctx)"),
    ("adapter", r"; load it first$", "; load it with --adapter"),
    ("adapter", r"; use decide\(adapter=.*\)$", "; ask it with /decide in a chat, or with `alora decide`"),
    ("adapter", r", or load it by force$", ""),
    ("adapter", r"; give it more max_tokens if it was cut,", "; give it more max_completion_tokens if it was cut,"),  # io.yaml's word
    ("adapter", r"; add one first$", "; ask something first"),
    ("thinking_budget", r"(?<=^thinking_budget: expected a whole number from 0 on) or None", ""),  # which is to leave it out
    ("model", r"; give (one|another) with chat_template=$", "; take a model with one"),
)


def in_options(text: str, options: Collection[str]) -> str:
    """A line about what is wrong, its arguments by the names of the options that this command has. options: their names in argparse."""
    for option, said, advice in _ADVICE:
        if option in options:
            text = re.sub(said, advice, text)
    for name, option in _OPTIONS.items():
        if option in options:
            text = re.sub(rf"\b{name}\b", _written(option), text)
    name = text.removeprefix("error: ").partition(":")[0]  # as a chat begins it
    return text.replace(name, _written(name), 1) if name in _SAME and name in options else text


def _written(option: str) -> str:
    return f"--{option.replace('_', '-')}"

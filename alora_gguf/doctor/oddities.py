"""What is odd about an io.yaml on a base's vocabulary, looked at in a process of its own, as a damaged one ends it.

python -m alora_gguf.doctor.oddities BASE < request
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..errors import AloraError, IoYamlError
from ..prompt.builder import PromptBuilder
from ..prompt.chat_template import template_of
from ..prompt.io_yaml import IntrinsicIO
from ..prompt.problems import problems
from ..text import complaint
from .process import run_module

_SECONDS = 120


def look_at(io_yaml: str, where: str, invocation: Sequence[int], invoked_after: str | None, base: Path | None) -> list[str]:
    """The problems, each a line, an io.yaml that cannot be read among them. base: None leaves out what only a vocabulary tells."""
    try:
        io = IntrinsicIO.read(io_yaml, where)
    except IoYamlError as e:
        return [str(e)]
    if base is None:
        return problems(io, invocation, None)
    request = json.dumps({"io_yaml": io_yaml, "where": where, "invocation": list(invocation), "invoked_after": invoked_after})
    try:
        done = run_module(__name__, str(base.resolve()), seconds=_SECONDS, given=request)
        found, got = (json.loads(done.stdout), "") if done.returncode == 0 else (None, done.stderr.strip().rpartition("\n")[2] or "a crash")
    except (subprocess.TimeoutExpired, ValueError) as e:
        found, got = None, type(e).__name__
    if found is not None:
        return [str(line) for line in found]
    unread = complaint(base, "vocabulary", "one that llama.cpp can read", got, "what the io.yaml gives on it was not looked at")
    return [*problems(io, invocation, None), unread]


def main() -> int:
    from ..runtime.vocab import load_vocab

    asked, path = json.loads(sys.stdin.read()), Path(sys.argv[1])
    try:
        io = IntrinsicIO.read(asked["io_yaml"], asked["where"])
        with load_vocab(path) as vocab:
            prompts = PromptBuilder(vocab, partial(template_of, vocab, None, path.name))
            print(json.dumps(problems(io, asked["invocation"], vocab, prompts, asked["invoked_after"])))
    except AloraError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

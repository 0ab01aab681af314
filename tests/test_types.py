"""What a type checker knows of the package in a program of its users: the types of what they call, of every public name."""

import os
import subprocess
import sys

import pytest

import alora_gguf

pytest.importorskip("mypy")

_PROGRAM = """
from pathlib import Path

from typing_extensions import assert_type

from alora_gguf import (
    Adapter, Chunk, Conversation, Model, Reply, SamplingParams, Stream, TokenLogprob, Usage, Verdict, bundled_adapters, default_model,
    find_invocation)
from alora_gguf.convert import AdapterMetadata, Conversion, convert, export, read_adapter_metadata

assert_type(default_model(), Path)
assert_type(bundled_adapters(), dict[str, Path])
assert_type(find_invocation([1, 2], [2]), int | None)
assert_type(convert("peft", "adapter.gguf"), Conversion)
assert_type(read_adapter_metadata("adapter.gguf"), AdapterMetadata)
assert_type(export("adapter.gguf", "peft", "base.gguf"), Path)

model = Model(default_model())
assert_type(model.load_adapter("adapter.gguf"), Adapter)
assert_type(model.generate("x"), Reply)
assert_type(model.generate("x", stream=True), Stream[Chunk, Reply])

chat = model.conversation()
assert_type(chat, Conversation)
assert_type(chat.ask("x"), Reply)
assert_type(chat.ask("x", watch=["a"], max_tokens=8, stream=False), Reply)
assert_type(chat.ask("x", stream=True), Stream[Chunk | Verdict, Reply])
assert_type(chat.invoke("a"), Reply)
assert_type(chat.invoke("a", stream=True), Stream[Chunk, Reply])
assert_type(chat.invoke_all(["a"]), dict[str, Reply])
assert_type(chat.invoke_all(["a"], stream=True), Stream[tuple[str, Chunk], dict[str, Reply]])

reply = chat.ask("x")
assert_type(reply.text, str)
assert_type(reply.usage, Usage)
assert_type(reply.logprobs, list[TokenLogprob])
stream = chat.ask("x", stream=True)
for piece in stream:
    assert_type(piece, Chunk | Verdict)
assert_type(stream.result, Reply)
assert_type(SamplingParams(temperature=0).temperature, float)


async def waiting() -> None:
    async for piece in chat.ask("x", stream=True):
        assert_type(piece, Chunk | Verdict)
    assert_type(await chat.ask("x", stream=True), Reply)
"""


# as a user's, but for libraries that take mypy a minute to read, and whose types the program does not see
_CONFIG = """
[mypy]
strict = true
follow_imports = silent
[mypy-gguf.*,jinja2.*,llama_cpp.*,numpy.*,pydantic.*,torch.*,transformers.*,yaml.*]
follow_imports = skip
"""


@pytest.fixture(scope="module")
def check(tmp_path_factory, repo):
    """mypy's complaints about a program that imports the package, all of them."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "mypy.ini").write_text(_CONFIG)
    code = "import sys; from mypy import api; out, err, _ = api.run(sys.argv[1:]); print(out, err)"

    def check(program):
        (folder / "program.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "-c", code, "--no-error-summary", "--cache-dir=cache", "program.py"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(repo), "MYPYPATH": str(repo)},
        )
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]

    return check


def test_types_of_a_program(check):
    names = [name for name in alora_gguf.__all__ if not name.startswith("_")]
    errors = [name for name in names if name.endswith("Error")]
    every = f"from alora_gguf import {', '.join(names)}\nerrors: list[type[AloraError]] = [{', '.join(errors)}]\nerrors[0]('x')\n"
    assert len(errors) > 10
    assert check(_PROGRAM + every) == []


def test_mistakes_are_found(check):
    mistakes = "chat.ask('x').words", "chat.ask('x', stream=True).text", "chat.invoke(['a'])", "Model(n_ctx=1)", "model.generate(1)"
    first = "from alora_gguf import Model\nmodel = Model('base.gguf')\nchat = model.conversation()\n"
    found = check(first + "\n".join(mistakes))
    assert {int(line.split(":")[1]) for line in found if ": error: " in line} == set(range(4, 4 + len(mistakes)))

"""What is fuzzed: functions of bytes that return, or raise the error that a user would be told. Anything else is a find.

tests/fuzz/fuzz.py drives them; test_fuzz_corpus.py runs them on the committed corpus.
"""

import sys
import tempfile
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from alora_gguf import default_model
from alora_gguf.convert import AdapterFile, convert, describe, render
from alora_gguf.convert.base.gguf_base import read_base
from alora_gguf.documents.kinds import kind_of, other_kind
from alora_gguf.documents.worker import answer
from alora_gguf.errors import AloraError
from alora_gguf.prompt.invocation import find_invocation
from alora_gguf.prompt.io_yaml import IntrinsicIO
from alora_gguf.prompt.tools.calls import ToolCalls
from alora_gguf.prompt.tools.format import SAID_IN_SOURCE, Keys, Quoted, Tagged, ToolFormat
from alora_gguf.runtime.vocab import load_vocab

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_peft import adapter_tensors, write_adapter, write_base

MESSAGES = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]


@cache
def folder() -> Path:
    """A base, and an adapter for it, one file of which is replaced at each run."""
    path = Path(tempfile.mkdtemp(prefix="fuzz-"))
    write_base(path / "base.gguf")
    for target in ("config", "safetensors"):
        write_adapter(path / target, adapter_tensors(r=1, modules=["self_attn.q_proj"]), r=1, target_modules=["q_proj"])
    return path


def adapter(data: bytes) -> None:
    """An adapter's GGUF, through the reader, and as `alora show` shows it."""
    path = folder() / "adapter.gguf"
    path.write_bytes(data)
    file = AdapterFile(path)
    for pair in file.pairs:
        for tensor in pair.tensors:
            assert file.read(tensor).size
    assert all(line.isprintable() for line in render(describe(path)).splitlines())


def base(data: bytes) -> None:
    """A base's GGUF, as the converter reads it."""
    path = folder() / "other.gguf"
    path.write_bytes(data)
    read_base(path)


def config(data: bytes) -> None:
    """adapter_config.json."""
    (folder() / "config" / "adapter_config.json").write_bytes(data)
    convert(folder() / "config", folder() / "out.gguf", base=folder() / "base.gguf", dry_run=True)


def safetensors(data: bytes) -> None:
    """adapter_model.safetensors."""
    (folder() / "safetensors" / "adapter_model.safetensors").write_bytes(data)
    convert(folder() / "safetensors", folder() / "out.gguf", base=folder() / "base.gguf", dry_run=True)


def io_yaml(data: bytes) -> None:
    """An intrinsic's io.yaml, and the request and the result that are made by it."""
    path = folder() / "io.yaml"
    path.write_bytes(data)
    io = IntrinsicIO.open(path)
    request = io.rewrite(MESSAGES, **dict.fromkeys(io.arguments, "x"))
    io.result(request, '{"a": [1, "b"]}')


def activation(data: bytes) -> None:
    """The search for the invocation against trying every place. The first byte: how long the invocation is."""
    n = 1 + data[0] % 8 if data else 1
    invocation, tokens = [b % 3 for b in data[1 : 1 + n]], [b % 3 for b in data[1 + n :]]
    places = [i for i in range(len(tokens)) if invocation and tokens[i : i + len(invocation)] == invocation]
    assert find_invocation(tokens, invocation) == (places[-1] if places else None)


@cache
def constraints():
    """Of the embedded model's vocabulary."""
    return open_forever().enter_context(load_vocab(default_model())).constraints


@cache
def open_forever() -> ExitStack:
    return ExitStack()


def _follow(name: str, value) -> None:
    """A constraint, followed for some tokens that it allows: what is forced, else one by the value's own length."""
    made = constraints().constraint(name, value)
    for i in range(12):
        if made.is_over:
            break
        tokens, are_few = made.allowed()
        allowed = tokens if are_few else (tokens == 0).nonzero()[0]
        forced = made.forced(4)
        assert all(made.allows(token) for token in forced[:1])
        if not len(allowed) and not forced:
            break
        made.accept(forced[0] if forced else int(allowed[(i * 7919 + len(str(value))) % len(allowed)]))


def schema(data: bytes) -> None:
    """A JSON schema."""
    _follow("json_schema", data.decode("utf-8", errors="replace"))


def regex(data: bytes) -> None:
    """A regular expression."""
    _follow("regex", data.decode("utf-8", errors="replace"))


def grammar(data: bytes) -> None:
    """Lark, or GBNF."""
    _follow("grammar", data.decode("utf-8", errors="replace"))


def choice(data: bytes) -> None:
    """Texts, one a line."""
    _follow("choice", data.decode("utf-8", errors="replace").split("\n"))


_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "near": {"type": "object"}}}
_TOOLS = {"weather": _PARAMETERS, "tide": {}}


@cache
def formats() -> list[ToolFormat]:
    """One of each way to write arguments, and of each way to begin."""
    found = [of for _, of in SAID_IN_SOURCE]
    in_tags = Tagged(">\n<parameter=", ">\n", "\n</parameter"), Tagged("<k>", '" string="true">', "</v>", {"number": '" string="false">'})
    for arguments in (*in_tags, Quoted('<|"|>'), "python", "json"):
        found.append(ToolFormat(("<call>",), (), (";<call>",), ("</call>",), arguments, "<call>"))
    key = Keys("name", "arguments")
    found.append(ToolFormat(('{"name": "',), ('", "arguments": ',), None, ("}",), "json", "", key, "<stop>", ("<|python_tag|>",)))
    found.append(ToolFormat(('<tool_call>{"name": "',), ('", "arguments": ',), None, ("}</tool_call>",), "json", "<tool_call>", key, "<stop>"))
    return found


def tool_calls(data: bytes) -> None:
    """What a model says that has tools: whole and in single characters it is the same, and every character is accounted for."""
    said, which = data[1:].decode("utf-8", errors="replace"), data[:1]
    of = formats()[which[0] % len(formats())] if which else formats()[0]
    read = []
    for step in (1, len(said) or 1):
        reader, at, text = ToolCalls(of, _TOOLS), 0, ""
        events = [event for i in range(0, len(said), step) for event in reader.push(said[i : i + step])] + reader.flush()
        for event in events:
            text += said[at : at + event.n] if event.kind == "text" else ""
            at += event.n
        assert at == len(said) and all("\n" not in line for line in reader.warnings)
        read.append((text, [(call.name, call.arguments) for call in reader.calls], reader.stopped))
    assert repr(read[0]) == repr(read[1])


def document(data: bytes) -> None:
    """A document, of the kind that its bytes say, read in this process."""
    if other_kind(data):
        return
    said = answer(data, kind_of(data, "x"), None, time.monotonic())
    assert ("text" in said) != ("error" in said)
    said.get("text", "").encode("utf-8", errors="replace")


TARGETS = {
    target.__name__: target
    for target in (adapter, base, config, safetensors, io_yaml, activation, schema, regex, grammar, choice, tool_calls, document)
}


def run(target: str, data: bytes) -> None:
    try:
        TARGETS[target](data)
    except AloraError as e:
        line = str(e)
        assert line and "\n" not in line, line

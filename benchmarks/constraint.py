"""What constraints cost and hold: `python benchmarks/constraint.py [schemas.json]`, in some minutes.

- the time of a constrained token beside that of a free one, in turn, on the embedded model and on a tiny one with a
  vocabulary of 150,000 tokens, for one answer and for eight at once;
- the same of finding masks on other threads beside finding them in the loop, and what one answer whose masks take 20 ms costs the others;
- what jumping ahead saves of the bundled intrinsics' answers: steps, and seconds;
- with the JSON schemas of a file (a list of {"name", "schema"}), what the embedded model says under each at temperature 0.9.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from alora_gguf import Model, PromptError, bundled_adapters, default_model
from alora_gguf.runtime.constraint import Constraint
from alora_gguf.runtime.sampling import Sampler

REPO = Path(__file__).resolve().parents[1]
FORCED, FIND, LOOK_AHEAD = Constraint.forced, Constraint._find_allowed, Sampler.look_ahead
N_TOKENS, N_ROUNDS, N_EXAMPLES = 48, 6, 24
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 200}, "size": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["name", "size", "tags"],
    "additionalProperties": False,
}


def token_by_token(self: Constraint, n_most: int) -> list[int]:
    return []


def large_vocabulary(folder: Path) -> Path:
    """A plain transformer of two layers with 150,000 tokens, as Qwen's vocabulary has: all bytes, and random words."""
    sys.path.insert(0, str(REPO / "tests" / "engine"))
    import gguf
    from gguf.vocab import bytes_to_unicode  # type: ignore[attr-defined]
    from tiny import llama

    units = list(bytes_to_unicode().values())
    rng, words = np.random.default_rng(0), dict.fromkeys(units)
    letters = [*"abcdefghijklmnopqrstuvwxyz" * 4, *units[:32]]  # a quote or a backslash in some of a hundred, as there
    while len(words) < 150_000:
        words["".join(rng.choice(letters, rng.integers(3, 9)))] = None
    writer = gguf.GGUFWriter(folder / "vocab.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*words, "<|im_end|>"])
    writer.add_token_types([*[1] * len(words), 3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(len(words))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return llama(folder / "vocab.gguf", folder / "model.gguf")


def cost(model: Model, n: int, **how) -> tuple[float, float, float]:
    """Milliseconds of a free token of `n` answers at once, and how many times as long one takes that follows SCHEMA: as it is, and token by token."""

    no_end = dict.fromkeys(model.vocab.ends, -100.0)

    def seconds(**constraint) -> float:
        streams = [
            model.generate([300 + i, 301, 302], max_tokens=N_TOKENS, stream=True, seed=1, logit_bias=no_end, **how, **constraint) for i in range(n)
        ]
        usage = [stream.result.usage for stream in streams]
        assert all(u.completion_tokens == N_TOKENS for u in usage), "an answer ended early"
        return statistics.median(1 / u.tokens_per_second for u in usage)

    rounds = []
    for _ in range(N_ROUNDS):
        free, as_it_is = seconds(), seconds(json_schema=SCHEMA)
        Constraint.forced = token_by_token  # type: ignore[method-assign]
        rounds.append((free, as_it_is, seconds(json_schema=SCHEMA)))
        Constraint.forced = FORCED  # type: ignore[method-assign]
    del rounds[0]
    return (
        statistics.median(a for a, _, _ in rounds) * 1e3,
        statistics.median(b / a for a, b, _ in rounds),
        statistics.median(c / a for a, _, c in rounds),
    )


def in_the_loop(self: Sampler, workers, **_) -> None:
    pass


def slow_of_one(self: Constraint):
    if self._name == "regex":
        time.sleep(0.02)
    return FIND(self)


def threads(model: Model) -> None:
    """Milliseconds a token and their ratio, in turn: masks found in the loop, and by workers."""
    no_end = dict.fromkeys(model.vocab.ends, -100.0)
    different = [{**SCHEMA, "properties": {f"a{i}": {"type": "string", "minLength": 150 + i}, **SCHEMA["properties"]}} for i in range(16)]  # type: ignore[dict-item]
    how = {"max_tokens": N_TOKENS, "stream": True, "seed": 1, "logit_bias": no_end}

    def seconds(schemas, slow: bool = False, **more) -> float:
        last = model.generate([299, 301], **how, temperature=0.8, regex="[^\n]{200}") if slow else None
        streams = [model.generate([300 + i, 301, 302], **how, **more, json_schema=schema) for i, schema in enumerate(schemas)]
        each = [1 / stream.result.usage.tokens_per_second for stream in streams]
        if last is not None:
            last.close()
        return statistics.median(each)

    def in_turn(*args, **more) -> tuple[float, float]:
        rounds = []
        for i in range(N_ROUNDS):
            pair = []
            for look in ((in_the_loop, LOOK_AHEAD), (LOOK_AHEAD, in_the_loop))[i % 2]:
                Sampler.look_ahead = look  # type: ignore[method-assign]
                pair.append((look is LOOK_AHEAD, seconds(*args, **more)))
            rounds.append([s for _, s in sorted(pair)])
        Sampler.look_ahead = LOOK_AHEAD  # type: ignore[method-assign]
        del rounds[0]
        return statistics.median(a for a, _ in rounds) * 1e3, statistics.median(b / a for a, b in rounds)

    for what, schemas, more in (
        ("8 at once, temperature 0.8", [SCHEMA] * 8, {"temperature": 0.8}),
        ("16 schemas at once, temperature 0.8", different, {"temperature": 0.8}),
        ("16 schemas at once, temperature 0", different, {"temperature": 0}),
    ):
        ms, ratio = in_turn(schemas, **more)
        print(f"  {what}: {ms:.2f} ms a token with masks in the loop; with workers {ratio:.3f} times that")
    Constraint._find_allowed = slow_of_one  # type: ignore[method-assign]
    ms, ratio = in_turn([SCHEMA] * 3, slow=True, temperature=0.8)
    Constraint._find_allowed = FIND  # type: ignore[method-assign]
    print(f"  three beside one whose masks take 20 ms: {ms:.2f} ms a token with masks in the loop; with workers {ratio:.3f} times that")


def masks(model: Model) -> None:
    made = model.vocab.constraints.constraint("json_schema", SCHEMA)
    took: dict[str, list[float]] = {"mask": [], "allowed": [], "accept": [], "forced": []}
    for token in model.vocab.tokenize_more('{"name": "' + "the word " * 60 + '", "size": 12, "tags": ["a", "b"]}', special=False):
        for name, call in (
            ("mask", made.allowed),
            ("allowed", lambda: made.allows(token)),
            ("forced", lambda: made.forced(32)),
            ("accept", lambda: made.accept(token)),
        ):
            began = time.perf_counter()
            call()
            took[name].append((time.perf_counter() - began) * 1e6)
    print("  microseconds: " + ", ".join(f"{name} {statistics.median(v):.1f} (most {max(v):.0f})" for name, v in took.items()))


def jumps(model: Model) -> None:
    for name, folder in bundled_adapters().items():
        model.load_adapter(folder, name)
    n_steps = [0]
    decode = model.engine.context.decode

    def counted(spans):
        n_steps[0] += 1
        return decode(spans)

    model.engine.context.decode = counted  # type: ignore[method-assign]
    for name in [name for name, adapter in model.adapters.items() if adapter.is_intrinsic]:
        examples = [json.loads(line) for line in (REPO / "intrinsics" / name / "test.jsonl").read_text(encoding="utf-8").splitlines()]
        ratios, first, steps = [], [], [0, 0]
        for example in examples[:: max(1, len(examples) // N_EXAMPLES)][:N_EXAMPLES]:
            seconds = []
            for i, forced in enumerate((token_by_token, FORCED)):
                Constraint.forced = forced  # type: ignore[method-assign]
                model.clear_cache()
                documents = {"documents": example["documents"]} if example.get("documents") else {}
                chat = model.conversation(messages=example["messages"])
                model.generate(chat.fork(model.adapter(name), chat.messages, **documents).tokens[:-40], max_tokens=1)  # the conversation's own cells
                n_steps[0], began = 0, time.perf_counter()
                reply = chat.invoke(name, **documents)
                seconds.append(time.perf_counter() - began)
                steps[i] += n_steps[0]
            ratios.append(seconds[0] / seconds[1])
            first.append(seconds[1] / (reply.usage.ttft_ms / 1e3))
        print(f"{name}: {steps[0]} steps token by token, {steps[1]} with jumps; {statistics.median(ratios):.2f} times as fast; "
              f"in all {statistics.median(first):.2f} times the first token's time")  # fmt: skip


def sampled(model: Model, path: Path) -> None:
    import jsonschema

    cases = json.loads(path.read_text())
    refused = violated = cut = 0
    streams = []
    for case in cases:  # all at once
        try:
            how = {"temperature": 0.9, "seed": 1, "max_tokens": 800}
            streams.append((case, model.generate("The data as JSON:\n", json_schema=case["schema"], stream=True, **how)))
        except PromptError as e:
            refused += 1
            print(f"  {case['name']}: {e}")
    for case, stream in streams:
        reply = stream.result
        if reply.finish_reason != "stop":
            cut += 1
            continue
        value = json.loads(reply.text)
        kind = jsonschema.validators.validator_for(case["schema"], jsonschema.Draft202012Validator)
        if not kind(case["schema"]).is_valid(value):
            violated += 1
            print(f"  {case['name']}: violated: {reply.text[:200]}")
    print(f"{len(cases)} schemas: {refused} refused, {violated} violated, {cut} cut at 800 tokens")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for what, path, n_ctx in (("135M", default_model(), 4096), ("150,000 tokens", large_vocabulary(Path(name)), 4096)):
            with Model(path, n_ctx=n_ctx) as model:
                began = time.perf_counter()
                model.vocab.constraints.tables  # noqa: B018
                print(f"{what}: tables in {time.perf_counter() - began:.2f} s")
                masks(model)
                for how in ({"temperature": 0}, {"temperature": 0.8}):
                    for n in (1, 8):
                        ms, ratio, single = cost(model, n, **how)
                        print(
                            f"  temperature {how['temperature']}, {n} at once: a free token {ms:.2f} ms; "
                            f"a constrained one {ratio:.3f} times that, {single:.3f} without jumps"
                        )
                threads(model)
    with Model(default_model(), n_ctx=16384) as model:
        jumps(model)
        for path in map(Path, sys.argv[1:]):
            sampled(model, path)


if __name__ == "__main__":
    main()

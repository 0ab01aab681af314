"""What an intrinsic costs in a long conversation: the time to its first token, and what the next turn computes.

    python benchmarks/first_token.py --adapter answerability.gguf

Each row is one conversation of so many tokens. Times are medians in milliseconds, the three kinds of call taken in turn:
  invoke    chat.invoke of an intrinsic that was never invoked before, from the call to the first token
  base      the same tokens decoded on a fork of the same cache, without an adapter
  LoRA      what an ordinary LoRA has to do: everything decoded again, adapted from the first token on (once)
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from alora_gguf import Model, default_model
from alora_gguf.runtime.context import Span

TEXT = "The ferry to the island leaves at nine in the morning and takes two hours, and bicycles travel free of charge. "


def conversation_of(model: Model, n_tokens: int):
    """A conversation whose rendered messages have exactly `n_tokens` tokens, all of them in the cache."""
    words = model.tokenize(TEXT * (n_tokens // 16 + 1), special=False)
    overhead = len(model.tokenize(model.render([{"role": "user", "content": ""}])))
    for n in range(n_tokens - overhead, n_tokens):
        content = model.detokenize(words[:n])
        chat = model.conversation(messages=[{"role": "user", "content": content}])
        if len(model.tokenize(model.render(chat.messages))) == n_tokens:
            return chat
        chat.close()
    raise SystemExit(f"first_token.py: error: a conversation of {n_tokens} tokens: expected one to come out, got none; try another number")


def base_ms(model: Model, tokens: list[int], n_cached: int) -> float:
    """Decodes tokens[n_cached:] without an adapter on a fork of the cells of those before, up to the logits."""
    context, cache = model.engine.context, model.engine.cache

    def decode() -> float:
        began = time.perf_counter()
        seq = cache.acquire()
        source, n = cache.holder(cache.keys(tokens[:n_cached], []))
        assert n == n_cached
        context.fork(source, seq, n)
        (end,) = cache.decode([Span(seq, tokens[n:], n)])
        context.logits(end)
        ms = (time.perf_counter() - began) * 1e3
        context.release(seq)
        return ms

    return model.engine.loop.call(decode)


def lora_ms(model: Model, adapter, tokens: list[int]) -> float:
    """Decodes all of `tokens`, adapted from the first one on, up to the logits."""
    context, cache = model.engine.context, model.engine.cache

    def decode() -> float:
        began = time.perf_counter()
        seq = cache.acquire()
        context.activate(seq, adapter.ptr, 0)
        for i in range(0, len(tokens), context.n_batch):
            cache.decode([Span(seq, tokens[i : i + context.n_batch], i)])
        ms = (time.perf_counter() - began) * 1e3
        context.release(seq)
        return ms

    return model.engine.loop.call(decode)


def measure(model: Model, name: str, n_tokens: int, repeats: int) -> dict:
    adapter = model.adapter(name)
    chat = conversation_of(model, n_tokens)
    chat.invoke(name, max_tokens=1)  # computes the conversation, and the intrinsic's own cells
    tokens = model.tokenize(model.render(chat.messages)) + adapter.invocation_tokens
    ours, base, cached = [], [], set()
    with tempfile.TemporaryDirectory() as folder:
        for i in range(repeats):
            fresh = model.load_adapter(shutil.copy(adapter.path, Path(folder) / f"{i}.gguf"))  # no cell knows this file
            usage = chat.invoke(fresh.name, max_tokens=1).usage
            model.unload_adapter(fresh.name)
            ours.append(usage.ttft_ms)
            cached.add(usage.cached_tokens)
            base.append(base_ms(model, tokens, usage.cached_tokens))
    lora = lora_ms(model, adapter, tokens)
    following = chat.ask("And back?", max_tokens=1).usage
    chat.close()
    return {
        "tokens": n_tokens,
        "reused_by_invoke": cached.pop(),
        "invoke_ms": statistics.median(ours),
        "base_ms": statistics.median(base),
        "invoke_over_base": statistics.median(o / b for o, b in zip(ours, base)),
        "lora_ms": lora,
        "lora_over_invoke": lora / statistics.median(ours),
        "reused_by_the_next_ask": following.cached_tokens,
        "decoded_by_the_next_ask": following.prompt_tokens - following.cached_tokens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="GGUF (default: the embedded one)")
    parser.add_argument("--adapter", type=Path, required=True, help="GGUF adapter")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048, 7680], help="lengths of the conversations")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    n_ctx = max(arguments.tokens) * 2 + 256  # the LoRA's cells beside the conversation's
    rows = []
    with Model(arguments.model or default_model(), n_ctx=n_ctx, n_threads=arguments.threads) as model:
        name = model.load_adapter(arguments.adapter).name
        for n_tokens in arguments.tokens:
            rows.append(measure(model, name, n_tokens, arguments.repeats))
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("| conversation | invoke, first token | base, same tokens | ratio | LoRA, first token | LoRA / invoke | next ask reuses | decodes |")
    print("|---|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['tokens']} tokens | {r['invoke_ms']:.1f} ms | {r['base_ms']:.1f} ms | {r['invoke_over_base']:.2f} | "
            f"{r['lora_ms']:.0f} ms | {r['lora_over_invoke']:.0f} | {r['reused_by_the_next_ask']} | {r['decoded_by_the_next_ask']} |"
        )


if __name__ == "__main__":
    main()

"""What decisions cost, in one run: typed questions on a conversation in the cache, beside one base batch of the same tokens, beside llama-server,
and beside the state anew.

    python benchmarks/decide.py [--model FILE | --shape 1b] [--adapter decide] [--questions 20] [--state 2048] [--threads 2]

Times are medians in milliseconds, the ways taken in turn. Every run asks other questions, so that nothing of them is in the cache; each is
some 25 tokens with what the chat template writes around it.

cached   chat.decide(): the conversation is in the cache
adapter  the same, answered by an adapter; its tokens are as many, and their attention is our own
batch    one decode of the very same tokens, each question in a sequence of its own behind the conversation, base only, nothing read of it
words    as cached, with options whose own words are the labels, a tree of tokens behind each question; these questions are longer
server   llama-server (xllamacpp) on the same model, a request a question, one slot, prompts as token ids, with prompt caching; the
         conversation is in its cache, and it is asked for the log probabilities of the likeliest first tokens
anew     model.decide() with nothing in the cache: the state once, then all questions
each     the same with one question at a time, each on the state anew, as a model of its own reads it for each request
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from alora_gguf import Choice, Model, Predicate, default_model
from alora_gguf.bench.models import Files
from alora_gguf.bench.worker import Settings, Worker
from alora_gguf.prompt.builder import Setting
from alora_gguf.prompt.decisions.prompts import DecisionPrompts
from alora_gguf.prompt.decisions.question import Question
from alora_gguf.runtime.context import Span

TOPICS = (
    "refund invoice delivery password outage contract discount warranty upgrade return address payment account privacy export billing login".split()
)


class Asking:
    """Questions that nobody has asked before."""

    def __init__(self, n: int):
        self._n, self._round = n, 0

    def predicates(self) -> dict[str, Question]:
        self._round += 1
        return {f"q{i}": Predicate(f"Item {self._round}{i:02} is about the {TOPICS[i % len(TOPICS)]}.") for i in range(self._n)}

    def words(self) -> dict[str, Question]:
        self._round += 1
        return {f"q{i}": Choice(f"Item {self._round}{i:02}?", ["under way", "undelivered", "unpaid"], labels="values") for i in range(self._n)}


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def prompts_of(model: Model, messages, questions: dict[str, Question]) -> tuple[list[list[int]], int]:
    """The tokens of each question behind the conversation's, and how many these are."""
    prompts = DecisionPrompts(model.engine.prompts, messages, Setting())
    asked = [question.asked([0, 1], prompts.is_label) for question in questions.values()]
    return [prompts.prompt(one.text, one.labels).tokens for one in asked], prompts.n_shared


def base_batch(model: Model, messages, questions: dict[str, Question]) -> tuple[float, int]:
    """The seconds of a decode of the questions' tokens behind the conversation's, and how many these are."""
    made, n = prompts_of(model, messages, questions)
    cache, context = model.engine.cache, model.engine.context

    def decode() -> float:
        seq, n_ready = cache.holder(cache.keys(made[0][:n], [])) or (0, 0)
        assert n_ready >= n - 16, "the conversation is not in the cache"
        seqs = [cache.acquire() for _ in made]
        try:
            for own in seqs:
                context.fork(seq, own, n_ready)
            spans = [Span(own, tokens[n_ready:], n_ready) for own, tokens in zip(seqs, made)]
            return seconds(lambda: [context.decode(part) for part in parts(spans, context.n_ubatch)])
        finally:
            for own in seqs:
                context.release(own)

    return model.engine.loop.call(decode), sum(len(tokens) - n for tokens in made)


def parts(spans: list[Span], n_most: int) -> list[list[Span]]:
    made: list[list[Span]] = [[]]
    for span in spans:
        if sum(len(s.tokens) for s in [*made[-1], span]) > n_most:
            made.append([])
        made[-1].append(span)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="GGUF (default: the embedded one)")
    parser.add_argument("--shape", choices=["1b", "3b"], help="a model of random weights in this shape instead, made in build/bench")
    parser.add_argument("--adapter", help="a bundled one's name, or a file or folder, for the row `adapter`")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--state", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--anew", type=int, default=1, help="runs of those that read the state anew; 0: none")
    parser.add_argument("--no-server", action="store_true", help="without llama-server, and so without xllamacpp")
    args = parser.parse_args()
    path = Path(args.model or (Files(Path("build/bench")).model(args.shape) if args.shape else default_model()))
    server = None if args.no_server else Worker("llama-server", Settings(path, n_ctx=args.state + 1024, n_threads=args.threads))
    with Model(path, n_ctx=args.state + 4096 + 2048 * args.runs, n_threads=args.threads, n_threads_batch=args.threads) as model:
        words = "The parcel arrived on time, but the invoice names another address, and nobody answered the calls. "
        n_words = len(model.tokenize(words))
        messages = [{"role": "user", "content": words * (args.state // n_words)}, {"role": "assistant", "content": "I have read all of it."}]
        chat, asking = model.conversation(messages=messages), Asking(args.questions)
        chat.decide(asking.predicates())
        adapter = model.load_adapter(args.adapter).name if args.adapter else None
        times: dict[str, list[float]] = {"cached": [], "adapter": [], "batch": [], "words": [], "server": [], "anew": [], "each": []}
        n_tokens, n_state = 0, len(chat.cells()[1])
        if server:
            server.top(prompts_of(model, messages, asking.predicates())[0][0], None, 0)
        for _ in range(args.runs):
            times["cached"].append(seconds(lambda: chat.decide(asking.predicates())))
            if adapter:
                times["adapter"].append(seconds(lambda: chat.decide(asking.predicates(), adapter=adapter)))
            took, n_tokens = base_batch(model, messages, asking.predicates())
            times["batch"].append(took)
            times["words"].append(seconds(lambda: chat.decide(asking.words())))
            if server:
                prompts, _ = prompts_of(model, messages, asking.predicates())
                times["server"].append(seconds(lambda: [server.top(tokens, None, 0) for tokens in prompts]))
        for _ in range(args.anew):
            model.clear_cache()
            times["anew"].append(seconds(lambda: model.decide(messages, asking.predicates())))
            model.clear_cache()
            one = dict(list(asking.predicates().items())[:1])
            times["each"].append(args.questions * seconds(lambda: model.decide(messages, one)))
    print(f"{args.questions} questions of {n_tokens / args.questions:.1f} tokens on {n_state} tokens, {args.threads} threads")
    ms = {name: 1000 * statistics.median(taken) for name, taken in times.items() if taken}
    ways = {"cached": ["batch"], "adapter": ["batch"], "words": ["batch"], "server": ["cached", "adapter"], "anew": ["cached"], "each": ["cached"]}
    for name, value in ms.items():
        beside = [f"{value / ms[way]:6.2f} x {way}" for way in ways.get(name, []) if way in ms]
        print(f"{name:>7} {value:10.1f} ms  {'  '.join(beside)}".rstrip())


if __name__ == "__main__":
    main()

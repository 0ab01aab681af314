"""What decisions cost, in one run: typed questions on a conversation in the cache, beside one base batch of the same tokens, and beside the state anew.

    python benchmarks/decide.py [--model FILE] [--questions 20] [--state 2048] [--threads 2]

Times are medians in milliseconds, the ways taken in turn. Every run asks other questions, so that nothing of them is in the cache; each is
some 25 tokens with what the chat template writes around it.

cached   chat.decide(): the conversation is in the cache
batch    one decode of the very same tokens, each question in a sequence of its own behind the conversation, base only, nothing read of it
words    as cached, with options whose own words are the labels, a tree of tokens behind each question; these questions are longer
anew     model.decide() with nothing in the cache: the state once, then all questions
each     the same with one question at a time, each on the state anew, as a model of its own reads it for each request
"""

import argparse
import statistics
import time
from collections.abc import Callable

from alora_gguf import Choice, Model, Predicate, default_model
from alora_gguf.prompt.builder import Setting
from alora_gguf.prompt.decision import Question
from alora_gguf.prompt.decision_prompt import DecisionPrompts
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


def base_batch(model: Model, messages, questions: dict[str, Question]) -> tuple[float, int]:
    """The seconds of a decode of the questions' tokens behind the conversation's, and how many these are."""
    prompts = DecisionPrompts(model.engine.prompts, messages, Setting())
    made = [prompts.prompt(asked.text, asked.labels).tokens for q in questions.values() for asked in [q.asked([0, 1], prompts.is_label)]]
    n = prompts.n_shared
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
    parser.add_argument("--model", default=None)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--state", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--anew", type=int, default=1, help="runs of those that read the state anew; 0: none")
    args = parser.parse_args()
    with Model(
        args.model or default_model(), n_ctx=args.state + 4096 + 2048 * args.runs, n_threads=args.threads, n_threads_batch=args.threads
    ) as model:
        words = "The parcel arrived on time, but the invoice names another address, and nobody answered the calls. "
        n_words = len(model.tokenize(words))
        messages = [{"role": "user", "content": words * (args.state // n_words)}, {"role": "assistant", "content": "I have read all of it."}]
        chat, asking = model.conversation(messages=messages), Asking(args.questions)
        chat.decide(asking.predicates())
        times: dict[str, list[float]] = {"cached": [], "batch": [], "words": [], "anew": [], "each": []}
        n_tokens, n_state = 0, len(chat.cells()[1])
        for _ in range(args.runs):
            times["cached"].append(seconds(lambda: chat.decide(asking.predicates())))
            took, n_tokens = base_batch(model, messages, asking.predicates())
            times["batch"].append(took)
            times["words"].append(seconds(lambda: chat.decide(asking.words())))
        for _ in range(args.anew):
            model.clear_cache()
            times["anew"].append(seconds(lambda: model.decide(messages, asking.predicates())))
            model.clear_cache()
            one = dict(list(asking.predicates().items())[:1])
            times["each"].append(args.questions * seconds(lambda: model.decide(messages, one)))
    print(f"{args.questions} questions of {n_tokens / args.questions:.1f} tokens on {n_state} tokens, {args.threads} threads")
    ms = {name: 1000 * statistics.median(taken) for name, taken in times.items() if taken}
    ways = {"cached": "batch", "words": "batch", "anew": "cached", "each": "cached"}
    for name, value in ms.items():
        print(f"{name:>7} {value:10.1f} ms" + (f"  {value / ms[ways[name]]:6.2f} x {ways[name]}" if name in ways else ""))


if __name__ == "__main__":
    main()

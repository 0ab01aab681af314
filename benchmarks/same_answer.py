"""Whether an intrinsic's answer depends on anything but the conversation: the bundled ones, asked in five ways.

    python benchmarks/same_answer.py [--conversations 200] [--threads 2]

Each conversation is of the intrinsics' own tests. Its cells are computed once; then each intrinsic is asked alone, again, in
one batch with the other intrinsics, beside fifteen other conversations, and after the conversation was saved and restored
into an empty cache. Counted are answers whose tokens are not those given alone, and those whose results are not: a likelihood
may differ in its last digits where the tokens do not.
"""

import argparse
import json
import tempfile
from pathlib import Path

from alora_gguf import Conversation, Model, Reply, ResultError, default_model
from alora_gguf.convert import convert

INTRINSICS = Path(__file__).parents[1] / "intrinsics"
NAMES = "answerability", "certainty", "query-rewrite"
BESIDE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversations", metavar="N", type=int, default=200)
    parser.add_argument("--threads", metavar="N", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Model(default_model(), n_ctx=16384, n_threads=args.threads) as model:
        for name in NAMES:
            convert(INTRINSICS / name / "adapter", Path(folder, f"{name}.gguf"), base=model.path)
            model.load_adapter(Path(folder, f"{name}.gguf"))
        counts = {way: [0, 0, 0] for way in ("again", "together", "beside others", "restored")}
        lines = conversations(args.conversations)
        for first in range(0, len(lines), BESIDE):
            ask(model, [begun(model, line) for line in lines[first : first + BESIDE]], counts, Path(folder, "chat"))
            model.clear_cache()
            if not args.json:
                print(
                    f"{min(first + BESIDE, len(lines))} of {len(lines)} conversations: "
                    + ", ".join(f"{way} {tokens} and {results} of {n}" for way, (tokens, results, n) in counts.items()),
                    flush=True,
                )
    if args.json:
        print(json.dumps({way: {"tokens": tokens, "results": results, "of": n} for way, (tokens, results, n) in counts.items()}))


def conversations(n: int) -> list[dict]:
    """Lines of all tests, in turn."""
    tests = [[json.loads(line) for line in (INTRINSICS / name / "test.jsonl").read_text(encoding="utf-8").splitlines()] for name in NAMES]
    return [line for lines in zip(*tests) for line in lines][:n]


def begun(model: Model, line: dict) -> Conversation:
    chat = model.conversation(messages=line["messages"])
    for document in line.get("documents") or ():
        chat.attach(document["text"])
    model.generate(chat.cells()[1], max_tokens=1, temperature=0)  # so that no intrinsic computes it
    return chat


def ask(model: Model, chats: list[Conversation], counts: dict[str, list[int]], path: Path) -> None:
    def count(way: str, got: Reply | None, alone: Reply | None) -> None:
        counts[way][0] += tokens(got) != tokens(alone)
        counts[way][1] += result(got) != result(alone)
        counts[way][2] += 1

    fitting = [
        [name for name in NAMES if model.adapter(name).metadata.invoked_after in (None, *{m["role"] for m in chat.messages})] for chat in chats
    ]
    alone = [{name: one(chat, name) for name in names} for chat, names in zip(chats, fitting)]
    for chat, names, replies in zip(chats, fitting, alone):
        for name in names:
            count("again", one(chat, name), replies[name])
        for name, reply in chat.invoke_all(names).items():
            count("together", reply, replies[name])
    streams = [chat.invoke_all(names, stream=True) for chat, names in zip(chats, fitting)]
    for stream, replies in zip(streams, alone):
        for name, reply in stream.result.items():
            count("beside others", reply, replies[name])
    for i, chat in enumerate(chats):
        chat.save(path.with_suffix(f".{i}"))  # all of them, before the cells of any go
    for i, (names, replies) in enumerate(zip(fitting, alone)):
        model.clear_cache()
        with model.restore(path.with_suffix(f".{i}")) as restored:
            for name in names:
                count("restored", one(restored, name), replies[name])


def one(chat: Conversation, name: str) -> Reply | None:
    try:
        return chat.invoke(name)
    except ResultError:
        return None


def tokens(reply: Reply | None) -> list[int] | None:
    """Of a text that is no result, none."""
    return None if reply is None or reply.error else reply.tokens


def result(reply: Reply | None):
    return None if reply is None or reply.error else reply.result


if __name__ == "__main__":
    main()

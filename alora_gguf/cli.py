"""The command `alora`: parses and prints, no more."""

import argparse
import dataclasses
import io
import json
import os
import sys
from pathlib import Path

from . import __version__
from .convert.text import printable
from .errors import AloraError, PromptError


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # better a wrong character than no answer
    try:
        status = args.run(args)
        sys.stdout.flush()
        return status
    except AloraError as e:
        print(f"alora: error: {printable(str(e), limit=2000)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="alora", description="Activated LoRA on llama.cpp.")
    parser.add_argument("--version", action="version", version=f"alora_gguf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    chat = commands.add_parser("chat", help="chat with a model; every adapter is a command", description=(
        "Chat with a model in the terminal. Every adapter is a command: /answerability runs it on the conversation "
        "so far. Lines that come through a pipe are taken as if they were typed."))
    chat.add_argument("--model", metavar="GGUF", help="base model (default: the embedded SmolLM2-135M-Instruct)")
    chat.add_argument("--adapter", metavar="GGUF", action="append", default=[], help="adapter; may be repeated")
    chat.add_argument("--system", metavar="TEXT", help="system message")
    chat.add_argument("--ctx", metavar="N", type=int, default=4096, help="cells of the KV cache (default: %(default)s)")
    chat.add_argument("--gpu-layers", metavar="N", type=int, default=0, help="layers on a GPU, -1 for all")
    chat.add_argument("--threads", metavar="N", type=int, help="default: the machine's cores")
    chat.add_argument("--temperature", metavar="T", type=float, default=0.2, help="0 is greedy (default: %(default)s)")
    chat.add_argument("--max-tokens", metavar="N", type=int, default=512, help="of an answer (default: %(default)s)")
    chat.add_argument("--seed", metavar="N", type=int, help="makes the answers repeatable")
    chat.add_argument("--prompt", metavar="TEXT", help="ask this, print, and end")
    chat.add_argument("--no-answer", action="store_true", help="with --prompt: only say it, for the intrinsics to judge")
    chat.add_argument("--invoke", metavar="NAME", action="append", default=[], help="with --prompt: then run this intrinsic")
    chat.add_argument("--json", action="store_true", help="with --prompt: print JSON")
    chat.set_defaults(run=_chat)

    show = commands.add_parser("show", help="what is in an adapter file", description="Prints what is in a GGUF adapter.")
    show.add_argument("file", help="GGUF adapter")
    show.add_argument("--json", action="store_true")
    show.set_defaults(run=_show)

    bench = commands.add_parser("bench", help="measure this engine beside its neighbours", description=(
        "Measures this engine beside the unpatched library, llama-server (xllamacpp) and PEFT, in one run, on the embedded model "
        "and random models of 1B and 3B. Prints the figures; writes JSON, a page and plots. Take a quiet machine and half an hour."))
    bench.add_argument("--out", metavar="DIR", default="docs/benchmarks", help="default: %(default)s")
    bench.add_argument("--models", metavar="NAME", nargs="+", default=["135m", "1b", "3b"], help="default: 135m 1b 3b")
    bench.add_argument("--only", metavar="NAME", action="append", default=[], help="only this figure; may be repeated")
    bench.add_argument("--quick", action="store_true", help="a little of everything on a tiny model: whether it runs")
    bench.add_argument("--unpatched", metavar="DIR", help="unpatched libraries (default: build/unpatched/bin, if it is there)")
    bench.add_argument("--cache", metavar="DIR", help="where models and adapters are kept, 5 GB (default: the user's cache folder)")
    bench.add_argument("--threads", metavar="N", type=int, help="default: the machine's cores")
    bench.set_defaults(run=_bench)
    return parser


def _show(args: argparse.Namespace) -> int:
    from .convert import describe, render

    description = describe(args.file)
    print(json.dumps(description, indent=2, ensure_ascii=False) if args.json else render(description))
    return 0


def _bench(args: argparse.Namespace) -> int:
    from .bench.bench import bench
    from .bench.report import table

    results = bench(
        Path(args.out), cache=args.cache and Path(args.cache), models=args.models, only=args.only,
        unpatched=args.unpatched and Path(args.unpatched), n_threads=args.threads, quick=args.quick)
    print(table(results))
    wrong = [f"{c['engine']}, {c['what']}: computed something else" for c in results["checks"] if not c["ok"]]
    for line in [*results["left_out"], *results["failed"], *wrong]:
        print(f"alora: bench: {line}", file=sys.stderr)
    return 1 if results["failed"] or wrong else 0


def _chat(args: argparse.Namespace) -> int:
    from . import Model, default_model
    from .chat import HELP

    if args.prompt is None and (args.invoke or args.no_answer or args.json):
        raise PromptError("--invoke, --no-answer, --json: expected --prompt TEXT with them, got none; in a chat an adapter is a command")
    with Model(args.model or default_model(), n_ctx=args.ctx, n_gpu_layers=args.gpu_layers, n_threads=args.threads) as model:
        for path in args.adapter:
            if (name := Path(path).stem) in (*model.adapters, *HELP):
                raise PromptError(f"--adapter {path}: expected a name of its own, got {name!r}, which is taken; rename the file")
            model.load_adapter(path)
        sampling = {"temperature": args.temperature, "max_tokens": args.max_tokens, "seed": args.seed}
        return (_talk if args.prompt is None else _ask_once)(args, model, sampling)


def _talk(args: argparse.Namespace, model, sampling: dict) -> int:
    from .chat import Chat
    from .terminal import dim_writer, is_interactive, piped_lines, typed_lines, writer

    write = writer(sys.stdout)
    chat = Chat(lambda: model.conversation(system=args.system), list(model.adapters), write, dim_writer(sys.stdout), **sampling)
    if is_interactive():
        dim_writer(sys.stdout)(f"{model.path.stem}; {', '.join(chat.commands)}\n")
        chat.run(typed_lines(chat.commands))
    else:
        chat.run(piped_lines(sys.stdin, write))
    return 0


def _ask_once(args: argparse.Namespace, model, sampling: dict) -> int:
    from .terminal import writer

    for name in args.invoke:
        model.adapter(name)
    conversation = model.conversation(system=args.system)
    reply = None
    if args.no_answer:
        conversation.add("user", args.prompt)
    else:
        reply = conversation.ask(args.prompt, **sampling)
    verdicts = conversation.invoke_all(args.invoke) if args.invoke else {}
    if args.json:
        as_json = lambda r: {"text": r.text, "finish_reason": r.finish_reason, "usage": dataclasses.asdict(r.usage)}  # noqa: E731
        print(json.dumps({
            "reply": reply and as_json(reply),
            "invocations": {name: as_json(r) for name, r in verdicts.items()},
        }, indent=2, ensure_ascii=False))
    else:
        write = writer(sys.stdout)
        if reply:
            write(f"{reply}\n")
        for name, verdict in verdicts.items():
            write(f"{name}: {verdict}\n")
    return 0

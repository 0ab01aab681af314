"""The command `alora`: parses and prints, no more."""

import argparse
import dataclasses
import io
import json
import os
import shlex
import sys
from pathlib import Path

from . import __version__
from .convert.text import printable
from .errors import AloraError, PromptError, ServeError, TrainError


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    args.command_line = sys.argv[2:] if argv is None else argv[1:]  # for what writes down how it was made
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

    serve = commands.add_parser("serve", help="an OpenAI-compatible HTTP server", description=(
        "Serves a base model and its adapters to programs that speak OpenAI's API. An adapter is chosen by its name, as `model`. "
        "SIGTERM lets the requests under way end. Needs the extra [serve]."))
    serve.add_argument("--model", metavar="GGUF", help="base model (default: the embedded SmolLM2-135M-Instruct)")
    serve.add_argument("--demo", action="store_true", help="with the adapters that come with this package")
    serve.add_argument("--adapter", metavar="[NAME=]PATH", action="append", default=[], help="GGUF adapter or PEFT folder; may be repeated")
    serve.add_argument("--adapters-from", metavar="DIR", action="append", default=[],
                       help="folder that clients may load adapters from; may be repeated (default: they load none)")
    serve.add_argument("--name", action="append", default=[], help="what clients call the base model; may be repeated (default: the file's name)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)")
    serve.add_argument("--port", metavar="N", type=int, default=8080, help="0 for any that is free (default: %(default)s)")
    serve.add_argument("--api-key", metavar="KEY", action="append", help="that clients have to give; may be repeated (default: ALORA_API_KEY)")
    serve.add_argument("--ctx", metavar="N", type=int, default=16384, help="cells of the KV cache, for all together (default: %(default)s)")
    serve.add_argument("--parallel", metavar="N", type=int, default=64, help="most answers at once (default: %(default)s)")
    serve.add_argument("--queue", metavar="N", type=int, default=256, help="most requests that wait; others get 429 (default: %(default)s)")
    serve.add_argument("--max-tokens", metavar="N", type=int, default=4096, help="most of one answer (default: %(default)s)")
    serve.add_argument("--max-body", metavar="MIB", type=int, default=8, help="most of one request (default: %(default)s)")
    serve.add_argument("--timeout", metavar="S", type=float, default=600, help="most seconds of one answer (default: %(default)s)")
    serve.add_argument("--drain", metavar="S", type=int, default=30, help="seconds that requests have to end in after SIGTERM (default: %(default)s)")
    serve.add_argument("--adapter-memory", metavar="MIB", type=int, help="most of adapters in memory at once (default: no limit)")
    serve.add_argument("--gpu-layers", metavar="N", type=int, default=0, help="layers on a GPU, -1 for all")
    serve.add_argument("--threads", metavar="N", type=int, help="default: the machine's cores")
    serve.set_defaults(run=_serve)

    show = commands.add_parser("show", help="what is in an adapter file", description="Prints what is in a GGUF adapter.")
    show.add_argument("file", help="GGUF adapter")
    form = show.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--diffable", action="store_true", help="a line for every key and tensor, with hashes, for diff")
    show.set_defaults(run=_show)

    verify = commands.add_parser("verify", help="compare an adapter file with PEFT", description=(
        "Runs PEFT and this runtime on the same random prompts and prints the relative errors of the logits; "
        "exit code 1 above the tolerance. Needs the extra [verify]."))
    verify.add_argument("adapter", help="PEFT's folder")
    verify.add_argument("file", help="GGUF adapter made of it")
    verify.add_argument("--base", metavar="GGUF", required=True, help="base model")
    verify.add_argument("--hf-base", metavar="FOLDER", help="the base as transformers loads it (default: it reads the GGUF)")
    verify.add_argument("--tolerance", metavar="X", type=float, help="default: by the adapter's type, 2e-5 for f32")
    verify.add_argument("--seed", metavar="N", type=int, default=0, help="of the prompts (default: %(default)s)")
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(run=_verify)

    export = commands.add_parser("export", help="an adapter file back to a PEFT folder", description=(
        "Writes a GGUF adapter as a folder that PEFT loads, with the very values that the file holds."))
    export.add_argument("file", help="GGUF adapter")
    export.add_argument("folder", help="folder to write; must be new or empty")
    export.add_argument("--base", metavar="GGUF", required=True, help="base model that the adapter was made for")
    export.set_defaults(run=_export)

    train = commands.add_parser("train", help="train an activated LoRA of your own", description=(
        "Trains an activated LoRA on chat messages and wanted outputs, one JSON object a line: {\"messages\": [...], \"output\": \"...\"}. "
        "What stands before the invocation is computed once. Writes a folder that PEFT loads. A run that was stopped goes on when the "
        "command is given again. Needs the extra [train]."))
    train.add_argument("data", nargs="?", help="JSONL file of examples, or a TOML file with these options and `data`")
    train.add_argument("--base", metavar="GGUF", help="base model (default: the embedded SmolLM2-135M-Instruct)")
    train.add_argument("--invocation", metavar="TEXT", help='what activates it, as "<|im_start|>certainty\\n" or "<certainty>"')
    train.add_argument("-o", "--out", metavar="FOLDER", help="PEFT's folder to write")
    train.add_argument("--gguf", metavar="FILE", help="convert it too")
    train.add_argument("--name", help="what the intrinsic is called (default: the folder's name)")
    train.add_argument("--eval", metavar="FILE", help="examples to choose the best checkpoint by (default: some of the data, held out)")
    train.add_argument("--eval-share", metavar="X", type=float, help="how many of them (default: 0.1)")
    request = train.add_mutually_exclusive_group()
    request.add_argument("--io", metavar="FILE", help="io.yaml of the intrinsic")
    request.add_argument("--instruction", metavar="TEXT", help='the same with an instruction alone, as "<certainty> {last_message}"')
    train.add_argument("--invoked-after", metavar="ROLE", help="whose message it judges (default: that of all examples, if they agree)")
    train.add_argument("--start", metavar="FOLDER", help="begin with the weights of this PEFT folder (default: random ones)")
    train.add_argument("--method", choices=["alora", "lora"], help="lora: an ordinary LoRA, to compare with (default: alora)")
    train.add_argument("--rank", metavar="N", type=int, help="default: 32")
    train.add_argument("--alpha", metavar="X", type=float, help="default: twice the rank")
    train.add_argument("--targets", metavar="NAME", nargs="+", help="layers to adapt (default: all linear ones)")
    train.add_argument("--epochs", metavar="X", type=float, help="default: 3")
    train.add_argument("--learning-rate", metavar="X", type=float, help="default: 5e-4")
    train.add_argument("--batch-size", metavar="N", type=int, help="examples a step (default: 16)")
    train.add_argument("--row-tokens", metavar="N", type=int, help="most tokens of examples that are computed together (default: 512)")
    train.add_argument("--n-evals", metavar="N", type=int, help="evaluations, evenly over the run (default: 10)")
    train.add_argument("--select", choices=["accuracy", "loss"], help="which checkpoint is best (default: accuracy)")
    train.add_argument("--seed", metavar="N", type=int, help="default: 0")
    train.add_argument("--dtype", choices=["float32", "bfloat16"], help="of the base while training (default: what is fast here)")
    train.add_argument("--threads", metavar="N", type=int, help="default: the machine's cores")
    train.add_argument("--cache-memory", metavar="MB", type=_megabytes, help="for the keys and values of prefixes (default: half of what is free)")
    train.add_argument("--cache-disk", metavar="MB", type=_megabytes, help="for those that memory has no room for (default: 0)")
    train.add_argument("--restart", action="store_true", help="begin anew in place of going on")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("eval", help="how good intrinsics are", description=(
        "Measures intrinsics on held-out data through the GGUF runtime: the base model prompted, a LoRA, the aLoRA. Prints a table; "
        "with --out writes Markdown, JSON and a plot."))
    evaluate.add_argument("plan", nargs="+", help="TOML file: name, tests, prompted, adapters")
    evaluate.add_argument("--out", metavar="DIR", help="folder for intrinsics.md, .json and .png; needs the extra [bench]")
    evaluate.add_argument("--limit", metavar="N", type=int, help="only so many examples of every test")
    evaluate.add_argument("--threads", metavar="N", type=int, help="default: the machine's cores")
    evaluate.set_defaults(run=_eval)

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


def _serve(args: argparse.Namespace) -> int:
    try:
        from .serve.command import run
    except ModuleNotFoundError as e:
        raise ServeError(f"alora serve: expected the package {e.name}, got none; pip install 'alora_gguf[serve]'") from e

    run(args, lambda line: print(line, file=sys.stderr, flush=True))
    return 0


def _show(args: argparse.Namespace) -> int:
    from .convert import describe, render, render_diffable

    if args.diffable:
        print(render_diffable(args.file))
        return 0
    description = describe(args.file)
    print(json.dumps(description, indent=2, ensure_ascii=False) if args.json else render(description))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from .verify import verify

    done = verify(args.adapter, args.file, args.base, hf_base=args.hf_base, tolerance=args.tolerance, seed=args.seed)
    if args.json:
        print(json.dumps({**dataclasses.asdict(done), "limit": done.limit, "passed": done.passed}, indent=2))
        return 0 if done.passed else 1
    print(f"{'active from':>11}  {'error':>9}  {'base error':>10}  {'effect':>9}")
    for prompt in done.prompts:
        start = "nowhere" if prompt.start is None else prompt.start
        print(f"{start:>11}  {prompt.error:9.2e}  {prompt.base_error:10.2e}  {prompt.effect:9.2e}")
    hidden = "" if done.is_conclusive else ", and the base's own error is more than the adapter's effect; take a base in f32 or f16"
    print(f"{'passed' if done.passed else 'FAILED'}: at most {done.limit:.1e} is allowed{hidden}")
    return 0 if done.passed else 1


def _export(args: argparse.Namespace) -> int:
    from .convert import export

    print(f"wrote {export(args.file, args.folder, args.base)}")
    return 0


def _megabytes(text: str) -> int:
    return int(float(text) * 1e6)


def _train(args: argparse.Namespace) -> int:
    from .train.settings import Settings, read_config

    given = {name: value for name, value in vars(args).items() if value is not None and name not in ("run", "gguf", "restart", "data", "command_line")}
    if "invocation" in given:
        given["invocation"] = given["invocation"].replace("\\n", "\n")  # which shells cannot be asked to type
    data = Path(args.data) if args.data else None
    if data is not None and data.suffix == ".toml":
        given = {**read_config(data), **given}
    elif data is not None:
        given["data"] = data
    for name, option in (("data", "a JSONL file"), ("invocation", "--invocation TEXT"), ("out", "-o FOLDER")):
        if name not in given:
            raise TrainError(f"{name}: expected {option}, got none; give it")
    settings = Settings(**given)
    try:
        from .train.progress import Progress
        from .train.train import train
    except ModuleNotFoundError as e:
        raise TrainError(f"train: expected the extra [train], got no {e.name}; pip install 'alora_gguf[train]'") from e
    command = f"alora train {shlex.join(args.command_line)}"
    best = train(settings, Progress(), command=command, gguf=args.gguf and Path(args.gguf), restart=args.restart)
    print(f"wrote {settings.out}: outputs said exactly {best['accuracy']:.1%}, loss {best['loss']:.4f}, of step {best['step']:.0f}")
    if args.gguf:
        print(f"wrote {args.gguf}")
    return 0


def _eval(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .eval.evaluate import evaluate
    from .eval.page import write_page
    from .eval.plan import read_plan
    from .eval.report import table

    plans = [read_plan(Path(path)) for path in args.plan]
    rows = {}
    for plan in plans:
        with tqdm(desc=plan.name, unit="example", file=sys.stderr, mininterval=0.2 if sys.stderr.isatty() else 15) as bar:

            def on_example(title: str, done: int, total: int) -> None:
                bar.total = total
                bar.set_description(f"{plan.name}, {title}", refresh=False)
                bar.update(done - bar.n)

            rows[plan.name] = evaluate(plan, limit=args.limit, threads=args.threads, on_example=on_example)
        print(f"{plan.name}\n\n{table(rows[plan.name])}\n")
    if args.out:
        print(f"wrote {write_page(Path(args.out), rows, f'alora eval {shlex.join(args.command_line)}')}")
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
    from .chat import finding
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
            "invocations": {name: {**as_json(r), "result": r.result} for name, r in verdicts.items()},
        }, indent=2, ensure_ascii=False))
    else:
        write = writer(sys.stdout)
        if reply:
            write(f"{reply}\n")
        for name, verdict in verdicts.items():
            write(f"{name}: {finding(verdict)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

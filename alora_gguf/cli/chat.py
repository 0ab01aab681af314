"""`alora chat`."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import PromptError
from ..prompt.window import ON_FULL
from ..text import printable, printable_json
from . import devices, hub
from .words import in_options

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty", "max_tokens", "seed", "thinking_budget",
)  # fmt: skip


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "chat",
        help="chat with a model; every adapter is a command",
        description=(
            "Chat with a model in the terminal. Every adapter is a command: /answerability runs it on the conversation "
            "so far. Lines that come through a pipe are taken as if they were typed."
        ),
    )
    parser.add_argument("--model", help=f"base model: {hub.MODEL} (default: the embedded SmolLM2-135M-Instruct)")
    hub.add_option(parser)
    parser.add_argument("--adapter", nargs="+", action="extend", default=[], help=f"adapters, each {hub.ADAPTER}; may be repeated")
    hub.add_intrinsics(parser)
    parser.add_argument("--demo", action="store_true", help="with the adapters that come with this package")
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument(
        "--doc",
        metavar="FILE",
        action="append",
        default=[],
        help="document to attach: text, Markdown, HTML, PDF or DOCX; with some pages of a PDF behind it, as 'report.pdf 3-7'; may be repeated",
    )
    parser.add_argument("--resume", metavar="FILE", type=Path, help="go on with a conversation that /save wrote")
    parser.add_argument("--ctx", metavar="N", type=int, default=4096, help="cells of the KV cache (default: %(default)s)")
    parser.add_argument(
        "--on-full",
        choices=ON_FULL,
        default="drop-oldest",
        help="what happens to a chat that is longer than the context: its oldest turns are left out, or an error (default: %(default)s)",
    )
    devices.add_options(parser)
    parser.add_argument("--threads", metavar="N", type=int, help="default: the cores that it may use")
    parser.add_argument("--temperature", metavar="T", type=float, default=0.2, help="0 is greedy (default: %(default)s)")
    parser.add_argument("--top-p", metavar="P", type=float, help="only the likeliest tokens that have this share together (default: 0.95)")
    parser.add_argument("--top-k", metavar="N", type=int, help="only so many of the likeliest tokens; 0: all (default: 40)")
    parser.add_argument("--min-p", metavar="P", type=float, help="only tokens that are this likely beside the likeliest (default: 0.05)")
    parser.add_argument("--repeat-penalty", metavar="X", type=float, help="makes what was just said less likely, as 1.1 (default: 1)")
    parser.add_argument("--frequency-penalty", metavar="X", type=float, help="the same, more the more often it was said (default: 0)")
    parser.add_argument("--presence-penalty", metavar="X", type=float, help="the same for all that was said (default: 0)")
    parser.add_argument("--max-tokens", metavar="N", type=int, default=512, help="of an answer (default: %(default)s)")
    parser.add_argument("--thinking-budget", metavar="N", type=int, help="tokens of a thought; 0: none (default: as many as it likes)")
    parser.add_argument("--seed", metavar="N", type=int, help="makes the answers repeatable")
    parser.add_argument(
        "--template-kwarg",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="variable of the chat template, its value JSON or text, as enable_thinking=false; may be repeated",
    )
    parser.add_argument("--parse-special", action="store_true", help="names of control tokens in messages and documents become these tokens")
    parser.add_argument("--prompt", metavar="TEXT", help="ask this, print, and end; - reads it from standard input")
    parser.add_argument("--no-answer", action="store_true", help="with --prompt: only say it, for the intrinsics to judge")
    parser.add_argument("--invoke", metavar="NAME", action="append", default=[], help="with --prompt: then run this intrinsic")
    parser.add_argument("--json", action="store_true", help="with --prompt: print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .. import Model, SamplingParams, bundled_adapters, default_model
    from ..hub.names import adapter_name
    from ..terminal.chat import TAKEN

    if args.prompt is None and (args.invoke or args.no_answer or args.json):
        raise PromptError("--invoke, --no-answer, --json: expected --prompt TEXT with them, got none; in a chat an adapter is a command")
    if args.prompt == "-":
        args.prompt = sys.stdin.read().strip()
        if not args.prompt:
            raise PromptError("--prompt -: expected a question on standard input, got none")
    elif args.prompt is not None and not args.prompt.strip():
        raise PromptError("--prompt: expected a question, got none; without the option it is a chat")
    sampling = {name: value for name in _SAMPLING if (value := getattr(args, name)) is not None}
    SamplingParams(**sampling)  # here, and not with the first question
    variables = dict(map(variable, args.template_kwarg))
    with Model(
        args.model or default_model(), n_ctx=args.ctx, n_threads=args.threads, parse_special=args.parse_special, **devices.options(args)
    ) as model:
        for name, path in [*(bundled_adapters().items() if args.demo else ()), *((adapter_name(given), given) for given in args.adapter)]:
            taken = name in model.adapters or name in TAKEN and name != "decide"  # which is what an adapter for decisions may be called
            if taken or not model.load_adapter(path, name).decides and name in TAKEN:
                raise PromptError(f"--adapter {path}: expected a name of its own, got {name!r}, which is taken; rename the file")
        hub.load_intrinsics(args, model, TAKEN)
        begin = lambda: model.conversation(system=args.system, chat_template_kwargs=variables, on_full=args.on_full)
        return (_talk if args.prompt is None else _ask_once)(args, model, begin, sampling)


def variable(given: str) -> tuple[str, Any]:
    """NAME=VALUE; what is no JSON is text."""
    name, equals, value = given.partition("=")
    if not (name.isidentifier() and equals):
        raise PromptError(f"--template-kwarg {given}: expected NAME=VALUE, got something else; write it as enable_thinking=false")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _talk(args: argparse.Namespace, model, begin: Callable[[], Any], sampling: dict) -> int:
    from ..terminal.chat import NO_ADAPTERS, OF_FILES, Chat
    from ..terminal.input import is_interactive, piped_messages, typed_messages
    from ..terminal.screen import Screen

    screen = Screen(sys.stdout, None if is_interactive() else sys.stderr)
    about = {name: adapter.description for name, adapter in model.adapters.items() if not adapter.decides}
    decider = next((name for name, adapter in model.adapters.items() if adapter.decides), None)
    chat = Chat(begin, partial(model.restore, on_full=args.on_full), about, screen, decider, partial(in_options, options=vars(args)), **sampling)
    if is_interactive():
        commands = [f"/{name}" for name in (*about, "all")] if about else []
        screen.line(
            "; ".join([model.path.stem, *([", ".join(commands)] if commands else []), f"/help lists the {'other ' * bool(commands)}commands"]), "dim"
        )
        if not commands and not decider:
            screen.line(NO_ADAPTERS, "dim")
    if args.resume:
        chat.resume(args.resume)
    for given in args.doc:
        chat.attach(given)
    chat.run(typed_messages(chat.commands, OF_FILES) if is_interactive() else piped_messages(sys.stdin, screen))
    return 2 if chat.n_failed and not is_interactive() else 0


def _ask_once(args: argparse.Namespace, model, begin: Callable[[], Any], sampling: dict) -> int:
    from ..documents.names import file_and_pages
    from ..documents.reader import read_document
    from ..terminal.screen import Screen
    from ..terminal.summary import cut_line, summary

    for name in args.invoke:
        model.adapter(name)
    conversation = model.restore(args.resume, on_full=args.on_full) if args.resume else begin()
    for path, pages in map(file_and_pages, args.doc):
        conversation.attach(read_document(path, pages=pages))
    reply = None
    if args.no_answer:
        conversation.add("user", args.prompt)
    else:
        reply = conversation.ask(args.prompt, **sampling)
    verdicts = conversation.invoke_all(args.invoke) if args.invoke else {}
    cut = cut_line(reply, model.engine.context.n_ctx) if reply and not args.json else None
    warnings = [warning for one in (reply, *verdicts.values()) if one for warning in one.warnings]
    for warning in dict.fromkeys([*warnings, *([cut] if cut else ())]):
        print(f"alora: warning: {printable(in_options(warning, vars(args)), limit=2000)}", file=sys.stderr)
    if args.json:
        thought = lambda r: {"reasoning": r.reasoning} if r.reasoning else {}
        as_json = lambda r: {**thought(r), "text": r.text, "finish_reason": r.finish_reason, "usage": dataclasses.asdict(r.usage)}
        print(
            printable_json(
                {
                    "reply": reply and as_json(reply),
                    "invocations": {
                        name: {**as_json(r), "result": r.result, **({"error": in_options(str(r.error), vars(args))} if r.error else {})}
                        for name, r in verdicts.items()
                    },
                }
            )
        )
    else:
        screen = Screen(sys.stdout)
        if reply and reply.reasoning:
            screen.line(reply.reasoning, "dim")
        if reply:
            screen.line(reply.text)
        for name, verdict in verdicts.items():
            screen.line(f"{name}: {in_options(summary(verdict, name), vars(args))}")
    return 2 if any(verdict.error for verdict in verdicts.values()) else 0

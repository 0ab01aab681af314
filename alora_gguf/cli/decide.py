"""`alora decide`."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from ..errors import PromptError
from ..text import printable, printable_json
from . import devices, hub
from .words import in_options


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "decide",
        help="answer typed questions about a text or a conversation",
        description=(
            "Answers typed questions about a state, each with a probability for every option; nothing is generated. QUESTIONS is JSON: by a name "
            "of yours, {type: predicate, choice or score, instructions, criteria} as in /v1/systemone, or an intrinsic's name."
        ),
    )
    parser.add_argument(
        "--state",
        metavar="FILE",
        required=True,
        help="what they are about: text, or JSON, which may be messages, in a file that ends in .json; -: standard input, either",
    )
    parser.add_argument("--questions", metavar="FILE", type=Path, required=True, help="JSON")
    parser.add_argument("--model", help=f"base model: {hub.MODEL} (default: the embedded SmolLM2-135M-Instruct)")
    hub.add_option(parser)
    parser.add_argument("--adapter", nargs="+", action="extend", default=[], help=f"adapters, each {hub.ADAPTER}; may be repeated")
    parser.add_argument("--by", metavar="NAME", help="the adapter that answers questions that name none (default: the base)")
    parser.add_argument("--orders", metavar="N", type=int, default=1, help="ways to order the options, averaged (default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="which orders these are (default: %(default)s)")
    parser.add_argument("--ctx", metavar="N", type=int, default=4096, help="cells of the KV cache (default: %(default)s)")
    devices.add_options(parser)
    parser.add_argument("--threads", metavar="N", type=int, help="default: the cores that it may use")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .. import Model, default_model
    from ..hub.names import adapter_name
    from ..prompt.decisions.question import questions_of, state_messages
    from ..prompt.messages import check_messages
    from ..terminal.summary import decided

    questions = questions_of(_parsed(_read(args.questions), args.questions), str(args.questions))
    state = _state(args.state)
    try:
        check_messages(state_messages(state))
    except PromptError as e:
        raise PromptError(f"{args.state}: {e}") from e
    with Model(args.model or default_model(), n_ctx=args.ctx, n_threads=args.threads, **devices.options(args)) as model:
        for given in args.adapter:
            model.load_adapter(given, adapter_name(given))
        decisions = model.decide(state, questions, adapter=args.by, n_orders=args.orders, seed=args.seed)
    if args.json:
        print(printable_json({"decisions": {name: as_json(one) for name, one in decisions.items()}, "usage": dataclasses.asdict(decisions.usage)}))
    else:
        for name, one in decisions.items():
            print(printable(f"{name}: {in_options(decided(one), vars(args))}", limit=2000))
    return 2 if any(one.error for one in decisions.values()) else 0


def as_json(one: Any) -> dict[str, Any]:
    if one.error is not None:
        return {"kind": one.kind, "error": str(one.error)}
    more = {"probability": one.probability} if one.kind == "predicate" or one.likelihood is not None else {}
    more |= {"score": one.score} if one.kind == "score" else {"choice": one.choice} if one.kind == "choice" else {}
    shares = [{"value": value, "probability": p} for value, p in one.probabilities.items()]
    return {"kind": one.kind, **more, "confidence": one.confidence, "probabilities": shares, "usage": dataclasses.asdict(one.usage)}


def _state(given: str) -> Any:
    if given != "-":
        text = _read(Path(given))
        return _parsed(text, given) if given.lower().endswith(".json") else text
    text = sys.stdin.read()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict | list) else text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise PromptError(f"{path}: expected UTF-8 text, got: {e.reason}; convert it") from e


def _parsed(text: str, where: object) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        for name, _ in pairs if len(made) < len(pairs) else ():
            if [other for other, _ in pairs].count(name) > 1:
                raise PromptError(f"{where}: expected each name once in an object, got {name!r:.60} twice; give one another")
        return made

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as e:
        raise PromptError(f"{where}: expected JSON, got: {e}; correct it") from e

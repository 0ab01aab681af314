"""`alora train`."""

import argparse
import shlex
from pathlib import Path

from ..errors import TrainError
from . import hub


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train an activated LoRA of your own",
        description=(
            'Trains an activated LoRA on chat messages and wanted outputs, one JSON object a line: {"messages": [...], "output": "..."}. '
            "What stands before the invocation is computed once. Writes a folder that PEFT loads. A run that was stopped goes on when the "
            "command is given again. Needs the extra [train]."
        ),
    )
    parser.add_argument("data", nargs="?", help="JSONL file of examples, or a TOML file with these options and `data`")
    parser.add_argument(
        "--decisions",
        metavar="FILE",
        help='in place of examples: JSONL file of rows of decisions, {"state": ... or "messages": [...], "questions": {...}, "right": {...}}',
    )
    parser.add_argument("--base", help=f"base model: {hub.MODEL} (default: the embedded SmolLM2-135M-Instruct)")
    hub.add_option(parser)
    parser.add_argument("--invocation", metavar="TEXT", help='what activates it, as "<|im_start|>certainty\\n" or "<certainty>"')
    parser.add_argument("-o", "--out", metavar="FOLDER", help="PEFT's folder to write")
    parser.add_argument("--gguf", metavar="FILE", help="convert it too")
    parser.add_argument("--name", help="what the intrinsic is called (default: the folder's name)")
    parser.add_argument("--eval", metavar="FILE", help="examples to choose the best checkpoint by (default: some of the data, held out)")
    parser.add_argument("--eval-share", metavar="X", type=float, help="how many of them (default: 0.1)")
    request = parser.add_mutually_exclusive_group()
    request.add_argument("--io", metavar="FILE", help="io.yaml of the intrinsic")
    request.add_argument("--instruction", metavar="TEXT", help='the same with an instruction alone, as "<certainty> {last_message}"')
    parser.add_argument("--invoked-after", metavar="ROLE", help="whose message it judges (default: that of all examples, if they agree)")
    parser.add_argument(
        "--start", metavar="FOLDER", help="begin with the weights of this PEFT folder, or of hf:owner/repo/name[@revision] (default: random ones)"
    )
    parser.add_argument("--method", choices=["alora", "lora"], help="lora: an ordinary LoRA, to compare with (default: alora)")
    parser.add_argument("--rank", metavar="N", type=int, help="default: 32")
    parser.add_argument("--alpha", metavar="X", type=float, help="default: twice the rank")
    parser.add_argument("--targets", metavar="NAME", nargs="+", help="layers to adapt (default: all linear ones)")
    parser.add_argument("--epochs", metavar="X", type=float, help="default: 3")
    parser.add_argument("--learning-rate", metavar="X", type=float, help="default: 5e-4")
    parser.add_argument("--batch-size", metavar="N", type=int, help="examples a step (default: 16)")
    parser.add_argument("--row-tokens", metavar="N", type=int, help="most tokens of examples that are computed together (default: 512)")
    parser.add_argument("--n-evals", metavar="N", type=int, help="evaluations, evenly over the run (default: 10)")
    parser.add_argument("--select", choices=["accuracy", "loss"], help="which checkpoint is best (default: accuracy)")
    parser.add_argument("--seed", metavar="N", type=int, help="default: 0")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="of the base while training (default: what is fast here)")
    parser.add_argument("--threads", metavar="N", type=int, help="default: the cores that it may use")
    parser.add_argument("--cache-memory", metavar="MB", type=_megabytes, help="for the keys and values of prefixes (default: half of what is free)")
    parser.add_argument("--cache-disk", metavar="MB", type=_megabytes, help="for those that memory has no room for (default: 0)")
    parser.add_argument("--restart", action="store_true", help="begin anew in place of going on")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .. import bundled_adapters, default_model
    from ..hub.bases import base_file
    from ..hub.hf_name import is_hub_name
    from ..hub.names import adapter_source
    from ..train.heap import return_large_blocks
    from ..train.settings import Settings, read_config

    given = {
        name: value
        for name, value in vars(args).items()
        if value is not None and name not in ("run", "gguf", "restart", "data", "command_line", "offline")
    }
    if "invocation" in given:
        given["invocation"] = given["invocation"].replace("\\n", "\n")  # which shells cannot be asked to type
    data = Path(args.data) if args.data else None
    if data is not None and data.suffix == ".toml":
        given = {**read_config(data), **given}
    elif data is not None:
        given["data"] = data
    for name, option in (("data", "a JSONL file"), ("invocation", "--invocation TEXT"), ("out", "-o FOLDER")):
        if name not in given and not ("decisions" in given and name != "out"):  # which have an invocation of their own
            raise TrainError(f"{name}: expected {option}, got none; give it")
    if is_hub_name(given.get("start", "")):
        given["start"] = adapter_source(given["start"], lambda: base_file(given["base"]) if "base" in given else default_model(), bundled_adapters)
    settings = Settings(**given)
    return_large_blocks()
    try:
        from ..train.progress import Progress
        from ..train.train import train
    except ModuleNotFoundError as e:
        raise TrainError(f"train: expected the extra [train], got no {e.name}; pip install 'alora_gguf[train]'") from e
    command = f"alora train {shlex.join(args.command_line)}"
    best = train(settings, Progress(), command=command, gguf=args.gguf and Path(args.gguf), restart=args.restart)
    what = "decisions right" if settings.decisions else "outputs said exactly"
    print(f"wrote {settings.out}: {what} {best['accuracy']:.1%}, loss {best['loss']:.4f}, of step {best['step']:.0f}")
    if args.gguf:
        print(f"wrote {args.gguf}")
    return 0


def _megabytes(text: str) -> int:
    return int(float(text) * 1e6)

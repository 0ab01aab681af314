"""The console script `alora-convert`: arguments in, a summary or one line of error out."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from ..errors import AloraError
from ..text import human_bytes, printable
from .converter import Conversion, convert
from .gguf.tensor_types import OUTTYPES

EXIT_ERROR = 2


def main(
    argv: list[str] | None = None,
    *,
    find: Callable[[argparse.Namespace], None] = lambda args: None,
    look: Callable[[Conversion], list[str]] = lambda done: [],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> int:
    """Returns the exit code: 0, or 2 after one line on stderr.

    `find` makes paths of the other names in the arguments; `look` has more notes, of what the converter itself does not know;
    `add_options` adds its options.
    """
    parser = _parser()
    add_options(parser)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, so nothing half-written stays
    try:
        find(args)
        done = convert(
            args.adapter,
            args.outfile,
            base=args.base,
            outtype=args.outtype,
            dry_run=args.dry_run,
            invocation=args.invocation_tokens or args.invocation,
            io_yaml=args.io_yaml,
            progress=_progress(),
        )
        done = replace(done, notes=[*done.notes, *look(done)])
    except AloraError as error:
        print(f"alora-convert: error: {printable(str(error), limit=2000)}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("alora-convert: stopped, nothing was written", file=sys.stderr)
        return 128 + signal.SIGINT
    try:
        print(json.dumps(done.as_dict(), indent=2) if args.json else summary(done), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at the end
        if not isinstance(error, BrokenPipeError):
            print(
                f"alora-convert: error: standard output: expected room for the summary, got: {error.strerror}; {done.outfile} is whole",
                file=sys.stderr,
            )
            return EXIT_ERROR
    return 0


def summary(done: Conversion) -> str:
    """A few lines about a conversion, safe to print."""
    size = human_bytes(done.n_bytes) if done.written else "dry run, nothing written"
    lines = [
        ("wrote" if done.written else "checked", f"{done.outfile} ({size}, {done.seconds:.2f} s)"),
        ("adapter", f"{done.name}: {done.kind}, {done.outtype}, rank {_numbers(done.ranks)}, alpha {done.alpha:g}"),
        ("modules", f"{', '.join(done.modules)} ({done.n_pairs} pairs)"),
        ("base", f"{done.base} ({done.architecture}, {_fingerprint(done)})"),
    ]
    if done.invocation_tokens:
        lines.append(("invocation", f"{done.invocation_text!r} {done.invocation_tokens}"))
    lines += [("note", note) for note in done.notes]
    return "\n".join(f"{label:<11}{printable(text, limit=1000)}" for label, text in lines)


def _fingerprint(done: Conversion) -> str:
    return f"fingerprint {done.fingerprint[:12]}" if done.fingerprint else "no fingerprint: it is no GGUF"


def _progress():
    """A line on a terminal that is rewritten, once a conversion takes longer than a second; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None
    start = time.monotonic()

    def show(done: int, total: int):
        if time.monotonic() - start > 1:
            end = "\r\x1b[K" if done == total else ""  # the summary takes its place
            print(f"\r{human_bytes(done)} of {human_bytes(total)}{end}", end="", file=sys.stderr, flush=True)

    return show


def _numbers(values: list[int]) -> str:
    return ", ".join(map(str, values))


def token_ids(text: str) -> list[int]:
    return [int(token) for token in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alora-convert", description="Converts a PEFT LoRA or aLoRA adapter to GGUF, exactly, or says in one line why not."
    )
    parser.add_argument(
        "adapter",
        nargs="+",
        help="folder with adapter_config.json and its tensors, a hub layout with one in it, hf:owner/repo/name[@revision], or the name"
        " of one that comes with this package; of several adapters the exact sum is written",
    )
    parser.add_argument("outfile", help="GGUF file to write; an earlier adapter there is replaced")
    parser.add_argument(
        "--base",
        help="GGUF of the base model, hf:owner/repo[:QUANT][@revision], or a folder with a GGUF or with Hugging Face's"
        " config.json and tokenizer.json; found by itself where the adapter's config names a"
        " local or cached one",
    )
    invocation = parser.add_mutually_exclusive_group()
    invocation.add_argument("--invocation", metavar="TEXT", help="in place of the adapter's own, tokenised by the base's vocabulary")
    invocation.add_argument("--invocation-tokens", metavar="IDS", type=token_ids, help="in place of the adapter's own: 1,2,3")
    parser.add_argument("--io-yaml", metavar="FILE", help="in place of the io.yaml beside the adapter")
    parser.add_argument(
        "--outtype",
        choices=OUTTYPES,
        default="f16",
        help="type of the tensors; q8_0 falls back to f16 where the rank is no multiple of 32, auto"
        " keeps the adapter's own precision (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())

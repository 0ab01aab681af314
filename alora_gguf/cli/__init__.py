"""The command `alora`: parses and prints, no more. A file for each command, which imports what it needs when it runs."""

import argparse
import io
import os
import sys

from ..errors import AloraError
from ..text import printable
from ..versions import VERSION, inside
from . import bench, chat, decide, doctor, eval, export, hub, listing, pull, rm, rpc, serve, show, train, verify
from .words import in_options

COMMANDS = chat, decide, serve, pull, listing, rm, show, verify, export, train, eval, bench, doctor, rpc


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    args.command_line = sys.argv[2:] if argv is None else argv[1:]  # for what writes down how it was made
    _prepare_streams()
    try:
        with hub.telling():
            status = args.run(args)
        sys.stdout.flush()
        return status
    except AloraError as e:
        print(f"alora: error: {printable(in_options(str(e), vars(args)), limit=2000)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _leave_stdout()
        return 0
    except OSError as e:
        if e.filename is None:
            _leave_stdout()
        where = printable(str(e.filename or "standard output"))
        print(
            f"alora: error: {where}: expected a file that can be read or written, got: {e.strerror or e}; check the path and the room there",
            file=sys.stderr,
        )
        return 2
    except MemoryError:
        print("alora: error: memory: expected some that is free, got none; end other programs, or take a smaller model or --ctx", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _prepare_streams() -> None:
    """Better a wrong character than no answer; a file's mark of UTF-8 is none of what it says; what is closed is empty."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            is_marked = mode == "r" and stream.encoding.lower() in ("utf-8", "utf8")
            stream.reconfigure(encoding="utf-8-sig" if is_marked else None, errors="replace")


def _leave_stdout() -> None:
    """It cannot be written to, and Python will flush it once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="alora", description="Activated LoRA on llama.cpp.")
    parser.add_argument("--version", action="version", version=f"alora_gguf {VERSION}, {inside()}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser

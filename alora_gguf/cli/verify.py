"""`alora verify`."""

import argparse
import dataclasses
import json

from . import hub


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "verify",
        help="compare an adapter file with PEFT",
        description=(
            "Runs PEFT and this runtime on the same random prompts and prints the relative errors of the logits; "
            "exit code 1 above the tolerance. Needs the extra [verify]."
        ),
    )
    parser.add_argument("adapter", help="PEFT's folder, hf:owner/repo/name[@revision], or the name of one that comes with this package")
    parser.add_argument("file", help="GGUF adapter made of it")
    parser.add_argument("--base", required=True, help=f"base model: {hub.MODEL}")
    hub.add_option(parser)
    parser.add_argument("--hf-base", metavar="FOLDER", help="the base as transformers loads it (default: it reads the GGUF)")
    parser.add_argument("--tolerance", metavar="X", type=float, help="default: by the adapter's type, 2e-5 for f32")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the prompts (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .. import bundled_adapters
    from ..hub.bases import base_file
    from ..hub.names import adapter_source
    from ..verify.parity import verify

    base = base_file(args.base)
    adapter = adapter_source(args.adapter, lambda: base, bundled_adapters)
    done = verify(adapter, args.file, base, hf_base=args.hf_base, tolerance=args.tolerance, seed=args.seed)
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

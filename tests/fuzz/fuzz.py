"""Coverage-guided fuzzing of one of targets.py: fuzz.py TARGET [libFuzzer's options and folders]. `make fuzz` runs all."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["alora_gguf", "granite_common"]):
    import targets


def main() -> None:
    name, target, *rest = sys.argv
    words = Path(__file__).with_name(f"{'gguf' if target in ('adapter', 'base') else target}.dict")
    atheris.Setup([name, *([f"-dict={words}"] if words.exists() else []), *rest], lambda data: targets.run(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()

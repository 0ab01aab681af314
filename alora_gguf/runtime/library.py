"""Loads our libllama through llama_cpp, and its log.

llama_cpp reads LLAMA_CPP_LIB_PATH once, when it is imported, so this module is the one place
that imports it first.
"""

import ctypes
import logging
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import ForeignLibraryError
from ..text import printable
from .folder import LIB_DIR

ABI_VERSION = 3  # of native/alora.h

logger = logging.getLogger("alora_gguf.llama")
logger.addHandler(logging.NullHandler())
logger.propagate = False


def _import_llama_cpp() -> Any:  # llama_cpp's functions say pointers of ctypes where they take and give numbers
    foreign = sys.modules.get("llama_cpp.llama_cpp")
    if foreign is None:
        lib_dir = os.path.abspath(os.environ.get("ALORA_LIB_PATH", LIB_DIR))  # Windows looks for the neighbours in no other
        if not any(Path(lib_dir).glob("*llama.*")):
            raise ForeignLibraryError(f"{lib_dir}: expected the libraries of alora_gguf, got none; install the package with `pip install .`")
        before = os.environ.get("LLAMA_CPP_LIB_PATH")
        os.environ["LLAMA_CPP_LIB_PATH"] = lib_dir
        try:
            import llama_cpp.llama_cpp as lib
        except ModuleNotFoundError as e:
            raise ForeignLibraryError(f"{e.name}: expected the package, got none; install alora_gguf again with `pip install .`") from e
        except (OSError, RuntimeError, AttributeError) as e:  # the loader's, llama_cpp's own, and a function that is not there
            raise ForeignLibraryError(f"{lib_dir}: expected libraries that can be loaded, got: {e}; install the package again") from e
        finally:
            # a child process decides for itself
            os.environ.pop("LLAMA_CPP_LIB_PATH")
            if before is not None:
                os.environ["LLAMA_CPP_LIB_PATH"] = before
    else:
        lib = foreign
    if not hasattr(lib._lib, "alora_abi_version"):
        raise ForeignLibraryError(f"llama_cpp: expected the library of alora_gguf, got {lib._lib._name}; import alora_gguf before llama_cpp")
    got = lib._lib.alora_abi_version()
    if got != ABI_VERSION:
        raise ForeignLibraryError(f"{lib._lib._name}: expected native interface {ABI_VERSION}, got {got}; install the package again")
    if lib._lib.alora_load_backends() <= 0:
        raise ForeignLibraryError(
            f"{lib._lib._name}: expected ggml's backends beside it, got none that this processor runs; install the package again"
        )
    return lib


llama_cpp: Any = _import_llama_cpp()
llama_cpp._lib.alora_kernels_name.restype = ctypes.c_char_p
KERNELS = llama_cpp._lib.alora_kernels_name().decode()  # as native/alora.h has them
NO_VECTORS = "kernels: expected those of a compiler with vectors, got scalar ones, some hundred times slower; build with GCC 9, clang 12 or newer"
if KERNELS == "scalar":
    logger.warning("%s", NO_VECTORS)


def library(name: str) -> ctypes.CDLL:
    """A library beside the libllama that is loaded, as "ggml"."""
    return ctypes.CDLL(str(beside(Path(llama_cpp._lib._name), name)))


def beside(libllama: Path, name: str) -> Path:
    """Its file, named as libllama is, or without the "lib" that MinGW gives libllama alone, or as modules are named on macOS."""
    names = dict.fromkeys(f"{prefix}{name}{suffix}" for suffix in (libllama.suffix, ".so") for prefix in (libllama.name.partition("llama")[0], ""))
    paths = [libllama.with_name(name) for name in names]
    return next((path for path in paths if path.exists()), paths[0])


_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}  # ggml_log_level

# The first error of the native library since somebody asked: those after it only say that the whole failed.
_first_error = ""


@llama_cpp.llama_log_callback
def _on_log(level: int, text: bytes, _: object) -> None:
    global _first_error
    line = printable(text.decode("utf-8", errors="replace").rstrip(), limit=2000)  # it has strings of the model's file in it
    if level == 4:
        _first_error = _first_error or line
    if line:
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s", line)


llama_cpp.llama_log_set(_on_log, None)
llama_cpp.llama_backend_init()


def take_error() -> str:
    """The library's first error line since the last call; "" if there was none."""
    global _first_error
    line, _first_error = _first_error, ""
    return line


def log_to_stderr() -> None:
    """From now on llama.cpp's log goes to standard error as well."""
    if not any(isinstance(h, logging.StreamHandler) for h in logger.handlers):
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)

"""Bodies that a client compressed: Content-Encoding."""

import zlib
from importlib import import_module
from typing import Any

from .problem import Problem


def decoded(body: bytes, encoding: str, n_most: int) -> bytes:
    """A body as it was before it was encoded, at most `n_most` bytes. Raises Problem."""
    for name in reversed([name.strip().lower() for name in encoding.split(",") if name.strip()]):
        if name != "identity":
            body = _decompressed(body, name, n_most)
    return body


def _decompressed(body: bytes, name: str, n_most: int) -> bytes:
    if name not in ("gzip", "x-gzip", "deflate", "zstd"):
        raise Problem(415, f"Content-Encoding: expected gzip, deflate, zstd or none, got {name:.40}; send it uncompressed")
    zstd = _zstd() if name == "zstd" else None
    if name == "zstd" and zstd is None:
        raise Problem(415, "Content-Encoding: expected gzip, deflate or none, got zstd; send it uncompressed, or pip install backports.zstd here")
    try:
        one: Any = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if zstd is None else zstd.ZstdDecompressor()
        made: bytes = one.decompress(body, n_most + 1)
    except Exception as e:  # zstd's error is its module's own
        raise Problem(400, f"body: expected {name}, got another: {e}") from e
    if len(made) > n_most:
        raise Problem(413, f"body: expected at most {n_most} bytes, got more behind {name}; send less")
    if not one.eof:
        raise Problem(400, f"body: expected all of what is {name}, got a part of it")
    if one.unused_data:
        raise Problem(400, f"body: expected one piece of {name}, got more behind it; send it in one")
    return made


def _zstd() -> Any:
    """The module that has it: Python's own from 3.14 on."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None

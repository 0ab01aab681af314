"""Bodies that a client compressed, as typesafe-sdk does."""

import gzip
import json
import zlib

import pytest

from alora_gguf.serve import encoding
from alora_gguf.serve.encoding import decoded
from alora_gguf.serve.problem import Problem

BODY = b"state " * 500


@pytest.mark.parametrize(
    "sent, name",
    [
        (BODY, ""),
        (BODY, "identity"),
        (gzip.compress(BODY), "gzip"),
        (zlib.compress(BODY), "Deflate"),
        (gzip.compress(zlib.compress(BODY)), "deflate, gzip"),
    ],
    ids=["none", "identity", "gzip", "deflate", "both"],
)
def test_a_body_is_what_it_was(sent, name):
    assert decoded(sent, name, len(BODY)) == BODY


def test_zstd_where_there_is_it(monkeypatch):
    if (zstd := encoding._zstd()) is not None:
        assert decoded(zstd.compress(BODY), "zstd", len(BODY)) == BODY
    monkeypatch.setattr(encoding, "_zstd", lambda: None)
    with pytest.raises(Problem, match="^Content-Encoding: expected gzip, deflate or none, got zstd; ") as refused:
        decoded(BODY, "zstd", len(BODY))
    assert refused.value.status == 415


@pytest.mark.parametrize(
    "sent, name, status",
    [
        (gzip.compress(BODY), "br", 415),
        (BODY, "gzip", 400),
        (gzip.compress(BODY)[:-9], "gzip", 400),
        (gzip.compress(bytes(10**8)), "gzip", 413),
        (gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), "gzip", 400),
        (zlib.compress(BODY[:9]) + b"more", "deflate", 400),
    ],
    ids=["unknown", "not", "part", "bomb", "two", "more"],
)
def test_what_cannot_be_read_is_refused(sent, name, status):
    with pytest.raises(Problem, match="expected") as refused:
        decoded(sent, name, len(BODY))
    assert refused.value.status == status


def test_a_server_reads_it(server):
    body = gzip.compress(json.dumps({"content": "Hello"}).encode())
    plain = server.call("POST", "/tokenize", {"content": "Hello"})[2]
    assert server.call("POST", "/tokenize", body, **{"Content-Encoding": "gzip"})[2] == plain
    assert server.call("POST", "/tokenize", body, **{"Content-Encoding": "br"})[0] == 415

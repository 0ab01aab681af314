"""model.sig, an OpenSSF model signature: a Sigstore bundle about the files of a folder (https://github.com/sigstore/model-transparency).

Two things are looked at, and told apart. What it says of the files, their digests, is compared with the files. Who signed that
is checked by the package sigstore, where it is installed, with the keys that this package brings along: no request is made.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..errors import HubError
from ..text import complaint, printable
from .unchanged import remembered

SIGNATURE = "model.sig"
MOST_BYTES = 1_000_000
_STATEMENT = "application/vnd.in-toto+json"
_RESOURCES, _SUBJECTS = "https://model_signing/signature/v1.0", "https://model_signing/Digests/v0.1"  # where the files are
_HASHES: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b}
_ISSUER = "1.3.6.1.4.1.57264.1.1"  # who vouched for the signer, in Fulcio's certificates
_CHUNK = 1 << 20
_log = logging.getLogger("alora_gguf.hub")


class Claim(NamedTuple):
    """What a signature says of a file, or of the bytes from start to end of one."""

    file: str
    algorithm: str
    digest: str
    start: int = 0
    end: int | None = None


def check_signature(folder: Path, files: Sequence[str], called: str) -> str:
    """What was found out about the signature of these files of `folder`, in a line, which is logged when it is found out; "" if there is none.

    called: what the folder is in the line. Raises HubError for a file that is not what was signed, a signature that says nothing of
    the weights or cannot be read, or one that sigstore finds wrong.
    """
    path = folder / SIGNATURE
    if not path.is_file():
        return ""
    version = _version_of_sigstore()

    def check() -> str:
        found = _check(path, files, version)
        _log.log(logging.INFO if version else logging.WARNING, "%s", printable(f"{called}: {found}", 1000))
        return found

    try:
        return remembered(f"signature, sigstore {version}, {folder.resolve()}", [path, *(folder / file for file in files)], check)
    except OSError as e:
        _refuse(Path(e.filename or path), "file", "one that can be read", str(e.strerror or e), "check the path")


def _check(path: Path, files: Sequence[str], version: str | None) -> str:
    raw = path.read_bytes()[: MOST_BYTES + 1]
    try:
        claims = _claims(raw)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as e:
        _refuse(path, "bundle", "a Sigstore bundle about the files of a model", f"another: {e}")
    of = {file: [claim for claim in claims if claim.file == file] for file in files}
    if not any(of[file] for file in files if file.endswith(".safetensors")):
        _refuse(path, "files", "the adapter's tensors among them", ", ".join(sorted({claim.file for claim in claims})) or "none")
    for file, about in of.items():
        _compare(path, file, about)
    left_out = ", ".join(file for file in files if not of[file])
    says = f"{SIGNATURE} has the digests of its files{f', but not of {left_out}' if left_out else ''}"
    if not json.loads(raw).get("verificationMaterial", {}).get("tlogEntries"):
        return f"{says}; who signed it was not verified: it has no entry in Sigstore's log, as what is signed with a key of one's own"
    if version is None:
        return f"{says}; who signed it was not verified: pip install sigstore, which can"
    return f"{says}; {_signer(path, raw, version)}"


def _claims(raw: bytes) -> list[Claim]:
    envelope = json.loads(raw)["dsseEnvelope"]
    if envelope["payloadType"] != _STATEMENT:
        raise ValueError(f"payloadType {envelope['payloadType']!r:.80}")
    statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
    kind = statement["predicateType"]
    if kind == _SUBJECTS:
        return [_claim(subject["name"], "sha256", subject["digest"]["sha256"], "files") for subject in statement["subject"]]
    if kind != _RESOURCES:
        raise ValueError(f"predicateType {kind!r:.80}")
    resources = statement["predicate"]["resources"]
    [subject] = statement["subject"]
    if subject["digest"]["sha256"] != hashlib.sha256(b"".join(bytes.fromhex(r["digest"]) for r in resources)).hexdigest():
        raise ValueError("the digest of all its files is not that of their digests")
    return [_claim(r["name"], r["algorithm"], r["digest"], statement["predicate"]["serialization"]["method"]) for r in resources]


def _claim(name: str, algorithm: str, digest: str, method: str) -> Claim:
    digest = bytes.fromhex(digest).hex()
    if method == "files":
        return Claim(str(name), str(algorithm), digest)
    if method != "shards":
        raise ValueError(f"method {method!r:.80}")
    file, start, end = str(name).rsplit(":", 2)
    return Claim(file, str(algorithm), digest, int(start), int(end))


def _compare(path: Path, file: str, claims: Sequence[Claim]) -> None:
    """Raises HubError if one is wrong, or if parts of the file are in none."""
    at = 0
    n_bytes = (path.parent / file).stat().st_size
    for claim in sorted(claims, key=lambda claim: claim.start):
        end = n_bytes if claim.end is None else claim.end
        algorithm = claim.algorithm.partition("-sharded")[0]
        if algorithm not in _HASHES:
            _refuse(
                path, file, f"a digest by {' or '.join(_HASHES)}", claim.algorithm, "do not use this, or compare it yourself and remove model.sig"
            )
        if claim.start != at or end < at or end > n_bytes:
            _refuse(path, file, f"its bytes from {at} on", f"those from {claim.start} to {end} of {n_bytes}")
        at = end
        if (digest := _digest(path.parent / file, claim.start, end, _HASHES[algorithm]())) != claim.digest:
            _refuse(path, file, f"{claim.algorithm} {claim.digest}, which was signed", digest, f"fetch it again: remove {path.parent / file}")
    if claims and at != n_bytes:
        _refuse(path, file, f"all of its {n_bytes} bytes", f"{at}")


def _digest(path: Path, start: int, end: int, digest: Any) -> str:
    with open(path, "rb") as f:
        f.seek(start)
        while start < end and (chunk := f.read(min(_CHUNK, end - start))):
            start += len(chunk)
            digest.update(chunk)
    return str(digest.hexdigest())


def _version_of_sigstore() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sigstore")
    except PackageNotFoundError:
        return None


def _signer(path: Path, raw: bytes, version: str) -> str:
    """Who signed, by the certificate that Sigstore gave. Raises HubError if the signature is wrong."""
    try:
        from cryptography import x509
        from sigstore.models import Bundle
        from sigstore.verify import Verifier
        from sigstore.verify.policy import UnsafeNoOp
    except ImportError as e:
        return f"who signed it was not verified: sigstore {version} has no {e.name}"
    logger = logging.getLogger("sigstore")
    before = logger.level
    logger.setLevel(logging.ERROR)  # it warns of what is meant here: no requests, no signer that was named
    try:
        bundle = Bundle.from_json(raw)
        _, signed = Verifier.production(offline=True).verify_dsse(bundle, UnsafeNoOp())
        if signed != base64.b64decode(json.loads(raw)["dsseEnvelope"]["payload"]):  # what was compared with the files
            raise ValueError("another payload is signed")
        extensions: Any = bundle.signing_certificate.extensions
        signer = ", ".join(str(name.value) for name in extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        issuer = extensions.get_extension_for_oid(x509.ObjectIdentifier(_ISSUER)).value.value.decode()
    except Exception as e:  # its errors have no class in common
        _refuse(
            path,
            "signature",
            f"one that sigstore {version} verifies",
            f"{type(e).__name__}: {e}",
            "update sigstore, whose keys may be old, or do not use this",
        )
    finally:
        logger.setLevel(before)
    return f"signed by {printable(signer)}, known to {printable(issuer)}, as sigstore {version} verifies; whether you trust them is yours to say"


def _refuse(path: Path, what: str, expected: str, got: str, action: str = "do not use this") -> NoReturn:
    raise HubError(complaint(path, what, expected, " ".join(got.split()), action))

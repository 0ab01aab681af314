"""model.sig: what it says of the files is compared with them, and who signed it is said to be known only where sigstore has verified it."""

import base64
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from hub_server import LIBRARY

from alora_gguf.errors import HubError
from alora_gguf.hub import signature
from alora_gguf.hub.signature import check_signature

FILES = ["adapter_config.json", "adapter_model.safetensors", "io.yaml", "README.md"]
FOLDER = "answerability/smollm2-135m-instruct/alora"
WHO = "who signed it was not verified"


def bundle(folder: Path, names=FILES, method="files", algorithm="sha256", log=({"logIndex": "1"},), **changes) -> dict:
    """As the package model-signing writes it: tried beside it, with files, shards and BLAKE2."""
    resources = []
    for name in sorted(names):
        data = (folder / name).read_bytes()
        step = len(data) if method == "files" else 50_000
        for at in range(0, len(data), step):
            part = data[at : at + step]
            shard = f":{at}:{at + len(part)}" if method == "shards" else ""
            resources.append(
                {
                    "name": name + shard,
                    "algorithm": algorithm + ("-sharded-50000" if shard else ""),
                    "digest": hashlib.new(algorithm, part).hexdigest(),
                }
            )
    every = hashlib.sha256(b"".join(bytes.fromhex(r["digest"]) for r in resources)).hexdigest()
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "alora", "digest": {"sha256": every}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {"serialization": {"method": method, "hash_type": algorithm, "allow_symlinks": False}, "resources": resources},
        **changes,
    }
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"certificate": {"rawBytes": ""}, "tlogEntries": list(log)},
        "dsseEnvelope": {"payload": payload, "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": ""}]},
    }


def sign(folder: Path, **how) -> None:
    (folder / "model.sig").write_text(json.dumps(bundle(folder, **how)))


@pytest.fixture
def folder(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(signature, "_version_of_sigstore", lambda: None)
    return shutil.copytree(repo / "tests" / "adapters" / "answerability", tmp_path / "signed")


def check(folder, files=FILES):
    return check_signature(folder, files, "hf:acme/x")


@pytest.mark.parametrize("how", [{}, {"method": "shards"}, {"algorithm": "blake2b"}])
def test_what_it_says_of_the_files_is_compared_and_the_rest_said_to_be_open(folder, how):
    sign(folder, **how)
    assert check(folder) == f"model.sig has the digests of its files; {WHO}: pip install sigstore, which can"
    for file in FILES:
        data = (folder / file).read_bytes()
        for changed in (data[:-1] + bytes([data[-1] ^ 1]), data + b" ", data[:-1]):
            (folder / file).write_bytes(changed)
            with pytest.raises(HubError, match=file):
                check(folder)
        (folder / file).write_bytes(data)
    check(folder)


def test_the_form_of_earlier_versions_is_read_too(folder):
    subject = [{"name": name, "digest": {"sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}} for name in FILES]
    sign(folder, predicateType="https://model_signing/Digests/v0.1", subject=subject, predicate={"unused": "x"})
    assert check(folder).startswith("model.sig has the digests of its files; ")
    (folder / "io.yaml").write_text("name: other\n")
    with pytest.raises(HubError, match="io.yaml: expected sha256"):
        check(folder)


def test_files_that_it_does_not_mention_are_named_and_the_tensors_have_to_be_mentioned(folder):
    sign(folder, names=["adapter_config.json", "adapter_model.safetensors"])
    assert check(folder).startswith("model.sig has the digests of its files, but not of io.yaml, README.md; ")
    sign(folder, names=["adapter_config.json", "io.yaml"])
    with pytest.raises(HubError, match="expected the adapter's tensors among them, got adapter_config.json, io.yaml"):
        check(folder)


def test_without_one_nothing_is_said(folder, caplog):
    assert check(folder) == "" and not caplog.records


def test_what_is_signed_with_a_key_is_not_said_to_be_verified(folder, monkeypatch):
    sign(folder, log=())
    for version in (None, "4.5.1"):
        monkeypatch.setattr(signature, "_version_of_sigstore", lambda: version)
        assert WHO in check(folder) and "signed with a key of one's own" in check(folder)


@pytest.mark.parametrize("text", [
    "", "{}", "[]", "null", "{" * 100_000, json.dumps({"dsseEnvelope": {"payloadType": "x", "payload": ""}}),
    json.dumps({"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": "e30=", "signatures": []}}),
    json.dumps({"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": "not base64!"}}),
])  # fmt: skip
def test_what_is_no_signature_is_one_line(folder, text):
    (folder / "model.sig").write_text(text)
    with pytest.raises(HubError) as e:
        check(folder)
    assert "model.sig: bundle: expected a Sigstore bundle about the files of a model" in str(e.value) and str(e.value).isprintable()


@pytest.mark.parametrize("changes", [
    {"predicateType": "https://slsa.dev/provenance/v1"}, {"subject": []}, {"subject": [{"name": "x", "digest": {"sha256": "00"}}]},
    {"predicate": {"serialization": {"method": "guesses"}, "resources": []}}, {"predicate": {"resources": [{"name": "adapter_model.safetensors", "digest": "zz"}]}},
    {"predicate": []}, {"predicate": {"serialization": {"method": "files"}, "resources": "all"}},
])  # fmt: skip
def test_a_statement_about_something_else_is_refused(folder, changes):
    sign(folder, **changes)
    with pytest.raises(HubError, match="model.sig: bundle: expected"):
        check(folder)


@pytest.mark.parametrize(
    "spans", [[(0, 10)], [(10, None)], [(0, 20), (10, None)], [(0, 10), (20, None)], [(0, None), (0, None)], [(0, 10**9)], [(-5, None)], [(10, 0)]]
)
def test_parts_that_leave_some_of_the_file_out_are_refused(folder, spans):
    data = (folder / "adapter_model.safetensors").read_bytes()
    resources = []
    for start, end in spans:
        end = len(data) if end is None else end
        resources.append(
            {
                "name": f"adapter_model.safetensors:{start}:{end}",
                "algorithm": "sha256-sharded-10",
                "digest": hashlib.sha256(data[start:end]).hexdigest(),
            }
        )
    every = hashlib.sha256(b"".join(bytes.fromhex(r["digest"]) for r in resources)).hexdigest()
    sign(folder, subject=[{"digest": {"sha256": every}}], predicate={"serialization": {"method": "shards"}, "resources": resources})
    with pytest.raises(HubError, match="adapter_model.safetensors: expected"):
        check(folder)


def test_it_is_said_once_and_again_when_a_file_or_the_means_have_changed(folder, caplog, monkeypatch):
    sign(folder)
    said = check(folder)
    assert check(folder) == said and [record.message for record in caplog.records] == [f"hf:acme/x: {said}"]
    (folder / "io.yaml").write_text((folder / "io.yaml").read_text())
    assert check(folder) == said and len(caplog.records) == 2
    monkeypatch.setattr(signature, "_version_of_sigstore", lambda: "4.5.1")
    monkeypatch.setattr(signature, "_signer", lambda *_: "signed by somebody")
    assert check(folder) == check(folder) == "model.sig has the digests of its files; signed by somebody"
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING]  # who is known is no warning


# from the hub


@pytest.fixture
def signed(hub):
    sign(hub.root / LIBRARY / FOLDER)
    return hub.root / LIBRARY / FOLDER


def test_it_is_fetched_with_the_rest_and_told_in_one_line(hub, alora, signed):
    name = f"hf:{LIBRARY}/answerability"
    code, out, err = alora("pull", name, "--base", "smollm2-135m-instruct")
    assert (code, err) == (0, f"alora: {name}: model.sig has the digests of its files; {WHO}: pip install sigstore, which can\n")
    assert (Path(out.strip()) / "model.sig").is_file() and f"{FOLDER}/model.sig" in hub.fetched


@pytest.mark.parametrize("command", [["pull", "--base", "smollm2-135m-instruct"], ["show"]])
def test_what_is_not_what_was_signed_is_refused(hub, alora, signed, command):
    (signed / "io.yaml").write_text((signed / "io.yaml").read_text() + "# and more\n")
    for _ in range(2):
        code, out, err = alora(command[0], f"hf:{LIBRARY}/answerability", *command[1:])
        assert (code, out, err.count("\n")) == (2, "", 1) and "model.sig: io.yaml: expected sha256" in err


def test_a_folder_is_compared_with_its_signature_too(alora, folder):
    sign(folder)
    (folder / "adapter_config.json").write_text((folder / "adapter_config.json").read_text() + "\n")
    code, out, err = alora("show", folder)
    assert (code, out, err.count("\n")) == (2, "", 1) and "model.sig: adapter_config.json: expected sha256" in err


# where sigstore is installed

STAND_IN = {  # what is called of it, and how
    "sigstore/__init__.py": "",
    "sigstore/models.py": """
import json, types
class Bundle:
    def from_json(raw):
        raw = json.loads(raw)
        class Extensions:
            def get_extension_for_class(self, _): return types.SimpleNamespace(value=[types.SimpleNamespace(value="signer@acme.example\\x1b[2J")])
            def get_extension_for_oid(self, _): return types.SimpleNamespace(value=types.SimpleNamespace(value=b"https://issuer.example"))
        return types.SimpleNamespace(raw=raw, signing_certificate=types.SimpleNamespace(extensions=Extensions()))
""",
    "sigstore/verify/policy.py": "class UnsafeNoOp: pass\n",
    "sigstore/verify/__init__.py": """
import base64, os
class Verifier:
    def production(*, offline):
        assert offline
        return Verifier()
    def verify_dsse(self, bundle, policy):
        if os.environ.get("SIGSTORE_SAYS") == "wrong":
            raise RuntimeError("signature does not match\\nat all")
        return "", b"another" if os.environ.get("SIGSTORE_SAYS") == "other" else base64.b64decode(bundle.raw["dsseEnvelope"]["payload"])
""",
    "cryptography/__init__.py": "",
    "cryptography/x509.py": "SubjectAlternativeName = object\nObjectIdentifier = str\n",
    "sigstore-9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: sigstore\nVersion: 9.9\n",
}


@pytest.fixture
def with_sigstore(tmp_path):
    for name, text in STAND_IN.items():
        (tmp_path / "stand-in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stand-in" / name).write_text(text)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path / "stand-in"), os.environ.get("PYTHONPATH")]))}


def test_who_signed_is_told_where_sigstore_has_verified_it(hub, alora, signed, with_sigstore):
    pull = ["pull", f"hf:{LIBRARY}/answerability", "--base", "smollm2-135m-instruct"]
    code, _, err = alora(*pull, **with_sigstore)
    assert code == 0 and err == (
        f"alora: hf:{LIBRARY}/answerability: model.sig has the digests of its files; signed by signer@acme.example\\x1b[2J, known to https://issuer.example, "
        "as sigstore 9.9 verifies; whether you trust them is yours to say\n"
    )
    for says, said in (("wrong", "RuntimeError: signature does not match at all"), ("other", "ValueError: another payload is signed")):
        (signed / "README.md").write_text(f"---\nlicense: {says}\n---\n")  # a new commit
        sign(signed)
        code, out, err = alora(*pull, **with_sigstore, SIGSTORE_SAYS=says)
        assert (code, out, err.count("\n")) == (2, "", 1) and f"model.sig: signature: expected one that sigstore 9.9 verifies, got {said}" in err

"""Adapter files at the model's door: those that do not fit or are damaged are refused, and nothing is lost."""

import pytest

from alora_gguf import AdapterFileError, AdapterMismatchError, NoInvocationError


@pytest.fixture(scope="module")
def stranger(variants, tmp_path_factory):
    """Made for another base, by its fingerprint."""
    from alora_gguf.convert import read_adapter_metadata

    path = tmp_path_factory.mktemp("stranger") / "stranger.gguf"
    fingerprint = read_adapter_metadata(variants["answerability"]).fingerprint.encode()
    path.write_bytes(variants["answerability"].read_bytes().replace(fingerprint, fingerprint[::-1]))
    return path


def test_what_an_adapter_says_of_itself(shared):
    adapter, plain = shared.adapter("answerability"), shared.adapter("plain")
    assert adapter.is_activated and not plain.is_activated
    assert adapter.invocation_tokens == shared.tokenize("<|im_start|>answerability\n")
    assert adapter.n_bytes > 1_000_000
    assert "answerability" in repr(adapter)
    prompt = [5, 6, *adapter.invocation_tokens, 7]
    assert (adapter.start_in(prompt), adapter.start_in([5, 6]), plain.start_in(prompt)) == (2, None, 0)


def test_an_adapter_for_another_base_is_refused_unless_forced(shared, stranger):
    with pytest.raises(AdapterMismatchError, match="stranger.gguf: expected an adapter for the base with fingerprint .* use that base, or force=True"):
        shared.load_adapter(stranger)
    adapter = shared.load_adapter(stranger, force=True)
    try:
        rows = shared.logits([([9, *adapter.invocation_tokens], name) for name in ("stranger", "answerability")])
        assert (rows[0] == rows[1]).all()
    finally:
        shared.unload_adapter("stranger")


@pytest.mark.parametrize("share", [0, 0.00001, 0.01, 0.5, 0.999999])
def test_a_file_that_was_cut_is_refused(shared, variants, tmp_path, share):
    data = variants["answerability"].read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(AdapterFileError, match="cut.gguf: .*expected") as raised:
        shared.load_adapter(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_none_is_refused(shared, base_q4, tmp_path):
    (tmp_path / "text.gguf").write_text("not a model\n" * 100)
    for path, error in ((tmp_path / "text.gguf", AdapterFileError), (tmp_path / "nothing.gguf", AdapterFileError),
                        (tmp_path, AdapterFileError), (base_q4, AdapterFileError)):  # fmt: skip
        with pytest.raises(error) as raised:
            shared.load_adapter(path)
        assert path.name in str(raised.value)


def test_a_name_that_is_in_use_stays_when_the_new_file_is_refused(shared, tmp_path):
    before = shared.adapter("other")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(AdapterFileError):
        shared.load_adapter(tmp_path / "bad.gguf", "other")
    assert shared.adapter("other") is before


def test_a_file_name_that_is_no_unicode(shared, variants, tmp_path):
    path = tmp_path / "caf\udce9.gguf"
    path.write_bytes(variants["answerability"].read_bytes())
    shared.load_adapter(path, "cafe")
    shared.unload_adapter("cafe")


def test_an_ordinary_lora_cannot_be_invoked_but_computes(shared):
    with shared.conversation() as chat:
        with pytest.raises(NoInvocationError, match="adapter 'plain': expected invocation tokens, got an ordinary LoRA"):
            chat.invoke("plain")
    base, plain = shared.logits([([5, 6, 7], None), ([5, 6, 7], "plain")])
    assert (base != plain).any(axis=-1).all()

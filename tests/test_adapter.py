"""Adapter files at the model's door: those that do not fit or are damaged are refused, and nothing is lost."""

import pytest

from alora_gguf import AdapterFileError, AdapterMismatchError, ConversionError, NoInvocationError


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
    with pytest.raises(
        AdapterMismatchError, match="stranger.gguf: expected an adapter for this base, got one for .*; use that base, or load it by force"
    ):
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
                        (tmp_path, ConversionError), (base_q4, AdapterFileError)):  # fmt: skip
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
        with pytest.raises(NoInvocationError, match="adapter 'plain': expected invocation tokens or an io.yaml, got an ordinary LoRA"):
            chat.invoke("plain")
    base, plain = shared.logits([([5, 6, 7], None), ([5, 6, 7], "plain")])
    assert (base != plain).any(axis=-1).all()


def test_every_file_has_a_number_of_its_own_whoever_names_it(variants, tmp_path):
    """From many threads at once; the same file has the same one."""
    from concurrent.futures import ThreadPoolExecutor

    from alora_gguf.engine.adapter import Adapter

    files = [tmp_path / f"{i}.gguf" for i in range(64)]
    for file in files:
        file.write_bytes(b"GGUF")
    with ThreadPoolExecutor(16) as pool:
        uids = [adapter.uid for adapter in pool.map(lambda file: Adapter(file, None, None), files * 3)]
    assert uids[:64] == uids[64:128] == uids[128:]
    assert len(set(uids)) == 64


def zeroed(path, out, but=None):
    """The adapter with every lora_b zero, but one of the bytes at the end of `but`."""
    from alora_gguf.convert import AdapterFile

    data, file = bytearray(path.read_bytes()), AdapterFile(path)
    for pair in file.pairs:
        begin = file.file.data_start + pair.b.info.offset
        data[begin : begin + pair.b.n_bytes] = bytes(pair.b.n_bytes)
    if but is not None:
        pair = file.pairs[but]
        data[file.file.data_start + pair.b.info.offset + pair.b.n_bytes - 1] = 1
    out.write_bytes(data)
    return out


def test_an_adapter_that_is_all_zero_says_so(shared, variants, tmp_path, caplog):
    adapter = shared.load_adapter(zeroed(variants["answerability"], tmp_path / "zero.gguf"))
    try:
        [said] = adapter.warnings
        assert said.startswith("adapter 'zero': expected weights that change something, got lora_b that is all zero") and "\n" not in said
        assert [(r.name, r.getMessage()) for r in caplog.records] == [("alora_gguf", said)]
        with shared.conversation(messages=[{"role": "user", "content": "Is it late?"}]) as chat:
            assert chat.invoke("zero", max_tokens=1).warnings == [said]
            replies = chat.invoke_all(["zero", "answerability"], max_tokens=1)
            assert (replies["zero"].warnings, replies["answerability"].warnings) == ([said], [])
        assert shared.generate([9, *adapter.invocation_tokens], adapter="zero", max_tokens=1).warnings == [said]
        assert shared.adapter("answerability").warnings == []
        for but in (0, -1):
            from alora_gguf.engine.adapter import Adapter

            assert Adapter(zeroed(variants["answerability"], tmp_path / f"{but}.gguf", but), None, None).warnings == []
    finally:
        shared.unload_adapter("zero")


def test_a_prompt_without_the_invocation_says_that_the_base_answers(shared, caplog):
    prompt = [5, 6, 7]
    base = shared.generate(prompt, max_tokens=3, temperature=0)
    got = shared.generate(prompt, adapter="answerability", max_tokens=3, temperature=0)
    assert (got.tokens, base.warnings) == (base.tokens, [])
    [said] = got.warnings
    assert said.startswith("adapter 'answerability': expected its invocation, tokens [1, ") and "the base answered" in said and "\n" not in said
    assert [(r.name, r.getMessage()) for r in caplog.records] == [("alora_gguf", said)]
    adapter = shared.adapter("answerability")
    assert shared.generate([5, *adapter.invocation_tokens], adapter="answerability", max_tokens=1).warnings == []
    assert shared.generate(prompt, adapter="plain", max_tokens=1).warnings == []

"""The invocation tokens of an adapter: its own, or those given instead."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ...errors import ConversionError
from ...text import complaint
from .gguf_base import Base

GIVE = "give the tokens with --invocation-tokens"
TOKENIZE = """
import json, sys
from alora_gguf.runtime.vocab import load_vocab
with load_vocab(sys.argv[1]) as vocab:
    print(json.dumps(vocab.tokenize(sys.stdin.buffer.read().decode())))
"""


def invocation_tokens(base: Base, path: Path, given: str | Sequence[int] | None, saved_tokens: list[int] | None, saved_text: str | None) -> list[int]:
    """The first of: tokens or text given, tokens saved, text saved; empty for a plain LoRA.

    path: the adapter's config, for complaints. Raises ConversionError if there is a token that the
    base does not have, or a text that cannot be tokenised.
    """
    what = "option alora_invocation_tokens" if given is None else "invocation"
    chosen = given if given is not None else saved_tokens or saved_text
    if chosen is None:
        return []
    tokens = tokenize(base, chosen) if isinstance(chosen, str) else list(chosen)
    if not tokens:
        raise ConversionError(complaint(path, what, "one or more tokens", "none", "give the text or the tokens that invoke the adapter"))
    for token in tokens:
        if type(token) is not int or not 0 <= token < len(base.vocabulary):
            raise ConversionError(
                complaint(
                    path,
                    what,
                    f"ids below {len(base.vocabulary)}, the vocabulary of {base.path}",
                    token,
                    "name the base that the adapter was trained on with --base",
                )
            )
    return tokens


def tokenize(base: Base, text: str) -> list[int]:
    """By the base's own tokenizer, special tokens by their names, none added.

    A GGUF's is llama.cpp's, which alone has every kind of vocabulary and pre-tokenizer that a GGUF
    can name, and which is what the prompts will be tokenised by; for the few adapters whose
    invocation is a text it is run in a process of its own, as it aborts on a vocabulary that is
    damaged. A Hugging Face folder's is the tokenizers library's. Raises ConversionError.
    """
    return _by_tokenizers(base.path, text) if base.path.is_dir() else _by_llama_cpp(base.path, text)


def _by_llama_cpp(path: Path, text: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", TOKENIZE, str(path)], input=text.encode("utf-8", "replace"), capture_output=True)
    if done.returncode == 0:
        return json.loads(done.stdout)
    reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    raise ConversionError(complaint(path, "vocabulary", "one that llama.cpp can tokenise by", reason or "a crash", GIVE))


def _by_tokenizers(folder: Path, text: str) -> list[int]:
    try:
        from tokenizers import Tokenizer
    except ImportError as e:
        raise ConversionError(complaint(folder, "vocabulary", "the tokenizers library to tokenise by it", e, GIVE)) from None
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    except Exception as e:  # the library raises nothing more precise
        raise ConversionError(complaint(folder / "tokenizer.json", "file", "a tokenizer", e, GIVE)) from None

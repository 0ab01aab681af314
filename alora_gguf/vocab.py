"""Text to tokens and back, by the vocabulary of the base model."""

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ._library import llama_cpp, take_last_error
from .errors import ModelLoadError, PromptError


class Vocab:
    """Borrows the vocabulary of a llama_model, which must outlive it."""

    def __init__(self, model: int):
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.n_tokens = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.bos = llama_cpp.llama_vocab_bos(self._vocab)
        self.eos = llama_cpp.llama_vocab_eos(self._vocab)
        self.add_bos = llama_cpp.llama_vocab_get_add_bos(self._vocab)

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """The tokens of `text`. With `special`, the names of control tokens in it become these tokens."""
        data = text.encode("utf-8")
        n_max = len(data) + 2
        out = (llama_cpp.llama_token * n_max)()
        n = llama_cpp.llama_tokenize(self._vocab, data, len(data), out, n_max, add_bos, special)
        if n < 0:
            out = (llama_cpp.llama_token * -n)()
            n = llama_cpp.llama_tokenize(self._vocab, data, len(data), out, -n, add_bos, special)
        return list(out[:n])

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token's are its name with `special`, else none."""
        size = 64
        while True:
            out = ctypes.create_string_buffer(size)
            n = llama_cpp.llama_token_to_piece(self._vocab, token, out, size, 0, special)
            if n >= 0:
                return out.raw[:n]
            size = -n

    def detokenize(self, tokens: Sequence[int], *, special: bool = True) -> str:
        return b"".join(self.token_bytes(t, special=special) for t in tokens).decode("utf-8", errors="replace")

    def is_eog(self, token: int) -> bool:
        return llama_cpp.llama_vocab_is_eog(self._vocab, token)

    def check(self, tokens: Sequence[int]) -> None:
        """Raises PromptError unless `tokens` are one or more tokens of this vocabulary."""
        if not len(tokens):
            raise PromptError("tokens: expected one or more, got none")
        for i, token in enumerate(tokens):
            if not 0 <= token < self.n_tokens:
                raise PromptError(f"tokens[{i}]: expected 0 to {self.n_tokens - 1}, got {token}")


@contextmanager
def load_vocab(path: Path) -> Iterator[Vocab]:
    """The vocabulary of the GGUF model at `path`, without its weights. Raises ModelLoadError."""
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    take_last_error()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelLoadError(f"{path}: expected a GGUF model, got: {take_last_error() or 'no reason given'}; check the file")
    try:
        yield Vocab(model)
    finally:
        llama_cpp.llama_model_free(model)

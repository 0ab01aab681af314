"""Text to tokens and back, by the vocabulary of the base model."""

import ctypes
from collections.abc import Sequence

from ._library import llama_cpp
from .errors import PromptError


class Vocab:
    """Borrows the vocabulary of a llama_model, which must outlive it."""

    def __init__(self, model: int):
        self.ptr = llama_cpp.llama_model_get_vocab(model)
        self.n_tokens = llama_cpp.llama_vocab_n_tokens(self.ptr)
        self.bos = llama_cpp.llama_vocab_bos(self.ptr)
        self.eos = llama_cpp.llama_vocab_eos(self.ptr)
        self.add_bos = llama_cpp.llama_vocab_get_add_bos(self.ptr)

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """The tokens of `text`. With `special`, the names of control tokens in it become these tokens."""
        data = text.encode("utf-8")
        n_max = len(data) + 2
        out = (llama_cpp.llama_token * n_max)()
        n = llama_cpp.llama_tokenize(self.ptr, data, len(data), out, n_max, add_bos, special)
        if n < 0:
            out = (llama_cpp.llama_token * -n)()
            n = llama_cpp.llama_tokenize(self.ptr, data, len(data), out, -n, add_bos, special)
        return list(out[:n])

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token's are its name with `special`, else none."""
        size = 64
        while True:
            out = ctypes.create_string_buffer(size)
            n = llama_cpp.llama_token_to_piece(self.ptr, token, out, size, 0, special)
            if n >= 0:
                return out.raw[:n]
            size = -n

    def token_text(self, token: int) -> str:
        """The text of one token by itself; bytes that are no whole characters become U+FFFD."""
        return self.token_bytes(token, special=True).decode("utf-8", errors="replace")

    def detokenize(self, tokens: Sequence[int], *, special: bool = True) -> str:
        return b"".join(self.token_bytes(t, special=special) for t in tokens).decode("utf-8", errors="replace")

    def is_eog(self, token: int) -> bool:
        return llama_cpp.llama_vocab_is_eog(self.ptr, token)

    def check(self, tokens: Sequence[int]) -> None:
        """Raises PromptError unless `tokens` are one or more tokens of this vocabulary."""
        if not len(tokens):
            raise PromptError("tokens: expected one or more, got none")
        for i, token in enumerate(tokens):
            if not 0 <= token < self.n_tokens:
                raise PromptError(f"tokens[{i}]: expected 0 to {self.n_tokens - 1}, got {token}")

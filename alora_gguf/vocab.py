"""Text to tokens and back, by the vocabulary of the base model."""

import ctypes
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ._library import llama_cpp, take_error
from .errors import ModelLoadError, PromptError
from .lifetime import Lifetime


class Vocab:
    """The vocabulary of a llama_model, which it owns: close() frees the model when no thread is inside a call of the vocabulary.

    Any thread may call it; after close() each call raises ClosedError.
    """

    def __init__(self, model: int):
        self.lifetime = Lifetime()  # within it, `ptr` may be used
        self._model = model
        self._ptr = llama_cpp.llama_model_get_vocab(model)
        self.n_tokens = llama_cpp.llama_vocab_n_tokens(self._ptr)
        self.bos = llama_cpp.llama_vocab_bos(self._ptr)
        self.eos = llama_cpp.llama_vocab_eos(self._ptr)
        self.add_bos = llama_cpp.llama_vocab_get_add_bos(self._ptr)
        template = llama_cpp.llama_model_chat_template(model, None)
        self.chat_template = template.decode("utf-8", errors="replace") if template else ""

    def close(self) -> None:
        self.lifetime.close(partial(llama_cpp.llama_model_free, self._model))

    @property
    def ptr(self) -> int:
        """The llama_vocab; whoever uses it is within `lifetime`. Raises ClosedError."""
        with self.lifetime:
            return self._ptr

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        """The tokens of `text`. With `special`, the names of control tokens in it become these tokens.

        Raises PromptError if it is not Unicode text.
        """
        try:
            data = text.encode("utf-8")
        except (AttributeError, UnicodeEncodeError) as e:
            raise PromptError(f"text: expected Unicode text, got: {e}") from e
        n_max = len(data) + 2
        out = (llama_cpp.llama_token * n_max)()
        with self.lifetime:
            n = llama_cpp.llama_tokenize(self._ptr, data, len(data), out, n_max, add_bos, special)
            if n < 0:
                out = (llama_cpp.llama_token * -n)()
                n = llama_cpp.llama_tokenize(self._ptr, data, len(data), out, -n, add_bos, special)
        return list(out[:n])

    def tokenize_prompt(self, text: str, *, begins: bool) -> list[int]:
        """The tokens of a part of a prompt; BOS stands before the one that `begins` it, where the model wants one and the text has none."""
        return self.tokenize(text, add_bos=begins and self.add_bos and not text.startswith(self.detokenize([self.bos])))

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token's are its name with `special`, else none."""
        with self.lifetime:
            return self._token_bytes(token, special)

    def token_text(self, token: int) -> str:
        """The text of one token by itself; bytes that are no whole characters become U+FFFD."""
        return self.token_bytes(token, special=True).decode("utf-8", errors="replace")

    def detokenize(self, tokens: Sequence[int], *, special: bool = True) -> str:
        with self.lifetime:
            return b"".join(self._token_bytes(t, special) for t in tokens).decode("utf-8", errors="replace")

    def is_eog(self, token: int) -> bool:
        with self.lifetime:
            return llama_cpp.llama_vocab_is_eog(self._ptr, token)

    def _token_bytes(self, token: int, special: bool) -> bytes:
        size = 64
        while True:
            out = ctypes.create_string_buffer(size)
            n = llama_cpp.llama_token_to_piece(self._ptr, token, out, size, 0, special)
            if n >= 0:
                return out.raw[:n]
            size = -n

    def check(self, tokens: Sequence[int]) -> list[int]:
        """The tokens as a list. Raises PromptError unless they are one or more tokens of this vocabulary."""
        try:
            tokens = list(map(operator.index, tokens))
        except TypeError as e:
            raise PromptError(f"tokens: expected a sequence of whole numbers, got: {e}") from e
        if not tokens:
            raise PromptError("tokens: expected one or more, got none")
        if min(tokens) < 0 or max(tokens) >= self.n_tokens:
            i, token = next((i, token) for i, token in enumerate(tokens) if not 0 <= token < self.n_tokens)
            raise PromptError(f"tokens[{i}]: expected 0 to {self.n_tokens - 1}, got {token}")
        return tokens


@contextmanager
def load_vocab(path: Path) -> Iterator[Vocab]:
    """The vocabulary of the GGUF model at `path`, without its weights, for the `with`. Raises ModelLoadError."""
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    take_error()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelLoadError(f"{path}: expected a GGUF model, got: {take_error() or 'no reason given'}; check the file")
    vocab = Vocab(model)
    try:
        yield vocab
    finally:
        vocab.close()

"""Text to tokens and back, by the vocabulary of the base model."""

import ctypes
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

from ..errors import ModelLoadError, PromptError
from .constraint import Constraints
from .library import llama_cpp, take_error
from .lifetime import Lifetime

_BYTE = "\x01"


class Vocab:
    """The vocabulary of a llama_model, which it owns: close() frees the model when no thread is inside a call of the vocabulary.

    Any thread may call it; after close() each call raises ClosedError.
    """

    def __init__(self, model: int):
        self.lifetime = Lifetime()  # within it, `ptr` may be used
        self._model = model
        self._ptr = llama_cpp.llama_model_get_vocab(model)
        self.n_tokens: int = llama_cpp.llama_vocab_n_tokens(self._ptr)
        self.bos: int = llama_cpp.llama_vocab_bos(self._ptr)
        self.eos: int = llama_cpp.llama_vocab_eos(self._ptr)
        self.n_trained: int = llama_cpp.llama_model_n_ctx_train(model)  # tokens that the model was trained on; 0: not known
        self.add_bos: bool = llama_cpp.llama_vocab_get_add_bos(self._ptr)
        self.special_tokens = self._special_tokens(model)
        self.n_params: int = llama_cpp.llama_model_n_params(model)
        template = llama_cpp.llama_model_chat_template(model, None)
        self.chat_template = template.decode("utf-8", errors="replace") if template else ""

    def _special_tokens(self, model: int) -> dict[str, str]:
        """The text of those that there are, by transformers' names. libllama has defaults that are any word: these are none."""
        kind = lambda token: llama_cpp.llama_vocab_get_attr(self._ptr, token) if 0 <= token < self.n_tokens else 0
        ids = {
            "bos": self.bos,
            "eos": self.eos,
            "sep": llama_cpp.llama_vocab_sep(self._ptr),
            "pad": llama_cpp.llama_vocab_pad(self._ptr),
            "mask": llama_cpp.llama_vocab_mask(self._ptr),
            **({"unk": 0} if kind(0) & llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN else {}),
        }
        for name, key in (("unk", b"tokenizer.ggml.unknown_token_id"), ("cls", b"tokenizer.ggml.cls_token_id")):
            out = ctypes.create_string_buffer(16)
            if llama_cpp.llama_model_meta_val_str(model, key, out, len(out)) > 0:
                ids[name] = int(out.value)
        special = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        return {f"{name}_token": self.token_text(token) for name, token in ids.items() if kind(token) & special}

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What the file says of the model by GGUF's keys, but for lists: each value as text."""
        with self.lifetime:
            n = llama_cpp.llama_model_meta_count(self._model)
            read = lambda call, i: _text(partial(call, self._model, i))
            return {
                read(llama_cpp.llama_model_meta_key_by_index, i): value
                for i in range(n)
                if not (value := read(llama_cpp.llama_model_meta_val_str_by_index, i)).startswith("[")
            }

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

    def tokenize_prompt(self, text: str, *, begins: bool = True, mark: str = "") -> list[int]:
        """The tokens of a part of a prompt, in which the names of control tokens are these tokens.

        BOS stands before the part that `begins` a prompt, where the model wants one and the text has none. Any other goes
        on without the space that some vocabularies put before a text. A name with a `mark` in it is text, and no token.
        """
        first, *rest = text.split(mark) if mark else [text]
        tokens = self.tokenize(first, add_bos=self.add_bos and not self._begins_with_bos(first)) if begins else self.tokenize_more(first)
        for part in rest:
            tokens += self.tokenize_more(part)
        return tokens

    def _begins_with_bos(self, text: str) -> bool:
        return self.bos >= 0 and text.startswith(self.token_text(self.bos))

    def tokenize_more(self, text: str, *, special: bool = True) -> list[int]:
        """The tokens of a text that another stands before: without the space that some vocabularies put before texts."""
        if not text or not self._before:
            return self.tokenize(text, special=special) if text else []
        tokens = self.tokenize(_BYTE + text, special=special)
        n = len(self._before)
        return tokens[n:] if tokens[:n] == self._before else self.tokenize(text, special=special)

    @cached_property
    def _before(self) -> list[int]:
        """The tokens of a byte that merges with nothing, where a space comes to stand before it; else none are needed."""
        tokens = self.tokenize(_BYTE)
        return tokens if len(tokens) > 1 and self.token_bytes(tokens[-1]) == _BYTE.encode() else []

    @cached_property
    def control_tokens(self) -> dict[int, str]:
        """The tokens that no text is made of, and what they are called in prompts."""
        return self._of(llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN)

    @cached_property
    def named_tokens(self) -> dict[int, str]:
        """The tokens that are found in a text by their names alone, although they are text themselves."""
        return self._of(llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)

    @cached_property
    def ends(self) -> list[int]:
        """The tokens that end an answer, EOS first."""
        with self.lifetime:
            ends = [token for token in range(self.n_tokens) if llama_cpp.llama_vocab_is_eog(self._ptr, token)]
        return sorted(ends, key=lambda token: token != self.eos)

    @cached_property
    def constraints(self) -> Constraints:
        return Constraints(self)

    def pieces(self) -> list[bytes]:
        """What each token adds to a text; of control tokens their names."""
        with self.lifetime:
            return [self._token_bytes(token, True) for token in range(self.n_tokens)]

    def _of(self, attributes: int) -> dict[int, str]:
        with self.lifetime:
            tokens = [token for token in range(self.n_tokens) if llama_cpp.llama_vocab_get_attr(self._ptr, token) & attributes]
        return {token: name for token in tokens if (name := self.token_text(token))}

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token's are its name with `special`, else none."""
        with self.lifetime:
            return self._token_bytes(token, special)

    def token_text(self, token: int) -> str:
        """The text of one token by itself; bytes that are no whole characters become U+FFFD."""
        return self.token_bytes(token, special=True).decode("utf-8", errors="replace")

    def detokenize(self, tokens: Iterable[int], *, special: bool = True) -> str:
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


def _text(write: Callable[[ctypes.Array, int], int]) -> str:
    """What a function of libllama writes into a buffer, of whatever size."""
    out = ctypes.create_string_buffer(256)
    if (n := write(out, len(out))) >= len(out):
        out = ctypes.create_string_buffer(n + 1)
        write(out, len(out))
    return out.value.decode("utf-8", errors="replace")


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

"""Token ids to text, as the base model's vocabulary spells them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

NORMAL, CONTROL, BYTE = 1, 3, 6  # llama_token_type


@dataclass(frozen=True)
class Vocabulary:
    """tokens: raw strings of tokenizer.ggml.tokens; types: tokenizer.ggml.token_type, or empty."""

    model: str
    tokens: Sequence[bytes]
    types: list[int]

    def __len__(self) -> int:
        return len(self.tokens)

    def text(self, token_ids: list[int]) -> str:
        """The text of the tokens, special ones included; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self._piece, token_ids)).decode("utf-8", "replace")

    def _piece(self, token_id: int) -> bytes:
        token = self.tokens[token_id]
        kind = self.types[token_id] if token_id < len(self.types) else NORMAL
        if self.model == "gpt2":
            return _from_byte_level(token) if kind == NORMAL else token
        if kind == BYTE and len(token) == 6:  # <0x0A>
            return bytes([int(token[3:5], 16)])
        return token.replace("\u2581".encode(), b" ") if kind == NORMAL else token


def _from_byte_level(token: bytes) -> bytes:
    table = _byte_of_character()
    text = token.decode("utf-8", "replace")
    return bytes(table[c] for c in text) if all(c in table for c in text) else token


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    # GPT-2's byte-level BPE: printable Latin-1 bytes stand for themselves, the others for U+0100 on
    table, n_shifted = {}, 0
    for byte in range(256):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE:
            table[chr(byte)] = byte
        else:
            table[chr(0x100 + n_shifted)] = byte
            n_shifted += 1
    return table

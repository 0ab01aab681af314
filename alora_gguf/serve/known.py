"""Texts whose tokens are in the cache."""

import threading
from collections import OrderedDict
from collections.abc import Hashable

from ..prompt.intrinsic_prompt import Known


class KnownTexts:
    """Pairs of a text and the tokens that were computed for it.

    An answer was generated as tokens, and comes back as text in the next request: tokenised anew it
    could have others, and its cells would not be found. The least recently used texts go when there
    are more than `n_texts` or `n_chars`. Texts of one `space` are not known in another.
    """

    def __init__(self, *, n_texts: int = 1024, n_chars: int = 1 << 25):
        self._n_texts, self._n_chars = n_texts, n_chars
        self._tokens: OrderedDict[tuple[Hashable, str], list[int]] = OrderedDict()
        self._n = 0
        self._lock = threading.Lock()

    def fitting(self, text: str, space: Hashable = None) -> list[Known]:
        """Those that `text` begins with; the longest counts as used."""
        with self._lock:
            keys = sorted((key for key in self._tokens if key[0] == space and text.startswith(key[1])), key=lambda key: len(key[1]))
            if keys:
                self._tokens.move_to_end(keys[-1])
            return [(key[1], self._tokens[key]) for key in keys]

    def remember(self, text: str, tokens: list[int], space: Hashable = None) -> None:
        with self._lock:
            if self._tokens.pop((space, text), None) is None:
                self._n += len(text)
            self._tokens[space, text] = tokens
            while len(self._tokens) > 1 and (len(self._tokens) > self._n_texts or self._n > self._n_chars):
                (_, gone), _ = self._tokens.popitem(last=False)
                self._n -= len(gone)

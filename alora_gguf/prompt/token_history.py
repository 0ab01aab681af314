"""Texts whose tokens are in the cache: the one store of a model, for conversations and clients alike."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

Known = tuple[str, Sequence[int]]  # a text, and the tokens that were computed for it


class TokenHistory:
    """Pairs of a text and the tokens that were computed for it.

    An answer was generated as tokens, and stands in the next prompt as text: tokenised anew it could have others, and its
    cells would not be found. The least recently used texts go when there are more than `n_texts` or `n_chars`. Texts of one
    `cache_salt` are not known in another. Any thread may call it.
    """

    def __init__(self, *, n_texts: int = 1024, n_chars: int = 1 << 25):
        self._n_texts, self._n_chars = n_texts, n_chars
        self._tokens: OrderedDict[tuple[Hashable, str], list[int]] = OrderedDict()
        self._n = 0
        self._lock = threading.Lock()

    def fitting(self, text: str, cache_salt: Hashable = None) -> list[Known]:
        """Those that `text` begins with; the longest counts as used."""
        with self._lock:
            keys = sorted((key for key in self._tokens if key[0] == cache_salt and text.startswith(key[1])), key=lambda key: len(key[1]))
            if keys:
                self._tokens.move_to_end(keys[-1])
            return [(key[1], self._tokens[key]) for key in keys]

    def remember(self, text: str, tokens: Sequence[int], cache_salt: Hashable = None) -> None:
        """From now on, a text of this cache_salt that begins with this one has these tokens there."""
        with self._lock:
            if self._tokens.pop((cache_salt, text), None) is None:
                self._n += len(text)
            self._tokens[cache_salt, text] = list(tokens)
            while len(self._tokens) > 1 and (len(self._tokens) > self._n_texts or self._n > self._n_chars):
                (_, gone), _ = self._tokens.popitem(last=False)
                self._n -= len(gone)


def text_tokens(text: str, tokenize: Callable[..., list[int]], known: Sequence[Known] = ()) -> list[int]:
    """The tokens of a text from its first character on; what begins with a known text keeps its tokens there.

    tokenize(text, begins=True) gives those of a text that nothing stands before, BOS included if there is one,
    tokenize(text, begins=False) those of one that goes on.
    """
    fitting = [pair for pair in known if text.startswith(pair[0])]
    if not fitting:
        return tokenize(text, begins=True)
    begin, tokens = max(fitting, key=lambda pair: len(pair[0]))
    return [*tokens, *(tokenize(text[len(begin) :], begins=False) if len(text) > len(begin) else [])]

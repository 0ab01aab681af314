"""How much of the time work in the background may take from the rest."""

SHARE = 0.1  # of the time of the rest
_SAVED = 2  # steps of the rest: the most time that is kept for later


class Pace:
    """Counts tokens in and seconds out: a background token costs what it makes a step longer.

    Time for the background is earned while the rest computes, and spent by what was measured, so that
    the rest is later by SHARE at most on the whole, however dear a token is on this machine. Little is
    saved up, because an answer is short: what was earned before it would all be spent on it.
    """

    def __init__(self):
        self._earned = 0.0
        self._alone: dict[int, float] = {}  # seconds of a step without the background, by its tokens
        self._token: float | None = None  # seconds that one background token adds

    def allowance(self, n_tokens: int) -> int:
        """How many background tokens may join a step of `n_tokens` others."""
        if n_tokens not in self._alone:
            return 0
        token = self._alone[n_tokens] if self._token is None else self._token
        return int(self._earned / token)

    def record(self, n_tokens: int, n_background: int, seconds: float) -> None:
        """A step took so long."""
        if not n_background:
            before = self._alone.get(n_tokens, seconds)
            self._alone[n_tokens] = before + (seconds - before) / 8
            self._earned = min(self._earned + SHARE * seconds, max(_SAVED * seconds, self._token or 0.0))
        else:
            alone = self._alone[n_tokens]
            cost = max(0.0, seconds - alone)
            self._earned += SHARE * alone - cost
            before = cost / n_background if self._token is None else self._token
            self._token = max(1e-6, before + (cost / n_background - before) / 8)

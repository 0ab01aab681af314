"""Where an adapter becomes active: PEFT's rule, as a pure function."""

from collections.abc import Sequence


def find_invocation(tokens: Sequence[int], invocation: Sequence[int]) -> int | None:
    """The index of the first token of the last occurrence of `invocation` in `tokens`, or None.

    From that index on the adapter is active. Without an occurrence it is active nowhere
    (peft.tuners.lora.variants, calculate_alora_offsets, counts the same from the end).
    """
    n = len(invocation)
    if n == 0:
        return None
    wanted = list(invocation)
    for start in range(len(tokens) - n, -1, -1):
        if tokens[start] == wanted[0] and list(tokens[start : start + n]) == wanted:
            return start
    return None

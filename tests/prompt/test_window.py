"""Which turns are left out of a conversation that is too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_gguf import PromptError
from alora_gguf.prompt.window import Windows, check_on_full, n_to_drop, without_oldest

ROLES = st.lists(st.sampled_from(["user", "assistant", "tool", "system"]), max_size=30)
SYSTEM = [{"role": "system", "content": "Be brief."}]


def said(*roles, size=10):
    return [{"role": role, "content": str(i) * size} for i, role in enumerate(roles)]


def n_chars(messages):
    return sum(len(m["content"]) for m in messages)


@given(ROLES, st.integers(-3, 40))
def test_whole_turns_go_and_the_last_one_and_the_system_message_stay(roles, n):
    messages = SYSTEM + said(*roles)
    kept = without_oldest(messages, n)
    start = next((i for i, m in enumerate(messages) if m["role"] != "system"), len(messages))
    assert kept[:start] == messages[:start] and kept[start:] == messages[len(messages) - len(kept) + start :]
    n_gone = len(messages) - len(kept)
    assert 0 <= n_gone <= max(n, 0)
    if n_gone:
        assert kept[start]["role"] == "user" and messages[start + n_gone - 1]["role"] != "user"
    assert sum(m["role"] == "user" for m in kept) >= min(1, sum(m["role"] == "user" for m in messages))


def test_nothing_goes_as_long_as_it_fits_and_then_half_of_the_room_is_free():
    messages = SYSTEM + said(*["user", "assistant"] * 20)
    whole = n_chars(messages)
    assert n_to_drop(messages, 0, n_chars, whole) == 0 == n_to_drop(messages, 0, n_chars, whole + 1)
    n = n_to_drop(messages, 0, n_chars, whole - 1)
    assert n_chars(without_oldest(messages, n)) <= (whole - 1) / 2 < n_chars(without_oldest(messages, n - 2))
    assert n_to_drop(messages, n, n_chars, whole - 1) == n  # and it stays so
    more = messages + said(*["user", "assistant"] * 5)
    assert n_to_drop(more, n, n_chars, whole - 1) == n


def test_a_last_turn_that_is_too_long_stays():
    messages = said("user", "assistant") + [{"role": "user", "content": "x" * 100}]
    assert without_oldest(messages, n_to_drop(messages, 0, n_chars, 50)) == messages[2:]
    assert n_to_drop(messages[2:], 0, n_chars, 50) == 0


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40), st.integers(150, 400))
def test_a_growing_conversation_is_cut_seldom(sizes, n_most):
    """Told whole each time, as a server is told: what was left out stays so, and most requests leave out no more than the one before."""
    windows, messages, cuts = Windows(), list(SYSTEM), []
    for i, size in enumerate(sizes):
        messages.append({"role": "user", "content": f"{i:03}" + "q" * size})
        n = windows.n_to_drop(messages, "salt", n_chars, n_most)
        assert n_chars(without_oldest(messages, n)) <= n_most
        cuts.append(n)
        messages.append({"role": "assistant", "content": "a" * 10})
    assert cuts == sorted(cuts)
    assert len(set(cuts) - {0}) * (n_most / 2 - 53) <= n_chars(messages)  # each makes half of the room free, but for a part of a turn


def test_others_are_not_cut_because_one_was():
    windows = Windows()
    long = said(*["user", "assistant"] * 10)
    assert windows.n_to_drop(long, "one", n_chars, 100) > 0
    assert windows.n_to_drop(long, "two", n_chars, 1000) == 0
    assert windows.n_to_drop([{"role": "user", "content": "else"}, *long[1:]], "one", n_chars, 1000) == 0
    assert windows.n_to_drop(long, "one", n_chars, 1000) > 0


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(150, 400), st.data())
def test_what_has_become_short_again_is_whole_again(sizes, n_most, data):
    """As where somebody goes back and asks something else: what fits is left whole, though it begins like what did not fit."""
    windows, messages = Windows(), list(SYSTEM)
    for i, size in enumerate(sizes):
        messages.append({"role": "user", "content": f"{i:03}" + "q" * size})
        windows.n_to_drop(messages, "salt", n_chars, n_most)
        messages.append({"role": "assistant", "content": "a" * 10})
    back = messages[: data.draw(st.integers(0, len(sizes) - 1)) * 2 + 1] + [{"role": "user", "content": "another"}]
    n = windows.n_to_drop(back, "salt", n_chars, n_most)
    assert n_chars(without_oldest(back, n)) <= n_most
    if n_chars(back) <= n_most:
        assert n == 0
    assert windows.n_to_drop(back, "salt", n_chars, n_most) == n


def test_an_unknown_way_is_refused():
    with pytest.raises(PromptError, match="on_full: expected error or drop-oldest, got 'shift'"):
        check_on_full("shift")

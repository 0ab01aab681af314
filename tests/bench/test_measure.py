import itertools

import pytest

from alora_gguf.bench.measure import Bar, Measured, Pace, across_processes


@pytest.mark.parametrize(
    "bar, text, good, bad",
    [
        (Bar(high=1.25), "<= 1.25", [0.5, 1.25], [1.26]),
        (Bar(low=3), ">= 3", [3, 100], [2.99]),
        (Bar(0.98, 1.02), "0.98 to 1.02", [0.98, 1.0, 1.02], [0.97, 1.03]),
    ],
)
def test_a_bar_says_what_passes(bar, text, good, bad):
    assert str(bar) == text
    assert all(bar.passes(value) for value in good)
    assert not any(bar.passes(value) for value in bad)


def test_a_ratio_is_the_median_of_the_pairs():
    over, under = iter([9.0, 10, 40, 12, 30]), iter([9.0, 10, 20, 10, 30])  # the first of each is the warm-up
    measured = Pace(least=4, most=4).ratio(("a", lambda: next(over)), ("b", lambda: next(under)))
    assert measured.value == pytest.approx(1.1)  # of 1, 2, 1.2, 1
    assert measured.low <= measured.value <= measured.high
    assert measured.n == 4
    assert measured.sides == {"a": 21, "b": 15}


def test_a_side_with_many_times_counts_by_its_median():
    measured = Pace(least=1, most=1).ratio(("a", lambda: [1, 2, 90]), ("b", lambda: 4.0), warm=False)
    assert (measured.value, measured.low, measured.high) == (0.5, 0.5, 0.5)


def test_a_pair_of_processes_counts_once():
    measured = [Measured(value, value - 1, value + 1, 25, {"a": 2 * value, "b": 2}) for value in (1.0, 9, 2, 3, 1.5)]
    whole = across_processes(measured)
    assert (whole.value, whole.low, whole.high, whole.n) == (2, 1.5, 3, 5)
    assert whole.sides == {"a": 4, "b": 2}
    assert whole.note == "pairs of processes from 1.000 to 9.000"


def test_the_sides_take_turns_in_beginning():
    order = []
    sides = {name: lambda name=name: order.append(name) or 1.0 for name in "ab"}
    Pace(least=3, most=3).rounds(sides, warm=False)
    assert "".join(order) == "abbaab"


def test_it_ends_after_its_seconds_but_not_before_the_least_rounds():
    calls = itertools.count()
    ms = Pace(least=2, most=100, seconds=0).rounds({"a": lambda: float(next(calls))}, warm=False)
    assert ms == {"a": [0, 1]}

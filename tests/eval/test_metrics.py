"""Figures of merit against their definitions."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_gguf.eval.metrics import auroc, bootstrap, calibration_error, lead, wilson

judged = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


@given(judged)
def test_auroc_is_the_share_of_pairs_in_order(pairs):
    right, wrong = [p for p, label in pairs if label], [p for p, label in pairs if not label]
    got = auroc(*zip(*pairs))
    if right and wrong:
        wanted = sum((r > w) + (r == w) / 2 for r in right for w in wrong) / (len(right) * len(wrong))
        assert got == pytest.approx(wanted)
    else:
        assert math.isnan(got)


def test_calibration_error_of_what_is_said_and_what_happens():
    assert calibration_error([0.75] * 4, [True, True, True, False]) == pytest.approx(0)
    assert calibration_error([1.0] * 4, [True, True, True, False]) == pytest.approx(0.25)
    assert calibration_error([0.05] * 2 + [0.95] * 2, [True, True, False, False]) == pytest.approx(0.95)


def test_wilsons_interval_of_a_published_example():
    """Newcombe (1998): 81 of 263 are 0.2553 to 0.3662."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    low, high = wilson(0, 10)
    assert low == 0 and 0 < high < 1


def test_a_bootstrap_interval_holds_the_figure():
    rng = random.Random(0)
    labels = [rng.random() < 0.5 for _ in range(300)]
    probabilities = [min(1, max(0, 0.5 + (0.2 if label else -0.2) + rng.gauss(0, 0.3))) for label in labels]
    low, high = bootstrap(auroc, probabilities, labels)
    assert low < auroc(probabilities, labels) < high and high - low < 0.2


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_a_lead_is_the_mean_of_differences_and_its_interval_theirs(pairs):
    differences = [a - b for a, b in pairs]
    mean = sum(differences) / len(pairs)
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / len(pairs))
    share, (low, high) = lead(*zip(*pairs))
    assert share == pytest.approx(mean)
    assert (high - low) / 2 == pytest.approx(1.959964 * deviation / math.sqrt(len(pairs)), abs=1e-12)

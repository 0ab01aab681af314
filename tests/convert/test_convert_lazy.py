"""Lazy tensors: numpy's operations, done when the values are read."""

import numpy as np
import pytest

from alora_gguf.convert import ConversionError
from alora_gguf.convert.lazy import Lazy, added, concatenated, stacked, zeros

RNG = np.random.default_rng(0)
A, B, EXPERTS = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 6), (5, 4), (3, 4, 6)))


def lazy(values: np.ndarray, dtype: str = "F16") -> Lazy:
    return Lazy.saved("file", "name", values.shape, dtype, lambda: values)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lazy(A).take([2, 0]), A[[2, 0]]),
        (lazy(EXPERTS).take([2, 0], -2), EXPERTS[:, [2, 0]]),
        (lazy(A).slice(1, 3), A[1:3]),
        (lazy(EXPERTS).slice(1, 5, -1), EXPERTS[..., 1:5]),
        (lazy(A).reshape(2, 12), A.reshape(2, 12)),
        (lazy(EXPERTS).transpose(), EXPERTS.T),
        (lazy(EXPERTS).transpose(1, 2, 0), EXPERTS.transpose(1, 2, 0)),
        (concatenated([lazy(A), lazy(A[:1])], 0), np.concatenate([A, A[:1]])),
        (concatenated([lazy(EXPERTS), lazy(EXPERTS[..., :2])], -1), np.concatenate([EXPERTS, EXPERTS[..., :2]], -1)),
        (stacked([lazy(A), lazy(A * 2)]), np.stack([A, A * 2])),
        (stacked([lazy(A)]), A[None]),
        (zeros(lazy(A), 2, 3), np.zeros((2, 3))),
    ],
)
def test_the_same_values_elsewhere_keep_their_type(made, expected):
    assert (made.shape, made.dtype) == (expected.shape, "F16")
    np.testing.assert_array_equal(made.read(), expected)


@pytest.mark.parametrize(
    ("made", "expected"), [(lazy(A).times(3.0), A * 3), (lazy(B).matmul(lazy(A)), B @ A), (added([lazy(A), lazy(A), lazy(A)]), A * 3)]
)
def test_what_is_computed_is_f32(made, expected):
    assert (made.shape, made.dtype, made.read().dtype) == (expected.shape, "F32", np.float32)
    np.testing.assert_allclose(made.read(), expected, rtol=1e-6)


def test_one_is_no_factor_and_one_part_no_sum():
    assert lazy(A).times(1.0).dtype == added([lazy(A)]).dtype == concatenated([lazy(A)], 0).dtype == "F16"


def test_parts_of_different_types_become_f32():
    assert concatenated([lazy(A), lazy(A, "BF16")], 0).dtype == "F32"


def test_nothing_is_read_before_its_turn():
    def read():
        raise AssertionError("read")

    unread = Lazy("file", "name", (4, 6), "F32", read)
    parts = concatenated([unread.take([0]).times(2.0), unread.slice(0, 1)], 0).transpose().reshape(2, 6)
    assert parts.shape == (2, 6)
    with pytest.raises(AssertionError, match="read"):
        parts.read()


def test_rounded_once():
    """In double precision: a float32 product would be off in the last bit."""
    x, factor = np.float32(1 + 2**-23), 1 / 3
    assert lazy(np.full((1,), x)).times(factor).read()[0] == np.float32(np.float64(x) * factor)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_saved_values_are_finite_or_refused(value):
    bad = A.copy()
    bad[1, 2] = value
    with pytest.raises(ConversionError, match="file: tensor name: expected finite values, got .* at index 8"):
        lazy(bad).transpose().times(2.0).read()

"""Where a kernel does not take NumPy's own way, because that is slow: erf, remainders, products,
sorting.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import groundup as gu

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(autouse=True)
def _on_the_cpu() -> None:
    gu.set_default_device("cpu")


# ---- erf ----


def test_erf_is_within_three_units_in_the_last_place() -> None:
    ends = np.array([2.0**-100, 6.0], np.float32).view(np.int32)
    x = np.arange(*ends, 9973, dtype=np.int32).view(np.float32)
    exact = np.array([math.erf(v) for v in x.tolist()])
    for sign in (1, -1):
        got = gu.ops.erf(gu.tensor(sign * x)).numpy()
        units = np.abs(got - sign * exact) / np.spacing(exact.astype(np.float32))
        assert units.max() < 2.3
        assert np.abs(got).max() == 1


def test_erf_of_what_is_special() -> None:
    tiny = np.float32(1e-45)
    x = np.array([0.0, -0.0, tiny, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32)
    got = gu.ops.erf(gu.tensor(x)).numpy()
    np.testing.assert_array_equal(got, np.float32([0, 0, tiny, 1, -1, 1, -1, np.nan]))
    assert np.signbit(got[1])


# ---- remainder, floor_divide ----


def pairs() -> tuple[Array, Array]:
    """Numbers of every size, and such whose quotient is an integer, nearly or exactly."""
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, (2, 3000), dtype=np.uint32).view(np.float32)
    y = rng.uniform(-3, 3, 3000).astype(np.float32)
    x = (y * rng.integers(-(2**20), 2**20, 3000)).astype(np.float32)
    beside = np.nextafter(x, np.float32(np.inf))
    return np.concatenate([bits[0], x, beside]), np.concatenate([bits[1], y, y])


def test_remainders_and_quotients_are_exact() -> None:
    x, y = pairs()
    quotients = gu.floor_divide(gu.tensor(x), gu.tensor(y)).numpy()
    rests = gu.remainder(gu.tensor(x), gu.tensor(y)).numpy()
    with np.errstate(all="ignore"):
        plain = np.remainder(x, y)
    np.testing.assert_array_equal(rests, plain)
    zeros = plain == 0
    np.testing.assert_array_equal(np.signbit(rests[zeros]), np.signbit(plain[zeros]))
    usual = np.isfinite(x) & np.isfinite(y) & (y != 0) & (np.abs(quotients) < 2.0**24)
    assert usual.sum() > 6000
    exact = [
        math.floor(Fraction(a) / Fraction(b))
        for a, b in zip(x[usual].tolist(), y[usual].tolist(), strict=True)
    ]
    np.testing.assert_array_equal(quotients[usual], exact)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_is_not_finite_divides_as_in_numpy(dtype: str) -> None:
    special = [0.0, -0.0, 1.0, -1.0, 3.0, -2.5, np.inf, -np.inf, np.nan]
    sides = (np.resize(side, 81 * 30) for side in np.meshgrid(special, special))
    x, y = (gu.tensor(side).astype(dtype) for side in sides)
    for ours, numpys in ((gu.remainder, np.remainder), (gu.floor_divide, np.floor_divide)):
        got = ours(x, y).astype("float64").numpy()
        with np.errstate(all="ignore"):
            wanted = numpys(x.astype("float64").numpy(), y.astype("float64").numpy())
        np.testing.assert_array_equal(got, wanted)
        known = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(wanted[known]))


def test_one_number_divides_many() -> None:
    x = np.random.default_rng(6).standard_normal((70, 1000)).astype(np.float32)
    np.testing.assert_array_equal((gu.tensor(x) % 0.7).numpy(), np.remainder(x, np.float32(0.7)))
    np.testing.assert_array_equal((gu.tensor(x) // -0.7).numpy(), x // np.float32(-0.7))
    turned = gu.tensor(x).mT % gu.tensor(np.abs(x) + 1).mT
    np.testing.assert_array_equal(turned.numpy(), np.remainder(x, np.abs(x) + 1).T)


# ---- prod ----


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), ()])
def test_products_of_halves_are_products_of_all(axis: Any) -> None:
    x = np.random.default_rng(7).uniform(0.9, 1.1, (67, 3, 131))
    for values in (gu.tensor(x), gu.tensor(x.T.copy()).permute(2, 1, 0)):
        got = values.astype("float32").prod(axis).numpy()
        np.testing.assert_allclose(got, np.prod(x, axis=axis), rtol=1e-4)
    wrapped = np.random.default_rng(8).integers(-99, 99, x.shape).astype(np.int32) | 1
    wanted = np.prod(wrapped, axis=axis, dtype=np.int32)
    np.testing.assert_array_equal(gu.tensor(wrapped).prod(axis).numpy(), wanted)


# ---- sort, topk ----


def stable(x: Array, descending: bool) -> Array:
    """The order that NumPy's slow way gives; NaN is above all numbers, -0 is 0."""
    if not descending:
        return np.argsort(x, axis=-1, kind="stable")
    backwards = np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    return x.shape[-1] - 1 - backwards


def many_alike(dtype: str) -> Array:
    """Few values, many times each: the ends of the dtype and, of floats, all that is special."""
    rng = np.random.default_rng(9)
    if dtype == "float32":
        special = np.array([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, 2.5, -2.5], np.float32)
        nans = np.array([0x7FC00000, 0xFFC00000, 0x7F800001], np.uint32).view(np.float32)
        return rng.choice(np.concatenate([special, nans]), (7, 2, 300))
    ends = np.iinfo(dtype)
    return rng.choice(np.array([ends.min, ends.max, 0, 1], dtype), (7, 2, 300))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int32", "int8", "uint8", "int64"])
def test_equal_values_keep_their_order(dtype: str, descending: bool) -> None:
    x = many_alike(dtype)
    order = stable(x, descending)
    values, indices = gu.tensor(x).sort(-1, descending)
    np.testing.assert_array_equal(indices.numpy(), order)
    assert values.numpy().tobytes() == np.take_along_axis(x, order, -1).tobytes()
    values, indices = gu.tensor(x.T.copy()).sort(0, descending)
    np.testing.assert_array_equal(indices.numpy().T, order)


@pytest.mark.parametrize("k", [0, 1, 17, 300])
@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
def test_the_largest_are_the_first_of_a_sorted_line(dtype: str, k: int) -> None:
    x = many_alike(dtype)
    order = stable(x, descending=True)[..., :k]
    values, indices = gu.tensor(x).topk(k)
    np.testing.assert_array_equal(indices.numpy(), order)
    assert values.numpy().tobytes() == np.take_along_axis(x, order, -1).tobytes()
    assert gu.zeros(3, 0).sort()[0].shape == (3, 0)

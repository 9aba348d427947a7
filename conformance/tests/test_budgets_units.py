"""Units, verdicts and the numbers of the profiles."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from groundup import dtypes as dt
from groundup_conformance.budgets import IEEE, WGSL, Expected, Profile
from groundup_conformance.budgets.units import FORMATS, flushed, ulp, unit

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize("dtype", dt.FLOATS, ids=str)
def test_formats_are_those_of_the_library(dtype: dt.DType) -> None:
    info = ml_dtypes.finfo(dtype.numpy)
    kind = FORMATS[dtype]
    assert kind.largest == float(info.max)
    assert kind.smallest_normal == float(info.tiny)
    assert 2 * unit(dtype) == float(info.eps)
    smallest = float(info.smallest_subnormal)
    assert ulp(np.array([0.0, smallest]), dtype).tolist() == [smallest] * 2


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_ulp_is_numpys_spacing(kind: type[np.floating[Any]]) -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(200) * 2.0 ** rng.integers(-14, 10, 200)).astype(kind)
    x = np.abs(np.append(x, np.asarray([1, 2, 0.5], kind)))
    dtype = dt.as_dtype(np.dtype(kind))
    assert ulp(x.astype(np.float64), dtype).tolist() == np.spacing(x).astype(float).tolist()


def expected(value: Any, budget: Any, profile: Profile = IEEE, moved: bool = False) -> Expected:
    array = np.asarray(value, np.float64)
    return Expected(array, dt.float16, np.asarray(budget, np.float64), profile, moved)


def ok(wanted: Expected, *got: float) -> bool:
    return wanted.judge(np.array(got, np.float16)).ok


def test_a_verdict_tells_the_worst_element() -> None:
    wanted = expected([[1.0, 2.0], [3.0, 4.0]], 0.25)
    verdict = wanted.judge(np.array([[1.0, 2.5], [3.0, 3.0]], np.float16))
    assert not verdict.ok
    assert (verdict.ratio, verdict.index, verdict.got, verdict.wanted) == (4.0, (1, 1), 3.0, 4.0)
    assert verdict.failed is not None
    assert verdict.failed.tolist() == [[False, True], [False, True]]
    assert "ratio 4" in str(verdict)
    assert "2 of 4" in str(verdict)
    # 1.0 off around 4, where floats lie 2^-8 apart
    assert verdict.ulp == 256


def test_a_budget_ends_where_it_says() -> None:
    assert ok(expected([1.0], 0.5), 1.5)
    assert not ok(expected([1.0], 0.499), 1.5)
    assert ok(expected([1.0], 0), 1.0)
    assert not ok(expected([1.0], 0), 1.001)


def test_nan_meets_nan_and_infinity_itself() -> None:
    nan, inf = np.nan, np.inf
    assert ok(expected([nan, inf, -inf], 1.0), nan, inf, -inf)
    for got in (1.0, inf):
        assert not ok(expected([nan], 1.0), got)
    for got in (nan, -inf, 65504.0):
        assert not ok(expected([inf], 1.0), got)
    for got in (nan, inf):
        assert not ok(expected([1.0], 1.0), got)


def test_overflow_is_judged_at_the_end_of_the_range() -> None:
    inf = np.inf
    assert ok(expected([65519.0], 16.0), 65504.0)
    assert ok(expected([65519.0], 16.0), inf)  # within its budget it rounds to infinity
    assert not ok(expected([65000.0], 16.0), inf)
    assert ok(expected([1e6], 1.0), inf)
    assert not ok(expected([1e6], 1.0), -inf)
    assert not ok(expected([1e6], 1.0), 65504.0)
    assert ok(expected([1e6], 1.0, WGSL), 65504.0)  # WGSL may stop at the largest number
    assert not ok(expected([inf], 1.0, WGSL), 65504.0)


def test_signs_of_zeros_count_where_values_are_moved() -> None:
    assert ok(expected([0.0], 0), -0.0)
    assert not ok(expected([0.0], 0, moved=True), -0.0)
    assert ok(expected([0.0], 0, WGSL, moved=True), -0.0)


def test_an_infinite_budget_promises_nothing() -> None:
    assert ok(expected([1.0], np.inf), np.nan)
    whole = Expected(np.array([3], np.int32), dt.int32, np.array([np.inf]), IEEE)
    assert whole.judge(np.array([7], np.int32)).ok


def test_integers_are_exact() -> None:
    big = np.array([2**62 + 1, 5], np.int64)
    wanted = Expected(big, dt.int64, np.zeros(()), IEEE)
    assert wanted.judge(big).ok
    verdict = wanted.judge(big - np.array([1, 0]))
    assert (verdict.ok, verdict.index, verdict.ratio) == (False, (0,), np.inf)


def test_shape_and_dtype_count() -> None:
    wanted = expected([1.0, 2.0], 1.0)
    assert "shape" in str(wanted.judge(np.ones(3, np.float16)))
    assert "float32" in str(wanted.judge(np.ones(2, np.float32)))
    nothing = expected(np.zeros((0, 3)), 0.0).judge(np.zeros((0, 3), np.float16))
    assert (nothing.ok, nothing.index) == (True, None)


def test_profiles_differ_as_their_standards_do() -> None:
    """IEEE rounds to nearest; WGSL's rows are those of its specification."""
    one = np.array([1.0])
    spacing = 2.0**-23
    assert IEEE.rounded(one, dt.float32)[0] == pytest.approx(spacing / 2, rel=1e-5)
    assert WGSL.rounded(one, dt.float32)[0] == pytest.approx(spacing, rel=1e-5)
    assert WGSL.quotient(one, dt.float32)[0] == pytest.approx(2.5 * spacing, rel=1e-5)

    def row(name: str, x: float, value: float, dtype: dt.DType = dt.float32) -> float:
        found = WGSL.function(name, np.array([x]), np.array([value]), np.array([0.0]), dtype)
        return float(found[0])

    assert row("exp", 2.0, 1.0) == pytest.approx(7 * spacing, rel=1e-5)
    assert row("log", 1.5, 0.4) == pytest.approx(2.0**-21, rel=1e-5)
    assert row("log", 10.0, 2.3) == pytest.approx(3 * 2 * spacing, rel=1e-5)
    assert row("sin", 3.0, 0.1) == pytest.approx(2.0**-11, rel=1e-5)
    assert row("cos", 0.5, 0.9, dt.float16) == pytest.approx(2.0**-7, rel=1e-2)
    assert row("tanh", 0.1, 0.1) == pytest.approx(1e-5, rel=1e-5)
    assert row("rsqrt", 1.0, 1.0) == pytest.approx(2 * spacing, rel=1e-5)


def test_sums_grow_like_roots_but_never_beyond_their_steps() -> None:
    """8 + 2 sqrt(k) units, and no more than one unit for each addition."""

    def units(steps: int) -> float:
        return float(IEEE.summed(steps, np.ones(()), dt.float16)) / unit(dt.float32)

    assert units(0) == 0
    assert units(3) == pytest.approx(3, rel=1e-5)
    assert units(100) == pytest.approx(28, rel=1e-5)
    assert units(10_000) == pytest.approx(208, rel=1e-5)


@pytest.mark.parametrize("length", [64, 1024, 8192])
def test_sums_accept_every_order(length: int) -> None:
    """Sequential, pairwise and blocked sums of either kind of data, in float32."""
    rng = np.random.default_rng(length)
    for x in (rng.standard_normal(length), rng.uniform(0, 1, length)):
        x = x.astype(np.float32)
        exact, size = x.astype(np.float64).sum(), np.abs(x.astype(np.float64)).sum()
        budget = IEEE.summed(length - 1, np.asarray(size), dt.float32)
        ways = [np.cumsum(x)[-1], x.sum(), np.cumsum(x[::-1])[-1], x.reshape(-1, 32).sum(0).sum()]
        assert all(abs(float(way) - exact) <= budget for way in ways)


def test_flushed_keeps_signs_and_normal_numbers() -> None:
    values = np.array([1e-40, -1e-40, 0.0, -0.0, 1.2e-38, np.nan, np.inf], np.float32)
    found = flushed(values)
    assert np.array_equal(found, np.where(np.arange(7) < 2, 0, values), equal_nan=True)
    assert np.signbit(found[:4]).tolist() == [False, True, False, True]
    rest = values[2:]
    assert flushed(rest) is rest
    assert flushed(np.array([3, 0], np.int32)).dtype == np.int32

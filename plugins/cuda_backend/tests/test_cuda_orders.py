"""Lines too long for samples: sort, topk and cumsum in tiles and pieces, along any axis."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup_cuda.backend import CudaBackend

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)

RNG_SEED = 11


def keyed(values: np.ndarray, *, falling: bool) -> np.ndarray:
    """The stable order along the last axis, NaN the largest."""
    wide = values.astype(np.float64) if values.dtype.kind == "f" else values
    nan = wide != wide
    finite = np.where(nan, 0, wide)
    return np.lexsort((-finite, ~nan) if falling else (finite, nan), axis=-1)


def hard(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Many equal values, in floats both zeros and NaN too."""
    rng = np.random.default_rng(RNG_SEED)
    if np.dtype(dtype).kind == "i":
        low, high = (-100, 100) if dtype == "int8" else (-(10**9), 10**9)
        return rng.integers(low, high, shape).astype(dtype)
    values = rng.normal(size=shape).round(1).astype(dtype)
    flat = values.reshape(-1)
    flat[::97], flat[1::51], flat[2::53] = np.nan, -0.0, 0.0
    return values


def bits(values: np.ndarray) -> np.ndarray:
    return values.view(f"u{values.itemsize}")


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "int64", "int8"])
@pytest.mark.parametrize("shape", [(2, 2048), (3, 2049), (1, 4096), (2, 9001), (70, 33)])
@pytest.mark.parametrize("falling", [False, True])
def test_sort(dtype: str, shape: tuple[int, int], falling: bool) -> None:
    values = hard(shape, dtype)
    wanted = keyed(values, falling=falling)
    for turned in (False, True):
        x = g.from_numpy(np.ascontiguousarray(values.T) if turned else values, "cuda:0")
        made = x.sort(0 if turned else 1, descending=falling)
        got, indices = (t.numpy().T if turned else t.numpy() for t in made)
        np.testing.assert_array_equal(indices, wanted)
        right = np.take_along_axis(values, wanted, 1)
        np.testing.assert_array_equal(bits(np.ascontiguousarray(got)), bits(right))


@pytest.mark.parametrize("k", [1, 50, 1000, 1024, 1025, 5000])
@pytest.mark.parametrize("shape", [(3, 5000), (1, 50_304)])
def test_topk(k: int, shape: tuple[int, int]) -> None:
    values = hard(shape, "float32")
    wanted = keyed(values, falling=True)[:, :k]
    got, indices = g.from_numpy(values, "cuda:0").topk(k)
    np.testing.assert_array_equal(indices.numpy(), wanted)
    np.testing.assert_array_equal(bits(got.numpy()), bits(np.take_along_axis(values, wanted, 1)))


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 70_001), 1), ((70_001,), 0), ((9001, 40), 0), ((5, 6000, 3), 1), ((4097, 513), 1)],
)
def test_cumsum(shape: tuple[int, ...], axis: int) -> None:
    values = np.random.default_rng(RNG_SEED).normal(size=shape).astype(np.float32)
    got = g.from_numpy(values, "cuda:0").cumsum(axis).numpy()
    wide = values.astype(np.float64)
    terms = np.abs(wide).cumsum(axis)
    places = np.arange(1, shape[axis] + 1).reshape(
        [-1 if a == axis else 1 for a in range(got.ndim)]
    )
    budget = (8 + 2 * np.sqrt(places)) * 2.0**-24 * terms
    assert (np.abs(got - wide.cumsum(axis)) <= budget).all()


def test_cumsum_wraps_and_keeps_infinities_where_they_are() -> None:
    whole = np.full((2, 9000), 2**30, np.int32)
    got = g.from_numpy(whole, "cuda:0").cumsum(1).numpy()
    np.testing.assert_array_equal(got, whole.cumsum(1, dtype=np.int32))
    values = np.zeros((1, 9000), np.float32)
    values[0, 5000], values[0, 7000] = np.inf, -np.inf
    got = g.from_numpy(values, "cuda:0").cumsum(1).numpy()
    assert (got[0, :5000] == 0).all()
    assert (got[0, 5000:7000] == np.inf).all()
    assert np.isnan(got[0, 7000:]).all()

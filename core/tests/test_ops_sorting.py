"""The composition of sort on long axes, where it merges instead of comparing all with all."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as gu
from groundup.ops import REGISTRY


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((2, 1025), 1), ((2048, 2), 0), ((2, 1500, 2), 1)])
@pytest.mark.parametrize("kind", ["distinct", "tied", "nan", "integers"])
def test_long_axes_are_sorted_stably(
    kind: str, shape: tuple[int, ...], axis: int, descending: bool
) -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal(shape).astype(np.float32)
    if kind == "tied":
        data = np.round(data)
    elif kind == "nan":
        data[rng.uniform(size=shape) < 0.1] = np.nan
        data[rng.uniform(size=shape) < 0.1] = np.inf
    elif kind == "integers":
        data = rng.integers(-(2**31), 2**31, shape).astype(np.int32)
    op = REGISTRY["sort"](axis=axis, descending=descending)
    values, indices = op.compose(gu.tensor(data, device="cpu"))
    order = np.argsort(data, axis, kind="stable")
    if descending:
        backwards = np.flip(np.argsort(np.flip(data, axis), axis, kind="stable"), axis)
        order = data.shape[axis] - 1 - backwards
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(data, order, axis))


@pytest.mark.parametrize("k", [1, 5, 64, 65])
@pytest.mark.parametrize("kind", ["distinct", "tied", "nan", "least", "integers"])
def test_the_largest_of_long_axes(kind: str, k: int) -> None:
    rng = np.random.default_rng(1)
    data = rng.standard_normal((2, 1500, 2)).astype(np.float32)
    if kind == "tied":
        data = np.round(data)
    elif kind == "nan":
        data[0, ::100] = np.nan
    elif kind == "least":
        data[:] = -np.inf
        data[1, 7] = 3.0
    elif kind == "integers":
        data = rng.integers(-(2**31), -(2**31) + 9, data.shape).astype(np.int32)
    values, indices = REGISTRY["topk"](k=k, axis=1).compose(gu.tensor(data, device="cpu"))
    backwards = np.flip(np.argsort(np.flip(data, 1), 1, kind="stable"), 1)
    order = (data.shape[1] - 1 - backwards)[:, :k]
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(data, order, 1))


def test_memory_grows_with_the_length_not_with_its_square() -> None:
    device = gu.device_for("null")
    device.pool.trim()
    before = device.pool.in_use
    x = gu.zeros(1, 1 << 16, device="null")
    device.pool.peak = device.pool.in_use
    REGISTRY["sort"]().compose(x)
    assert device.pool.peak - before < 100 * x.size * 4

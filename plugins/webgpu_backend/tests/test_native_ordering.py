"""Sorting and running sums beyond one workgroup: the same as NumPy's, ties and NaN included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.dtypes import float32
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.sorting import Sort
from groundup_webgpu.machine import Machine
from groundup_webgpu.ordering import ordered

RANDOM = np.random.default_rng(8)


def values(*shape: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Numbers of which many are equal, with NaN, infinities and zeros of both signs."""
    x = RANDOM.integers(-300, 300, shape).astype(np.float32) / 8
    flat = x.reshape(-1)
    flat[::97], flat[1::89], flat[2::83], flat[3::79] = np.nan, np.inf, -np.inf, -0.0
    return x


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("shape", [(3, 1024), (2, 1025), (1, 5000), (4097, 2)])
def test_sorting(machine_device: Any, shape: tuple[int, ...], descending: bool) -> None:
    x = values(*shape)
    axis = int(np.argmax(shape))
    found, places = g.from_numpy(x, machine_device).sort(axis, descending=descending)
    keys = np.where(np.isnan(x), np.float32(np.inf), x)
    nan = np.isnan(x)
    order = np.lexsort((-keys, ~nan) if descending else (keys, nan), axis=axis)
    np.testing.assert_array_equal(places.numpy(), order)
    np.testing.assert_array_equal(found.numpy(), np.take_along_axis(x, order, axis))


def test_the_largest_of_long_rows(machine_device: Any) -> None:
    x = RANDOM.standard_normal((2, 20000)).astype(np.float32)
    found, places = g.from_numpy(x, machine_device).topk(50)
    order = np.argsort(-x, axis=-1, kind="stable")[:, :50]
    np.testing.assert_array_equal(places.numpy(), order)
    np.testing.assert_array_equal(found.numpy(), np.take_along_axis(x, order, -1))


@pytest.mark.parametrize("shape", [(3, 1024), (1, 10000), (5000, 3)])
def test_running_sums(machine_device: Any, shape: tuple[int, ...]) -> None:
    x = RANDOM.standard_normal(shape).astype(np.float32)
    axis = int(np.argmax(shape))
    found = g.cumsum(g.from_numpy(x, machine_device), axis).numpy()
    np.testing.assert_allclose(found, np.cumsum(x.astype(np.float64), axis), atol=2e-3)


def test_running_sums_keep_infinities_apart(machine_device: Any) -> None:
    x = np.zeros((1, 3000), np.float32)
    x[0, 1500] = np.inf
    found = g.cumsum(g.from_numpy(x, machine_device), 1).numpy()
    assert not found[0, :1500].any()
    assert np.isinf(found[0, 1500:]).all()


def test_dispatches_grow_with_the_logarithm() -> None:
    """One for blocks of 1024, one for each time that runs grow twice as long."""
    for width, count in ((5, 1), (1024, 1), (1025, 2), (4096, 3), (50257, 7)):
        x = Layout.contiguous(Spec((2, width), float32))
        outs = [Layout.contiguous(spec) for spec in Sort().infer_all(x.spec)]
        assert len(ordered(Sort(), [x], outs, Machine(software=False))) == count
    assert REGISTRY["sort"] is Sort

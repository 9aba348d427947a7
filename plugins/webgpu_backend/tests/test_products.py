"""Products and sums where kernels change their ways: vectors, edges, many at once, long ones."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Kernel, Unavailable
from groundup.ops.contraction import MatMul
from groundup.ops.indexing import ScatterAdd
from groundup_webgpu.backend import WebGpuBackend
from groundup_webgpu.device import WebGpuDevice

PROBE = WebGpuBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"webgpu: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)
DEVICE = "webgpu:0"


def numbers(*shape: int) -> np.ndarray:
    values = np.random.default_rng(0).integers(-4, 5, shape)  # whole, so that sums are exact
    return values.astype(np.float32)


@pytest.mark.parametrize("x_turned", [False, True])
@pytest.mark.parametrize("y_turned", [False, True])
@pytest.mark.parametrize("start", [0, 1, 4], ids="from-{}".format)
@pytest.mark.parametrize("sizes", [(4, 4, 4), (12, 8, 20), (72, 68, 76), (9, 8, 4), (5, 6, 7)])
def test_products(x_turned: bool, y_turned: bool, start: int, sizes: tuple[int, int, int]) -> None:
    rows, inner, columns = sizes
    x = numbers(3, *((inner, rows + 4) if x_turned else (rows + 4, inner)))
    y = numbers(*((columns, inner + 4) if y_turned else (inner + 4, columns)))
    window = slice(start, start + rows), slice(start, start + inner)

    def product(a: g.Tensor, b: g.Tensor) -> g.Tensor:
        left = a.mT if x_turned else a
        right = b.mT if y_turned else b
        return left[:, window[0]] @ right[window[1]]

    got = product(g.from_numpy(x, DEVICE), g.from_numpy(y, DEVICE)).numpy()
    np.testing.assert_array_equal(got, product(g.from_numpy(x), g.from_numpy(y)).numpy())


def test_offsets_choose_the_kernel() -> None:
    device = g.device_for(DEVICE)
    assert isinstance(device, WebGpuDevice)
    whole = g.zeros(9, 8, device=device)
    sources = []
    for x in (whole[:8], whole[1:], whole.reshape(72)[1:65].reshape(8, 8)):
        out = g.zeros(8, 8, device=device)
        kernel = device.kernel(MatMul(), [x._view.layout] * 2, [out._view.layout])
        assert isinstance(kernel, Kernel)
        launch = kernel.bind([x._view, x._view], [out._view])
        (source,) = launch.describe()["source"]  # type: ignore[misc]
        sources.append("mat4x4" in source)
    assert sources == [True, True, False]


@pytest.mark.parametrize("shapes", [((65536, 2, 3), (3, 1)), ((65536 * 64 + 1, 1), (1, 1))])
def test_more_products_than_one_dimension_has(shapes: tuple[tuple[int, ...], ...]) -> None:
    x, y = numbers(*shapes[0]), numbers(*shapes[1])
    got = (g.from_numpy(x, DEVICE) @ g.from_numpy(y, DEVICE)).numpy()
    np.testing.assert_array_equal(got, x @ y)


@pytest.mark.parametrize("columns", [3, 4])
def test_long_products(columns: int) -> None:
    inner = 300_000
    x, y = g.ones(2, inner, device=DEVICE), g.ones(inner, columns, device=DEVICE)
    assert (x @ y).tolist() == [[inner] * columns] * 2


@pytest.mark.parametrize("shape", [(1, 70_001), (300, 17), (2, 3, 2_000_003), (5000, 3)])
def test_reductions(shape: tuple[int, ...]) -> None:
    array = numbers(*shape)
    x = g.from_numpy(array, DEVICE)
    for axis in (0, -1):
        np.testing.assert_array_equal(x.sum(axis=axis).numpy(), array.sum(axis, np.float64))
        np.testing.assert_array_equal(x.max(axis=axis).numpy(), array.max(axis))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("count", [1, 40, 70_001])
def test_scattered_sums_have_the_bits_of_adding_in_order(axis: int, count: int) -> None:
    rng = np.random.default_rng(3)
    shape = (count, 3) if axis == 0 else (3, count)
    indices = rng.integers(-1, 6, shape).astype(np.int32)  # -1 and 5 are out of range
    source = rng.standard_normal(shape).astype(np.float32)
    wanted = np.ones((5, 3) if axis == 0 else (3, 5), np.float32)
    x = g.from_numpy(wanted, DEVICE)
    for place in np.ndindex(*shape):
        goal = (indices[place], place[1]) if axis == 0 else (place[0], indices[place])
        if 0 <= indices[place] < 5:
            wanted[goal] += source[place]
    operands = x, g.from_numpy(indices, DEVICE), g.from_numpy(source, DEVICE)
    got = g.dispatch.apply(ScatterAdd(axis=axis), operands)
    np.testing.assert_array_equal(got.numpy(), wanted)

"""Products on the machines that templates are chosen for: tiles, few lines, pieces, choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup import dtypes
from groundup.layout import Layout, Spec
from groundup_webgpu.contraction import matmul
from groundup_webgpu.machine import Machine
from groundup_webgpu.tiles import GUESSED, Rated, Tile, best_cut, fitting

MATRICES = {
    "no vectors": (5, 6, 7), "beyond a tile": (130, 20, 132), "one odd side": (129, 36, 131),
    "long": (9, 2000, 12), "few rows": (3, 40, 100), "few columns": (100, 40, 2),
    "few of odd length": (2, 7, 65), "one row": (1, 300, 64),
}  # fmt: skip
BUSY = 1 << 15


def numbers(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Whole numbers, so that sums are exact."""
    return np.random.default_rng(0).integers(-4, 5, shape).astype(np.float32)


def placed(array: Any, device: Any, dtype: str, turned: bool) -> g.Tensor:
    """The tensor, whose rows or columns lie in order."""
    if turned:
        return g.from_numpy(np.ascontiguousarray(array.mT), device).astype(dtype).mT
    return g.from_numpy(array, device).astype(dtype)


@pytest.mark.parametrize("sizes", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("turned", [(False, True), (True, False)], ids=["x @ y.T", "x.T @ y"])
def test_products(machine_device: Any, sizes: Any, turned: tuple[bool, bool]) -> None:
    rows, inner, columns = sizes
    x, y = numbers(2, rows, inner), numbers(2, inner, columns)
    for dtype in ("float32", "float16"):
        if dtypes.as_dtype(dtype) not in machine_device.info.dtypes:
            continue
        left, right = (
            placed(array, machine_device, dtype, turn)
            for array, turn in zip((x, y), turned, strict=True)
        )
        np.testing.assert_array_equal((left @ right).numpy(), (x @ y).astype(dtype))
        np.testing.assert_array_equal((left @ right[1]).numpy(), (x @ y[1]).astype(dtype))


@pytest.mark.parametrize("rated", GUESSED, ids=lambda rated: str(rated.tile))
def test_every_tile(portable_device: Any, rated: Rated) -> None:
    """Edges in every direction, and from a place that vectors cannot be read at."""
    portable_device.machine = Machine(software=False, memory=1 << 15, tiles=(rated,))
    x, y = numbers(131, 37), numbers(37, 134)
    left, right = g.from_numpy(x, portable_device), g.from_numpy(y, portable_device)
    np.testing.assert_array_equal((left @ right).numpy(), x @ y)
    np.testing.assert_array_equal((left[1:, :36] @ right[1:, 2:]).numpy(), x[1:, :36] @ y[1:, 2:])


def test_pieces_are_added_up(portable_device: Any) -> None:
    x, y = numbers(3, 20, 1027), numbers(3, 1027, 24)
    left, right = g.from_numpy(x, portable_device), g.from_numpy(y, portable_device)
    stages = matmul(left._view.layout, right._view.layout, portable_device.machine)
    assert [stage.family for stage in stages] == ["matmul_tiles", "sum_pieces"]
    assert stages[0].scratch == 4 * 3 * 20 * 24 * int(stages[0].groups[0] / 3)
    np.testing.assert_array_equal((left @ right).numpy(), x @ y)


def families(shapes: Any, machine: Machine, turned: bool = False) -> list[str]:
    x, y = (Layout.contiguous(Spec(shape, dtypes.float32)) for shape in shapes)
    if turned:
        y = Layout(y.shape[::-1], y.strides[::-1], y.dtype)
    return [stage.family for stage in matmul(x, y, machine)]


def test_the_kernel_goes_by_machine_and_shape() -> None:
    gpu, software = Machine(software=False), Machine(software=True)
    large = (4096, 512), (512, 4096)
    assert families(large, software) == ["matmul"]
    assert families(large, gpu) == ["matmul_tiles"]
    assert families(((1, 512), (4096, 512)), gpu, turned=True) == ["matvec"]
    assert families(((4096, 512), (512, 1)), gpu) == ["matvec"]
    assert families(((1, 512), (512, 4096)), gpu)[0] == "matmul_tiles", "not along the lines"


def test_products_that_share_their_right_side_are_one() -> None:
    x, y = ((64, 200, 384), (384, 384))
    (stage,) = matmul(
        Layout.contiguous(Spec(x, dtypes.float32)), Layout.contiguous(Spec(y, dtypes.float32)),
        Machine(software=False),
    )  # fmt: skip
    assert stage.groups == (100 * 3, 1, 1), "tiles of 128 x 128 of one matrix of 12,800 rows"


def test_tiles_fit_into_memory() -> None:
    portable = fitting(GUESSED, 16384)
    assert Rated(Tile(128, 128), 1.0) in portable
    assert all(each.tile.memory * 16 <= 16384 for each in portable)
    assert all(each.tile.threads <= 256 for each in GUESSED)
    assert len(fitting(GUESSED, 1 << 15)) > len(portable)


def test_cuts() -> None:
    large = best_cut(GUESSED, BUSY, (4096, 4096, 4096), 1)
    assert (large.tile, large.pieces) == (Tile(128, 128), 1)
    gradient = best_cut(GUESSED, BUSY, (384, 384, 16384), 1)
    assert gradient.pieces >= 16, "few tiles, many terms"
    assert gradient.share % gradient.tile.depth == 0
    assert (gradient.pieces - 1) * gradient.share < 16384 <= gradient.pieces * gradient.share
    assert best_cut(GUESSED, BUSY, (32, 32, 64), 1000).pieces == 1, "enough to do already"
    assert best_cut(GUESSED, BUSY, (32, 32, 64), 1).pieces == 1, "not worth another dispatch"
    assert best_cut(GUESSED, BUSY, (16, 4096, 4096), 1).tile.rows == 32
    quick = Rated(Tile(64, 64), 9.0)
    assert best_cut((*GUESSED, quick), BUSY, (4096, 4096, 4096), 1).tile == quick.tile
    assert best_cut(GUESSED, BUSY, (1, 1, 1 << 24), 1).share <= 1 << 17

"""Every rung of the ladder computes matrix products, whatever their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import groundup as g
import groundup_webgpu
from groundup.layout import Layout, Spec
from groundup.ops.contraction import MatMul
from groundup_webgpu.ladders import LADDERS, Rung

KERNELS = Path(groundup_webgpu.__file__).parent / "kernels"
NAMES = ("1 naive", "2 tiles", "3 registers", "4 vectors", "5 buffers", "6 blocks", "7 in use")
SIZES = ((150, 72, 136), (33, 100, 4), (1, 4, 260), (64, 16, 64), (33, 47, 129), (1, 1, 1))


def rungs(sizes: tuple[int, int, int], dtype: g.DType = g.float32) -> dict[str, Rung]:
    rows, inner, columns = sizes
    x, y, out = (
        Layout.contiguous(Spec(shape, dtype))
        for shape in ((rows, inner), (inner, columns), (rows, columns))
    )
    return {rung.name: rung for rung in LADDERS["matmul"](MatMul(), (x, y), (out,))}


def test_the_rungs() -> None:
    assert tuple(rungs((8, 12, 20))) == NAMES
    assert tuple(rungs((8, 10, 20))) == tuple(rungs((8, 12, 21))) == NAMES[:3]


def test_every_file_is_a_rung_that_tells_its_idea() -> None:
    used = {rung.family: rung for rung in rungs((8, 12, 20)).values()}
    for path in (KERNELS / "ladder").iterdir():
        idea = used[f"ladder/{path.stem}"].idea
        assert f"rung {path.stem.split('_')[1]}: " in idea
        assert len(idea) > 80
        assert len(path.read_text().splitlines()) <= 150


@pytest.mark.parametrize("dtype", [g.float32, g.float16], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rungs_compute_products(
    sizes: tuple[int, int, int], dtype: g.DType, portable_device: Any
) -> None:
    if dtype not in portable_device.info.dtypes:
        pytest.skip("the adapter has no float16")
    rng = np.random.default_rng(5)
    whole = [rng.integers(-4, 5, shape) for shape in (sizes[:2], sizes[1:])]  # sums are exact
    wanted = whole[0] @ whole[1]
    given = [g.from_numpy(a.astype(dtype.numpy), portable_device)._view for a in whole]
    for name, rung in rungs(sizes, dtype).items():
        out = g.full(wanted.shape, np.nan, dtype=dtype, device=portable_device)
        rung.kernel(portable_device, MatMul()).launch(given, [out._view])
        np.testing.assert_array_equal(out.numpy(), wanted, err_msg=name)

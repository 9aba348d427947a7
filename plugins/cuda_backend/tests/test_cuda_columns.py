"""Reductions of whole columns, which are read in packs, at the sizes where pieces begin and end."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.dtypes import as_dtype
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup_cuda.backend import CudaBackend
from groundup_cuda.reductions import lower_reduction

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)

DEVICE = "cuda:0"
DTYPES = ("float32", "float16", "bfloat16")
UNIT = {"float32": 2.0**-22, "float16": 2.0**-10, "bfloat16": 2.0**-7}
RNG = np.random.default_rng(31)
# One piece, several, the last one shorter; one tile, several, the last one narrower.
SHAPES = ((128, 512), (130, 1024), (1000, 256), (517, 776), (4, 1100, 264))


def normal(*shape: int, dtype: str) -> g.Tensor:
    values = RNG.normal(size=shape).astype(np.float32)
    return g.from_numpy(values, DEVICE).astype(dtype)


def check(name: str, x: g.Tensor, axes: tuple[int, ...], dtype: str) -> None:
    own = x.astype("float32").numpy().astype(np.float64)
    op = REGISTRY[name](axes=axes, keepdims=False)
    (kernel,) = {s.name.rsplit("_", 2)[0] for s in planned(op, x)}
    assert kernel == "reduction_down"
    got = op(x).astype("float32").numpy()
    wanted = getattr(np, name)(own, axis=axes)
    terms = np.abs(own).mean(axes) if name == "mean" else np.abs(own).sum(axes)
    budget = UNIT[dtype] * np.abs(wanted) + 2.0**-22 * terms
    assert (np.abs(got - wanted) <= budget).all()


def planned(op: object, x: g.Tensor) -> list[object]:
    out = Layout.contiguous(op.infer(x.spec))
    return list(lower_reduction(op, [x._view.layout], [out]).steps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_columns(shape: tuple[int, ...], dtype: str) -> None:
    x = normal(*shape, dtype=dtype)
    axes = tuple(range(len(shape) - 1))
    for name in ("sum", "mean", "max", "min"):
        check(name, x, axes, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_lie_apart_and_memory_that_begins_anywhere(dtype: str) -> None:
    x = normal(700, 600, dtype=dtype)
    check("sum", x[:, :512], (0,), dtype)
    check("sum", x[::2, 8:264], (0,), dtype)
    check("sum", x[:, 3:515], (0,), dtype)  # no pack begins at 16 bytes


def test_nan_and_infinity_reach_the_result() -> None:
    values = np.ones((256, 256), np.float32)
    values[200, 7], values[3, 9] = np.nan, np.inf
    x = g.from_numpy(values, DEVICE)
    for name in ("sum", "max"):
        got = REGISTRY[name](axes=(0,), keepdims=False)(x).numpy()
        assert np.isnan(got[7])
        assert got[9] == np.inf
        assert np.isfinite(np.delete(got, [7, 9])).all()


def test_the_same_bits_every_time() -> None:
    x = normal(2000, 384, dtype="bfloat16").astype("float32")
    assert len({x.sum(0).numpy().tobytes() for _ in range(3)}) == 1


def test_what_is_not_read_in_packs() -> None:
    for shape, strides in (
        ((1000, 250), (250, 1)),  # no whole packs
        ((100, 512), (512, 1)),  # few rows
        ((1000, 64), (64, 1)),  # few columns
        ((1000, 256), (1, 1000)),  # which lie apart
        ((1000, 256), (258, 1)),  # and rows that begin in the middle of a pack
    ):
        x = Layout(shape, strides, as_dtype("float32"))
        out = Layout.contiguous(Spec(shape[1:], x.dtype))
        op = REGISTRY["sum"](axes=(0,), keepdims=False)
        steps = lower_reduction(op, [x], [out]).steps
        assert not any(step.name.startswith("reduction_down") for step in steps), shape

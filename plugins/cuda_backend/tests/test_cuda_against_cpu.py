"""Every sample of every op, native or composed, against the cpu backend."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.dtypes import DType, as_dtype
from groundup.ops import REGISTRY
from groundup.ops.samples import Array, Case, Operand, bad_cases_of, cases_of
from groundup_cuda.backend import CudaBackend
from groundup_cuda.expressions import STORED

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)

OPS = sorted(name for name in REGISTRY if "::" not in name)
# Relative errors that a result of such floats may have; 8 and 4 units in the last place for the
# narrow ones, whose compositions round at every step.
TOLERANCE = {"float32": 2e-5, "float16": 8e-3, "bfloat16": 3e-2}


def tensor(operand: Operand, device: str) -> g.Tensor:
    return operand.view(g.from_numpy(operand.base, device))


def results(case: Case, device: str) -> list[Array]:
    inputs = tuple(tensor(operand, device) for operand in case.inputs)
    place = g.device_for(device)
    made = g.dispatch.apply(case.op, inputs, place)
    return [t.numpy() for t in (made if isinstance(made, tuple) else (made,))]


def expected(case: Case) -> list[Array] | None:
    """The cpu's results; None if it or the GPU has no such case."""
    if any(as_dtype(operand.base.dtype) not in STORED for operand in case.inputs):
        return None
    try:
        made = results(case, "cpu")
    except g.GroundupError:
        return None
    return made if all(as_dtype(array.dtype) in STORED for array in made) else None


def compare(got: Array, wanted: Array, tolerance: float, scale: float = 0.0) -> None:
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    if not as_dtype(wanted.dtype).is_floating:
        np.testing.assert_array_equal(got, wanted)
        return
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    scale = min(max(scale, largest(wanted)), 1e30)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * max(scale, 1e-30) / 4)


def largest(array: Array) -> float:
    """The largest finite magnitude."""
    wide = np.abs(array.astype(np.float64))
    return float(wide[np.isfinite(wide)].max(initial=0.0))


def cases() -> list[tuple[str, DType]]:
    return [(name, dtype) for name in OPS for dtype in REGISTRY[name].dtypes if dtype in STORED]


@pytest.mark.parametrize(("name", "dtype"), cases(), ids=lambda value: str(value))
def test_samples(name: str, dtype: DType) -> None:
    for case in cases_of(REGISTRY[name], dtype):
        wanted = expected(case)
        if wanted is None:
            continue
        # Narrow results of large terms that cancel are as exact as the terms.
        narrow = dtype in (g.float16, g.bfloat16)
        scale = max([largest(o.array) for o in case.inputs], default=0.0) if narrow else 0.0
        try:
            for got, right in zip(results(case, "cuda:0"), wanted, strict=True):
                compare(got, right, TOLERANCE.get(dtype.name, 2e-5), scale)
        except AssertionError as error:
            raise AssertionError(f"{name} {dtype} {case.id}: {error}") from None


@pytest.mark.parametrize("name", OPS)
def test_refusals(name: str) -> None:
    for case in bad_cases_of(REGISTRY[name], g.float32):
        if any(as_dtype(operand.base.dtype) not in STORED for operand in case.inputs):
            continue
        inputs = tuple(tensor(operand, "cuda:0") for operand in case.inputs)
        with pytest.raises(case.error, match="cuda:0"):
            g.dispatch.apply(case.op, inputs, g.device_for("cuda:0"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_all_spacings(dtype: str, transposed: bool) -> None:
    """Heads in the middle, as attention has them; large enough to need several tiles."""
    values = np.random.default_rng(5).normal(size=(2, 2, 37, 3, 16)).astype(np.float32)
    made = []
    for device in ("cpu", "cuda:0"):
        x, y = (g.from_numpy(v, device).astype(dtype).permute(0, 2, 1, 3) for v in values)
        made.append((x @ y.mT if transposed else x.mT @ y).astype("float32").numpy())
    compare(made[1], made[0], TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(1, 100_003), (100_003,), (70_000, 33), (3, 5, 4099), (9, 1)])
@pytest.mark.parametrize("axis", [0, -1, None])
def test_long_reductions(shape: tuple[int, ...], axis: int | None) -> None:
    """Long enough for pieces, along and across memory."""
    values = np.random.default_rng(6).normal(size=shape).astype(np.float32)
    x = g.from_numpy(values, "cuda:0")
    wide = values.astype(np.float64)
    terms = np.abs(wide).sum(axis=axis)
    assert (np.abs(x.sum(axis).numpy() - wide.sum(axis=axis)) <= 1e-6 * terms).all()
    np.testing.assert_array_equal(x.max(axis).numpy(), values.max(axis=axis))
    np.testing.assert_array_equal((x > 3).any(axis).numpy(), (values > 3).any(axis=axis))

"""Every sample of every op, native or composed, against the cpu backend."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as g
from groundup import dtypes
from groundup.backends.api import Unavailable
from groundup.dtypes import as_dtype
from groundup.ops import REGISTRY
from groundup.ops.samples import Array, Case, Operand, bad_cases_of, cases_of
from groundup_webgpu.backend import WebGpuBackend

PROBE = WebGpuBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"webgpu: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)

STORED = tuple(g.device_for("webgpu:0").info.dtypes)
# Where WGSL leaves more open than IEEE 754: huge arguments of sin, subnormal numbers.
FREE_EXTREMES = (
    "cos", "floor_divide", "log", "logical_and", "logical_not", "logical_xor", "mul", "pow",
    "remainder", "rsqrt", "sign", "sin", "sqrt", "tan",
)  # fmt: skip
OPS = sorted(name for name in REGISTRY if "::" not in name)


def tensor(operand: Operand, device: str) -> g.Tensor:
    return operand.view(g.from_numpy(operand.base, device))


def results(case: Case, device: str) -> list[Array]:
    inputs = tuple(tensor(operand, device) for operand in case.inputs)
    place = g.device_for(device)
    made = g.dispatch.apply(case.op, inputs, place)
    return [t.numpy() for t in (made if isinstance(made, tuple) else (made,))]


def storable(case: Case) -> bool:
    """Whether the device has the dtypes of all operands and results."""
    specs = [g.layout.Spec(o.array.shape, as_dtype(o.array.dtype)) for o in case.inputs]
    if any(spec.dtype not in STORED for spec in specs):
        return False
    try:
        cpu = results(case, "cpu")
    except g.GroundupError:
        return False
    return all(as_dtype(array.dtype) in STORED for array in cpu)


def compare(got: Array, wanted: Array, case: Case) -> None:
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted)
        return
    finite = np.abs(wanted[np.isfinite(wanted)])
    scale = float(finite.max()) if finite.size else 0.0
    unit = 16 if wanted.dtype == np.float16 else 1  # its rounding is coarser
    np.testing.assert_allclose(got, wanted, rtol=2e-4 * unit, atol=2e-5 * unit * max(scale, 1e-3))


@pytest.mark.parametrize("name", OPS)
def test_samples(name: str) -> None:
    op = REGISTRY[name]
    for dtype in op.dtypes:
        if dtype not in STORED:
            continue
        for case in cases_of(op, dtype):
            if not storable(case) or (case.id == "extreme" and name in FREE_EXTREMES):
                continue
            try:
                for got, wanted in zip(
                    results(case, "webgpu:0"), results(case, "cpu"), strict=True
                ):
                    compare(got, wanted, case)
            except AssertionError as error:
                raise AssertionError(f"{name} {dtype} {case.id}: {error}") from None


@pytest.mark.parametrize("name", OPS)
def test_refusals(name: str) -> None:
    for case in bad_cases_of(REGISTRY[name], dtypes.float32):
        if any(as_dtype(o.array.dtype) not in STORED for o in case.inputs):
            continue
        inputs = tuple(tensor(operand, "webgpu:0") for operand in case.inputs)
        with pytest.raises(case.error, match="webgpu:0"):
            g.dispatch.apply(case.op, inputs, g.device_for("webgpu:0"))

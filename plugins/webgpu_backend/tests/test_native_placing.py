"""Ops that put elements in their places: how many launches, and inside fused bodies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.tensor import Tensor
from groundup_webgpu.backend import WebGpuBackend

PROBE = WebGpuBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"webgpu: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)
DEVICE = "webgpu:0"
VALUES = np.linspace(-3, 3, 64, dtype=np.float32).reshape(8, 8)
CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp": lambda x: x.clamp(-0.5, 2),
    "concat": lambda x: g.concat([x, x.mT, x[:3]]),
    "tril": lambda x: g.tril(x, 1),
    "one_hot": lambda x: g.one_hot(x.astype(g.int32) + 3, 7),
    "sign": lambda x: x.sign(),
    "logical_xor": lambda x: g.logical_xor(x, x.mT),
}


@pytest.mark.parametrize("name", CASES)
def test_one_launch_and_the_cpu_agrees(name: str) -> None:
    found, wanted = (CASES[name](g.from_numpy(VALUES, device)) for device in (DEVICE, "cpu"))
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    device = g.device_for(DEVICE)
    x = g.from_numpy(VALUES, DEVICE)
    before = device.launches
    CASES[name](x)
    extra = 2 if name == "one_hot" else 0  # the cast and the sum before it
    assert device.launches - before == 1 + extra


@pytest.mark.parametrize("bounds", [(-1.5, 2.0), (None, 0.0), (-np.inf, 1.0)])
def test_clamp_inside_a_fused_body(bounds: tuple[float | None, float]) -> None:
    """An infinite bound cannot be written in WGSL, so the body runs step by step."""
    compiled = g.compile(lambda x: (x * 2 + 1).clamp(*bounds).abs() - x)
    x = g.from_numpy(VALUES, DEVICE)
    wanted = np.abs(np.clip(VALUES * 2 + 1, *bounds)) - VALUES
    np.testing.assert_allclose(compiled(x).numpy(), wanted, rtol=1e-6, atol=1e-6)
    device = g.device_for(DEVICE)
    before = device.launches
    compiled(x)
    fused = bounds[0] is None or np.isfinite(bounds[0])
    most = 3 if fused else 8  # the copy of the input, it, the copy of the result
    assert device.launches - before <= most

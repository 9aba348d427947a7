"""Fused bodies in WGSL: every expression of the table, and compiled functions, against the cpu."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest

import groundup as gu
from groundup.backends.api import Kernel, Unavailable
from groundup.dtypes import bool_, float32, int32
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.fusion import Body, Fused, is_fusible
from groundup.program.passes import EXACT
from groundup.tensor import Tensor
from groundup_webgpu.backend import WebGpuBackend
from groundup_webgpu.expressions import expression

PROBE = WebGpuBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"webgpu: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)

PLAIN: Final = sorted(
    name for name, op in REGISTRY.items()
    if is_fusible(op) and expression(name, float32) and op.inputs[0] != "condition"
)  # fmt: skip


def body_of(name: str) -> Body:
    """The op between two others, of the same input and a number."""
    count = len(REGISTRY[name].inputs)
    steps: list[Any] = [("abs", (), (0,)), ("add", (), (~0, (0.5,)))]
    steps.append((name, (), (~1, 1)[:count]))
    if REGISTRY[name]().infer_all(*[Spec((1,), float32)] * count)[0].dtype is bool_:
        steps.append(("where", (), (~2, 0, ~1)))
    steps.append(("mul", (), (~(len(steps) - 1), 1)))
    return tuple(steps)


@pytest.mark.parametrize("name", PLAIN)
def test_every_expression_inside_a_body(name: str) -> None:
    op, rng = Fused(body=body_of(name)), np.random.default_rng(0)
    x, y = (rng.uniform(0.25, 2.0, (5, 33)).astype(np.float32) for _ in range(2))
    device = gu.device_for("webgpu:0")
    layout = Layout.contiguous(Spec((5, 33), float32))
    assert isinstance(device.kernel(op, (layout, layout), (layout,)), Kernel), "composed"
    got, wanted = (op(gu.tensor(x, device=d), gu.tensor(y, device=d)) for d in (device, "cpu"))
    np.testing.assert_allclose(got.numpy(), wanted.numpy(), 2e-5, 2e-6, err_msg=op.title)


def test_dtypes_and_strides_inside_a_body() -> None:
    def function(x: Tensor, n: Tensor, half: Tensor) -> Tensor:
        mask = (n + 1 > 2) & (x.mT < 0.5)
        wide = half.astype("float32") * n.astype("float32") - 3.0
        return mask.where(wide.abs(), x.mT).astype("float16")

    rng = np.random.default_rng(1)
    arrays = (
        rng.standard_normal((7, 6), np.float32), rng.integers(0, 5, (6, 7)).astype(np.int32),
        rng.standard_normal((6, 7)).astype(np.float16),
    )  # fmt: skip
    found = []
    for device in ("webgpu:0", "cpu"):
        run = gu.compile(function)
        found.append(run(*[gu.tensor(a, device=device) for a in arrays]).numpy())
        assert [n.op.name for n in run.programs[0].nodes if not n.is_view] == ["fused"]
    np.testing.assert_allclose(found[0], found[1], 2e-3)


def test_integers_inside_a_body_are_exact() -> None:
    def function(n: Tensor) -> Tensor:
        return ((n * 3 - 7).abs() & 255) ^ (n << 2)

    n = np.arange(-50, 50, dtype=np.int32)
    compiled = gu.compile(function)(gu.tensor(n, device="webgpu:0"))
    assert compiled.dtype is int32
    assert compiled.tolist() == function(gu.tensor(n, device="cpu")).tolist()


def test_fusion_starts_fewer_kernels() -> None:
    def step(x: Tensor, y: Tensor) -> Tensor:
        return (x * y + 1.0).tanh().exp().sum()

    x = gu.randn(64, 64, device="webgpu:0")
    counts, results = [], []
    for passes in (EXACT, None):
        run = gu.compile(step) if passes is None else gu.compile(step, passes=passes)
        results.append(run(x, x).item())
        counts.append(len(run.entries[0].executable.launches))
    assert counts == [5, 2]
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_what_a_composition_is_made_of_is_fused_too() -> None:
    """There is no kernel of `linear`, but its bias goes into the activation behind it."""
    weight, bias = gu.ones(4, 3, device="webgpu:0"), gu.ones(4, device="webgpu:0")
    run = gu.compile(lambda x: (x @ weight.mT + bias).gelu())
    assert run(gu.ones(2, 3, device="webgpu:0")).shape == (2, 4)
    kinds = [node.op.name for node in run.programs[0].nodes if not node.is_view]
    assert kinds == ["matmul", "fused"]

"""Every rung of the ladder compiles, and computes attention where there is a GPU."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.errors import BackendUnavailable
from groundup.layout import Layout, Spec
from groundup.ops.attention import ScaledDotProductAttention
from groundup_cuda.attention import Call
from groundup_cuda.attention_ladder import rungs
from groundup_cuda.backend import CudaBackend
from groundup_cuda.jit import nvrtc
from groundup_cuda.plans import Lowered
from groundup_cuda.source import prelude

try:
    KNOWN = nvrtc().architectures()
except BackendUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)

SHAPE = (2, 3, 150, 64)
OP = ScaledDotProductAttention(scale=0.125, causal=True)
NAMES = ("1 naive", "2 online", "3 shared", "4 registers", "5 tensor", "6 pipelined")


def call(dtype: g.dtypes.DType) -> Call:
    x = Layout.contiguous(Spec(SHAPE, dtype))
    return Call(OP, x, x, x, (), 3)


def test_the_rungs() -> None:
    assert [name for name, _ in rungs(call(g.bfloat16))] == list(NAMES)
    assert [name for name, _ in rungs(call(g.float32))] == list(NAMES[:4])


@pytest.mark.parametrize("name", NAMES)
def test_a_rung_compiles_without_spills(name: str) -> None:
    stage = dict(rungs(call(g.bfloat16)))[name]
    used = nvrtc().resources(f"{prelude()}\n{stage.source}", "sm_90", stage.name)
    assert used[stage.name].spilled == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_rung_computes_attention(name: str) -> None:
    probe = CudaBackend().probe()
    if isinstance(probe, Unavailable):
        pytest.skip(f"cuda: {probe.reason} ({probe.fix})")
    from groundup_cuda.launch import CudaKernel

    device = g.device_for("cuda:0")
    rng = np.random.default_rng(4)
    arrays = [rng.normal(size=SHAPE).astype(np.float32) for _ in range(3)]
    narrow = [g.from_numpy(x, "cpu").astype(g.bfloat16) for x in arrays]
    wanted = OP.many(*[x.astype(g.float32) for x in narrow])
    given = [g.from_numpy(x, "cuda:0").astype(g.bfloat16)._view for x in arrays]
    specs = OP.infer(*[view.layout.spec for view in given])
    outs = [device.empty(Layout.contiguous(spec)) for spec in specs]
    stage = dict(rungs(call(g.bfloat16)))[name]
    CudaKernel(device, OP, Lowered([stage])).launch(given, outs)  # type: ignore[arg-type]
    for view, right, limit in zip(outs, wanted, (5e-3, 2e-6), strict=True):
        got, exact = device.read(view).astype(np.float64), right.numpy().astype(np.float64)
        assert np.linalg.norm(got - exact) <= limit * np.linalg.norm(exact)

"""An op between casts is the op's own dispatches, with the cpu backend's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Declined, Kernel
from groundup.dtypes import float16, float32
from groundup.layout import Layout
from groundup.ops.casting import Recast

RANDOM = np.random.default_rng(7)
SHAPES = [(70, 260), (3, 37), (9, 4)]
WIDE, HALF = ((0, float32),), ((0, float16),)


def normal(*shape: int, dtype: type = np.float32) -> np.ndarray[Any, np.dtype[Any]]:
    return RANDOM.standard_normal(shape).astype(dtype)


@pytest.fixture
def device(machine_device: Any) -> Any:
    if float16 not in machine_device.info.dtypes:
        pytest.skip("it has no float16")
    return machine_device


def kernel(device: Any, op: Recast, arrays: list[Any]) -> Kernel | Declined:
    tensors = [g.from_numpy(array, device) for array in arrays]
    outs = [Layout.contiguous(spec) for spec in op.infer_all(*[t.spec for t in tensors])]
    return device.kernel(op, [t._view.layout for t in tensors], outs)  # type: ignore[no-any-return]


def check(device: Any, op: Recast, *arrays: Any, count: int = 1) -> None:
    made = kernel(device, op, list(arrays))
    assert isinstance(made, Kernel)
    assert len(made._stages) == count  # type: ignore[attr-defined]
    found = op.many(*[g.from_numpy(array, device) for array in arrays])
    wanted = op.many(*[g.from_numpy(array, "cpu") for array in arrays])
    for ours, theirs in zip(tuple(found), tuple(wanted), strict=True):
        assert ours.spec is theirs.spec
        unit = 2e-3 if ours.dtype is float16 else 2e-5
        scale = max(1.0, float(np.abs(theirs.numpy().astype(np.float32)).max()))
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=unit * scale)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_norms_and_their_gradients(device: Any, shape: tuple[int, int]) -> None:
    x, half, total = normal(*shape), normal(*shape, dtype=np.float16), normal(*shape)
    w, b = normal(shape[1]), normal(shape[1])
    second, third = ((1, float32),), ((2, float32),)
    check(device, Recast(call=("layer_norm", ()), made=HALF), x, w, b)
    check(device, Recast(call=("add_layer_norm", ()), given=second, made=HALF), x, half, w, b)
    check(device, Recast(call=("add_rms_norm", ()), given=second, made=HALF), x, half, w)
    back = Recast(call=("add_layer_norm_backward", ()), given=third)
    check(device, back, x, w, half, total, count=2)
    back = Recast(call=("rms_norm_backward", ()), given=third, made=HALF)
    check(device, back, x, w, half, count=2)


def test_losses(device: Any) -> None:
    logits, target = normal(6, 40, dtype=np.float16), RANDOM.integers(0, 40, 6).astype(np.int32)
    loss = ("cross_entropy", (("ignore_index", -100), ("reduction", "mean")))
    check(device, Recast(call=loss, given=WIDE), logits, target, count=2)
    rest = normal(6) + 5.0, np.float32(0.5).reshape(()), normal(6)
    back = Recast(call=("cross_entropy_backward", loss[1]), given=WIDE, made=HALF)
    check(device, back, logits, target, *rest, count=2)


def test_what_stays_a_cast(device: Any) -> None:
    half, w = normal(4, 8, dtype=np.float16), normal(8)
    for op, inputs, reason in (
        (Recast(call=("softmax", (("axis", -1),)), given=WIDE), [half], "loads and stores one"),
        (Recast(call=("rms_norm", ()), given=WIDE, again=HALF), [half, w], "each result once"),
        (Recast(call=("global_norm", ()), given=WIDE), [half], "loads and stores one"),
    ):
        found = kernel(device, op, inputs)
        assert isinstance(found, Declined)
        assert reason in found.reason

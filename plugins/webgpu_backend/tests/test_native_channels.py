"""Channel norms, pools, losses and draws with more elements than one workgroup has threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup import dispatch
from groundup.backends.api import Declined
from groundup.dtypes import float32
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup_webgpu.machine import Machine

RANDOM = np.random.default_rng(3)
STATE = np.array([7, 1, 5, 0], np.int32)


def normal(*shape: int) -> np.ndarray[Any, np.dtype[Any]]:
    return RANDOM.standard_normal(shape).astype(np.float32)


X, VECTOR = normal(2, 6, 23, 31), normal(6)
POOL = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 1)}
POOLED = normal(2, 6, 12, 32)
CASES: dict[str, tuple[dict[str, Any], Sequence[np.ndarray[Any, Any]], int]] = {
    "batch_norm": ({}, (X, VECTOR, np.abs(VECTOR) + 0.5, VECTOR, VECTOR), 1),
    "batch_norm_backward": ({}, (X, VECTOR, np.abs(VECTOR) + 0.5, VECTOR, X[::-1].copy()), 3),
    "group_norm": ({"groups": 3}, (X, VECTOR, VECTOR), 1),
    "group_norm_backward": ({"groups": 3}, (X, VECTOR, X[::-1].copy()), 2),
    "max_pool2d": (POOL, (X,), 1),
    "avg_pool2d": (POOL, (X,), 1),
    "avg_pool2d_backward": ({**POOL, "size": (23, 31)}, (POOLED,), 1),
    "rotary_embedding": ({}, (normal(2, 3, 9, 16), np.arange(9, dtype=np.int32)), 1),
    "var": ({"axes": (2, 3), "correction": 1}, (X,), 1),
    "mse_loss": ({}, (X, X[::-1].copy()), 2),
    "nll_loss": ({}, (normal(1000, 5), RANDOM.integers(0, 5, 1000).astype(np.int32)), 1),
    "categorical": ({}, (normal(3, 5000), STATE), 1),
}


def results(name: str, device: Any) -> list[np.ndarray[Any, np.dtype[Any]]]:
    settings, arrays, _ = CASES[name]
    found = dispatch.apply(
        REGISTRY[name](**settings), tuple(g.from_numpy(np.asarray(x), device) for x in arrays)
    )  # fmt: skip
    return [y.numpy() for y in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.parametrize("name", CASES)
def test_the_cpu_agrees(machine_device: Any, name: str) -> None:
    for found, wanted in zip(results(name, machine_device), results(name, "cpu"), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_dispatches(portable_device: Any, name: str) -> None:
    settings, arrays, count = CASES[name]
    op = REGISTRY[name](**settings)
    inputs = [g.from_numpy(np.asarray(x), portable_device)._view.layout for x in arrays]
    outputs = [Layout.contiguous(spec) for spec in op.infer_all(*[x.spec for x in inputs])]
    assert len(portable_device.lowered(op, inputs, outputs)) == count


def test_the_gradient_of_a_maximum_goes_to_the_first(machine_device: Any) -> None:
    values = RANDOM.integers(0, 4, (2, 3, 17, 19)).astype(np.float32)
    grads = []
    for device in (machine_device, "cpu"):
        x = g.from_numpy(values, device).requires_grad_()
        y = g.max_pool2d(x, 3, stride=2, padding=1)
        weights = g.from_numpy(np.arange(y.size, dtype=np.float32).reshape(y.shape), device)
        (y * weights).sum().backward()
        assert x.grad is not None
        grads.append(x.grad.numpy())
    np.testing.assert_array_equal(grads[0], grads[1])


def test_windows_beyond_the_turns_of_a_thread(portable_device: Any) -> None:
    """Mesa's software driver leaves loops after 65,535: such pools run by composition there."""
    portable_device.machine = Machine(software=True)
    plane = Layout.contiguous(Spec((1, 1, 257, 257), float32))
    op = REGISTRY["avg_pool2d"](kernel=(257, 257), stride=(257, 257), padding=(0, 0))
    (spec,) = op.infer_all(plane.spec)
    made = portable_device.lowered(op, [plane], [Layout.contiguous(spec)])
    assert isinstance(made, Declined)
    values, grads = normal(1, 1, 40, 40), []
    for device in (portable_device, "cpu"):
        x = g.from_numpy(values, device).requires_grad_()
        g.max_pool2d(x, 20, stride=1).sum().backward()
        assert x.grad is not None
        grads.append(x.grad.numpy())
    np.testing.assert_array_equal(grads[0], grads[1])

"""Norms, softmax and cross-entropy in one or two dispatches, with the cpu backend's results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Kernel
from groundup.layout import Layout
from groundup.ops import REGISTRY
from groundup.ops.op import Op

RANDOM = np.random.default_rng(3)
SHAPES = [(70, 260), (3, 5, 37), (1, 2048), (9, 4)]


def normal(*shape: int) -> np.ndarray[Any, np.dtype[Any]]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def compared(device: Any, op: Op, arrays: Sequence[Any], tolerance: float = 2e-5) -> None:
    """The op on the device against the op on the cpu."""
    wanted = op.many(*[g.from_numpy(a, "cpu") for a in arrays])
    found = op.many(*[g.from_numpy(a, device) for a in arrays])
    for ours, theirs in zip(_tuple(found), _tuple(wanted), strict=True):
        scale = max(1.0, float(np.abs(theirs.numpy()).max(initial=0)))
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=tolerance * scale)


def _tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def dispatches(device: Any, op: Op, *specs: tuple[tuple[int, ...], str]) -> int:
    """Of one launch on row-major tensors."""
    tensors = [g.zeros(*shape, dtype=dtype, device=device) for shape, dtype in specs]
    layouts = [t._view.layout for t in tensors]
    outs = [Layout.contiguous(spec) for spec in op.infer_all(*[t.spec for t in tensors])]
    kernel = device.kernel(op, layouts, outs)
    assert isinstance(kernel, Kernel)
    return len(kernel._stages)  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", SHAPES)
def test_norms(machine_device: Any, shape: tuple[int, ...]) -> None:
    x, residual, grad = normal(*shape), normal(*shape), normal(*shape)
    weight, bias = normal(shape[-1]), normal(shape[-1])
    for name, arrays in {
        "layer_norm": [x, weight, bias], "rms_norm": [x, weight],
        "add_layer_norm": [x, residual, weight, bias], "add_rms_norm": [x, residual, weight],
        "layer_norm_backward": [x, weight, grad], "rms_norm_backward": [x, weight, grad],
        "add_layer_norm_backward": [x, weight, grad, residual],
        "add_rms_norm_backward": [x, weight, grad, residual],
    }.items():  # fmt: skip
        compared(machine_device, REGISTRY[name](), arrays)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(machine_device: Any, shape: tuple[int, ...]) -> None:
    x, grad = normal(*shape) * 3, normal(*shape)
    for axis in {-1, 0}:
        for name in ("softmax", "log_softmax"):
            compared(machine_device, REGISTRY[name](axis=axis), [x])
        for name in ("softmax_backward", "log_softmax_backward"):
            compared(machine_device, REGISTRY[name](axis=axis), [x, grad], 1e-4)
    compared(machine_device, REGISTRY["logsumexp"](axes=(-1,), keepdims=False), [x])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(machine_device: Any, reduction: str) -> None:
    logits, target = normal(70, 260) * 3, RANDOM.integers(0, 260, 70).astype(np.int32)
    target[::7] = -100
    compared(machine_device, REGISTRY["cross_entropy"](reduction=reduction), [logits, target])
    row = np.log(np.exp(logits.astype(np.float64)).sum(-1)).astype(np.float32)
    grad = np.full((70,) if reduction == "none" else (), 0.5, np.float32)
    op = REGISTRY["cross_entropy_backward"](reduction=reduction)
    compared(machine_device, op, [logits, target, row, grad, normal(70)])


def test_targets_that_are_no_class_write_nothing_elsewhere(machine_device: Any) -> None:
    logits = g.from_numpy(normal(3, 8), machine_device).requires_grad_()
    target = g.from_numpy(np.array([8, -1, 2**31 - 1], np.int32), machine_device)
    g.nn.functional.cross_entropy(logits, target).backward()
    grad = logits.grad
    assert grad is not None
    weights = logits.detach().softmax(-1).numpy() / 3
    np.testing.assert_allclose(grad.numpy(), weights, atol=1e-6)


def test_an_unaligned_window_of_memory(machine_device: Any) -> None:
    """Whole vectors by their shape, but not by where they begin."""
    flat = normal(4 * 64 + 1)
    on_device = g.from_numpy(flat, machine_device)[1:].reshape(4, 64)
    weight = normal(64)
    found = g.nn.functional.rms_norm(on_device, g.from_numpy(weight, machine_device))
    wanted = g.nn.functional.rms_norm(g.from_numpy(flat[1:].reshape(4, 64)), g.from_numpy(weight))
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)


def test_many_rows_without_a_gpu_stay_within_the_loops_that_mesa_allows() -> None:
    device: Any = g.device_for("webgpu:0")
    x = normal(70_001, 3)
    compared(device, REGISTRY["layer_norm_backward"](), [x, normal(3), x[::-1].copy()], 2e-4)


def test_dispatches_of_each_op(machine_device: Any) -> None:
    rows, vector, row = ((64, 96), "float32"), ((96,), "float32"), ((64,), "float32")
    ids, one = ((64,), "int32"), ((), "float32")
    for name, count, specs in (
        ("layer_norm", 1, (rows, vector, vector)), ("rms_norm", 1, (rows, vector)),
        ("add_layer_norm", 1, (rows, rows, vector, vector)),
        ("add_rms_norm", 1, (rows, rows, vector)),
        ("layer_norm_backward", 2, (rows, vector, rows)),
        ("rms_norm_backward", 2, (rows, vector, rows)),
        ("add_layer_norm_backward", 2, (rows, vector, rows, rows)),
        ("softmax", 1, (rows,)), ("log_softmax", 1, (rows,)),
        ("softmax_backward", 1, (rows, rows)), ("log_softmax_backward", 1, (rows, rows)),
        ("logsumexp", 1, (rows,)), ("cross_entropy", 2, (rows, ids)),
        ("cross_entropy_backward", 2, (rows, ids, row, one, row)),
    ):  # fmt: skip
        op = REGISTRY[name]() if name != "logsumexp" else REGISTRY[name](axes=(1,))
        assert dispatches(machine_device, op, *specs) == count, name


def test_steady_state_makes_nothing_new(
    machine_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = g.from_numpy(normal(33, 64), machine_device).requires_grad_()
    weight = g.from_numpy(normal(64), machine_device).requires_grad_()
    target = g.from_numpy(RANDOM.integers(0, 64, 33).astype(np.int32), machine_device)

    def step() -> float:
        hidden = g.nn.functional.rms_norm(x, weight)
        loss = g.nn.functional.cross_entropy(hidden, target)
        loss.backward()
        x.grad = weight.grad = None
        return loss.item()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made anew")

    first = [step() for _ in range(3)]
    for name in ("create_bind_group", "create_compute_pipeline"):
        monkeypatch.setattr(type(machine_device._gpu), name, refuse)
    assert [step() for _ in range(3)] == first

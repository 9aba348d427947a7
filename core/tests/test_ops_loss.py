"""Losses against NumPy in float64 and against PyTorch: values, gradients, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as gu
from groundup import ops
from groundup.errors import ConfigError, DomainError, DTypeError, ShapeError
from groundup.ops.loss import CrossEntropy

REDUCTIONS = ("mean", "sum", "none")


def rng():
    return np.random.default_rng(3)


def reduced(losses, valid, reduction):
    losses = np.where(valid, losses, 0)
    if reduction == "none":
        return losses
    return losses.sum() / (valid.sum() if reduction == "mean" else 1)


def oracle(logits, target, reduction, ignore_index=-100):
    """The loss and its gradient for an output gradient of ones."""
    x = logits.astype(np.float64)
    valid = target != ignore_index
    ids = np.where(valid, target, 0)[..., None]
    top = x.max(-1, keepdims=True)
    log_sum = np.log(np.exp(x - top).sum(-1, keepdims=True)) + top
    losses = (log_sum - np.take_along_axis(x, ids, -1))[..., 0]
    softmax = np.exp(x - log_sum)
    np.put_along_axis(softmax, ids, np.take_along_axis(softmax, ids, -1) - 1, -1)
    scale = valid / valid.sum() if reduction == "mean" else valid * 1.0
    return reduced(losses, valid, reduction), softmax * scale[..., None]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 7), (700, 300), (4,)], ids=str)
def test_cross_entropy(shape, reduction):
    logits = (rng().standard_normal(shape) * 4).astype(np.float32)
    target = rng().integers(0, shape[-1], shape[:-1]).astype(np.int32)
    if target.ndim:
        target.flat[0] = -100
    x = gu.tensor(logits, requires_grad=True)
    loss = ops.cross_entropy(x, gu.tensor(target), reduction=reduction)
    wanted, gradient = oracle(logits, target, reduction)
    np.testing.assert_allclose(loss.detach().numpy(), wanted, rtol=2e-6, atol=2e-6)
    loss.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_cross_entropy_of_short_floats_accumulates_in_float32(dtype):
    x = gu.tensor(rng().standard_normal((64, 4096)).astype(np.float32)).astype(dtype)
    target = rng().integers(0, 4096, 64).astype(np.int32)
    x.requires_grad_()
    loss = ops.cross_entropy(x, gu.tensor(target))
    wanted, gradient = oracle(x.detach().numpy().astype(np.float64), target, "mean")
    unit = 2.0**-11 if dtype == "float16" else 2.0**-8
    assert loss.dtype is x.dtype
    assert abs(loss.item() - wanted) <= 2 * unit * wanted
    loss.backward()
    got = x.grad.numpy().astype(np.float64)
    np.testing.assert_allclose(got, gradient, rtol=2 * unit, atol=2.0**-24)


def test_large_logits_do_not_overflow():
    x = gu.tensor([[1e30, 0.0], [-1e30, 0.0]], requires_grad=True)
    loss = ops.cross_entropy(x, gu.tensor([0, 1]), reduction="none")
    assert loss.detach().tolist() == [0.0, 0.0]
    loss.sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_ignored_rows_have_no_gradient_even_if_they_are_nan():
    x = gu.tensor([[np.nan, np.inf], [1.0, 2.0]], dtype="float32", requires_grad=True)
    loss = ops.cross_entropy(x, gu.tensor([7, 1]), ignore_index=7)
    loss.backward()
    assert np.isfinite(loss.item())
    assert x.grad.numpy()[0].tolist() == [0.0, 0.0]


def test_mean_of_no_rows_is_nan_and_its_gradient_zero():
    x = gu.tensor([[1.0, 2.0]], requires_grad=True)
    loss = ops.cross_entropy(x, gu.tensor([-100]))
    loss.backward()
    assert np.isnan(loss.item())
    assert x.grad.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
def test_targets_of_any_integer_dtype(dtype):
    x = gu.tensor(rng().standard_normal((3, 4)).astype(np.float32))
    target = gu.tensor([0, 3, 1])
    wanted = ops.cross_entropy(x, target).item()
    assert ops.cross_entropy(x, target.astype(dtype)).item() == wanted
    assert ops.nll_loss(x.log_softmax(), target.astype(dtype)).item() == pytest.approx(wanted)


def test_gradient_through_logsumexp():
    """A z-loss: the second output carries gradients too."""
    logits = rng().standard_normal((5, 6))
    x = gu.tensor(logits, requires_grad=True)
    loss, logsumexp = CrossEntropy().many(x, gu.tensor([0, 1, 2, 3, -100]))
    (loss + (logsumexp * logsumexp).sum()).backward()
    y = gu.tensor(logits, requires_grad=True)
    again = y.logsumexp(axis=-1)
    (ops.cross_entropy(y, gu.tensor([0, 1, 2, 3, -100])) + (again * again).sum()).backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12)


def test_second_derivative_as_pytorch():
    torch = pytest.importorskip("torch")
    logits, weights = rng().standard_normal((2, 4, 5))
    target = np.array([1, 0, -100, 4])
    x = gu.tensor(logits, requires_grad=True)
    (first,) = gu.grad(ops.cross_entropy(x, gu.tensor(target)), [x], create_graph=True)
    (first * gu.tensor(weights)).sum().backward()
    y = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(y, torch.tensor(target))
    (first,) = torch.autograd.grad(loss, [y], create_graph=True)
    (first * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_as_pytorch(reduction):
    torch = pytest.importorskip("torch")
    logits = rng().standard_normal((9, 5))
    target = np.array([0, 1, 2, 3, 4, -100, 1, 1, 0])
    for name in ("cross_entropy", "nll_loss"):
        x, y = gu.tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
        ours = getattr(ops, name)(x, gu.tensor(target), reduction=reduction)
        theirs = getattr(torch.nn.functional, name)(y, torch.tensor(target), reduction=reduction)
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-12)
        ours.sum().backward()
        theirs.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mse(reduction):
    a, b = rng().standard_normal((2, 7, 9))
    x, y = gu.tensor(a, requires_grad=True), gu.tensor(b, requires_grad=True)
    loss = ops.mse_loss(x, y, reduction)
    wanted = reduced((a - b) ** 2, np.ones_like(a, bool), reduction)
    np.testing.assert_allclose(loss.detach().numpy(), wanted, rtol=1e-12)
    loss.sum().backward()
    scale = 2 / a.size if reduction == "mean" else 2
    np.testing.assert_allclose(x.grad.numpy(), (a - b) * scale, rtol=1e-12)
    np.testing.assert_allclose(y.grad.numpy(), (b - a) * scale, rtol=1e-12)


@pytest.mark.parametrize("bad", [-1, 5, 1000])
def test_target_outside_the_classes(bad):
    x = gu.tensor(np.zeros((3, 5), np.float32))
    for function in (ops.cross_entropy, ops.nll_loss):
        with pytest.raises(DomainError, match=rf"{function.__name__}: target {bad} .*\[0, 5\)"):
            function(x, gu.tensor([0, bad, 1]))


def test_refusals():
    x = gu.tensor(np.zeros((3, 5), np.float32))
    with pytest.raises(ShapeError, match=r"cross_entropy: logits must be \(..., C\)"):
        ops.cross_entropy(x, gu.tensor([0, 1]))
    with pytest.raises(DTypeError, match="integer class ids"):
        ops.cross_entropy(x, gu.tensor([0.0, 1.0, 2.0]))
    with pytest.raises(ConfigError, match="reduction must be"):
        ops.cross_entropy(x, gu.tensor([0, 1, 2]), reduction="avg")
    with pytest.raises(ShapeError, match="no classes"):
        ops.cross_entropy(gu.zeros(3, 0), gu.tensor([0, 1, 2]))
    with pytest.raises(ShapeError, match="shapes differ"):
        ops.mse_loss(x, gu.zeros(3, 4))

"""Optimizer ops: pure and in place, against PyTorch, in every float dtype."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch, ops
from groundup.errors import ConfigError, DTypeError, ShapeError
from groundup.ops.optimizer_ops import AdamW, Sgd, bias_correction

SHAPES = [(7, 5), (11,), (), (300, 70)]


def arrays(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]


def tensors(seed, dtype=np.float64):
    return [gu.tensor(x) for x in arrays(seed, dtype)]


def zeros():
    return [gu.zeros(*shape, dtype="float64") for shape in SHAPES]


def rates(lr=0.01, step=1, scale=1.0):
    return gu.tensor(lr), gu.tensor(step, dtype="int32"), gu.tensor(scale)


SGD = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "momentum": {"momentum": 0.9},
    "dampening": {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    "nesterov": {"momentum": 0.9, "nesterov": True},
}


@pytest.mark.parametrize("name", SGD)
def test_sgd_as_pytorch(name):
    torch = pytest.importorskip("torch")
    options = SGD[name]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays(0)]
    optimizer = torch.optim.SGD(theirs, lr=np.float32(0.01).item(), **options)
    params, buffers = tensors(0), zeros() if "momentum" in options else []
    for step in range(1, 6):
        results = ops.sgd(params, tensors(step), buffers, rates(step=step), **options)
        params, buffers = results[: len(SHAPES)], results[len(SHAPES) :]
        for t, grad in zip(theirs, arrays(step), strict=True):
            t.grad = torch.tensor(grad)
        optimizer.step()
    for mine, their in zip(params, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), their.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_as_pytorch(decay):
    torch = pytest.importorskip("torch")
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays(0)]
    lr = np.float32(0.01).item()
    optimizer = torch.optim.AdamW(theirs, lr=lr, betas=(0.8, 0.95), weight_decay=decay)
    state = [*tensors(0), *zeros(), *zeros()]
    n = len(SHAPES)
    for step in range(1, 6):
        moments = state[n : 2 * n], state[2 * n :]
        state = ops.adamw(
            state[:n],
            tensors(step),
            moments,
            rates(step=step),
            betas=(0.8, 0.95),
            weight_decay=decay,
        )
        for t, grad in zip(theirs, arrays(step), strict=True):
            t.grad = torch.tensor(grad)
        optimizer.step()
    for mine, their in zip(state[:n], theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), their.detach().numpy(), rtol=1e-11, atol=1e-13)


def test_in_place_is_the_pure_op_written_into_its_inputs():
    n = len(SHAPES)
    op = AdamW(count=n, weight_decay=(0.1, 0.0, 0.2, 0.0))
    inputs = [*rates(step=4, scale=0.5), *tensors(0), *tensors(1), *tensors(2)]
    inputs += [t * t for t in tensors(3)]
    wanted = [t.numpy() for t in op.many(*inputs)]
    before = [t.numpy() for t in inputs]
    dispatch.update(op, tuple(inputs))
    after = [t.numpy() for t in inputs]
    for output, index in op.aliases.items():
        np.testing.assert_array_equal(after[index], wanted[output])
        assert not np.array_equal(after[index], before[index])
    for index in set(range(len(inputs))) - set(op.aliases.values()):
        np.testing.assert_array_equal(after[index], before[index])


def test_scale_multiplies_the_gradients():
    params, grads = tensors(0), tensors(1)
    halved = ops.sgd(params, [g * 0.5 for g in grads], [], rates(), weight_decay=0.1)
    scaled = ops.sgd(params, grads, [], rates(scale=0.5), weight_decay=0.1)
    for one, two in zip(halved, scaled, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_parameters_keep_moments_in_float32(dtype):
    param = gu.tensor([1.0, -2.0, 3.0]).astype(dtype)
    grad = gu.tensor([1e-4, 2e-4, -1e-4]).astype(dtype)
    moments = ([gu.zeros(3)], [gu.zeros(3)])
    new, m, v = ops.adamw([param], [grad], moments, rates(lr=0.1), weight_decay=0.0)
    assert (new.dtype, m.dtype, v.dtype) == (param.dtype, gu.float32, gu.float32)
    g = grad.numpy().astype(np.float64)
    np.testing.assert_allclose(v.numpy(), g * g * 0.001, rtol=1e-5)  # 0 in float16
    wanted = param.numpy().astype(np.float64) - 0.1 * np.sign(g)
    np.testing.assert_allclose(new.numpy().astype(np.float64), wanted, rtol=2.0**-8, atol=1e-3)


def test_bias_correction_does_not_cancel():
    """1 - 0.999 in float32 has lost four digits."""
    steps = np.array([1, 2, 10, 1000, 100_000], np.float32)
    got = bias_correction(0.999, gu.tensor(steps)).numpy()
    np.testing.assert_allclose(got, 1 - 0.999 ** steps.astype(np.float64), rtol=3e-7)


def test_strided_parameters_are_updated_where_they_lie():
    whole = gu.tensor(np.zeros((4, 6), np.float32))
    dispatch.update(
        Sgd(count=1, weight_decay=(0.0,)), (*rates(lr=1.0), whole[:, ::2].mT, gu.ones(3, 4))
    )
    assert whole.tolist() == [[-1.0, 0.0] * 3] * 4


def test_global_norm_and_clip_scale():
    grads = tensors(0, np.float32)
    wanted = np.sqrt(sum((x.astype(np.float64) ** 2).sum() for x in arrays(0, np.float32)))
    norm = ops.global_norm(*grads)
    assert norm.dtype is gu.float32
    assert norm.item() == pytest.approx(wanted, rel=1e-6)
    assert ops.clip_scale(norm, 1.0).item() == pytest.approx(1 / (wanted + 1e-6), rel=1e-6)
    assert ops.clip_scale(norm, 1e6).item() == 1.0


def test_global_norm_of_many_small_values_and_of_bad_ones():
    x = gu.full(3_000_000, 1e-3)
    assert ops.global_norm(x).item() == pytest.approx(1e-3 * np.sqrt(3e6), rel=1e-6)
    assert np.isnan(ops.global_norm(gu.ones(3), gu.tensor([np.nan], dtype="float32")).item())
    assert ops.global_norm(gu.ones(3), gu.tensor([-np.inf], dtype="float32")).item() == np.inf
    assert ops.clip_scale(gu.tensor(np.float32(np.inf)), 1.0).item() == 0.0


def test_global_norm_has_a_gradient():
    x, y = gu.tensor([3.0], requires_grad=True), gu.tensor([0.0, 4.0], requires_grad=True)
    ops.global_norm(x, y).backward()
    np.testing.assert_allclose(x.grad.numpy(), [0.6], rtol=1e-6)
    np.testing.assert_allclose(y.grad.numpy(), [0.0, 0.8], rtol=1e-6)
    z = gu.zeros(3).requires_grad_()
    ops.global_norm(z).backward()
    assert z.grad.tolist() == [0.0, 0.0, 0.0]


def test_refusals_leave_everything_as_it_was():
    params, grads = tensors(0), tensors(1)
    before = [t.numpy() for t in params]
    op = Sgd(count=len(SHAPES), weight_decay=(0.0,) * len(SHAPES))
    with pytest.raises(ShapeError, match=r"parameter 3 is .* its gradient"):
        dispatch.update(op, (*rates(), *params, *grads[:3], gu.zeros(2, dtype="float64")))
    with pytest.raises(ShapeError, match="lr must hold one number"):
        dispatch.update(op, (gu.zeros(2), *rates()[1:], *params, *grads))
    with pytest.raises(ShapeError, match="4 parameters need 8 tensors, got 7"):
        dispatch.update(op, (*rates(), *params, *grads[:3]))
    with pytest.raises(ConfigError, match="one number per parameter"):
        dispatch.update(Sgd(count=4, weight_decay=(0.0,)), (*rates(), *params, *grads))
    with pytest.raises(DTypeError, match="must be floating"):
        ops.sgd([gu.tensor([1])], [gu.tensor([1])], [], rates())
    for t, old in zip(params, before, strict=True):
        np.testing.assert_array_equal(t.numpy(), old)

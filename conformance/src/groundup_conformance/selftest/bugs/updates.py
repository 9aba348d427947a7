"""Optimizers and other updates in place."""

from __future__ import annotations

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.selftest.planting import Call, kernel


def with_numbers(call: Call, **numbers: float) -> list[Array]:
    """The inputs with another lr, step or scale."""
    changed = list(call.inputs)
    for place, name in enumerate(("lr", "step", "scale")):
        if name in numbers:
            changed[place] = np.full_like(changed[place], numbers[name])
    return changed


@kernel("adamw", "adamw[float32,*]")
def bias_not_corrected(call: Call) -> None:
    """Moments are used as if they had been averaged for ever."""
    call.fill(*call.right(*with_numbers(call, step=1e9)))


@kernel("adamw", "adamw[float32,*]")
def step_counts_from_0(call: Call) -> None:
    """The correction is that of the step before."""
    step = float(call.inputs[1].reshape(-1)[0])
    call.fill(*call.right(*with_numbers(call, step=max(step - 1, 1))))


@kernel("adamw", "adamw[float32,decay-*]")
def decay_joins_the_gradient(call: Call) -> None:
    """Weight decay is added to the gradient, as in Adam with L2, where it should be decoupled."""
    call.fill(*call.right(decoupled=False))


@kernel("adamw", "adamw[float32,decay-*]")
def decay_has_the_wrong_sign(call: Call) -> None:
    """Weights grow by their decay."""
    call.fill(*call.right(weight_decay=tuple(-decay for decay in call.op.weight_decay)))


@kernel("adamw", "adamw[float32,decay-*]")
def decay_after_the_step(call: Call) -> None:
    """The updated parameter is decayed, not the old one."""
    op, lr = call.op, float(call.inputs[0].reshape(-1)[0])
    if not op.decoupled:
        call.fill(*call.right())
        return
    results = call.right(weight_decay=(0.0,) * op.count)
    for i, decay in enumerate(op.weight_decay):
        results[i] = (results[i].astype(np.float64) * (1 - lr * decay)).astype(results[i].dtype)
    call.fill(*results)


@kernel("adamw", "adamw[float32,adam-*]")
def moments_swapped(call: Call) -> None:
    """beta1 and beta2 change places."""
    call.fill(*call.right(beta1=call.op.beta2, beta2=call.op.beta1))


@kernel("adamw", "adamw[float32,*]")
def gradient_scale_ignored(call: Call) -> None:
    """The factor of clipping and of loss scaling is not read."""
    call.fill(*call.right(*with_numbers(call, scale=1.0)))


@kernel("adamw", "adamw[float32,*3x5*]")
def only_the_first_parameter(call: Call) -> None:
    """One launch for all parameters updates the first of them."""
    results = call.right()
    n = call.op.count
    for i in range(1, n):
        results[i] = call.inputs[3 + i]
    call.fill(*results)


@kernel("sgd", "sgd[float32,first-step,*]")
def momentum_starts_at_zero(call: Call) -> None:
    """In the first step dampening acts on a buffer of zeros, instead of starting it."""
    op = call.op
    if not op.momentum or float(call.inputs[1].reshape(-1)[0]) > 1:
        call.fill(*call.right())
    else:
        call.fill(*call.right(*with_numbers(call, step=2)))


@kernel("sgd", "sgd[float32,nesterov-*]")
def nesterov_ignored(call: Call) -> None:
    """Nesterov's momentum is the usual one."""
    call.fill(*call.right(nesterov=False))


@kernel("adamw", "train[*-adamw,*,losses]", ops="-", level=3)
def learning_rate_baked_in(call: Call) -> None:
    """The learning rate of a parameter's first step is used in all later ones."""
    kept = vars(call.device).setdefault("_planted_rates", {})
    where = tuple(a.__array_interface__["data"][0] for a in call.inputs[3 : 3 + call.op.count])
    first = kept.setdefault(where, float(call.inputs[0].reshape(-1)[0]))
    call.fill(*call.right(*with_numbers(call, lr=first)))


@kernel("cross_entropy_backward", "train[*-sgd,*,losses]", ops="-", level=3)
def gradient_a_hundredth_too_small(call: Call) -> None:
    """The loss's gradient is 1 % too small, which Adam would never show."""
    [dx] = call.right()
    call.fill(dx * dx.dtype.type(0.99))


@kernel("assign", "assign[*,in-place]", level=2, in_place=True)
def assign_writes_a_copy(call: Call) -> None:
    """The value goes into memory of its own, and the target stays as it was."""
    if not np.shares_memory(call.x, call.out):
        call.fill(*call.right())


@kernel("scatter_add", "scatter_add[*,in-place]", level=2, in_place=True)
def added_twice_in_place(call: Call) -> None:
    """In place, the old values are added once more."""
    twice = np.shares_memory(call.x, call.out)
    [y] = call.right()
    call.fill(y + call.x if twice else y)


@kernel("sum", "sum[float32,*,twice]", level=2)
def order_of_summation_varies(call: Call) -> None:
    """Terms are added as threads arrive (atomics): other bits each time."""
    rng = vars(call.device).setdefault("_planted_order", np.random.default_rng(0))
    x = call.x
    axes = call.op.axes if call.op.axes is not None else range(x.ndim)
    for axis in axes:
        x = np.take(x, rng.permutation(x.shape[axis]), axis)
    call.fill(*call.right(np.ascontiguousarray(x)))


@kernel("isnan", "isnan[*,twice]", level=2)
def last_row_not_written(call: Call) -> None:
    """The last row of a result keeps what the memory held."""
    [y] = call.right()
    if y.ndim:
        call.out[:-1] = y[:-1]
    else:
        call.fill(y)

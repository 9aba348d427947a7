"""References of optimizer steps. Arithmetic is float32 for 16-bit floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from groundup.dtypes import float32
from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle import functions as f
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import gradient, reference

Rates = tuple[Number, int, Number]


def _updated(op: Any, lr: Number, step: Array, scale: Number, tensors: Sequence[Number],
             states: int) -> tuple[Number, ...]:  # fmt: skip
    """(*params, *states) from (*params, *grads, *states), each in its own dtype."""
    n = op.count
    params, grads, old = tensors[:n], tensors[n : 2 * n], tensors[2 * n :]
    columns = []
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        kind = param.wide().dtype
        own = [param, *old[i::n]][: 1 + states]
        rates = _scalar(lr).to(kind), int(np.asarray(step).reshape(())), _scalar(scale).to(kind)
        wide = [x.to(kind) for x in own]
        new = _STEPS[op.name](op, op.weight_decay[i], rates, grad.to(kind), wide)
        columns.append([x.to(was.dtype) for x, was in zip(new, own, strict=True)])
    return tuple(x for row in zip(*columns, strict=True) for x in row)


def _scalar(x: Number) -> Number:
    """An input of one number as an exact scalar."""
    return x.constant(x.value.reshape(()))


def _sgd(op: Any, decay: float, rates: Rates, grad: Number, own: Sequence[Number]) -> list[Number]:
    """g = scale grad + decay p; b = momentum b + (1 - dampening) g, at step 1 b = g."""
    lr, step, scale = rates
    param, g = own[0], grad * scale
    if decay:
        g = g + param * decay
    if not op.momentum:
        return [param - g * lr]
    buffer = g if step <= 1 else own[1] * op.momentum + g * (1 - op.dampening)
    g = g + buffer * op.momentum if op.nesterov else buffer
    return [param - g * lr, buffer]


def _adamw(
    op: Any, decay: float, rates: Rates, grad: Number, own: Sequence[Number]
) -> list[Number]:
    """Loshchilov and Hutter (2019); with `decoupled` false, Kingma and Ba (2015)."""
    lr, step, scale = rates
    param, m, v = own
    g = grad * scale
    if decay and op.decoupled:
        param = param * (1.0 - lr * decay)
    elif decay:
        g = g + param * decay
    m = m * op.beta1 + g * (1 - op.beta1)
    v = v * op.beta2 + g * g * (1 - op.beta2)
    size = lr / _correction(op.beta1, step, lr)
    root = f.sqrt(v / _correction(op.beta2, step, lr))
    return [param - m * size / (root + op.eps), m, v]


def _correction(beta: float, step: int, beside: Number) -> Number:
    """1 - beta^step, without cancellation."""
    exponent = beside.constant(float(step)) * (math.log(beta) if beta else -math.inf)
    return -f.expm1(exponent)


_STEPS = {"sgd": _sgd, "adamw": _adamw}


@reference("sgd")
def _sgd_op(op: Any, lr: Number, step: Any, scale: Number, *tensors: Number) -> tuple[Number, ...]:
    return _updated(op, lr, _plain(step), scale, tensors, 1 if op.momentum else 0)


@reference("adamw")
def _adamw_op(
    op: Any, lr: Number, step: Any, scale: Number, *tensors: Number
) -> tuple[Number, ...]:
    return _updated(op, lr, _plain(step), scale, tensors, 2)


def _plain(step: Any) -> Array:
    return step.value if isinstance(step, Number) else step


@reference("global_norm")
def _global_norm(op: Any, *tensors: Number) -> Number:
    """The square root of the sum of all squares, in float32 or better; the result is float32."""
    total: Number | None = None
    for t in tensors:
        x = _single(t)
        square = (x * x).sum()
        total = square if total is None else total + square
    assert total is not None
    return f.sqrt(total)


def _single(x: Number) -> Number:
    return x.to(float32)


@gradient("global_norm")
def _global_norm_gradient(
    op: Any, inputs: Any, outputs: Any, cotangents: Any
) -> tuple[Number, ...]:
    """x grad / norm; 0 where the norm is 0."""
    (norm,), (grad,) = outputs, cotangents
    if norm.value == 0:
        return tuple(x.constant(np.zeros(x.shape)) for x in inputs)
    return tuple((_single(x) * (grad / norm)).to(x.dtype) for x in inputs)

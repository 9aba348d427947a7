"""Reductions and products of Numbers: mean, largest, running sums, products, matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.moves import transpose
from groundup_conformance.oracle.number import Number, inexact, scaled


def mean(x: Number, axes: Sequence[int], keepdims: bool = False) -> Number:
    """The sum divided by the count: NaN for nothing."""
    total = x.sum(axes, keepdims)
    return total / total.constant(prod(x.shape[a] for a in axes))


def extreme(x: Number, axes: Sequence[int], keepdims: bool, sign: int) -> Number:
    """The largest (sign 1) or smallest (-1) over `axes`. Equal extremes share the gradient."""
    chosen = tuple(axes)
    reduce = np.max if sign > 0 else np.min
    value = reduce(x.value, axis=chosen, keepdims=keepdims)
    error = 0.0 if x.error is None else x.bound.max(axis=chosen, keepdims=keepdims)
    kept = tuple(1 if a in chosen else n for a, n in enumerate(x.shape))
    equal = (x.value == value.reshape(kept)).astype(np.float64)
    share = equal / equal.sum(axis=chosen, keepdims=True)

    def pull(g: Number) -> tuple[Number]:
        spread = g.moved(lambda a: np.broadcast_to(a.reshape(kept), x.shape))
        return (spread * spread.rounded_constant(share),)

    return x.made(value, error, x, pull=pull)


def running_sum(x: Number, axis: int) -> Number:
    """Element i is the sum of elements 0 to i."""
    value = x.value.cumsum(axis)
    steps = np.arange(x.shape[axis]).reshape([-1 if a == axis else 1 for a in range(x.value.ndim)])
    error: Array | float = 0.0 if x.error is None else x.bound.cumsum(axis)
    local: Array = x.profile.summed(steps, np.abs(x.value).cumsum(axis) + error, x.dtype)
    if x.dtype.bits < 32:
        local = local + np.where(steps > 0, x.rounding(value, error + local), 0.0)

    def pull(g: Number) -> tuple[Number]:
        turned = g.moved(lambda a: np.flip(a, axis))
        return (running_sum(turned, axis).moved(lambda a: np.flip(a, axis)),)

    return x.made(value, error, x, pull=pull, local=local)


def product(x: Number) -> Number:
    """The product along the last axis: one rounding for each factor but one."""
    value = x.value.prod(-1)
    steps = max(x.shape[-1] - 1, 0)
    error = 0.0 if x.error is None else np.sum(scaled(others(x.value), x.error), -1)
    local: Array = x.profile.summed(steps, np.abs(value) + error, x.dtype)
    local = local + x.profile.rounded(np.zeros(()), x.dtype) * steps  # where it underflows
    if x.dtype.bits < 32:
        local = local + x.rounding(value, error + local)

    def pull(g: Number) -> tuple[Number]:
        return (g.moved(lambda a: np.broadcast_to(a[..., None], x.shape)) * product_of_others(x),)

    return x.made(value, error, x, pull=pull, local=local)


def product_of_others(x: Number) -> Number:
    """Along the last axis, the product of all other elements, of an exact x."""
    rest = others(x.value)
    return inexact(rest, x.profile.summed(x.shape[-1], np.abs(rest), x.dtype), x)


def others(rows: Array) -> Array:
    """Along the last axis, the product of all other elements; zeros need no special case."""
    ones = np.ones_like(rows[..., :1])
    before = np.concatenate([ones, rows[..., :-1]], -1).cumprod(-1)
    after = np.concatenate([ones, rows[..., :0:-1]], -1).cumprod(-1)[..., ::-1]
    found: Array = before * after
    return found


def matmul(x: Number, y: Number) -> Number:
    """Matrices (or batches of them) times matrices. 16-bit floats accumulate in float32."""
    value = x.value @ y.value
    k = x.shape[-1]
    local: Array = x.profile.summed(k, np.abs(x.value) @ np.abs(y.value), x.dtype)
    error: Array | float = 0.0
    if x.error is not None:
        error = error + x.bound @ (np.abs(y.value) + y.bound)
    if y.error is not None:
        error = error + np.abs(x.value) @ y.bound
    if x.dtype.bits < 32 and k:
        local = local + x.rounding(value, error + local)
    return x.made(
        value, error, x, y,
        pull=lambda g: (
            x.wanting(lambda: matmul(g, transpose(y))), y.wanting(lambda: matmul(transpose(x), g))
        ),
        local=local,
    )  # fmt: skip

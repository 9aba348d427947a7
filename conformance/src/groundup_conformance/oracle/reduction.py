"""References of reductions."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle import functions as f
from groundup_conformance.oracle.moves import permute, reshape
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import exact, gradient, reference
from groundup_conformance.oracle.sums import extreme, mean, product, product_of_others, running_sum


def axes_of(op: Any, rank: int) -> tuple[int, ...]:
    """The axes that are dropped, from 0."""
    return tuple(range(rank)) if op.axes is None else tuple(a % rank for a in op.axes)


def kept(op: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The result's shape with size 1 on the dropped axes."""
    dropped = axes_of(op, len(shape))
    return tuple(1 if a in dropped else n for a, n in enumerate(shape))


@reference("sum")
def _sum(op: Any, x: Number) -> Number:
    return x.sum(axes_of(op, x.value.ndim), op.keepdims)


@exact("sum")
def _sum_integers(op: Any, x: Array) -> Array:
    """Modulo 2^32, or 2^64 for int64; bool and 8-bit integers give int32."""
    total = x.astype(np.int64).sum(axes_of(op, x.ndim), keepdims=op.keepdims)
    return _accumulated(total, x)


def _accumulated(values: Array, x: Array) -> Array:
    return np.asarray(values).astype(np.int64 if x.dtype == np.int64 else np.int32)


@reference("mean")
def _mean(op: Any, x: Number) -> Number:
    """Summed and divided in float32 for 16-bit floats; NaN for nothing."""
    return mean(x.wide(), axes_of(op, x.value.ndim), op.keepdims).to(x.dtype)


@reference("var")
def _var(op: Any, x: Number) -> Number:
    """sum((x - mean)^2) / (count - correction), divided by 0 where that is negative."""
    centred = _centred(op, x)
    total = (centred * centred).sum(axes_of(op, x.value.ndim), op.keepdims)
    return (total / total.constant(_degrees(op, x))).to(x.dtype)


def _centred(op: Any, x: Number) -> Number:
    wide = x.wide()
    return wide - mean(wide, axes_of(op, x.value.ndim), keepdims=True)


def _degrees(op: Any, x: Number) -> int:
    count = prod(x.shape[a] for a in axes_of(op, x.value.ndim))
    return max(count - int(op.correction), 0)


@gradient("var")
def _var_gradient(op: Any, inputs: Any, outputs: Any, cotangents: Any) -> Number:
    """2 (x - mean) / degrees grad: through the mean comes nothing, since sum(x - mean) = 0."""
    (x,), (g,) = inputs, cotangents
    centred = _centred(op, x)
    slope = centred * 2.0 / centred.constant(_degrees(op, x))
    return (reshape(g.wide(), kept(op, x.shape)) * slope).to(x.dtype)


@reference("prod")
def _prod(op: Any, x: Number) -> Number:
    """The product; 1 for nothing. In float32 for 16-bit floats."""
    out = product(_rows(op, x.wide())).to(x.dtype)
    return reshape(out, kept(op, x.shape)) if op.keepdims else out


def _order(op: Any, rank: int) -> tuple[int, ...]:
    """The axes, dropped ones last."""
    axes = axes_of(op, rank)
    return (*[a for a in range(rank) if a not in axes], *axes)


def _rows(op: Any, x: Number) -> Number:
    """x with the dropped axes joined into one last axis."""
    axes = axes_of(op, x.value.ndim)
    rest = [n for a, n in enumerate(x.shape) if a not in axes]
    turned = permute(x, _order(op, x.value.ndim))
    return reshape(turned, (*rest, prod(x.shape[a] for a in axes)))


@gradient("prod")
def _prod_gradient(op: Any, inputs: Any, outputs: Any, cotangents: Any) -> Number:
    """grad times the product of the others, which is rounded to the dtype of x first."""
    (x,), (g,) = inputs, cotangents
    slopes = product_of_others(_rows(op, x.wide())).to(x.dtype)
    order = _order(op, x.value.ndim)
    turned = reshape(slopes, [x.shape[a] for a in order])
    back = [order.index(a) for a in range(len(order))]
    return reshape(g, kept(op, x.shape)) * permute(turned, back)


@exact("prod")
def _prod_integers(op: Any, x: Array) -> Array:
    """Wraps; products modulo 2^64 are also right modulo 2^32."""
    found = x.astype(np.int64).prod(axes_of(op, x.ndim), keepdims=op.keepdims)
    return _accumulated(found, x)


@reference("max")
def _max(op: Any, x: Number) -> Number:
    return extreme(x, axes_of(op, x.value.ndim), op.keepdims, 1)


@reference("min")
def _min(op: Any, x: Number) -> Number:
    return extreme(x, axes_of(op, x.value.ndim), op.keepdims, -1)


@exact("max")
def _max_integers(op: Any, x: Array) -> Array:
    return np.asarray(x.max(axes_of(op, x.ndim), keepdims=op.keepdims))


@exact("min")
def _min_integers(op: Any, x: Array) -> Array:
    return np.asarray(x.min(axes_of(op, x.ndim), keepdims=op.keepdims))


@exact("any")
def _any(op: Any, x: Array) -> Array:
    return np.asarray((x != 0).any(axes_of(op, x.ndim), keepdims=op.keepdims))


@exact("all")
def _all(op: Any, x: Array) -> Array:
    return np.asarray((x != 0).all(axes_of(op, x.ndim), keepdims=op.keepdims))


@reference("cumsum")
def _cumsum(op: Any, x: Number) -> Number:
    return running_sum(x, op.axis % x.value.ndim)


@exact("cumsum")
def _cumsum_integers(op: Any, x: Array) -> Array:
    return _accumulated(x.astype(np.int64).cumsum(op.axis), x)


@reference("logsumexp")
def _logsumexp(op: Any, x: Number) -> Number:
    """log(sum(exp(x - top))) + top; -inf for nothing, or where all are."""
    axes = axes_of(op, x.value.ndim)
    wide = x.wide()
    top = finite_top(wide.value, axes)
    total = f.exp(wide - wide.constant(top)).sum(axes, op.keepdims)
    out = f.log(total) + total.constant(top.reshape(total.shape))
    return out.to(x.dtype)


def finite_top(values: Array, axes: tuple[int, ...]) -> Array:
    """The largest over `axes`, kept; 0 where that is infinite, NaN or there is none."""
    top = values.max(axes, keepdims=True, initial=-np.inf)
    return np.where(np.isfinite(top), top, 0.0)


@gradient("logsumexp")
def _logsumexp_gradient(op: Any, inputs: Any, outputs: Any, cotangents: Any) -> Number:
    """grad exp(x - out), by the rounded result."""
    (x,), (out,), (g,) = inputs, outputs, cotangents
    shape = kept(op, x.shape)
    weight = f.exp(x.wide() - reshape(out.wide(), shape))
    return (reshape(g.wide(), shape) * weight).to(x.dtype)

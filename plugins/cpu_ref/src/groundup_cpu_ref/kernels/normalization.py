"""layer_norm, rms_norm and their gradients, in blocks of rows that stay in cache.

The variance is taken in two passes (mean first), because E[x^2] - E[x]^2 cancels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.rows import (
    as_rows,
    block_count,
    centre,
    inverse_deviation,
    row_blocks,
    row_dots,
    with_row,
)


@native("layer_norm", params=("eps",))
def layer_norm(op: Any, x: Array, weight: Array, *rest: Array) -> None:
    *bias, out = rest
    rows, target = as_rows(x), as_rows(out)

    def work(_: int, part: slice) -> None:
        _layer_norm(rows[part], weight, bias, op.eps, target[part])

    row_blocks(work, *target.shape)


@native("add_layer_norm", params=("eps",))
def add_layer_norm(op: Any, x: Array, residual: Array, weight: Array, *rest: Array) -> None:
    *bias, out, total = rest
    left, right, target, sums = (as_rows(array) for array in (x, residual, out, total))

    def work(_: int, part: slice) -> None:
        np.add(left[part], right[part], sums[part])
        _layer_norm(sums[part], weight, bias, op.eps, target[part])

    row_blocks(work, *target.shape)


@native("rms_norm", params=("eps",))
def rms_norm(op: Any, x: Array, weight: Array, out: Array) -> None:
    rows, target = as_rows(x), as_rows(out)

    def work(_: int, part: slice) -> None:
        _rms_norm(rows[part], weight, op.eps, target[part])

    row_blocks(work, *target.shape)


@native("add_rms_norm", params=("eps",))
def add_rms_norm(
    op: Any, x: Array, residual: Array, weight: Array, out: Array, total: Array
) -> None:
    left, right, target, sums = (as_rows(array) for array in (x, residual, out, total))

    def work(_: int, part: slice) -> None:
        np.add(left[part], right[part], sums[part])
        _rms_norm(sums[part], weight, op.eps, target[part])

    row_blocks(work, *target.shape)


@native("layer_norm_backward", params=("eps",))
@native("add_layer_norm_backward", params=("eps",))
def layer_norm_backward(op: Any, x: Array, weight: Array, grad: Array, *rest: Array) -> None:
    *more, dx, dweight, dbias = rest
    rows, grads, target, *added = map(as_rows, (x, grad, dx, *more))
    parts = np.empty((2, block_count(*target.shape), target.shape[-1]), dx.dtype)

    def work(i: int, part: slice) -> None:
        sums = parts[:, i]
        _layer_norm_backward(rows[part], weight, grads[part], op.eps, target[part], sums)
        for other in added:
            np.add(target[part], other[part], target[part])

    row_blocks(work, *target.shape)
    np.add.reduce(parts[0], axis=0, out=dweight)
    np.add.reduce(parts[1], axis=0, out=dbias)


@native("rms_norm_backward", params=("eps",))
@native("add_rms_norm_backward", params=("eps",))
def rms_norm_backward(op: Any, x: Array, weight: Array, grad: Array, *rest: Array) -> None:
    *more, dx, dweight = rest
    rows, grads, target, *added = map(as_rows, (x, grad, dx, *more))
    parts = np.empty((block_count(*target.shape), target.shape[-1]), dx.dtype)

    def work(i: int, part: slice) -> None:
        _rms_norm_backward(rows[part], weight, grads[part], op.eps, target[part], parts[i])
        for other in added:
            np.add(target[part], other[part], target[part])

    row_blocks(work, *target.shape)
    np.add.reduce(parts, axis=0, out=dweight)


def _layer_norm(x: Array, weight: Array, bias: list[Array], eps: float, out: Array) -> None:
    centre(x, out)
    np.multiply(out, inverse_deviation(out, eps), out)
    with_row(np.multiply, out, weight, out)
    if bias:
        with_row(np.add, out, bias[0], out)


def _rms_norm(x: Array, weight: Array, eps: float, out: Array) -> None:
    np.multiply(x, inverse_deviation(x, eps), out)
    with_row(np.multiply, out, weight, out)


def _layer_norm_backward(
    x: Array, weight: Array, grad: Array, eps: float, dx: Array, sums: Array
) -> None:
    """`sums` are this block's parts of dweight and dbias.

    With c the centred rows, y = c s and g = grad * weight: the means of g and of g * y are dot
    products of grad and of grad * c with the weight, and dx = (g - mean(g) - c s mean(g y)) s.
    """
    width = x.shape[-1]
    c = np.empty_like(dx)
    centre(x, c)
    s = inverse_deviation(c, eps)
    product = np.multiply(grad, c, dx)
    np.einsum("ij,i->j", product, s[:, 0], out=sums[0])
    np.add.reduce(grad, axis=0, out=sums[1])
    np.multiply(c, row_dots(product, weight) / width * s * s, c)
    mean_g = row_dots(grad, weight) / width
    with_row(np.multiply, grad, weight, dx)
    np.subtract(dx, c, dx)
    np.subtract(dx, mean_g, dx)
    np.multiply(dx, s, dx)


def _rms_norm_backward(
    x: Array, weight: Array, grad: Array, eps: float, dx: Array, sums: Array
) -> None:
    """`sums` is this block's part of dweight; see `_layer_norm_backward`."""
    s = inverse_deviation(x, eps)
    product = np.multiply(grad, x, dx)
    np.einsum("ij,i->j", product, s[:, 0], out=sums)
    slope = np.multiply(x, row_dots(product, weight) / x.shape[-1] * s * s)
    with_row(np.multiply, grad, weight, dx)
    np.subtract(dx, slope, dx)
    np.multiply(dx, s, dx)

"""Matrix products by NumPy's BLAS, which reads transposed operands as they lie."""

from __future__ import annotations

from math import prod

import numpy as np

from groundup.ops.op import Op
from groundup.shapes import reshape_strides
from groundup_cpu_ref import blas
from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.rows import as_rows, forward, row_blocks


@native("matmul")
def matmul(op: Op, x: Array, y: Array, out: Array) -> None:
    if x.ndim > 2 and y.ndim > 2 and not any(y.strides[:-2]):
        y = y[(0,) * (y.ndim - 2)] if prod(y.shape[:-2]) else y
    flat = _flattened(x) if y.ndim == 2 and x.shape[:-2] == out.shape[:-2] else None
    if flat is not None:
        blas.matmul(flat, _readable(y), as_rows(out))
    elif min(x.ndim, y.ndim) < 2:
        np.matmul(_readable(x), _readable(y), out)
    else:
        blas.matmul(_readable(x), _readable(y), out)


@native("linear")
def linear(op: Op, x: Array, weight: Array, *rest: Array) -> None:
    *bias, out = rest
    target = as_rows(out)
    blas.matmul(_readable(as_rows(x)), _readable(weight).T, target)
    if not bias:
        return

    def add_bias(_: int, part: slice) -> None:
        np.add(target[part], bias[0], target[part])

    row_blocks(add_bias, *target.shape)


def _flattened(x: Array) -> Array | None:
    """x (..., M, K) as one matrix if its strides allow it: one large product, not many small."""
    rows = (prod(x.shape[:-1]), x.shape[-1])
    strides = tuple(step // x.itemsize for step in x.strides)
    return None if reshape_strides(x.shape, strides, rows) is None else x.reshape(rows)


def _readable(x: Array) -> Array:
    """x if BLAS can read it (one of the last two axes dense, the other apart), else a copy.

    NumPy would multiply such arrays element by element.
    """
    if x.dtype.kind != "f" or not x.size:
        return x
    if x.ndim < 2:
        return forward(x)
    rows, columns = x.strides[-2:]
    item = x.itemsize
    dense = columns == item and rows >= x.shape[-1] * item
    turned = rows == item and columns >= x.shape[-2] * item
    return x if dense or turned else np.ascontiguousarray(x)

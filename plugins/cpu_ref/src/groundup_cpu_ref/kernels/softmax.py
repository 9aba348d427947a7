"""softmax and log_softmax, each in one pass over blocks that stay in cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.rows import as_rows, row_blocks, row_dots, row_sums


@native("softmax", params=("axis",))
def softmax(op: Any, x: Array, out: Array) -> None:
    _along(op.axis, _softmax, x, out)


@native("softmax_backward", params=("axis",))
def softmax_backward(op: Any, out: Array, grad: Array, dx: Array) -> None:
    _along(op.axis, _softmax_backward, out, grad, dx)


@native("log_softmax", params=("axis",))
def log_softmax(op: Any, x: Array, out: Array) -> None:
    _along(op.axis, _log_softmax, x, out)


@native("log_softmax_backward", params=("axis",))
def log_softmax_backward(op: Any, out: Array, grad: Array, dx: Array) -> None:
    _along(op.axis, _log_softmax_backward, out, grad, dx)


def _along(axis: int, function: Callable[..., None], *arrays: Array) -> None:
    """`function` on blocks of rows. For another axis than the last it works on row-major copies."""
    target = arrays[-1]
    if not target.size:
        return
    moved = [np.moveaxis(array, axis, -1) for array in arrays]
    result = moved[-1] if moved[-1].flags.c_contiguous else np.empty(moved[-1].shape, target.dtype)
    rows = [as_rows(array) for array in (*moved[:-1], result)]
    row_blocks(lambda _, part: function(*[array[part] for array in rows]), *rows[-1].shape)
    if result is not moved[-1]:
        moved[-1][...] = result


def _softmax(x: Array, out: Array) -> None:
    np.subtract(x, np.maximum.reduce(x, axis=-1, keepdims=True), out)
    np.exp(out, out)
    np.multiply(out, 1 / row_sums(out), out)


def _softmax_backward(y: Array, grad: Array, dx: Array) -> None:
    np.subtract(grad, row_dots(y, grad), dx)
    np.multiply(dx, y, dx)


def _log_softmax(x: Array, out: Array) -> None:
    np.subtract(x, np.maximum.reduce(x, axis=-1, keepdims=True), out)
    np.subtract(out, np.log(row_sums(np.exp(out))), out)


def _log_softmax_backward(y: Array, grad: Array, dx: Array) -> None:
    np.exp(y, dx)
    np.multiply(dx, row_sums(grad), dx)
    np.subtract(grad, dx, dx)

"""Work by rows: an array as rows of its last axis, in blocks that fit the cache, in threads."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Final

import numpy as np

from groundup_cpu_ref.native import Array
from groundup_cpu_ref.threads import THREADS, parallel

# Every NumPy call has a price, and threads hand the interpreter's lock over between calls: blocks
# are as large as the caches allow, and small work stays in one thread.
_BLOCK: Final = 1 << 19  # elements of the largest block: 2 MiB of float32
_GRAIN: Final = 1 << 17  # elements that are worth a thread
_DOT: Final = 4096  # width up to which dot products go to BLAS
_RUN: Final = 4096  # elements that NumPy's innermost loop should have


def as_rows(array: Array) -> Array:
    """(..., D) as a matrix. A view where strides allow it, as they do for all outputs."""
    return array.reshape(prod(array.shape[:-1]), array.shape[-1])


def block_count(rows: int, width: int) -> int:
    """In how many blocks `row_blocks` works: equal shares for the threads."""
    size = rows * width
    threads = max(1, min(THREADS, size // _GRAIN))
    return max(1, min(rows, threads * -(-size // (threads * _BLOCK))))


def row_blocks(work: Callable[[int, slice], None], rows: int, width: int) -> None:
    """`work(index, slice of rows)` for every block, over the threads.

    Sums over rows are kept per block and added in order: who was first makes no difference.
    """
    count = block_count(rows, width)

    def run(first: int, last: int) -> None:
        for i in range(first, last):
            work(i, slice(rows * i // count, rows * (i + 1) // count))

    parallel(run, count, 1)


def with_row(function: np.ufunc, rows: Array, row: Array, out: Array) -> None:
    """`function(rows, row, out)`, broadcast. Short rows are taken several at a time."""
    count, width = rows.shape
    each = _RUN // max(width, 1)
    whole = count // each * each if each > 1 else 0
    if whole and rows.flags.c_contiguous and out.flags.c_contiguous:
        shape = (whole // each, each * width)
        function(rows[:whole].reshape(shape), np.tile(row, each), out[:whole].reshape(shape))
        rows, out = rows[whole:], out[whole:]
    function(rows, row, out)


def forward(x: Array) -> Array:
    """x, copied if its last axis is expanded or flipped.

    BLAS reads neither, and NumPy's own loop adds one term after the other, which costs digits.
    """
    return x if x.strides[-1] > 0 else np.ascontiguousarray(x)


def row_dots(left: Array, right: Array) -> Array:
    """The dot product of each pair of rows, as a column; `right` may be one row for all.

    BLAS is the quickest, but starts threads of its own for vectors of more than 10,000 elements.
    """
    if left.shape[-1] <= _DOT:
        return np.asarray(np.vecdot(forward(left), forward(right)))[..., None]
    return np.asarray(np.add.reduce(left * right, axis=-1, keepdims=True))


def row_sums(rows: Array) -> Array:
    """The sum of each row, as a column. For short rows a product with ones beats NumPy's sum."""
    if rows.shape[-1] <= _DOT:
        return row_dots(rows, np.ones(rows.shape[-1], rows.dtype))
    return np.asarray(np.add.reduce(rows, axis=-1, keepdims=True))


def centre(rows: Array, out: Array) -> None:
    """Each row minus its mean."""
    np.subtract(rows, row_sums(rows) / rows.shape[-1], out)


def inverse_deviation(centred: Array, eps: float) -> Array:
    """1 / sqrt(mean of squares + eps) of each row, as a column."""
    mean = row_dots(centred, centred) / centred.shape[-1]
    return np.asarray(np.reciprocal(np.sqrt(mean + eps)))

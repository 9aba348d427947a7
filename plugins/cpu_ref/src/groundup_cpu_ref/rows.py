"""Row by row work: an array as rows of its last axis, in blocks that fit the cache, over the threads."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Final

import numpy as np

from groundup_cpu_ref.native import Array
from groundup_cpu_ref.threads import parallel

_BLOCK: Final = (
    1 << 17
)  # elements: two float32 blocks of this size fit a second-level cache of 1 MiB
_EVEN: Final = 4  # the number of blocks is a multiple of this, so that threads get equal shares


def as_rows(array: Array) -> Array:
    """(..., D) as a matrix. A view where strides allow it, as they do for all outputs."""
    return array.reshape(prod(array.shape[:-1]), array.shape[-1])


def block_count(rows: int, width: int) -> int:
    """In how many blocks `row_blocks` works. It depends on the sizes only, so sums are reproducible."""
    wanted = -(-rows * width // _BLOCK)
    return max(1, min(rows, -(-wanted // _EVEN) * _EVEN if wanted > 1 else 1))


def row_blocks(work: Callable[[int, slice], None], rows: int, width: int) -> None:
    """`work(index, slice of rows)` for every block, over the threads."""
    count = block_count(rows, width)

    def run(first: int, last: int) -> None:
        for i in range(first, last):
            work(i, slice(rows * i // count, rows * (i + 1) // count))

    parallel(run, count, 1)


def row_sums(rows: Array) -> Array:
    """The sum of each row, as a column. A dot product with ones is faster than NumPy's reduction."""
    return np.vecdot(rows, np.ones(rows.shape[-1], rows.dtype))[:, None]

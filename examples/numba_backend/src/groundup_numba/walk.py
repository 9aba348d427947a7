"""How a kernel walks through strided operands: rows of as many elements as possible.

Neighbouring axes that all operands walk alike become one axis, so that most work has few, long
rows. Offsets of rows are computed, steps within a row are constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from groundup.layout import Layout
from groundup_numba.native import COMPILED, Array
from groundup_numba.threads import THREADS, parallel


class Walk(NamedTuple):
    """`rows` rows of `columns` elements."""

    rows: int
    columns: int
    outer: Array  # int64: the sizes of the axes that count rows, then each operand's strides
    steps: tuple[int, ...]  # of each operand, from one element of a row to the next


def walk(*operands: Layout) -> Walk:
    """The walk through operands of one shape, in row-major order."""
    axes: list[tuple[int, ...]] = []
    for size, *steps in zip(operands[0].shape, *[x.strides for x in operands], strict=True):
        if size == 1:
            continue
        if axes and all(up == size * s for up, s in zip(axes[-1][1:], steps, strict=True)):
            axes[-1] = (axes[-1][0] * size, *steps)
        else:
            axes.append((size, *steps))
    *outer, inner = axes or [(1,) * (len(operands) + 1)]
    table = np.array(outer, np.int64).reshape(len(outer), len(operands) + 1).T.copy()
    return Walk(prod(axis[0] for axis in outer), inner[0], table, inner[1:])


def part(layout: Layout, axes: Sequence[int]) -> Layout:
    """Some axes of a layout."""
    shape, strides = (tuple(of[a] for a in axes) for of in (layout.shape, layout.strides))
    return Layout(shape, strides, layout.dtype)


def without(layout: Layout, axis: int, shape: Sequence[int]) -> Layout:
    """A layout of `shape` that stands still along `axis`: where an index tells the place there."""
    strides = tuple(0 if a == axis else s for a, s in enumerate(layout.strides))
    return Layout(tuple(shape), strides, layout.dtype)


@njit(**COMPILED)
def place(outer: Any, operand: int, row: int) -> int:
    """The offset, in elements, of a row of an operand; they count from 1."""
    at = 0
    for axis in range(outer.shape[1] - 1, -1, -1):
        size = outer[0, axis]
        at += row % size * outer[operand, axis]
        row //= size
    return at


def over(steps: Walk, work: Callable[[int, int, int, int], object]) -> None:
    """`work(row, row after, column, column after)` on all of a walk, over the threads."""
    rows, columns = steps.rows, steps.columns
    if rows >= THREADS:
        parallel(lambda a, b: work(a, b, 0, columns), rows, columns)
    else:
        parallel(lambda a, b: work(0, rows, a, b), columns, rows)

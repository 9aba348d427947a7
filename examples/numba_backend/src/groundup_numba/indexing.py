"""gather and scatter_add, along walks that stand still where an index tells the place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from groundup.backends.api import View
from groundup.errors import DomainError
from groundup.layout import Layout
from groundup_numba.native import COMPILED, Plan, dense, native, start, strided
from groundup_numba.threads import parallel
from groundup_numba.walk import over, place, walk, without

Layouts = Sequence[Layout]


@njit(**COMPILED)
def _gather(outer, s, t, index, index0, x, x0, axis, out, columns, first, last, low, high):
    """`axis` is the stride that an index counts."""
    for row in range(first, last):
        a, b = index0 + place(outer, 1, row) + low * s, x0 + place(outer, 2, row) + low * t
        target = out[row * columns + low : row * columns + high]
        if s == 0 and t == 1:
            at = b + index[a] * axis
            line = x[at : at + high - low]
            for i in range(high - low):
                target[i] = line[i]
        else:
            for i in range(high - low):
                chosen = np.int64(index[np.uint64(a + i * s)])
                target[i] = x[np.uint64(b + i * t + chosen * axis)]


@njit(**COMPILED)
def _scatter(outer, s, t, u, index, index0, source, source0, axis, out, first, last, low, high):
    for row in range(first, last):
        a, b, c = (
            index0 + place(outer, 1, row),
            source0 + place(outer, 2, row),
            place(outer, 3, row),
        )
        if s == 0 and t == 1 and u == 1:
            at = c + index[a] * axis
            target, line = out[at + low : at + high], source[b + low : b + high]
            for i in range(high - low):
                target[i] += line[i]
        else:
            for i in range(low, high):
                chosen = np.int64(index[np.uint64(a + i * s)])
                out[np.uint64(c + i * u + chosen * axis)] += source[np.uint64(b + i * t)]


def _check(name: str, indices: View, axis: int, size: int) -> None:
    """Raises DomainError before anything is written. Expanded axes hold nothing new."""
    array = strided(indices)
    for each, step in enumerate(array.strides):
        if step == 0:
            array = array.take([0], each) if array.shape[each] else array
    if array.size and (array.min() < 0 or array.max() >= size):
        wrong = array[(array < 0) | (array >= size)][0]
        raise DomainError(f"{name}: index {wrong} is out of range for axis {axis} of size {size}")


@native("gather", "axis")
def _gather_plan(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    x, indices = inputs
    axis = op.axis % x.rank
    steps = walk(indices, without(x, axis, indices.shape))
    head, stride = (steps.outer, *steps.steps), x.strides[axis]

    def run(x: View, indices: View, out: View) -> None:
        _check("gather", indices, axis, x.layout.shape[axis])
        memory = (indices.native, start(indices), x.native, start(x), stride, dense(out))
        over(steps, lambda *piece: _gather(*head, *memory, steps.columns, *piece))

    return Plan(run)


@native("scatter_add", "axis")
def _scatter_plan(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    """Threads share the columns, and only where no two columns can meet in one place."""
    x, indices, source = inputs
    axis = op.axis % x.rank
    steps = walk(indices, source, without(outputs[0], axis, indices.shape))
    head, stride = (steps.outer, *steps.steps), outputs[0].strides[axis]
    apart = steps.steps[0] == 0 and steps.steps[2] == 1

    def run(x: View, indices: View, source: View, out: View) -> None:
        _check("scatter_add", indices, axis, x.layout.shape[axis])
        if out is not x:
            np.copyto(strided(out), strided(x))
        memory = (indices.native, start(indices), source.native, start(source), stride, dense(out))

        def work(low: int, high: int) -> None:
            _scatter(*head, *memory, 0, steps.rows, low, high)

        if apart:
            parallel(work, steps.columns, steps.rows)
        else:
            work(0, steps.columns)

    return Plan(run, in_place={0: 0} if x.is_row_major else {})

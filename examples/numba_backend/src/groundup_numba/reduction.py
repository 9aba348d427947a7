"""sum, max, min: along rows, or down columns where those lie side by side in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit

from groundup.backends.api import View
from groundup.layout import Layout
from groundup.shapes import normalize_axes
from groundup_numba.elementwise import maximum, minimum
from groundup_numba.native import (
    COMPILED,
    SUMMING,
    Array,
    Plan,
    dense,
    native,
    start,
)
from groundup_numba.rows import row_max, row_min, some_nan
from groundup_numba.threads import GRAIN, THREADS, parallel
from groundup_numba.walk import Walk, part, place, walk

Formula = Callable[..., Any]


@njit(**SUMMING)
def _sum_row(x: Any, at: int, count: int, step: int, total: Any) -> Any:
    """`total` has the type in which to add: float64 for floats, or int64, which wraps later."""
    if step == 1:
        line = x[at : at + count]
        for i in range(count):
            total += line[i]
    else:
        for i in range(count):
            total += x[np.uint64(at + i * step)]
    return total


@njit(**SUMMING)
def _sum_rows(kept, rows, step, columns, x, x0, zero, out, first, last):
    """Each result: over all rows of what is reduced, `rows` being that walk's outer axes."""
    count = 1
    for axis in range(rows.shape[1]):
        count *= rows[0, axis]
    for i in range(first, last):
        base, total = x0 + place(kept, 1, i), zero
        for row in range(count):
            total = _sum_row(x, base + place(rows, 1, row), columns, step, total)
        out[i] = total


@njit(**COMPILED)
def _sum_columns(kept, reduced, count, x, x0, zeros, out, columns, low, high):
    """Results that lie side by side, for each of `kept`'s rows: one row is added after another."""
    rows = out.size // columns
    for row in range(rows):
        base = x0 + place(kept, 1, row)
        totals = zeros[low:high]
        totals[:] = 0
        for r in range(count):
            at = base + place(reduced, 1, r)
            line = x[at + low : at + high]
            for i in range(high - low):
                totals[i] += line[i]
        target = out[row * columns + low : row * columns + high]
        for i in range(high - low):
            target[i] = totals[i]


def _full(steps: Walk) -> Array:
    """All axes of a walk of one operand, the inner one as well."""
    return np.append(steps.outer, [[steps.columns], steps.steps], axis=1)


def _extreme(better: Formula, of_row: Formula) -> Formula:
    """The loop of max or min."""

    @njit(**COMPILED)
    def loop(kept, rows, step, columns, x, x0, out, first, last):
        count = 1
        for axis in range(rows.shape[1]):
            count *= rows[0, axis]
        for i in range(first, last):
            base = x0 + place(kept, 1, i)
            best = x[base]
            for row in range(count):
                at = base + place(rows, 1, row)
                if step == 1:
                    line = x[at : at + columns]
                    best = better(best, of_row(line))
                    if some_nan(line):
                        for j in range(columns):
                            best = better(best, line[j])
                else:
                    for j in range(columns):
                        best = better(best, x[np.uint64(at + j * step)])
            out[i] = best

    return loop


def _walks(op: Any, x: Layout) -> tuple[Walk, Walk]:
    """Through what is kept, and through what each result is made of."""
    axes = normalize_axes(op.axes, x.rank, op.name)
    kept = [a for a in range(x.rank) if a not in axes]
    return walk(part(x, kept)), walk(part(x, axes))


@native("sum", "axes", "keepdims")
def _sum(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan:
    kept, reduced = _walks(op, inputs[0])
    each = reduced.rows * reduced.columns  # elements of one result
    floating = inputs[0].dtype.is_floating
    if kept.columns >= 8 and kept.steps == (1,) and reduced.steps != (1,):
        return Plan(_columns(kept, reduced, each, np.float64 if floating else np.int64))
    zero = 0.0 if floating else 0
    head = (_full(kept), reduced.outer, reduced.steps[0], reduced.columns)

    def run(x: View, out: View) -> None:
        source, target, begin = x.native, dense(out), start(x)
        if target.size == 1 and each >= 2 * GRAIN and reduced.rows == 1:
            target[0] = _long(source, begin, each, reduced.steps[0], zero)
            return
        parallel(
            lambda a, b: _sum_rows(*head, source, begin, zero, target, a, b), target.size, each
        )

    return Plan(run)


def _columns(kept: Walk, reduced: Walk, each: int, dtype: Any) -> Callable[..., None]:
    outer, rows, columns = kept.outer, _full(reduced), kept.columns

    def run(x: View, out: View) -> None:
        source, target, begin = x.native, dense(out), start(x)
        totals = np.empty(columns, dtype)

        def work(low: int, high: int) -> None:
            _sum_columns(outer, rows, each, source, begin, totals, target, columns, low, high)

        parallel(work, columns, kept.rows * each)

    return run


def _long(source: Array, begin: int, count: int, step: int, zero: Any) -> Any:
    """One sum over everything, in pieces whose number depends on nothing but the size."""
    shares = min(THREADS, count // GRAIN)
    totals = [zero] * shares

    def work(first: int, last: int) -> None:
        for i in range(first, last):
            low, high = count * i // shares, count * (i + 1) // shares
            totals[i] = _sum_row(source, begin + low * step, high - low, step, zero)

    parallel(work, shares, GRAIN)
    total = zero
    for piece in totals:
        total += piece
    return total if isinstance(zero, float) else np.int64(total).astype(np.int32)


def _register_extreme(name: str, loop: Formula) -> None:
    def factory(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan:
        kept, reduced = _walks(op, inputs[0])
        head = (_full(kept), reduced.outer, reduced.steps[0], reduced.columns)
        each = reduced.rows * reduced.columns

        def run(x: View, out: View) -> None:
            arguments = (*head, x.native, start(x), dense(out))
            parallel(lambda a, b: loop(*arguments, a, b), out.layout.size, each)

        return Plan(run)

    native(name, "axes", "keepdims")(factory)


_register_extreme("max", _extreme(maximum, row_max))
_register_extreme("min", _extreme(minimum, row_min))

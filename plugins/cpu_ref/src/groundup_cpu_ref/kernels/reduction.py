"""Reductions by NumPy, in threads.

NumPy sums pairwise only along the axis that is contiguous in memory; along others it adds row by
row, and the rounding errors of thousands of rows add up. So floats are summed one axis at a time,
long slow axes in runs of `_RUN` rows.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np

from groundup.shapes import normalize_axes
from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import THREADS, parallel

Reduce: TypeAlias = Callable[
    [Array, Array], None
]  # the axes of x that out lacks, its last, into out

_MANY: Final = 4096  # elements that are worth a few calls more
_RUN: Final = 128  # rows that are added one after the other
_GRAIN: Final = (
    65536  # elements that are worth a thread; as floats, they fit the second-level cache
)


@native("sum", params=("axes", "keepdims"))
def sum_(op: Any, x: Array, out: Array) -> None:
    _split(total, *_arranged(op, x, out))


@native("mean", params=("axes", "keepdims"))
def mean(op: Any, x: Array, out: Array) -> None:
    rows, means = _arranged(op, x, out)
    _split(total, rows, means)
    np.divide(means, _count(rows, means), means)


@native("prod", params=("axes", "keepdims"))
def product(op: Any, x: Array, out: Array) -> None:
    _split(_product, *_arranged(op, x, out))


@native("max", params=("axes", "keepdims"))
def max_(op: Any, x: Array, out: Array) -> None:
    _split(_by(np.maximum), *_arranged(op, x, out))


@native("min", params=("axes", "keepdims"))
def min_(op: Any, x: Array, out: Array) -> None:
    _split(_by(np.minimum), *_arranged(op, x, out))


@native("any", params=("axes", "keepdims"))
def any_(op: Any, x: Array, out: Array) -> None:
    _split(_by(np.logical_or), *_arranged(op, x, out))


@native("all", params=("axes", "keepdims"))
def all_(op: Any, x: Array, out: Array) -> None:
    _split(_by(np.logical_and), *_arranged(op, x, out))


@native("var", params=("axes", "keepdims", "correction"))
def var(op: Any, x: Array, out: Array) -> None:
    rows, result = _arranged(op, x, out)
    count = _count(rows, result)
    degrees = count - op.correction if count > op.correction else 0

    def of_rows(rows: Array, result: Array) -> None:
        total(rows, result)
        np.divide(result, count, result)
        centred = np.asarray(rows - _beside(result, rows))
        np.multiply(centred, centred, centred)
        total(centred, result)
        np.divide(result, degrees, result)

    _in_blocks(of_rows, rows, result)


@native("logsumexp", params=("axes", "keepdims"))
def logsumexp(op: Any, x: Array, out: Array) -> None:
    rows, result = _arranged(op, x, out)

    def of_rows(rows: Array, result: Array) -> None:
        axes = tuple(range(result.ndim, rows.ndim))
        top = np.asarray(np.maximum.reduce(rows, axis=axes, initial=-np.inf))
        top[~np.isfinite(top)] = 0
        shifted = np.asarray(rows - _beside(top, rows))
        np.exp(shifted, shifted)
        total(shifted, result)
        np.log(result, result)
        np.add(result, top, result)

    _in_blocks(of_rows, rows, result)


@native("argmax", params=("axis", "keepdims"))
def argmax(op: Any, x: Array, out: Array) -> None:
    _locate(np.argmax, op, x, out)


@native("argmin", params=("axis", "keepdims"))
def argmin(op: Any, x: Array, out: Array) -> None:
    _locate(np.argmin, op, x, out)


@native("cumsum", params=("axis",))
def cumsum(op: Any, x: Array, out: Array) -> None:
    """Floats run in float64: thousands of float32 additions in a row would drift."""
    dtype = np.dtype(np.float64) if out.dtype.kind == "f" else out.dtype
    rows, sums = np.moveaxis(x, op.axis, -1), np.moveaxis(out, op.axis, -1)
    rows, sums = (rows, sums) if x.ndim > 1 else (rows[None], sums[None])

    def of_rows(rows: Array, sums: Array) -> None:
        wide = rows.astype(dtype, order="C")
        np.copyto(sums, np.add.accumulate(wide, axis=-1), casting="same_kind")

    _in_blocks(of_rows, rows, sums)


def _product(x: Array, out: Array) -> None:
    """One half times the other while there is much: NumPy multiplies rows by rows many numbers at a
    time, but those of one row one after the other.
    """
    while x.size > max(_MANY, out.size):
        axis = max(range(out.ndim, x.ndim), key=lambda a: x.shape[a])
        half = x.shape[axis] // 2
        lead = (slice(None),) * axis
        first, second, odd = (
            x[(*lead, part)] for part in (slice(half), slice(half, 2 * half), slice(2 * half, None))
        )
        x = np.multiply(first, second, dtype=out.dtype)
        x[(*lead, slice(odd.shape[axis]))] *= odd
    np.multiply.reduce(x, axis=tuple(range(out.ndim, x.ndim)), dtype=out.dtype, out=out)


def total(x: Array, out: Array) -> None:
    """Sum the axes of x that `out` lacks, its last. Rounding errors stay those of pairwise sums."""
    axes = tuple(range(out.ndim, x.ndim))
    if out.dtype.kind != "f" or x.size <= _RUN or not axes:
        np.add.reduce(x, axis=axes, dtype=out.dtype, out=out)
        return
    x = _joined(x, out.ndim)
    while x.ndim > out.ndim:
        axis = min(range(out.ndim, x.ndim), key=lambda a: abs(x.strides[a]))
        if x.shape[axis] > _RUN and not _is_fast(x, axis):
            x = _runs(x, axis)
        elif x.ndim == out.ndim + 1:
            np.add.reduce(x, axis=axis, out=out)
            return
        else:
            x = np.add.reduce(x, axis=axis)


def _runs(x: Array, axis: int) -> Array:
    """Sums of `_RUN` neighbours along `axis`; the last run may be shorter."""
    runs, rest = divmod(x.shape[axis], _RUN)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    lead = (slice(None),) * axis
    # NumPy loops in the order in which both arrays lie in memory, so the sums must lie as x does.
    sums = np.empty_like(x[(*lead, slice(0, runs + bool(rest)))])
    whole = x[(*lead, slice(0, runs * _RUN))].reshape(*before, runs, _RUN, *after)
    np.add.reduce(whole, axis=axis + 1, out=sums[(*lead, slice(0, runs))])
    if rest:
        np.add.reduce(x[(*lead, slice(runs * _RUN, None))], axis=axis, out=sums[(*lead, runs)])
    return sums


def _is_fast(x: Array, axis: int) -> bool:
    """Whether NumPy's inner loop runs along `axis`, where it sums pairwise."""
    steps = [abs(s) for a, s in enumerate(x.strides) if a != axis and x.shape[a] > 1]
    return all(abs(x.strides[axis]) < step for step in steps)


def _joined(x: Array, kept: int) -> Array:
    """The axes from `kept` on as one, if that needs no copy."""
    for a in range(kept, x.ndim - 1):
        if x.strides[a] != x.shape[a + 1] * x.strides[a + 1]:
            return x
    return x.reshape(*x.shape[:kept], -1) if x.ndim > kept + 1 else x


def _arranged(op: Any, x: Array, out: Array) -> tuple[Array, Array]:
    """x with the dropped axes last, and `out` with the kept axes alone."""
    dropped = normalize_axes(op.axes, x.ndim, op.name)
    kept = [a for a in range(x.ndim) if a not in dropped]
    return x.transpose(*kept, *dropped), out.reshape([x.shape[a] for a in kept])


def _count(rows: Array, result: Array) -> int:
    return prod(rows.shape[result.ndim :])


def _beside(result: Array, rows: Array) -> Array:
    """`result` so that it broadcasts against `rows`."""
    return result.reshape(result.shape + (1,) * (rows.ndim - result.ndim))


def _by(ufunc: np.ufunc, **options: Any) -> Reduce:
    def reduce(x: Array, out: Array) -> None:
        ufunc.reduce(x, axis=tuple(range(out.ndim, x.ndim)), out=out, **options)

    return reduce


def _split(reduce: Reduce, x: Array, out: Array) -> None:
    """`reduce` in threads: over the results, or, if they are few, over what makes them."""
    longest = max(range(x.ndim), key=lambda a: x.shape[a], default=0)
    if x.size < 2 * _GRAIN or out.size == 0:
        reduce(x, out)
    elif longest < out.ndim:
        lead = (slice(None),) * longest

        def block(start: int, stop: int) -> None:
            part = (*lead, slice(start, stop))
            reduce(x[part], out[part])

        _over(longest, x.shape[longest], x, block)
    else:
        _pieces(reduce, x, out, longest)


def _pieces(reduce: Reduce, x: Array, out: Array, axis: int) -> None:
    """Reduce one piece of a dropped axis per thread, then their results."""
    lead = (slice(None),) * axis
    size = x.shape[axis]
    pieces = min(THREADS, size)
    bounds = [size * i // pieces for i in range(pieces + 1)]
    partial = np.empty((*out.shape, pieces), out.dtype)

    def piece(start: int, stop: int) -> None:
        for i in range(start, stop):
            reduce(x[(*lead, slice(bounds[i], bounds[i + 1]))], partial[..., i])

    parallel(piece, pieces, 1)
    reduce(partial, out)


def _in_blocks(of_rows: Reduce, rows: Array, result: Array) -> None:
    """`of_rows` on blocks whose temporaries fit the cache, in threads over the first axis."""
    if not result.ndim or not result.size:
        of_rows(rows, result)
        return
    step = max(1, _GRAIN * rows.shape[0] // max(rows.size, 1))

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, step):
            block = slice(low, min(low + step, stop))
            of_rows(rows[block], result[block])

    parallel(work, rows.shape[0], step)


def _over(axis: int, size: int, x: Array, work: Callable[[int, int], None]) -> None:
    """`work(start, stop)` over an axis of x in pieces that are worth a thread."""
    parallel(work, size, max(1, _GRAIN * size // max(x.size, 1)))


def _locate(find: Callable[..., Any], op: Any, x: Array, out: Array) -> None:
    if op.axis is None or x.ndim == 1:
        out[...] = find(x)
        return
    places = out if op.keepdims else np.expand_dims(out, op.axis)
    axis = op.axis % x.ndim
    split = 0 if axis else 1  # an axis to split among threads
    lead = (slice(None),) * split

    def block(start: int, stop: int) -> None:
        part = (*lead, slice(start, stop))
        places[part] = find(x[part], axis=axis, keepdims=True)

    _over(split, x.shape[split], x, block)

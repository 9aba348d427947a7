"""References of reading and writing by index tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.moves import numbered
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import exact, moves, reference


@moves("take")
def _take(op: Any, x: Array, indices: Array) -> Array:
    return np.take(x, indices, op.axis)


@moves("gather")
def _gather(op: Any, x: Array, indices: Array) -> Array:
    """out[i, j, k] = x[i, indices[i, j, k], k] for axis 1."""
    return x[_places(op.axis, indices)]


@moves("dynamic_update_slice")
def _dynamic_update_slice(op: Any, x: Array, update: Array, starts: Array) -> Array:
    """Starts are clamped so that the update fits."""
    out = x.copy()
    sizes = zip(starts.tolist(), x.shape, update.shape, strict=True)
    begins = [min(max(start, 0), n - m) for start, n, m in sizes]
    out[tuple(slice(b, b + m) for b, m in zip(begins, update.shape, strict=True))] = update
    return out


@reference("scatter_add")
def _scatter_add(op: Any, x: Number, indices: Array, source: Number) -> Number:
    """x with the elements of source added where they belong, in any order.

    16-bit floats are added in float32 and rounded once.
    """
    (numbers,) = numbered([x.shape])
    places = numbers[_places(op.axis, indices)].ravel()

    def added(values: Array) -> Array:
        return np.bincount(places, values.ravel(), x.value.size).reshape(x.shape)

    count = added(np.ones(places.size))
    value = x.value + added(source.value)
    size = np.abs(x.value) + added(np.abs(source.value))
    through = x.bound + added(source.bound)
    local = x.profile.summed(count, size, x.dtype)
    if x.dtype.bits < 32:
        local = local + np.where(count > 0, x.rounding(value, through + local), 0.0)

    def pull(g: Number) -> tuple[Number, Number]:
        return g, g.moved(lambda a: a[_places(op.axis, indices)])

    return x.made(value, through, x, source, pull=pull, local=local)


@exact("scatter_add")
def _scatter_add_integers(op: Any, x: Array, indices: Array, source: Array) -> Array:
    out = x.astype(np.int64)
    np.add.at(out, _places(op.axis, indices), source.astype(np.int64))
    return out.astype(x.dtype)


@exact("one_hot")
def _one_hot(op: Any, indices: Array) -> Array:
    return np.asarray(indices[..., None] == np.arange(op.classes), np.float32)


def _places(axis: int, indices: Array) -> tuple[Array, ...]:
    """The coordinates that `indices` along `axis` stand for."""
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis % indices.ndim] = indices.astype(np.int64)
    return tuple(np.broadcast_arrays(*grid))

"""Reading and writing by index arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from groundup.errors import DomainError
from groundup.ops.op import Op
from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import parallel

_GRAIN: Final = (
    65536  # elements that are worth a thread; as floats, they fit the second-level cache
)


@native("take", params=("axis",), exact=True)
def take(op: Any, x: Array, indices: Array, out: Array) -> None:
    axis = op.axis % x.ndim
    _refuse_outside("take", indices, axis, x.shape[axis])
    _take(x, indices, axis, out)


@native("gather", params=("axis",), exact=True)
def gather(op: Any, x: Array, indices: Array, out: Array) -> None:
    axis = op.axis % x.ndim
    rows = _rows(indices, axis)
    _refuse_outside("gather", indices if rows is None else rows, axis, x.shape[axis])
    x = x[_window(indices.shape, axis)]
    if rows is not None:
        _take(x, rows, axis, out)
        return

    def some(part: slice) -> None:
        lines = x[part]
        places = _places(indices[part], axis, lines.shape)
        np.take(lines.reshape(-1), places, out=out[part], mode="clip")

    _in_blocks(some, indices, axis)


@native("scatter_add", params=("axis",), in_place=True)
def scatter_add(op: Any, x: Array, indices: Array, source: Array, out: Array) -> None:
    axis = op.axis % x.ndim
    rows = _rows(indices, axis)
    _refuse_outside("scatter_add", indices if rows is None else rows, axis, x.shape[axis])
    if out is not x:
        np.copyto(out, x)
    if source.size == 0:
        return
    target = out[_window(source.shape, axis)]
    if rows is not None and source.ndim > 1:
        _add_rows(np.moveaxis(target, axis, 0), rows, np.moveaxis(source, axis, 0))
        return

    def some(part: slice) -> None:
        places = _places(indices[part], axis, target[part].shape)
        _add_elements(target[part], places, source[part])

    _in_blocks(some, indices, axis)


@native("dynamic_update_slice", in_place=True, exact=True)
def dynamic_update_slice(op: Op, x: Array, update: Array, starts: Array, out: Array) -> None:
    if out is not x:
        np.copyto(out, x)
    sizes = zip(starts.tolist(), x.shape, update.shape, strict=True)
    places = [min(max(start, 0), large - small) for start, large, small in sizes]
    window: list[Any] = [slice(at, at + n) for at, n in zip(places, update.shape, strict=True)]
    out[(*window, ...)] = update


@native("one_hot", params=("classes",), exact=True)
def one_hot(op: Any, indices: Array, out: Array) -> None:
    _refuse_outside("one_hot", indices, -1, op.classes)
    out.fill(0)
    if out.size:
        flat = out.reshape(-1, op.classes)
        flat[np.arange(indices.size), indices.reshape(-1)] = 1


@native("tril", params=("diagonal",), exact=True)
def tril(op: Any, x: Array, out: Array) -> None:
    lower = _lower(x, op.diagonal)
    out.fill(0)
    np.copyto(out, x, where=lower)


@native("triu", params=("diagonal",), exact=True)
def triu(op: Any, x: Array, out: Array) -> None:
    below = _lower(x, op.diagonal - 1)
    np.copyto(out, x)
    np.copyto(out, False, where=below)  # False is zero in every dtype


def _lower(x: Array, diagonal: int) -> Array:
    rows, columns = x.shape[-2:]
    return np.tri(rows, columns, diagonal, np.dtype(np.bool_))


def _refuse_outside(name: str, indices: Array, axis: int, size: int) -> None:
    if not indices.size:
        return
    low, high = int(indices.min()), int(indices.max())
    if low >= 0 and high < size:
        return
    where = f"axis {axis} of size {size}" if axis >= 0 else f"{size} classes"
    allowed = f"allowed is 0 to {size - 1}" if size else "nothing is allowed"
    worst = low if low < 0 else high
    raise DomainError(f"{name}: index {worst} is out of range for {where}, {allowed}")


def _take(x: Array, indices: Array, axis: int, out: Array) -> None:
    """NumPy's take copies whole rows, but of an x that is not row-major it first copies all."""
    if not x.flags.c_contiguous:
        before: list[Any] = [slice(None)] * axis
        out[...] = x[(*before, indices)]
    elif axis == 0 and indices.size > 1:
        flat, into = indices.reshape(-1), out.reshape(indices.size, *x.shape[1:])

        def block(start: int, stop: int) -> None:
            np.take(x, flat[start:stop], axis=0, out=into[start:stop], mode="clip")

        parallel(block, flat.size, max(1, _GRAIN * flat.size // max(out.size, 1)))
    else:
        np.take(x, indices, axis=axis, out=out, mode="clip")


def _rows(indices: Array, axis: int) -> Array | None:
    """The one line of indices if it is repeated (by strides of 0) along all other axes."""
    others = (s for a, s in enumerate(indices.strides) if a != axis and indices.shape[a] != 1)
    if any(others) or not indices.size:
        return None
    line: Array = indices[tuple(slice(None) if a == axis else 0 for a in range(indices.ndim))]
    return line


def _window(shape: tuple[int, ...], axis: int) -> tuple[slice, ...]:
    """The part of x that indices of this shape reach: off `axis` they may be smaller."""
    return tuple(slice(None) if a == axis else slice(0, size) for a, size in enumerate(shape))


def _in_blocks(some: Callable[[slice], None], indices: Array, axis: int) -> None:
    """`some(part of the first axis)` in threads and in cache, or of all if indices run along it."""
    if axis == 0 or not indices.size:
        some(slice(None))
        return
    step = max(1, _GRAIN // indices[0].size)

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, step):
            some(slice(low, min(low + step, stop)))

    parallel(work, indices.shape[0], step)


def _places(indices: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """Per index its element's number in a row-major array of `shape`."""
    places = np.zeros(indices.shape, np.intp)
    step = 1
    for a in range(len(shape) - 1, -1, -1):
        own = np.arange(indices.shape[a]).reshape(-1, *[1] * (len(shape) - a - 1))
        places += np.multiply(indices if a == axis else own, step, dtype=np.intp)
        step *= shape[a]
    return places


def _add_rows(target: Array, rows: Array, source: Array) -> None:
    """target[rows[i]] += source[i]. Rows for one target are added in pairs, then pairs of pairs."""
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    sums = np.take(source, order, axis=0)
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    number = np.arange(rows.size) - np.repeat(first, np.diff(first, append=rows.size))
    at = np.arange(rows.size)
    while number.size > first.size:
        odd = (number & 1).astype(np.bool_)
        second = np.flatnonzero(odd)
        _add_at(sums, at[second - 1], sums, at[second])
        at, number = at[~odd], number[~odd] >> 1
    _add_at(target, rows[first], sums, at)


def _add_at(target: Array, rows: Array, source: Array, picked: Array) -> None:
    """target[rows[i]] += source[picked[i]], all rows distinct, in threads."""

    def block(start: int, stop: int) -> None:
        part = np.take(source, picked[start:stop], axis=0)
        part += target[rows[start:stop]]
        target[rows[start:stop]] = part

    width = max(source[0].size, 1)
    parallel(block, rows.size, max(1, _GRAIN // width))


def _add_elements(target: Array, places: Array, source: Array) -> None:
    """NumPy adds at single indices quickly in one flat array only."""
    line = np.ascontiguousarray(target).reshape(-1)
    np.add.at(line, places.reshape(-1), np.ascontiguousarray(source).reshape(-1))
    if not np.shares_memory(line, target):
        np.copyto(target, line.reshape(target.shape))

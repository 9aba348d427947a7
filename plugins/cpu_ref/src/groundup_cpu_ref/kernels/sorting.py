"""sort and topk. NaN is above all numbers, equal values keep their order.

NumPy sorts numbers by the processor's vectors, many times as quickly as it finds a stable order.
So values of up to 32 bits are sorted as numbers of 64 bits, with their places in the lower half.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np

from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import parallel

_TOP: Final = np.uint32(1 << 31)
_PLACES: Final = np.uint64((1 << 32) - 1)
_BLOCK: Final = 32768  # elements
_LONG: Final = 4096  # of lines that topk looks through one by one


@native("sort", params=("axis", "descending"))
def sort(op: Any, x: Array, values: Array, indices: Array) -> None:
    lines, found = np.moveaxis(x, op.axis, -1), np.moveaxis(indices, op.axis, -1)
    sorted_lines = np.moveaxis(values, op.axis, -1)

    def block(part: Any) -> None:
        order = _order(lines[part], op.descending)
        found[part] = order
        sorted_lines[part] = _picked(lines[part], order)

    _in_blocks(block, lines)


@native("topk", params=("k", "axis"))
def topk(op: Any, x: Array, values: Array, indices: Array) -> None:
    lines, found = np.moveaxis(x, op.axis, -1), np.moveaxis(indices, op.axis, -1)
    chosen = np.moveaxis(values, op.axis, -1)

    def block(part: Any) -> None:
        found[part] = _first(lines[part], op.k)
        chosen[part] = _picked(lines[part], found[part])

    if lines.shape[-1] < _LONG or not op.k:
        _in_blocks(block, lines)
        return
    for at in np.ndindex(lines.shape[:-1]):
        found[at] = _largest(lines[at], op.k)
    chosen[...] = _picked(lines, found)


def _in_blocks(work: Callable[[Any], None], lines: Array) -> None:
    """`work` on some lines after the others, whose temporaries fit the cache, in threads."""
    if lines.ndim == 1:
        work(...)
        return
    step = max(1, _BLOCK * lines.shape[0] // max(lines.size, 1))

    def piece(start: int, stop: int) -> None:
        for low in range(start, stop, step):
            work(slice(low, min(low + step, stop)))

    parallel(piece, lines.shape[0], step)


def _picked(lines: Array, places: Array) -> Array:
    """The values at those places of each line, as `np.take_along_axis` has them."""
    flat = np.ascontiguousarray(lines).reshape(-1)
    starts = np.arange(prod(lines.shape[:-1])) * lines.shape[-1]
    return np.asarray(np.take(flat, places + starts.reshape(*lines.shape[:-1], 1)))


def _order(lines: Array, descending: bool) -> Array:
    """The places of each line's values, sorted; stable."""
    if lines.itemsize > 4:
        return _falling(lines) if descending else np.argsort(lines, axis=-1, kind="stable")
    keys = _keys(lines, descending)
    keys.sort(axis=-1)
    return (keys & _PLACES).astype(np.intp)


def _first(lines: Array, k: int) -> Array:
    """The places of each line's `k` largest values."""
    if lines.itemsize > 4 or not k:
        return _order(lines, True)[..., :k]
    keys = np.partition(_keys(lines, True), k - 1, axis=-1)[..., :k]
    keys.sort(axis=-1)
    return (keys & _PLACES).astype(np.intp)


def _keys(lines: Array, descending: bool) -> Array:
    """Each value's rank, and below it its place in the line."""
    ranks = _ranks(np.ascontiguousarray(lines))
    keys = (~ranks if descending else ranks).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(lines.shape[-1], dtype=np.uint64)
    return keys


def _ranks(values: Array) -> Array:
    """Numbers without sign that rise as the values do; -0 and 0 are one, and so is every NaN."""
    if values.dtype.kind != "f":
        return np.bitwise_xor(values.astype(np.int32).view(np.uint32), _TOP)
    bits = np.add(values, np.float32(0)).view(np.int32)
    flips = (bits >> 31).view(np.uint32)  # all bits of a negative number, of others the first
    flips |= _TOP
    flips ^= bits.view(np.uint32)
    np.putmask(flips, np.isnan(values), ~np.uint32(0))
    return flips


def _falling(lines: Array) -> Array:
    """Stable from large to small: sorted backwards and read backwards, ties keep their order."""
    backwards = np.argsort(lines[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    order: Array = lines.shape[-1] - 1 - backwards
    return order


def _largest(line: Array, k: int) -> Array:
    """Indices of the k largest of a long line: sort only what reaches the k-th largest value."""
    limit = np.partition(line, line.size - k)[line.size - k]
    candidates = np.flatnonzero(~(line < limit))  # NaN is below nothing
    if np.isnan(limit):
        candidates = np.flatnonzero(np.isnan(line))
    picked: Array = candidates[_falling(line[candidates])[:k]]
    return picked

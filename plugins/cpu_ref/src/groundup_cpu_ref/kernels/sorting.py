"""sort and topk by NumPy's stable argsort, which puts NaN last."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import parallel

_LONG: Final = 256  # lines of which topk sorts only the candidates


@native("sort", params=("axis", "descending"))
def sort(op: Any, x: Array, values: Array, indices: Array) -> None:
    lines, found = np.moveaxis(x, op.axis, -1), np.moveaxis(indices, op.axis, -1)
    sorted_lines = np.moveaxis(values, op.axis, -1)

    def block(start: int, stop: int) -> None:
        part = slice(start, stop) if x.ndim > 1 else ...
        order = _falling(lines[part]) if op.descending else np.argsort(lines[part], kind="stable")
        found[part] = order
        sorted_lines[part] = np.take_along_axis(lines[part], order, axis=-1)

    parallel(block, lines.shape[0] if x.ndim > 1 else 1, 8)


@native("topk", params=("k", "axis"))
def topk(op: Any, x: Array, values: Array, indices: Array) -> None:
    lines, found = np.moveaxis(x, op.axis, -1), np.moveaxis(indices, op.axis, -1)
    if 4 * op.k > lines.shape[-1] or lines.shape[-1] < _LONG or not op.k:
        found[...] = _falling(lines)[..., : op.k]
    else:
        for at in np.ndindex(lines.shape[:-1]):
            found[at] = _largest(lines[at], op.k)
    np.moveaxis(values, op.axis, -1)[...] = np.take_along_axis(lines, found, axis=-1)


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

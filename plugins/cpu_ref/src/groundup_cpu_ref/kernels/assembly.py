"""concat, pad and repeat: strided copies into parts of the output."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup_cpu_ref.native import Array, native


@native("concat", params=("axis",), exact=True)
def concat(op: Any, *arrays: Array) -> None:
    *pieces, out = arrays
    lead = (slice(None),) * (op.axis % out.ndim)
    start = 0
    for piece in pieces:
        end = start + piece.shape[len(lead)]
        np.copyto(out[(*lead, slice(start, end))], piece)
        start = end


@native("pad", params=("before", "after", "value", "interior"), exact=True)
def pad(op: Any, x: Array, out: Array) -> None:
    if op.interior is None and x.size:
        _borders(op, x, out)
        return
    out.fill(op.value)
    steps = [gap + 1 for gap in op.gaps(x.ndim)]
    sizes = zip(op.before, x.shape, steps, strict=True)
    ends = [low + max((n - 1) * step + 1, 0) for low, n, step in sizes]
    places: list[Any] = list(map(slice, op.before, ends, steps))
    out[(*places, ...)] = x


def _borders(op: Any, x: Array, out: Array) -> None:
    """Axis by axis the borders of what the borders before left over, then x."""
    inner = out
    for axis, (low, size) in enumerate(zip(op.before, x.shape, strict=True)):
        lead = (slice(None),) * axis
        inner[(*lead, slice(0, low))] = op.value
        inner[(*lead, slice(low + size, None))] = op.value
        inner = inner[(*lead, slice(low, low + size))]
    np.copyto(inner, x)


@native("repeat", params=("repeats", "axis"), exact=True)
def repeat(op: Any, x: Array, out: Array) -> None:
    axis = op.axis % x.ndim
    split = out.reshape(*x.shape[: axis + 1], op.repeats, *x.shape[axis + 1 :])
    np.copyto(split, np.expand_dims(x, axis + 1))

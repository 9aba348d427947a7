"""References of views and of tensors made of pieces of others. NumPy's indexing says it all."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.registry import moves


@moves("reshape")
def _reshape(op: Any, x: Array) -> Array:
    return x.reshape(op.shape)


@moves("permute")
def _permute(op: Any, x: Array) -> Array:
    return x.transpose(op.axes)


@moves("expand")
def _expand(op: Any, x: Array) -> Array:
    return np.broadcast_to(x, op.shape)


@moves("slice")
def _slice(op: Any, x: Array) -> Array:
    return x[tuple(map(slice, op.start, op.stop, op.step))]


@moves("flip")
def _flip(op: Any, x: Array) -> Array:
    return np.flip(x, op.axes)


@moves("contiguous")
def _contiguous(op: Any, x: Array) -> Array:
    return x.copy()


@moves("assign")
def _assign(op: Any, target: Array, value: Array) -> Array:
    return value


@moves("unstack")
def _unstack(op: Any, x: Array) -> tuple[Array, ...]:
    return tuple(np.moveaxis(x, op.axis, 0))


@moves("concat")
def _concat(op: Any, *tensors: Array) -> Array:
    return np.concatenate(tensors, op.axis)


@moves("repeat")
def _repeat(op: Any, x: Array) -> Array:
    return np.repeat(x, op.repeats, op.axis)


@moves("pad", fill=lambda op: op.value)
def _pad(op: Any, x: Array, fill: Array) -> Array:
    """The elements of x `interior + 1` apart, behind `before` and in front of `after`."""
    gaps = op.interior or (0,) * x.ndim
    sizes = [
        low + (n - 1) * (gap + 1) + 1 + high if n else low + high
        for low, n, gap, high in zip(op.before, x.shape, gaps, op.after, strict=True)
    ]
    out = np.full(sizes, fill, x.dtype)
    places = tuple(
        slice(low, low + max((n - 1) * (gap + 1) + 1, 0), gap + 1)
        for low, n, gap in zip(op.before, x.shape, gaps, strict=True)
    )
    out[places] = x
    return out


@moves("tril", fill=lambda op: 0.0)
def _tril(op: Any, x: Array, fill: Array) -> Array:
    return np.where(_offsets(x) <= op.diagonal, x, fill)


@moves("triu", fill=lambda op: 0.0)
def _triu(op: Any, x: Array, fill: Array) -> Array:
    return np.where(_offsets(x) >= op.diagonal, x, fill)


def _offsets(x: Array) -> Array:
    """Column minus row."""
    rows, columns = x.shape[-2:]
    return np.arange(columns) - np.arange(rows)[:, None]

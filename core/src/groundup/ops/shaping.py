"""Common changes of shape, each one view: transpose, squeeze, unsqueeze, flatten, split."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from groundup.errors import ShapeError
from groundup.ops.movement import Permute, Reshape
from groundup.shapes import Axis, normalize_axes, normalize_axis

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["flatten", "split", "squeeze", "transpose", "unsqueeze"]


def transpose(x: Tensor, axis0: int = -2, axis1: int = -1) -> Tensor:
    """Two axes swapped. Raises ShapeError if one is out of range."""
    first, second = (normalize_axis(axis, x.ndim, "transpose") for axis in (axis0, axis1))
    axes = list(range(x.ndim))
    axes[first], axes[second] = second, first
    return Permute(axes=tuple(axes))(x)


def squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    """Without axes of size 1: those given (each must be of size 1), or all. Raises ShapeError."""
    if axis is None:
        return Reshape(shape=tuple(size for size in x.shape if size != 1))(x)
    axes = normalize_axes(axis, x.ndim, "squeeze")
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {x.shape} has size {x.shape[a]}, not 1")
    return Reshape(shape=tuple(size for a, size in enumerate(x.shape) if a not in axes))(x)


def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """A new axis of size 1 at `axis` of the result."""
    at = normalize_axis(axis, x.ndim + 1, "unsqueeze")
    return Reshape(shape=(*x.shape[:at], 1, *x.shape[at:]))(x)


def flatten(x: Tensor, start: int = 0, end: int = -1) -> Tensor:
    """Axes start to end (both included) joined into one."""
    if x.ndim == 0:
        return Reshape(shape=(1,))(x)
    first, last = (normalize_axis(axis, x.ndim, "flatten") for axis in (start, end))
    if first > last:
        raise ShapeError(f"flatten: start {start} lies behind end {end} for {x.shape}")
    joined = prod(x.shape[first : last + 1])
    return Reshape(shape=(*x.shape[:first], joined, *x.shape[last + 1 :]))(x)


def split(x: Tensor, size: int, axis: int = 0) -> tuple[Tensor, ...]:
    """Views of at most `size` along `axis`, in order; the last may be shorter."""
    at = normalize_axis(axis, x.ndim, "split")
    if size < 1:
        raise ShapeError(f"split: size must be at least 1, got {size}")
    lead = (slice(None),) * at
    starts = range(0, max(x.shape[at], 1), size)
    return tuple(x[(*lead, slice(start, start + size))] for start in starts)

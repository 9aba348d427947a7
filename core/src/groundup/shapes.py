"""Shape arithmetic that every layer shares: broadcasting, axes, row-major strides, view strides."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import index
from typing import Any

from groundup.errors import ShapeError

Shape = tuple[int, ...]
Axis = int | Sequence[int] | None


def as_integers(values: Sequence[Any], op: str) -> Shape:
    """Sizes or axes as users give them, one by one or as one sequence. Raises ShapeError.

    Whatever Python takes for an index is an integer here: NumPy's too, but no float.
    """
    alone = len(values) == 1 and not hasattr(values[0], "__index__")
    try:
        return tuple([index(value) for value in (values[0] if alone else values)])
    except TypeError:
        given = values[0] if alone else tuple(values)
        raise ShapeError(f"{op}: sizes and axes must be integers, got {given}") from None


def as_shape(sizes: Sequence[Any], op: str) -> Shape:
    """The shape of a new tensor: as `as_integers`, and a ShapeError for negative sizes."""
    shape = as_integers(sizes, op)
    if min(shape, default=0) < 0:
        raise ShapeError(f"{op}: negative size in {shape}")
    return shape


def row_major(shape: Shape) -> Shape:
    """Strides, in elements, of a contiguous row-major array of `shape`."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return tuple(strides)


def is_row_major(shape: Shape, strides: Shape) -> bool:
    """Whether elements lie in row-major order without gaps; axes of size 1 do not matter."""
    if 0 in shape:
        return True
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def broadcast_shapes(*shapes: Shape, op: str = "broadcast") -> Shape:
    """The common shape of `shapes` by NumPy's rule. Raises ShapeError naming `op` and the
    shapes.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            if size != 1:
                if result[axis] not in (1, size):
                    listed = " and ".join(map(str, shapes))
                    raise ShapeError(f"{op}: shapes {listed} do not broadcast (axis {axis - rank})")
                result[axis] = size
    return tuple(result)


def normalize_axis(axis: int, rank: int, op: str) -> int:
    """`axis` as a number in [0, rank). Raises ShapeError."""
    try:
        axis = index(axis)
    except TypeError:
        raise ShapeError(f"{op}: an axis must be an integer, got {axis!r}") from None
    if not -rank <= axis < rank:
        span = f"[{-rank}, {rank - 1}]" if rank else "nothing (rank 0)"
        raise ShapeError(f"{op}: axis {axis} is out of range for rank {rank}, allowed is {span}")
    return axis % rank


def normalize_axes(axis: Axis, rank: int, op: str) -> Shape:
    """Sorted, distinct axes; None means all of them. Raises ShapeError."""
    if axis is None:
        return tuple(range(rank))
    given = as_integers((axis,), op)
    axes = sorted(normalize_axis(a, rank, op) for a in given)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: axis {given} names one axis twice")
    return tuple(axes)


def reduced(shape: Shape, axes: Shape, keepdims: bool) -> Shape:
    """The shape that remains when `axes` are reduced."""
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def resolve_reshape(old: Shape, new: Shape, op: str = "reshape") -> Shape:
    """`new` with its one -1 filled in. Raises ShapeError if the sizes do not match."""
    total, unknown = prod(old), new.count(-1)
    known = prod(size for size in new if size != -1)
    if unknown == 1 and known and total % known == 0 and min(new) >= -1:
        return tuple(total // known if size == -1 else size for size in new)
    if unknown or known != total or any(size < 0 for size in new):
        raise ShapeError(f"{op}: cannot make shape {new} of {old} ({total} elements)")
    return new


def reshape_strides(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    """Strides of a view of shape `new` on the same memory, or None where only a copy can have it.

    Old axes that are evenly spaced in memory merge into chunks; each chunk must then split exactly
    into new axes.
    """
    if prod(shape) == 0 or is_row_major(shape, strides):
        return row_major(new)
    chunks: list[tuple[int, int]] = []  # (elements, step), innermost first
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 1:
            continue
        if chunks and stride == chunks[-1][0] * chunks[-1][1]:
            chunks[-1] = (chunks[-1][0] * size, chunks[-1][1])
        else:
            chunks.append((size, stride))
    result = [1] * len(new)
    axis = len(new) - 1
    for elements, step in chunks:
        filled = 1
        while filled < elements and axis >= 0:
            result[axis] = step * filled
            filled *= new[axis]
            axis -= 1
        if filled != elements:
            return None
    return tuple(result)

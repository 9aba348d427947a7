"""Indexing: ints, slices, ellipsis and None make views; integer arrays gather.

NumPy's rules, with one difference: boolean masks are refused, because their result's shape would
depend on the values.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from groundup import ops
from groundup.dtypes import bool_, int32
from groundup.errors import IndexingError
from groundup.ops.movement import Flip, Reshape, Slice

if TYPE_CHECKING:
    from groundup.tensor import Tensor

Item: TypeAlias = "int | slice | Tensor | None"


def getitem(x: Tensor, key: Any) -> Tensor:
    """x[key]. Raises IndexingError for what is out of range, too many, or not supported."""
    items = _items(x, key)
    viewed, arrays = _basic(x, items)
    return viewed if not arrays else _gather(viewed, arrays, _beside(key))


def writable(x: Tensor, key: Any) -> Tensor:
    """The view that `x[key] = value` writes. Raises IndexingError for integer arrays."""
    viewed, arrays = _basic(x.detach(), _items(x, key))
    if arrays:
        raise IndexingError(
            "setitem: writing through integer arrays is not supported",
            hint="use x.scatter_add(...) or groundup.where(...)",
        )
    return viewed


def _items(x: Tensor, key: Any) -> list[Item]:
    """The key as one item per axis of x, plus Nones; lists and arrays become int32 tensors."""
    raw = list(key) if isinstance(key, tuple) else [key]
    if sum(item is Ellipsis for item in raw) > 1:
        raise IndexingError("index: only one ellipsis (...) is allowed")
    used = sum(item is not None and item is not Ellipsis for item in raw)
    if used > x.ndim:
        raise IndexingError(f"index: {used} indices for a tensor of rank {x.ndim} {x.shape}")
    if not any(item is Ellipsis for item in raw):
        raw.append(Ellipsis)
    at = next(i for i, item in enumerate(raw) if item is Ellipsis)
    raw[at : at + 1] = [slice(None)] * (x.ndim - used)
    return [_item(item, x) for item in raw]


def _item(item: Any, x: Tensor) -> Item:
    if item is None or isinstance(item, slice):
        return item
    if isinstance(item, bool | np.bool_):
        raise _mask_error("a bool")
    if isinstance(item, int | np.integer):
        return int(item)
    if isinstance(item, list | np.ndarray):
        array = np.asarray(item)
        if array.size == 0 and isinstance(item, list):
            array = array.astype(np.int32)
        if array.dtype == np.bool_:
            raise _mask_error(f"a boolean mask {array.shape}")
        if array.dtype.kind not in "iu":
            raise IndexingError(f"index: arrays must hold integers, got {array.dtype}")
        if array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
            raise IndexingError("index: an array holds numbers that do not fit int32")
        from groundup import creation

        make = creation.literal if isinstance(item, list) else creation.from_numpy
        return make(array.astype(np.int32), x.device)
    if type(item) is type(x):
        if item.dtype is bool_:
            raise _mask_error(f"a boolean mask {item.shape}")
        if item.dtype.is_floating:
            raise IndexingError(f"index: index tensors must hold integers, got {item.spec}")
        # Sizes and joint indices do not fit 8 bits.
        wide: Tensor = item.astype(int32) if item.dtype.bits < 32 else item
        return wide
    raise IndexingError(f"index: cannot index with a {type(item).__name__}")


def _mask_error(what: str) -> IndexingError:
    return IndexingError(
        f"index: {what} would give a shape that depends on its values",
        hint="use groundup.where(mask, x, y), or x[np.flatnonzero(mask)] with a mask on the host",
    )


def _basic(x: Tensor, items: list[Item]) -> tuple[Tensor, list[tuple[int, Tensor]]]:
    """Apply all but the arrays as views; then (axis of the view, index tensor) for each array."""
    start, stop, step, flipped = [], [], [], []
    shape: list[int] = []
    arrays: list[tuple[int, Tensor]] = []
    axis = 0
    for item in items:
        if item is None:
            shape.append(1)
            continue
        size = x.shape[axis]
        low, high, stride = 0, size, 1
        if isinstance(item, int):
            low = _in_range(item, size, axis, x)
            high = low + 1
        elif isinstance(item, slice):
            low, high, stride, backwards = _slice(item, size)
            if backwards:
                flipped.append(axis)
            shape.append(-(-(high - low) // stride))
        else:
            arrays.append((len(shape), item))
            shape.append(size)
        start.append(low)
        stop.append(high)
        step.append(stride)
        axis += 1
    whole = all(
        a == 0 and b == n and s == 1 for a, b, n, s in zip(start, stop, x.shape, step, strict=True)
    )
    if not whole:
        x = Slice(start=tuple(start), stop=tuple(stop), step=tuple(step))(x)
    if flipped:
        x = Flip(axes=tuple(flipped))(x)
    if tuple(shape) != x.shape:
        x = Reshape(shape=tuple(shape))(x)
    return x, arrays


def _in_range(index: int, size: int, axis: int, x: Tensor) -> int:
    if not -size <= index < size:
        raise IndexingError(f"index: {index} is out of range for axis {axis} of {x.shape}")
    return index % size


def _slice(item: slice, size: int) -> tuple[int, int, int, bool]:
    """(start, stop, positive step, reversed) with 0 <= start <= stop <= size."""
    if item.step == 0:
        raise IndexingError("index: a slice step of 0 has no meaning")
    chosen = range(*item.indices(size))
    if len(chosen) == 0:
        return 0, 0, 1, False
    if chosen.step > 0:
        return chosen.start, chosen[-1] + 1, chosen.step, False
    return chosen[-1], chosen[0] + 1, -chosen.step, True


def _beside(key: Any) -> bool:
    """Whether the arrays of a key, and the ints, which count as arrays then, lie side by side."""
    raw = key if isinstance(key, tuple) else (key,)
    places = [
        i
        for i, item in enumerate(raw)
        if not (item is None or item is Ellipsis or isinstance(item, slice))
    ]
    return places[-1] - places[0] < len(places)


def _gather(x: Tensor, arrays: list[tuple[int, Tensor]], beside: bool) -> Tensor:
    """NumPy's integer-array indexing: arrays broadcast together and index jointly.

    The indexed axes are joined into one, which `take` then indexes. If the arrays lay side by side
    in the key, the new axes take the place of the indexed ones, else they come first.
    """
    axes = [axis for axis, _ in arrays]
    place = axes[0] if beside else 0
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    moved = x.permute(*rest[:place], *axes, *rest[place:])
    joint = _wrapped(arrays[0][1], x.shape[axes[0]])
    for axis, index in arrays[1:]:
        part, size = _wrapped(index, x.shape[axis]), x.shape[axis]
        # What is out of range on one axis must not become a neighbour on another.
        joint = ((part >= 0) & (part < size) & (joint >= 0)).where(joint * size + part, -1)
    lead, tail = moved.shape[:place], moved.shape[place + len(axes) :]
    count = prod(moved.shape[place : place + len(axes)])
    return ops.take(moved.reshape(*lead, count, *tail), joint, axis=place)


def _wrapped(index: Tensor, size: int) -> Tensor:
    """Negative indices counted from the end."""
    return (index < 0).where(index + size, index)

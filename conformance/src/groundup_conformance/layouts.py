"""The ways in which a tensor may lie in memory: each takes values and says how they are placed.

All but those of `SHARING` keep the values. None means that the layout cannot show anything for
that shape.
Memory between the elements holds poison, so that a kernel which reads it as data gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np

from groundup.dtypes import as_dtype
from groundup.shapes import row_major
from groundup_conformance.budgets.units import Array
from groundup_conformance.memory import Placed, placed, poison

Layouter: TypeAlias = Callable[[Array], Placed | None]


def transposed(values: Array) -> Placed | None:
    """Axes in memory in the reverse order: column-major."""
    if sum(size > 1 for size in values.shape) < 2:
        return None
    base = np.ascontiguousarray(values.T).reshape(-1)
    strides = tuple(reversed(row_major(values.shape[::-1])))
    return Placed(base, values.shape, strides)


def spaced(values: Array) -> Placed | None:
    """Every second element of the last axis, poison between."""
    if values.ndim == 0 or values.size < 2:
        return None
    doubled = (*values.shape[:-1], values.shape[-1] * 2)
    base = poison(as_dtype(values.dtype), int(np.prod(doubled))).reshape(doubled)
    base[..., ::2] = values
    strides = (*row_major(doubled)[:-1], 2)
    return Placed(base.reshape(-1), values.shape, strides)


def reversed_(values: Array) -> Placed | None:
    """The last element first, by negative strides."""
    if values.size < 2:
        return None
    base = np.ascontiguousarray(values.reshape(-1)[::-1])
    strides = tuple(-stride for stride in row_major(values.shape))
    return Placed(base, values.shape, strides, values.size - 1)


def shifted(values: Array) -> Placed | None:
    """Three elements after the start of the memory, so aligned to no 16 bytes."""
    if not values.size:
        return None
    base = poison(as_dtype(values.dtype), values.size + 3)
    base[3:] = values.reshape(-1)
    return Placed(base, values.shape, row_major(values.shape), 3)


def expanded(values: Array) -> Placed | None:
    """The first slice of the longest axis, repeated by a stride of 0."""
    if not values.size or max(values.shape, default=1) < 2:
        return None
    return _with_stride_0(values, (int(np.argmax(values.shape)),))


def repeated(values: Array) -> Placed | None:
    """One matrix, or of a matrix one row, for the whole batch: leading strides of 0."""
    if values.ndim < 2 or not values.size:
        return None
    axes = tuple(range(max(values.ndim - 2, 1)))
    if axes == (int(np.argmax(values.shape)),):
        return None  # `expanded` has it
    return _with_stride_0(values, axes) if max(values.shape[a] for a in axes) > 1 else None


def _with_stride_0(values: Array, axes: tuple[int, ...]) -> Placed:
    first = values
    for axis in axes:
        first = np.take(first, [0], axis)
    strides = [0 if a in axes else step for a, step in enumerate(row_major(first.shape))]
    return Placed(np.ascontiguousarray(first).reshape(-1), values.shape, tuple(strides))


LAYOUTS: Final[dict[str, Layouter]] = {
    "transposed": transposed,
    "spaced": spaced,
    "reversed": reversed_,
    "shifted": shifted,
    "expanded": expanded,
    "repeated": repeated,
}
SHARING: Final = ("expanded", "repeated")  # several elements share one place in memory
MIXED: Final = "mixed"  # every operand another of the layouts that keep values
_TURNS: Final = (spaced, transposed, reversed_, shifted)


def arrange(layout: str, values: Sequence[Array]) -> tuple[Placed, ...] | None:
    """All operands in that layout, those that cannot have it row-major; None if none can."""
    found = [_pick(layout, position)(array) for position, array in enumerate(values)]
    if all(each is None for each in found):
        return None
    return tuple(each or placed(array) for each, array in zip(found, values, strict=True))


def _pick(layout: str, position: int) -> Layouter:
    return _TURNS[position % len(_TURNS)] if layout == MIXED else LAYOUTS[layout]

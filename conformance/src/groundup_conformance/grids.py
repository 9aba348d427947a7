"""Samples for more than 65,535 workgroups: of threads or of rows, and for one long reduction.

One dispatch of WebGPU, and one dimension of a CUDA grid, holds 65,535 workgroups: kernels that
forget this leave the rest of the result as it was. So there are as many elements as a workgroup
has threads, times 65,535, and a tail. Where a longer axis only repeats what the op does, values
repeat too, and the oracle needs to see one period of them; where it does not, 65,537 rows must do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np

from groundup.dtypes import DType
from groundup.errors import GroundupError
from groundup.layout import Spec
from groundup.ops.op import Op, has
from groundup.shapes import Shape
from groundup_conformance.budgets import IEEE
from groundup_conformance.budgets.units import Array
from groundup_conformance.memory import Placed, placed
from groundup_conformance.oracle import forward, has_reference
from groundup_conformance.samples import (
    Sample,
    Tiles,
    affordable,
    base,
    drawn,
    outputs,
    reshaped,
    shaped,
    variety,
    ways,
)

GRID: Final = 65535 * 64 + 129
_ROWS: Final = 65535 + 2
_PERIOD: Final = 4099  # prime, so that no tile of a kernel repeats with it
_SHORT_PERIOD: Final = 97
_COPIES: Final = 30  # of a period, to see whether the result repeats
_MOST: Final = 10 * GRID  # elements of all operands and results
_MOST_WORK: Final = 200 * GRID
_MOST_OF_ROWS, _MOST_WORK_OF_ROWS = 2_000_000, 150_000_000


def grids(op: type[Op], dtype: DType) -> Iterator[Sample]:
    """The op's large samples in one dtype; none for views, which are no work."""
    sample = base(op, dtype)
    if sample is None or has(op, "view") or not has_reference(op):
        return
    if op.broadcasts:
        shapes = [(_PERIOD,)] * len(sample.operands)
        tiles = Tiles(_PERIOD, (0,) * len(shapes))
        yield Sample(
            sample.op, dtype, "grid", partial(_tiled, sample, shapes, tiles, GRID),
            tiles=tiles, source=sample,
        )  # fmt: skip
    elif shaped(sample) is not None:
        yield reshaped(sample, (GRID,), "grid")
    else:
        yield from _long(sample)
        found = next(_repeating(op, dtype), None) or next(_rows(op, dtype), None)
        if found is not None:
            yield found


def _long(sample: Sample) -> Iterator[Sample]:
    """One operand of very many elements, for the parameters that give few results."""
    for each in variety(type(sample.op), sample.dtype, 99):
        if len(each.operands) != 1:
            continue
        try:
            results = outputs(each.op, [Spec((GRID,), sample.dtype)])
        except GroundupError:
            continue
        if all(result.size == 1 for result in results):
            yield Sample(
                each.op, sample.dtype, "long", partial(drawn, each, [(GRID,)], "long"), source=each
            )
            return


def _repeating(op: type[Op], dtype: DType) -> Iterator[Sample]:
    """Samples with so many elements along an axis over which the op only repeats itself."""
    for sample in variety(op, dtype, 99):
        main = max((x.shape for x in sample.operands), key=np.prod, default=())
        for old in dict.fromkeys(main[:-1] or main):
            new = -(-GRID // (int(np.prod(main)) // old))
            for tiles, shapes in _tilings(sample, old, _SHORT_PERIOD):
                large = [_longer(s, axis, new) for s, axis in zip(shapes, tiles.axes, strict=True)]
                specs = _specs(sample, large)
                if affordable(sample.op, specs, _MOST, _MOST_WORK) and _repeats(sample, old):
                    yield Sample(
                        sample.op, dtype, "grid",
                        partial(_tiled, sample, shapes, tiles, new),
                        tiles=tiles, source=sample,
                    )  # fmt: skip


def _tilings(sample: Sample, old: int, period: int) -> Iterator[tuple[Tiles, list[Shape]]]:
    """(how it is tiled, the shapes of one period), for each way of lengthening one axis."""
    for _, shapes in reversed(list(ways(sample, old, period))):
        axes = []
        for operand, shape in zip(sample.operands, shapes, strict=True):
            changed = [a for a, n in enumerate(shape) if n != operand.shape[a]]
            axes.append(changed)
        if all(len(changed) < 2 for changed in axes):
            yield Tiles(period, tuple(c[0] if c else None for c in axes)), shapes


def _repeats(sample: Sample, old: int) -> bool:
    """Whether the result for values that repeat repeats, by the oracle."""
    period = 3 if old == 2 else 2
    for tiles, shapes in _tilings(sample, old, period):
        once = _tiled(sample, shapes, tiles, period)
        often = _tiled(sample, shapes, tiles, _COPIES * period)
        try:
            one = forward(sample.op, [x.array for x in once], IEEE)
            two = forward(sample.op, [x.array for x in often], IEEE)
        except (GroundupError, ValueError, IndexError):
            return False
        return all(_is_tiled(a.value, b.value) for a, b in zip(one, two, strict=True))
    return False


def _is_tiled(small: Array, large: Array) -> bool:
    axis = tiled_axis(small.shape, large.shape)
    if axis is None:
        return False
    copies = [_COPIES if a == axis else 1 for a in range(small.ndim)]
    return bool(np.array_equal(np.tile(small, copies), large, equal_nan=small.dtype.kind == "f"))


def tiled_axis(small: Shape, large: Shape) -> int | None:
    """The one axis in which two shapes differ, None if it is not one."""
    different = [a for a, (m, n) in enumerate(zip(small, large, strict=False)) if m != n]
    return different[0] if len(small) == len(large) and len(different) == 1 else None


def _rows(op: type[Op], dtype: DType) -> Iterator[Sample]:
    """Samples for what does more than repeat itself: as large, where checking is quick, or 65,537
    rows.
    """
    sizes = [(GRID, "grid", _MOST), (_ROWS, "rows", _MOST_OF_ROWS)]
    for size, name, most in sizes if op.accuracy.kind == "exact" else sizes[1:]:
        for sample in variety(op, dtype, 99):
            for shapes in _lengthened(sample, size, rows=name == "rows"):
                if affordable(sample.op, _specs(sample, shapes), most, _MOST_WORK_OF_ROWS):
                    yield Sample(
                        sample.op,
                        dtype,
                        name,
                        partial(drawn, sample, shapes, "rows"),
                        source=sample,
                    )


def _lengthened(sample: Sample, size: int, *, rows: bool) -> Iterator[list[Shape]]:
    """Shapes with so many elements, or rows, in the largest operand."""
    main = max((x.shape for x in sample.operands), key=np.prod, default=())
    for old in dict.fromkeys(main[:-1] or main):
        rest = int(np.prod(main)) // old // (main[-1] if rows else 1)
        for _, shapes in reversed(list(ways(sample, old, -(-size // max(rest, 1))))):
            yield shapes


def _specs(sample: Sample, shapes: Sequence[Shape]) -> list[Spec]:
    return [Spec(shape, x.dtype) for shape, x in zip(shapes, sample.operands, strict=True)]


def _longer(shape: Shape, axis: int | None, size: int) -> Shape:
    return shape if axis is None else (*shape[:axis], size, *shape[axis + 1 :])


def _tiled(sample: Sample, shapes: Sequence[Shape], tiles: Tiles, size: int) -> tuple[Placed, ...]:
    """Operands of those shapes, of one period, with their values repeated up to that size."""
    operands = drawn(sample, shapes, "tiled")
    return tuple(
        x if axis is None else placed(np.take(x.array, np.arange(size) % x.shape[axis], axis))
        for x, axis in zip(operands, tiles.axes, strict=True)
    )

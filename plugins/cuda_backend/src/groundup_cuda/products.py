"""matmul: from layouts to cuBLAS calls, or to a kernel of our own for what cuBLAS does not do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Final, TypeAlias

import attrs

from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup.shapes import Shape, row_major
from groundup_cuda.blas import KINDS, Product, multiplies, readable
from groundup_cuda.expressions import STORED, accumulator
from groundup_cuda.source import OUT, THREADS, Parameters, Stage, collapsed, extent, places, stage
from groundup_cuda.steps import Lowered

_MOST: Final = 2**31 - 1  # of sizes and leading dimensions in cuBLAS
_CALLS: Final = 64  # calls for one op; beyond, our own kernel does it in one launch
Strided: TypeAlias = tuple[Shape, Shape]  # shape and strides


@attrs.frozen
class _Matrices:
    """Operands as matrices, and how the batch walks over out, x and y."""

    x: Strided
    y: Strided
    lead: Shape
    steps: tuple[Shape, Shape, Shape]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Rows, columns, inner."""
        return self.x[0][0], self.y[0][1], self.x[0][1]


def lower_matmul(
    inputs: Sequence[Layout], out: Layout, capability: tuple[int, int]
) -> Lowered | Declined:
    """The product of two layouts; the output is not empty."""
    dtype = out.dtype
    if not multiplies(dtype, capability) or not inputs[0].shape[-1]:
        return Lowered([_tiles(_matrices(inputs, out), out)])
    copied = tuple(k for k, layout in enumerate(inputs) if _turned(layout, k) is None)
    taken = [_dense(layout) if k in copied else layout for k, layout in enumerate(inputs)]
    matrices = _matrices(taken, out)
    if len(matrices.lead) > 1:  # not evenly spaced: copies are cheaper than a call for each
        strided = tuple(k for k, layout in enumerate(taken) if not layout.is_row_major)
        copied = tuple(sorted({*copied, *strided}))
        matrices = _matrices([_dense(layout) for layout in taken], out)
    calls = _calls(matrices, out)
    if calls is None:
        return Lowered([_tiles(_matrices(inputs, out), out)])
    return Lowered([calls], contiguous=copied)


def _dense(layout: Layout) -> Layout:
    return Layout.contiguous(layout.spec)


def _as_matrix(layout: Layout, side: int) -> Strided:
    """Shape and strides; a vector is a row on the left and a column on the right."""
    if layout.rank > 1:
        return layout.shape, layout.strides
    if side == 0:
        return (1, *layout.shape), (0, *layout.strides)
    return (*layout.shape, 1), (*layout.strides, 0)


def _turned(layout: Layout, side: int) -> tuple[bool, int] | None:
    shape, strides = _as_matrix(layout, side)
    return readable(shape[-2:], strides[-2:])


def _matrices(inputs: Sequence[Layout], out: Layout) -> _Matrices:
    (x_shape, x_strides), (y_shape, y_strides) = (_as_matrix(x, k) for k, x in enumerate(inputs))
    rank = max(len(x_shape), len(y_shape)) - 2
    wide = [(1,) * (rank + 2 - len(s)) + s[:-2] for s in (x_shape, y_shape)]
    lead = tuple(max(a, b) if min(a, b) else 0 for a, b in zip(*wide, strict=True))
    steps = [
        tuple(
            s if n > 1 else 0 for s, n in zip((0,) * (rank + 2 - len(t)) + t[:-2], w, strict=True)
        )
        for t, w in zip((x_strides, y_strides), wide, strict=True)
    ]
    rows = x_shape[-2]
    x, y = (x_shape[-2:], x_strides[-2:]), (y_shape[-2:], y_strides[-2:])
    if not any(steps[1]):  # one y for all: the batch is more rows of x, if those go on evenly
        longer, (stride,) = collapsed((*lead, rows), (*steps[0], x_strides[-2]))
        if len(longer) == 1 and prod(lead) > 1:
            x = ((longer[0], x_shape[-1]), (stride[0], x_strides[-1]))
            return _Matrices(x, y, (1,), ((0,), (0,), (0,)))
    whole = row_major((*lead, rows * y_shape[-1]))[:-1]
    shape, found = collapsed(lead, whole, *steps)
    return _Matrices(x, y, shape, (found[0], found[1], found[2]))


def _calls(matrices: _Matrices, out: Layout) -> Product | None:
    """One call per place of all batch axes but the largest, which the call itself walks over."""
    x, y = readable(*matrices.x), readable(*matrices.y)
    lead = matrices.lead
    own = lead.index(max(lead))
    others = [a for a in range(len(lead)) if a != own]
    numbers = (*matrices.sizes, lead[own], *(p[1] for p in (x, y) if p))
    if x is None or y is None or max(numbers) > _MOST or prod(lead[a] for a in others) > _CALLS:
        return None
    item = out.dtype.itemsize
    starts = tuple(
        tuple(item * sum(i * s[a] for i, a in zip(at, others, strict=True)) for s in matrices.steps)
        for at in product(*[range(lead[a]) for a in others])
    )
    steps = [s[own] for s in matrices.steps]
    return Product(
        KINDS[out.dtype], matrices.sizes, (*x, steps[1]), (*y, steps[2]), lead[own],
        starts, steps[0],
    )  # fmt: skip


def _tiles(matrices: _Matrices, out: Layout) -> Stage:
    rows, columns, inner = matrices.sizes
    parameters = Parameters(3)
    add = parameters.add
    index = places(
        parameters, "i", matrices.lead, [("at0", matrices.steps[1]), ("at1", matrices.steps[2])]
    )
    (_, (x_row, x_inner)), (_, (y_inner, y_column)) = matrices.x, matrices.y
    tiles = -(-columns // 16) * -(-rows // 16) * prod(matrices.lead)
    reach = sum(extent(*m) for m in (matrices.x, matrices.y))
    reach += sum(extent(matrices.lead, steps) for steps in matrices.steps)
    return stage(
        "matmul", "matmul", parameters, [OUT, 0, 1], tiles * THREADS, reach + 16 * inner + out.size,
        rows=add(rows), columns=add(columns), inner=add(inner), index=index,
        x_row=add(x_row), x_inner=add(x_inner), y_inner=add(y_inner), y_column=add(y_column),
        type=STORED[out.dtype], accumulator=accumulator(out.dtype),
    )  # fmt: skip

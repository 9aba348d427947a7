"""matmul: from layouts to a cuBLAS call, or to a kernel of our own for what cuBLAS does not do."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

import attrs

from groundup import dtypes
from groundup.layout import Layout
from groundup.shapes import Shape, row_major
from groundup_cuda.expressions import STORED, accumulated
from groundup_cuda.source import OUT, THREADS, Parameters, Stage, collapsed, stage, walk

KINDS: Final = {dtypes.float32: 0, dtypes.float16: 2, dtypes.bfloat16: 14}  # cudaDataType
_MOST: Final = 2**31 - 1  # of sizes and leading dimensions in cuBLAS


@attrs.frozen(eq=False)
class Product:
    """A batch of evenly spaced matrix products: one cuBLAS call."""

    kind: int
    sizes: tuple[int, int, int]  # rows, columns, inner
    x: tuple[bool, int, int]  # transposed, leading dimension, step from one product to the next
    y: tuple[bool, int, int]
    step: int  # from one product of the output to the next
    batches: int


@attrs.frozen
class Matrices:
    """The last two axes of x and y, and how the batch walks over out, x and y."""

    x: tuple[Shape, Shape]  # shape and strides
    y: tuple[Shape, Shape]
    lead: Shape
    steps: tuple[Shape, ...]


def matrices(x: Layout, y: Layout) -> Matrices:
    """A vector is a row on the left and a column on the right. A batch of rows for one y is joined
    to one matrix.
    """
    left, right = (x.shape, x.strides), (y.shape, y.strides)
    if x.rank == 1:
        left = ((1, *x.shape), (0, *x.strides))
    if y.rank == 1:
        right = ((*y.shape, 1), (*y.strides, 0))
    rank = max(len(left[0]), len(right[0])) - 2
    (lead_x, steps_x), (lead_y, steps_y) = _leading(left, rank), _leading(right, rank)
    lead = tuple(b if a == 1 else a for a, b in zip(lead_x, lead_y, strict=True))
    (rows, inner), (down, along) = left[0][-2:], left[1][-2:]
    if not any(steps_y):
        more, ((*uneven, step),) = collapsed((*lead, rows), (*steps_x, down))
        if not uneven:
            lead, steps_x, steps_y, rows, down = (), (), (), more[0], step
    whole = row_major((*lead, rows * right[0][-1]))[:-1]
    lead, steps = collapsed(lead, whole, steps_x, steps_y)
    last = (right[0][-2:], right[1][-2:])
    return Matrices(((rows, inner), (down, along)), last, lead, steps)


def _leading(matrix: tuple[Shape, Shape], rank: int) -> tuple[Shape, Shape]:
    """Leading axes, filled up to `rank`, with steps of 0 where one matrix serves many."""
    shape, strides = matrix
    missing = rank + 2 - len(shape)
    sizes = (1,) * missing + shape[:-2]
    steps = (0,) * missing + strides[:-2]
    return sizes, tuple(s if n > 1 else 0 for n, s in zip(sizes, steps, strict=True))


def readable(shape: Shape, strides: Shape) -> tuple[bool, int] | None:
    """Whether cuBLAS takes a matrix as transposed, and its leading dimension; None if it cannot."""
    (rows, columns), (down, along) = shape, strides
    if (columns == 1 or along == 1) and (rows == 1 or down >= columns):
        return False, max(columns, 1) if rows == 1 else down
    if (rows == 1 or down == 1) and (columns == 1 or along >= rows):
        return True, max(rows, 1) if columns == 1 else along
    return None


def lower_matmul(
    inputs: Sequence[Layout], out: Layout, capability: tuple[int, int]
) -> tuple[Stage | Product, tuple[int, ...]]:
    """The step, and the inputs that it needs row-major. The output is not empty."""
    x, y = inputs
    fit = out.dtype in KINDS and (out.dtype is not dtypes.bfloat16 or capability >= (8, 0))
    if fit and x.shape[-1]:
        dense = [Layout.contiguous(layout.spec) for layout in inputs]
        for k, pair in enumerate(((x, y), (dense[0], y), (x, dense[1]), dense)):
            found = _product(matrices(*pair), KINDS[out.dtype])
            if found is not None:
                return found, ((), (0,), (1,), (0, 1))[k]
    return _tiles(matrices(x, y), x, y, out), ()


def _product(m: Matrices, kind: int) -> Product | None:
    (rows, inner), (_, columns) = m.x[0], m.y[0]
    x, y = readable(*m.x), readable(*m.y)
    if x is None or y is None or len(m.lead) > 1:
        return None
    if max(rows, inner, columns, x[1], y[1], *m.lead) > _MOST:
        return None
    (step,), (step_x,), (step_y,) = m.steps
    return Product(kind, (rows, columns, inner), (*x, step_x), (*y, step_y), step, m.lead[0])


def _tiles(m: Matrices, x: Layout, y: Layout, out: Layout) -> Stage:
    (rows, inner), (_, columns) = m.x[0], m.y[0]
    parameters = Parameters(3)
    add = parameters.add
    threads = -(-columns // 16) * -(-rows // 16) * prod(m.lead) * THREADS
    return stage(
        "matmul", "matmul", parameters, [OUT, 0, 1], threads, (x, y, out),
        rows=add(rows), columns=add(columns), inner=add(inner),
        index=walk(parameters, "i", m.lead, at0=m.steps[1], at1=m.steps[2]),
        x_row=add(m.x[1][0]), x_inner=add(m.x[1][1]), y_inner=add(m.y[1][0]),
        y_column=add(m.y[1][1]), type=STORED[out.dtype],
        accumulator=STORED[accumulated(out.dtype)],
    )  # fmt: skip

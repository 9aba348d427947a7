"""Kernels that join the elements along some axes: sum, mean, max, any and the like, argmax.

Where there are few results, pieces of them are joined first and then the pieces: both in an order
that depends on shapes alone, so that it is the same every time and on every GPU. Whole columns of
floats, such as those that make a bias's gradient, are read in packs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from groundup.layout import Layout
from groundup_cuda.expressions import REDUCTIONS, STORED, Joining, accumulated
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import (
    BUSY,
    BUSY_BLOCKS,
    OUT,
    SCRATCH,
    THREADS,
    Parameters,
    Stage,
    collapsed,
    stage,
    walk,
)  # fmt: skip

_EACH: Final = 16  # elements that a thread of a split reduction joins at least
_MANY: Final = 1 << 16  # elements from which columns are read in packs
_ROWS: Final = 64  # of a block that reads packs at least: eight for each thread of a column


def lower_reduction(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """sum, mean, prod, max, min, any or all over `op.axes`."""
    rows, columns = _axes(inputs[0], op.axes)
    joining, wide = REDUCTIONS[op.name], accumulated(rows.dtype)
    divisor = float(columns.size) if op.name == "mean" else None
    if _width(rows, columns):
        return _down(op.name, joining, rows, columns, outputs[0], divisor)
    _, lanes = _sharing(rows, columns)
    pieces = max(1, min(BUSY // (rows.size * lanes), columns.size // (lanes * _EACH)))
    if pieces == 1:
        return Lowered([_reduction(op.name, joining, rows, columns, outputs[0], divisor=divisor)])
    flat, between = Layout((rows.size,), (1,), wide), Layout((pieces,), (rows.size,), wide)
    partial = Layout((pieces, rows.size), (rows.size, 1), wide)
    last = attrs.evolve(joining, element="(Value)x")
    joined = _reduction(op.name, last, flat, between, outputs[0], divisor=divisor)
    steps = [
        _reduction(op.name, joining, rows, columns, partial, pieces),
        attrs.evolve(joined, operands=(OUT, SCRATCH)),
    ]
    return Lowered(steps, scratch=pieces * rows.size * wide.itemsize)


def _width(rows: Layout, columns: Layout) -> int:
    """How many neighbouring columns of floats a thread takes, 0 if they do not lie side by side or
    are too few.
    """
    width = 16 // rows.dtype.itemsize
    shape, (steps,) = collapsed(rows.shape, rows.strides)
    down, (strides,) = collapsed(columns.shape, columns.strides)
    side = steps == (1,) and shape[0] % width == 0
    even = len(down) == 1 and strides[0] % width == 0 and down[0] >= 2 * _ROWS
    large = rows.size * columns.size >= _MANY and rows.size >= 32 * width
    return width if rows.dtype.is_floating and side and even and large else 0


def _down(
    op: str, joining: Joining, rows: Layout, columns: Layout, out: Layout, divisor: float | None
) -> Lowered:
    """Pieces of whole columns, read in packs, and then the pieces."""
    wide, tiles = accumulated(rows.dtype), -(-rows.size // (32 * _width(rows, columns)))
    pieces = max(1, min(BUSY_BLOCKS // tiles, columns.size // _ROWS))
    if pieces == 1:
        return Lowered([_packed(op, joining, rows, columns, out, 1, divisor)])
    flat, between = Layout((rows.size,), (1,), wide), Layout((pieces,), (rows.size,), wide)
    partial = Layout((pieces, rows.size), (rows.size, 1), wide)
    last = attrs.evolve(joining, element="(Value)x")
    joined = _packed(op, last, flat, between, out, 1, divisor)
    steps = [
        _packed(op, joining, rows, columns, partial, pieces),
        attrs.evolve(joined, operands=(OUT, SCRATCH)),
    ]
    return Lowered(steps, scratch=pieces * rows.size * wide.itemsize)


def _packed(
    op: str, joining: Joining, rows: Layout, columns: Layout, out: Layout, pieces: int,
    divisor: float | None = None,
) -> Stage:  # fmt: skip
    """Of every column, each piece to one number."""
    parameters = Parameters(2)
    add = parameters.add
    width = 16 // rows.dtype.itemsize
    tiles = -(-rows.size // (32 * width))
    _, ((step,),) = collapsed(columns.shape, columns.strides)
    by = "" if divisor is None else f" / {parameters.number(divisor, 'float')}"
    whole = Layout(rows.shape + columns.shape, rows.strides + columns.strides, rows.dtype)
    return stage(
        "reduction_down", op, parameters, [OUT if pieces == 1 else SCRATCH, 0],
        tiles * pieces * THREADS, (whole, out), width=str(width), outputs=add(rows.size),
        reduced=add(columns.size), piece=add(-(-columns.size // pieces)), step=add(step),
        in0=STORED[rows.dtype], accumulator=STORED[accumulated(rows.dtype)], start=joining.start,
        element=joining.element, combine=joining.combine, out=STORED[out.dtype], by=by,
    )  # fmt: skip


def lower_extreme(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """argmax or argmin along `op.axis`, each result by the threads of up to one block."""
    axes = None if op.axis is None else (op.axis,)
    return _extreme(op.name, inputs[0], axes, outputs, Parameters(2))


def lower_categorical(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """The largest of logits - ln(-ln u), u = ((bits >> 9) + 1/2) 2^-23 (Gumbel, 1954)."""
    logits, state = inputs
    parameters = Parameters(3)
    step, classes = (parameters.add(n) for n in (state.strides[0], logits.shape[-1]))
    word = f"random_word((const u32 *)p.v[2], {step}, (u64)i * (u64){classes} + (u64)j)"
    uniform = f"((float)({word} >> 9) + 0.5f) * 1.1920928955078125e-07f"
    noise = f"            x += -logf(-logf({uniform}));"
    return _extreme(op.name, logits, (-1,), outputs, parameters, noise)


def _extreme(
    op: str, x: Layout, axes: tuple[int, ...] | None, outputs: Layouts, parameters: Parameters,
    further: str = "",
) -> Lowered:  # fmt: skip
    rows, columns = _axes(x, axes)
    add = parameters.add
    across, lanes = _sharing(rows, columns)
    made = stage(
        "extreme", op, parameters, [OUT, 0, 1][: 3 if further else 2], rows.size * lanes,
        (x, *outputs), further=further, lanes=str(lanes), across=str(across).lower(),
        size=add(rows.size),
        reduced=add(columns.size), index=walk(parameters, "i", rows.shape, row=rows.strides),
        inner=walk(parameters, "j", columns.shape, column=columns.strides),
        beats="<" if op == "argmin" else ">", in0=STORED[x.dtype],
        accumulator=STORED[accumulated(x.dtype)],
    )  # fmt: skip
    return Lowered([made])


def _axes(x: Layout, axes: Sequence[int] | None) -> tuple[Layout, Layout]:
    """x along the axes that stay, and along those that go."""
    gone = range(x.rank) if axes is None else sorted(a % x.rank for a in axes)
    return _taken(x, [a for a in range(x.rank) if a not in gone]), _taken(x, gone)


def _taken(x: Layout, axes: Sequence[int]) -> Layout:
    return Layout(tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes), x.dtype)


def _sharing(rows: Layout, columns: Layout) -> tuple[bool, int]:
    """Whether neighbouring threads take neighbouring outputs, as they do if those lie closer
    together in memory, and how many threads share an output: a power of 2.
    """
    _, ((*_, step),) = collapsed(columns.shape, columns.strides)
    _, ((*_, start),) = collapsed(rows.shape, rows.strides)
    across = rows.size >= 32 and abs(start) < abs(step)
    return across, 1 << min(3 if across else 8, (columns.size // 4).bit_length())


def _reduction(
    op: str, joining: Joining, rows: Layout, columns: Layout, out: Layout, pieces: int = 1, *,
    divisor: float | None = None,
) -> Stage:  # fmt: skip
    """For every place of `rows` the elements along `columns`, in so many pieces, to one number."""
    parameters = Parameters(2)
    add = parameters.add
    across, lanes = _sharing(rows, columns)
    value, size = accumulated(rows.dtype), rows.size * pieces
    inner = walk(parameters, "j", columns.shape, column=columns.strides)
    whole = Layout(rows.shape + columns.shape, rows.strides + columns.strides, rows.dtype)
    by = "" if divisor is None else f" / {parameters.number(divisor, 'float')}"
    return stage(
        "reduction", op, parameters, [OUT if pieces == 1 else SCRATCH, 0], size * lanes,
        (whole, out), lanes=str(lanes), across=str(across).lower(), size=add(size),
        piece=add(-(-columns.size // pieces)), reduced=add(columns.size), outputs=add(rows.size),
        index=walk(parameters, "i", rows.shape, row=rows.strides), inner=inner,
        in0=STORED[rows.dtype], accumulator=STORED[value], start=joining.start,
        element=joining.element, combine=joining.combine, out=STORED[out.dtype], by=by,
    )  # fmt: skip

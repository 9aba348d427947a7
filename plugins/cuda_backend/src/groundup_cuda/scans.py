"""cumsum: the lines of a scan, and the pieces of long ones."""

from __future__ import annotations

from math import prod
from typing import Any, Final

from groundup.layout import Layout
from groundup.shapes import Shape, normalize_axis
from groundup_cuda.expressions import STORED, accumulated
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.rows import flag
from groundup_cuda.source import (
    BUSY,
    OUT,
    SCRATCH,
    THREADS,
    WARP,
    Parameters,
    Stage,
    stage,
    walk,
    without,
)

_SHORT: Final = 512  # elements of a line that a warp scans, rather than a block
_EACH: Final = 16  # elements of a piece for each of its threads, at least


def lower_cumsum(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """One launch, or two where lines are cut: the sums of the pieces come first."""
    (x,), (out,) = inputs, outputs
    axis = normalize_axis(op.axis, x.rank, op.name)
    lines, length = without(axis, x.shape), x.shape[axis]
    group = _group(prod(lines), length, without(axis, x.strides), x.strides[axis])
    pieces = max(1, min(BUSY // (prod(lines) * group), length // (group * _EACH)))
    if pieces == 1:
        return Lowered([_scan(axis, x, out, group, 1, totals=False)])
    steps = [_scan(axis, x, out, group, pieces, totals=totals) for totals in (True, False)]
    return Lowered(steps, scratch=pieces * prod(lines) * accumulated(x.dtype).itemsize)


def _group(lines: int, length: int, beside: Shape, along: int) -> int:
    """How many threads share a line: one, if neighbouring lines are closer in memory than the
    neighbours of a line.
    """
    if lines >= WARP and any(0 < abs(step) < abs(along) for step in beside):
        return 1
    return WARP if length <= _SHORT else THREADS


def _scan(axis: int, x: Layout, out: Layout, group: int, pieces: int, *, totals: bool) -> Stage:
    """The pieces' `totals` into scratch memory, or all sums, which begin with those."""
    lead, length = without(axis, x.shape), x.shape[axis]
    operands = [SCRATCH, 0] if totals else [OUT, 0, SCRATCH][: 2 + (pieces > 1)]
    parameters = Parameters(len(operands))
    add = parameters.add
    return stage(
        "scan", "cumsum", parameters, operands, prod(lead) * pieces * group, [x, out],
        lines=add(prod(lead)), length=add(length), piece=add(-(-length // pieces)),
        index=walk(
            parameters, "i", lead, at0=without(axis, x.strides), place=without(axis, out.strides)
        ),
        step=add(x.strides[axis]), out_step=add(out.strides[axis]), group=str(group),
        pieces=flag(pieces > 1), totals=flag(totals), last=str(len(operands) - 1),
        in0=STORED[x.dtype], out=STORED[out.dtype], accumulator=STORED[accumulated(x.dtype)],
    )  # fmt: skip

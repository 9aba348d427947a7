"""Kernels of whole rows: layer_norm and rms_norm, softmax and log_softmax, their gradients, and
logsumexp and var.

A row lies along the last axis, its elements side by side; other operands are copied first. One warp
takes a row of up to 1024 elements, one block a longer one, and both keep it in registers. Rows of
more than 8192 elements are read again instead.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

import attrs

from groundup import dtypes
from groundup.layout import Layout
from groundup.shapes import Shape, normalize_axis
from groundup_cuda.expressions import STORED
from groundup_cuda.lines import joined_lines
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import (
    BUSY_BLOCKS,
    OUT,
    SCRATCH,
    THREADS,
    WARP,
    Parameters,
    collapsed,
    stage,
    walk,
)  # fmt: skip

_EACH: Final = 32  # elements of a row that a thread keeps in registers at most
_PACKS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # few numbers, so that few kernels are compiled
_MANY: Final = 4096  # slices from which one thread for each keeps a GPU busy


@attrs.frozen
class Sharing:
    """How a row is shared out: threads, elements per load, loads per thread; no loads if the row
    does not fit into registers.
    """

    group: int
    width: int
    packs: int

    def parts(self) -> dict[str, str]:
        """The template's words for it."""
        return {"group": str(self.group), "width": str(self.width), "packs": str(self.packs)}


def sharing(rows: Layouts) -> Sharing:
    """For operands of one shape whose rows lie along the last axis."""
    columns = rows[0].shape[-1]
    group = WARP if columns <= WARP * _EACH else THREADS
    width = pack(rows)
    wanted = -(-columns // (group * width))
    fits = [n for n in _PACKS if wanted <= n <= _EACH // width]
    return Sharing(group, width, fits[0] if fits else 0)


def pack(rows: Layouts) -> int:
    """How many elements a load of 16 bytes takes, of the widest dtype; 1 where rows do not begin at
    such places.
    """
    width = 16 // max(x.dtype.itemsize for x in rows)
    starts = [
        step
        for x in rows
        for size, step in zip(x.shape[:-1], x.strides[:-1], strict=True)
        if size > 1
    ]
    return width if all(n % width == 0 for n in (rows[0].shape[-1], *starts)) else 1


def dense(inputs: Layouts) -> tuple[list[Layout], tuple[int, ...]]:
    """The inputs as they will be, and which must be copied: those whose rows are not dense."""
    copied = tuple(
        k for k, x in enumerate(inputs) if x.rank and x.shape[-1] > 1 and x.strides[-1] != 1
    )
    layouts = [Layout.contiguous(x.spec) if k in copied else x for k, x in enumerate(inputs)]
    return layouts, copied


def flag(value: object) -> str:
    """A C++ truth value."""
    return str(bool(value)).lower()


def lower_norm(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """layer_norm, rms_norm, add_layer_norm or add_rms_norm, each operand of any floating dtype."""
    residual = op.name.startswith("add_")
    biased = len(inputs) == 3 + residual
    inputs, copied = dense(inputs)
    x, columns, vector = inputs[0], inputs[0].shape[-1], inputs[-1].dtype
    shared = sharing([*inputs[: 1 + residual], *outputs])
    operands = [OUT, OUT - 1][: 1 + residual] + list(range(len(inputs)))
    parameters = Parameters(len(operands))
    index = walk(parameters, "i", x.shape[:-1], **_starts(x, inputs[int(residual)]))
    family, group = ("norm", shared.group) if shared.packs else ("norm_long", THREADS)
    made = stage(
        family, op.name, parameters, operands, x.size // columns * group, [*inputs, *outputs],
        index=index, addresses=str(len(operands)), residual=flag(residual), biased=flag(biased),
        centred=flag("layer" in op.name), type=STORED[x.dtype], columns=parameters.add(columns),
        residual_type=STORED[inputs[int(residual)].dtype], vector=STORED[vector],
        out=STORED[outputs[0].dtype], sum=STORED[outputs[-1].dtype],
        rows=parameters.add(x.size // columns), eps=parameters.number(op.eps, "float"),
        **shared.parts(),
    )  # fmt: skip
    return Lowered([made], copied)


def lower_norm_backward(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """The gradients of the four, each operand of any floating dtype: the rows, and then the lines
    of partial sums. A further output is dx again, in its own dtype.
    """
    inputs, copied = dense(inputs)
    x, weight, grad, *more = inputs
    vectors = 1 + ("layer" in op.name)
    dx, again = outputs[0], outputs[1 + vectors :]
    columns = x.shape[-1]
    rows = x.size // columns
    shared = sharing([x, grad, *more, dx, *again])
    group = shared.group if shared.packs else THREADS
    lines = max(1, min(BUSY_BLOCKS, -(-rows * group // THREADS)))
    operands = [OUT, SCRATCH, *range(len(inputs)), *[OUT - 1 - vectors for _ in again]]
    parameters = Parameters(len(operands))
    family = "norm_backward" if shared.packs else "norm_backward_long"
    scratch = Layout((lines, vectors, columns), (vectors * columns, columns, 1), dtypes.float32)
    last = [*more, grad][0]
    made = stage(
        family, op.name, parameters, operands, lines * THREADS,
        [*inputs, *outputs, scratch],
        index=walk(
            parameters, "i", x.shape[:-1], **_starts(x, grad), at2=last.strides[:-1]
        ),
        addresses=str(len(operands)), centred=flag(vectors == 2), added=flag(more),
        twice=flag(again), type=STORED[x.dtype], vector=STORED[weight.dtype],
        grad=STORED[grad.dtype], more=STORED[last.dtype], out=STORED[dx.dtype],
        again=STORED[[*again, dx][0].dtype], columns=parameters.add(columns),
        rows=parameters.add(rows), blocks=parameters.add(lines),
        eps=parameters.number(op.eps, "float"), **shared.parts(),
    )  # fmt: skip
    joined = joined_lines(op.name, lines, outputs[1 : 1 + vectors], OUT - 1)
    return Lowered([made, joined], copied, scratch.size * 4)


def lower_softmax(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """softmax, log_softmax and their gradients."""
    x, axis = inputs[0], normalize_axis(op.axis, inputs[0].rank, op.name)
    last = axis == x.rank - 1
    copied: tuple[int, ...] = ()
    if last:
        inputs, copied = dense(inputs)
        x = inputs[0]
    backward = len(inputs) == 2
    logarithm = op.name.startswith("log")
    shared = sharing([*inputs, outputs[0]]) if last else Sharing(THREADS, 1, 0)
    lead, steps = _without(axis, x.shape), [_without(axis, k.strides) for k in (*inputs, *outputs)]
    rows = x.size // x.shape[axis]
    aside = not last and rows >= _MANY and min(map(abs, steps[0])) < abs(x.strides[axis])
    group = shared.group if shared.packs else 1 if aside else THREADS
    parameters = Parameters(1 + len(inputs))
    walked = {"at0": steps[0], "at1": steps[-2], "place": steps[-1]}
    made = stage(
        "softmax" if shared.packs else "softmax_long", op.name, parameters,
        [OUT, *range(len(inputs))], rows * group, [*inputs, *outputs],
        index=walk(parameters, "i", lead, **walked), type=STORED[x.dtype],
        grad=STORED[inputs[-1].dtype], out=STORED[outputs[0].dtype],
        addresses=str(1 + len(inputs)), backward=flag(backward), logarithm=flag(logarithm),
        columns=parameters.add(x.shape[axis]), rows=parameters.add(rows),
        step=parameters.add(outputs[0].strides[axis]), step0=parameters.add(x.strides[axis]),
        step1=parameters.add(inputs[-1].strides[axis]),
        **shared.parts() | {"group": str(group)},
    )  # fmt: skip
    return Lowered([made], copied)


def lower_joined(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """logsumexp or var along any axes, each result by one thread, warp or block."""
    (x,) = inputs
    axes = range(x.rank) if op.axes is None else sorted(a % x.rank for a in op.axes)
    others = [a for a in range(x.rank) if a not in axes]
    lead, steps = ([pick[a] for a in others] for pick in (x.shape, x.strides))
    shape, (along,) = collapsed(
        tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes)
    )  # fmt: skip
    columns, rows = prod(shape) if 0 not in x.shape else 0, outputs[0].size
    side = along == (1,) and columns > 0
    nearer = any(abs(step) < abs(along[-1]) for step in steps)
    group = 1 if rows >= _MANY and nearer else WARP if columns <= 1024 else THREADS
    line = Layout((*lead, columns), (*steps, 1), x.dtype)
    width = pack([line]) if side and group > 1 else 1
    parameters = Parameters(2)
    made = stage(
        op.name, op.name, parameters, [OUT, 0], rows * group, [x, *outputs],
        index=walk(parameters, "i", tuple(lead), at0=tuple(steps)),
        inner=walk(parameters, "c", shape, column=along), type=STORED[x.dtype],
        out=STORED[outputs[0].dtype],
        columns=parameters.add(columns), rows=parameters.add(rows), group=str(group),
        width=str(width), degrees=parameters.add(max(columns - getattr(op, "correction", 0), 0)),
    )  # fmt: skip
    return Lowered([made])


def _starts(first: Layout, second: Layout) -> dict[str, Shape]:
    """Where the rows of two operands begin."""
    return {"at0": first.strides[:-1], "at1": second.strides[:-1]}


def _without(axis: int, sizes: Shape) -> Shape:
    return sizes[:axis] + sizes[axis + 1 :]

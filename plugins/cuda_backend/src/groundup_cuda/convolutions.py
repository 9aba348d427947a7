"""conv1d, conv2d, conv_transpose2d and conv2d_backward_weight: matrix products, group by group, of
which the right operand's element (k, c) is the one of an image where a tap and a window meet.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

import attrs

from groundup.layout import Layout
from groundup.shapes import Shape
from groundup_cuda.expressions import STORED
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.rows import flag
from groundup_cuda.source import (
    BUSY,
    BUSY_BLOCKS,
    OUT,
    SCRATCH,
    THREADS,
    Parameters,
    Stage,
    read,
    stage,
    walk,
)

_FEW: Final = 8  # rows of a group below which tiles would be almost empty


@attrs.frozen
class _Kernel:
    """A template: the rows and columns of a tile of results and the threads that compute it; how
    many tiles keep a GPU busy; and how many steps of the inner axis a piece has at least, where
    there are fewer tiles.
    """

    family: str
    rows: int
    columns: int
    threads: int
    busy: int
    steps: int


_THIN: Final = _Kernel("conv_thin", 1, 1, 1, BUSY, 64)
_TILES: Final = _Kernel("conv", 64, 64, THREADS, BUSY_BLOCKS, 256)
_TENSOR: Final = _Kernel("conv_tensor", 64, 128, THREADS, BUSY_BLOCKS, 256)


@attrs.frozen
class _Operand:
    """Strides over the groups, rows, the axes of columns and those of the inner axis."""

    group: int
    row: int
    column: Shape
    inner: Shape


@attrs.frozen
class _Axis:
    """How far along an image's axis each step of column and inner axes goes, where it begins; the
    axis's size and the step to the next element; and every how many elements a tap meets one.
    """

    column: Shape
    inner: Shape
    shift: int
    size: int
    step: int
    stride: int = 1


@attrs.frozen
class _Form:
    """One of the three as a product; `gaps`: taps that meet nothing are skipped, not zeros."""

    groups: int
    rows: int
    columns: Shape
    inner: Shape
    left: _Operand
    right: _Operand
    out: _Operand
    axes: tuple[_Axis, _Axis]
    operands: tuple[int, int]  # left and right
    gaps: bool = False


def lower_convolution(
    op: Any, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered:
    """conv1d is conv2d of images of height 1. Tensor cores for 16-bit floats, from Ampere on."""
    (out,) = outputs
    form = _FORMS[op.name](op, [_image(x) for x in inputs], _image(out))
    narrow = out.dtype.itemsize == 2 and capability >= (8, 0)
    kernel = _THIN if form.rows < _FEW else _TENSOR if narrow else _TILES
    bias = inputs[2] if len(inputs) > 2 else None
    pieces = max(1, min(kernel.busy // _tiles(form, kernel), prod(form.inner) // kernel.steps))
    if pieces == 1:
        return Lowered([_product(op, form, kernel, (*inputs, out), bias, 1)])
    made = _product(op, form, kernel, (*inputs, out), None, pieces)
    return Lowered([made, _join(op, out, bias, pieces)], scratch=4 * pieces * out.size)


def _tiles(form: _Form, kernel: _Kernel) -> int:
    high, wide = -(-form.rows // kernel.rows), -(-prod(form.columns) // kernel.columns)
    return form.groups * high * wide


def _forward(op: Any, inputs: Layouts, out: Layout) -> _Form:
    x, weight = inputs[:2]
    rows, each = weight.shape[0] // op.groups, weight.shape[1]
    axes = [
        _Axis(_only(a, s), _only(a, d), -p, x.shape[1 + a], x.strides[1 + a])
        for a, (s, d, p) in _settings(op)
    ]
    return _Form(
        op.groups, rows, (out.shape[0], *out.shape[2:]), weight.shape[1:],
        _Operand(rows * weight.strides[0], weight.strides[0], (), weight.strides[1:]),
        _Operand(each * x.strides[1], 0, (x.strides[0], 0, 0), (x.strides[1], 0, 0)),
        _Operand(rows * out.strides[1], out.strides[1], _around(out), ()),
        (axes[0], axes[1]), (1, 0),
    )  # fmt: skip


def _transposed(op: Any, inputs: Layouts, out: Layout) -> _Form:
    x, weight = inputs[:2]
    rows, each = weight.shape[1], weight.shape[0] // op.groups
    axes = [
        _Axis(_only(a, 1), _only(a, -d), p, x.shape[1 + a], x.strides[1 + a], s)
        for a, (s, d, p) in _settings(op)
    ]
    along = (weight.strides[0], *weight.strides[2:])
    return _Form(
        op.groups, rows, (out.shape[0], *out.shape[2:]), (each, *weight.shape[2:]),
        _Operand(each * weight.strides[0], weight.strides[1], (), along),
        _Operand(each * x.strides[1], 0, (x.strides[0], 0, 0), (x.strides[1], 0, 0)),
        _Operand(rows * out.strides[1], out.strides[1], _around(out), ()),
        (axes[0], axes[1]), (1, 0), gaps=True,
    )  # fmt: skip


def _weight_gradient(op: Any, inputs: Layouts, out: Layout) -> _Form:
    x, grad = inputs
    rows, each = out.shape[0] // op.groups, out.shape[1]
    axes = [
        _Axis(_only(a, d), _only(a, s), -p, x.shape[1 + a], x.strides[1 + a])
        for a, (s, d, p) in _settings(op)
    ]
    return _Form(
        op.groups, rows, out.shape[1:], (grad.shape[0], *grad.shape[2:]),
        _Operand(rows * grad.strides[1], grad.strides[1], (), _around(grad)),
        _Operand(each * x.strides[1], 0, (x.strides[1], 0, 0), (x.strides[0], 0, 0)),
        _Operand(rows * out.strides[0], out.strides[0], out.strides[1:], ()),
        (axes[0], axes[1]), (1, 0),
    )  # fmt: skip


_FORMS: Final = {
    "conv1d": _forward, "conv2d": _forward, "conv_transpose2d": _transposed,
    "conv2d_backward_weight": _weight_gradient,
}  # fmt: skip


def _product(
    op: Any, form: _Form, kernel: _Kernel, layouts: Layouts, bias: Layout | None, pieces: int
) -> Stage:
    """The results, or those of each piece of the inner axis as lines in scratch memory. The last of
    `layouts` is the output's.
    """
    out = layouts[-1]
    operands = [OUT if pieces == 1 else SCRATCH, *form.operands, *([2] if bias else [])]
    parameters = Parameters(len(operands))
    inner, columns, results = prod(form.inner), prod(form.columns), out.size
    numbers = {
        "groups": form.groups, "rows": form.rows, "columns": columns, "inner": inner,
        "pieces": pieces, "piece": -(-inner // pieces), "results": results,
        "inner1": form.inner[1], "inner2": form.inner[2],
        "left_group": form.left.group, "left_row": form.left.row,
        "right_group": form.right.group, "out_group": form.out.group, "out_row": form.out.row,
        "bias_step": bias.strides[0] if bias else 0,
    }  # fmt: skip
    for a, axis in enumerate(form.axes):
        numbers |= {f"shift{a}": axis.shift, f"size{a}": axis.size, f"step{a}": axis.step}
        numbers[f"stride{a}"] = axis.stride
    lines = Layout((pieces, results), (results, 1), out.dtype)
    return stage(
        kernel.family, op.name, parameters, operands,
        _tiles(form, kernel) * kernel.threads * pieces, [*layouts, lines],
        **_walks(form, parameters), places=read("conv_places"), cores=read("tensor_cores"),
        type=STORED[out.dtype], out="float" if pieces > 1 else STORED[out.dtype],
        gaps=flag(form.gaps), biased=flag(bias), last=str(len(operands) - 1),
        **{name: parameters.add(number) for name, number in numbers.items()},
    )  # fmt: skip


def _join(op: Any, out: Layout, bias: Layout | None, pieces: int) -> Stage:
    """The pieces' results to one."""
    operands = [OUT, SCRATCH, *([2] if bias else [])]
    parameters = Parameters(len(operands))
    steps = (0, bias.strides[0] if bias else 0, *(0,) * (out.rank - 2))
    lines = Layout((pieces, out.size), (out.size, 1), out.dtype)
    return stage(
        "conv_join", op.name, parameters, operands, out.size, [out, lines],
        index=walk(parameters, "i", out.shape, at0=steps), results=parameters.add(out.size),
        pieces=parameters.add(pieces), type=STORED[out.dtype], biased=flag(bias),
        last=str(len(operands) - 1),
    )  # fmt: skip


def _walks(form: _Form, parameters: Parameters) -> dict[str, str]:
    """From the number of a column or of a step of the inner axis to places and distances."""
    high, wide = form.axes
    left = {"left_at": form.left.inner}
    right = {"place_k": form.right.inner, "row_k": high.inner, "column_k": wide.inner}
    column = {"place_c": form.right.column, "row_c": high.column, "column_c": wide.column}
    return {
        "column": walk(parameters, "c", form.columns, **column),
        "out_column": walk(parameters, "c", form.columns, out_at=form.out.column),
        "left_inner": walk(parameters, "k", form.inner, **left),
        "right_inner": walk(parameters, "k", form.inner, **right),
        "inner_places": _places(parameters, **left, **right),
    }


def _places(parameters: Parameters, **strides: Shape) -> str:
    """Statements that make the named places of k0, k1 and k2, the steps on the inner axes."""
    lines = []
    for name, steps in strides.items():
        terms = [f"k{a} * (Index){parameters.add(s)}" for a, s in enumerate(steps) if s]
        lines.append(f"        const Index {name} = {' + '.join(terms) or '0'};")
    return "\n".join(lines)


def _settings(op: Any) -> list[tuple[int, tuple[int, int, int]]]:
    """For each axis of the images, 1 and 2, its stride, dilation and padding."""
    found = [*zip(op.stride, op.dilation, op.padding, strict=True)]
    return [*enumerate([(1, 1, 0)] * (2 - len(found)) + found, 1)]


def _only(axis: int, step: int) -> Shape:
    """Strides over three axes, of which one counts."""
    return tuple(step if a == axis else 0 for a in range(3))


def _around(x: Layout) -> Shape:
    """The strides of all axes but the channels'."""
    return (x.strides[0], *x.strides[2:])


def _image(x: Layout) -> Layout:
    """(N, C, L) as (N, C, 1, L); others as they are."""
    if x.rank != 3:
        return x
    return Layout((*x.shape[:2], 1, x.shape[2]), (*x.strides[:2], 0, x.strides[2]), x.dtype)

"""max_pool2d, avg_pool2d and their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from groundup import dtypes
from groundup.layout import Layout, Spec
from groundup.shapes import Shape
from groundup_cuda.expressions import STORED
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import OUT, SCRATCH, Parameters, Stage, stage, walk

_LEAST: Final = "Extremes<float>::lowest()"  # what max_pool2d finds in the padding
# What a window's thread begins with, takes in the padding, does at each tap, and writes.
_MAXIMUM: Final = {
    "begin": f"float best = {_LEAST};", "fill": _LEAST, "join": "best = maximum(best, tap);",
    "value": "best",
}  # fmt: skip
_MEAN: Final = {
    "begin": "float sum = 0.0f;", "fill": "0.0f", "join": "sum += tap;",
    "value": "sum / (float)(kernel0 * kernel1)",
}  # fmt: skip
_FIRST: Final = {  # the number of the first tap that is the maximum; -1 if none is
    "begin": "const float best = load(((const Type *)p.v[2])[at2]); int found = -1;",
    "fill": _LEAST, "value": "found",
    "join": "if (found < 0 && (tap == best || tap != tap)) found = (int)(a * kernel1 + b);",
}  # fmt: skip


def lower_pool(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """max_pool2d or avg_pool2d."""
    words = _MAXIMUM if op.name == "max_pool2d" else _MEAN
    return Lowered([_windows(op, [OUT, 0], inputs[0], outputs[0], words)])


def lower_pool_backward(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """avg_pool2d_backward shares out; max_pool2d_backward finds each window's maximum first."""
    if op.name == "avg_pool2d_backward":
        share = "given / (float)(kernel0 * kernel1)"
        return Lowered([_spread(op, [OUT, 0], inputs[0], outputs[0], share)])
    x, out, grad = inputs
    found = Layout.contiguous(Spec(out.shape, dtypes.int32))
    first = _windows(op, [SCRATCH, 0, 1], x, found, _FIRST, at2=out.strides)
    tap = "(row - v * stride0) * kernel1 + column - u * stride1"
    window = "at2 + v * wide + u"
    share = f"((const int *)p.v[2])[{window}] == (int)({tap}) ? given : 0.0f"
    places = (*found.strides[:2], 0, 0)
    spread = _spread(op, [OUT, 2, SCRATCH], grad, outputs[0], share, at2=places)
    return Lowered([first, spread], scratch=out.size * dtypes.int32.itemsize)


def _windows(
    op: Any, operands: Sequence[int], x: Layout, out: Layout, words: Mapping[str, str],
    **more: Shape,
) -> Stage:  # fmt: skip
    """A thread for each window of x; `more` are strides of other operands over the windows."""
    parameters = Parameters(len(operands))
    index = walk(
        parameters, "i", out.shape, at0=(*x.strides[:2], 0, 0), v=(0, 0, 1, 0), u=(0, 0, 0, 1),
        **more,
    )  # fmt: skip
    return stage(
        "pool", op.name, parameters, operands, out.size, [x, out], index=index,
        size=parameters.add(out.size), out=STORED[out.dtype], **_settings(op, parameters, x),
        **words,
    )  # fmt: skip


def _spread(
    op: Any, operands: Sequence[int], grad: Layout, dx: Layout, share: str, **more: Shape
) -> Stage:
    """A thread for each element of x, to which each of its windows gives its `share`."""
    parameters = Parameters(len(operands))
    index = walk(
        parameters, "i", dx.shape, at1=(*grad.strides[:2], 0, 0), h=(0, 0, 1, 0), w=(0, 0, 0, 1),
        **more,
    )  # fmt: skip
    return stage(
        "pool_backward", op.name, parameters, operands, dx.size, [grad, dx], index=index,
        size=parameters.add(dx.size), share=share, **_settings(op, parameters, grad),
    )  # fmt: skip


def _settings(op: Any, parameters: Parameters, read: Layout) -> dict[str, str]:
    """The op's numbers, and those of the last two axes of what is read."""
    numbers = {
        f"{name}{axis}": getattr(op, name)[axis]
        for name in ("kernel", "stride", "padding")
        for axis in (0, 1)
    }
    numbers |= {"high": read.shape[2], "wide": read.shape[3]}
    numbers |= {"row_step": read.strides[2], "column_step": read.strides[3]}
    texts = {name: parameters.add(number) for name, number in numbers.items()}
    return {**texts, "type": STORED[read.dtype]}

"""batch_norm, group_norm and their gradients: x (N, C, ...) and vectors (C,)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final

import attrs

from groundup.layout import Layout
from groundup.shapes import Shape
from groundup_cuda.expressions import STORED
from groundup_cuda.lines import joined_lines
from groundup_cuda.maps import map_stage
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.rows import flag, pack
from groundup_cuda.source import (
    BUSY,
    OUT,
    SCRATCH,
    THREADS,
    WARP,
    Parameters,
    Stage,
    collapsed,
    stage,
    walk,
)  # fmt: skip

_SHORT: Final = 1024  # elements of a group for a warp
_EACH: Final = 16  # elements that a thread adds up at least, where channels are cut


@attrs.frozen
class _Means:
    """Where the sums over a channel find its mean: of which C++ type, by which strides over lines,
    groups, and channels of a group, how far from the operand's beginning; and its scale, if any.
    """

    kind: str
    strides: Shape
    start: int = 0
    scales: int | None = None


def lower_batch_norm(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """One pass over x."""
    x = inputs[0]
    parameters = Parameters(6)
    eps = parameters.number(op.eps, "float")
    layouts = (outputs[0], x, *[_beside(vector, x) for vector in inputs[1:]])
    value = f"(a - b) * (1.0f / sqrtf(c + {eps}) * d) + e"
    return Lowered([map_stage(op.name, parameters, [OUT, *range(5)], layouts, "abcde", value)])


def lower_batch_norm_backward(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """dx, then sums over parts of each channel, then the vectors."""
    x, mean, var, weight, grad = inputs
    steps = []
    if x.size:
        parameters = Parameters(4)
        eps = parameters.number(op.eps, "float")
        layouts = (outputs[0], grad, _beside(var, x), _beside(weight, x))
        value = f"a * (1.0f / sqrtf(b + {eps}) * c)"
        steps.append(map_stage(op.name, parameters, [OUT, 4, 2, 3], layouts, "abc", value))
    chunk, lines = _cut(x)
    means = _Means(STORED[mean.dtype], (0, 0, *mean.strides))
    steps.append(_sums(op.name, (x, grad), [SCRATCH, 0, 4, 1], chunk, (lines, 1), means))
    parameters = Parameters(7)
    add = parameters.add
    operands = [*[OUT - 1 - k for k in range(4)], 2, 3, SCRATCH]
    steps.append(stage(
        "batch_norm_vectors", op.name, parameters, operands, -(-var.size // WARP) * THREADS,
        [x], channels=add(var.size), lines=add(lines), type=STORED[x.dtype],
        var_step=add(var.strides[0]), weight_step=add(weight.strides[0]),
        eps=parameters.number(op.eps, "float"),
    ))  # fmt: skip
    return Lowered(steps, scratch=8 * lines * var.size)


def lower_group_norm(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """Each group by one warp or block."""
    return Lowered([_group_norm(op, inputs, outputs)])


def lower_group_norm_backward(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """Each group's statistics, sums over the places of each channel, dx, and the vectors."""
    x, _, grad = inputs
    samples, channels = x.shape[:2]
    lines = samples if x.size else 0
    steps: list[Stage] = []
    if lines:
        kept = 2 * samples * channels  # where the statistics are, behind the sums
        steps.append(_group_norm(op, inputs, (), kept))
        strides, scales = (op.groups, 1, 0), kept + samples * op.groups
        means = _Means("float", strides, kept, scales)
        lead, operands = (samples, op.groups), [SCRATCH, 0, 2, SCRATCH]
        steps.append(_sums(op.name, (x, grad), operands, 1, lead, means))
        steps.append(_group_norm_backward(op, inputs, outputs[0], kept))
    scratch = 4 * samples * (2 * channels + 2 * op.groups)
    return Lowered(
        [*steps, joined_lines(op.name, lines, outputs[1:], OUT - 1)], scratch=max(scratch, 4)
    )


def _group_norm(op: Any, inputs: Layouts, outputs: Layouts, kept: int = 0) -> Stage:
    """The result, or without outputs the statistics, `kept` floats behind the scratch's start."""
    x, weight, bias = inputs[0], inputs[1], inputs[-1]
    operands = [OUT, 0, 1, 2] if outputs else [SCRATCH, 0]
    parameters = Parameters(len(operands))
    steps = {"weight_step": weight.strides[0], "bias_step": bias.strides[0], "kept": kept}
    shape, (along,) = collapsed(*_of_group(op, x))
    lead, starts = _groups(op, x)
    line = Layout((*lead, prod(x.shape[2:])), (*starts, 1), x.dtype)
    width = pack([line]) if along == (1,) else 1
    return stage(
        "group_norm", op.name, parameters, operands, prod(lead) * _sharing(op, x), [x],
        index=walk(parameters, "i", lead, at0=starts),
        inner=walk(parameters, "j", shape, column=along), width=str(width),
        statistics=flag(not outputs), last=str(len(operands) - 1),
        eps=parameters.number(op.eps, "float"), **_numbers(op, parameters, x, steps),
    )  # fmt: skip


def _group_norm_backward(op: Any, inputs: Layouts, dx: Layout, kept: int) -> Stage:
    """dx, from what the launches before have left in scratch memory."""
    x, weight, grad = inputs
    parameters = Parameters(5)
    (shape, x_along), (_, grad_along) = _of_group(op, x), _of_group(op, grad)
    (lead, at0), (_, at1) = _groups(op, x), _groups(op, grad)
    steps = {"weight_step": weight.strides[0], "kept": kept}
    return stage(
        "group_norm_backward", op.name, parameters, [OUT, 0, 1, 2, SCRATCH],
        prod(lead) * _sharing(op, x), [x, grad],
        index=walk(parameters, "i", lead, at0=at0, at1=at1),
        inner=walk(parameters, "j", shape, column0=x_along, column1=grad_along),
        **_numbers(op, parameters, x, steps),
    )  # fmt: skip


def _numbers(op: Any, parameters: Parameters, x: Layout, more: Mapping[str, int]) -> dict[str, str]:
    """What both kernels of whole groups are told."""
    rows = x.shape[0] * op.groups
    numbers = {
        "rows": rows, "groups": op.groups, "columns": x.size // rows, "area": prod(x.shape[2:]),
        **more,
    }  # fmt: skip
    texts = {name: parameters.add(number) for name, number in numbers.items()}
    return {**texts, "group": str(_sharing(op, x)), "type": STORED[x.dtype]}


def _sharing(op: Any, x: Layout) -> int:
    """How many threads share a group of a sample."""
    return WARP if x.size <= _SHORT * x.shape[0] * op.groups else THREADS


def _groups(op: Any, x: Layout) -> tuple[Shape, Shape]:
    """Samples and groups, and the strides over them."""
    samples, channels = x.shape[:2]
    return (samples, op.groups), (x.strides[0], channels // op.groups * x.strides[1])


def _of_group(op: Any, x: Layout) -> tuple[Shape, Shape]:
    """Shape and strides of one group of one sample."""
    return (x.shape[1] // op.groups, *x.shape[2:]), x.strides[1:]


def _sums(
    name: str, pair: Layouts, operands: Sequence[int], chunk: int, lead: Shape, means: _Means
) -> Stage:
    """Of x and grad, the `pair`, sums over each channel of `chunk` samples at a time; `lead` are
    the chunks and the groups of channels.
    """
    x, grad = pair
    samples, channels = x.shape[:2]
    each = channels // lead[1]
    starts = [(chunk * k.strides[0], each * k.strides[1], k.strides[1]) for k in pair]
    shape = (min(chunk, samples), *x.shape[2:])
    insides = [(k.strides[0], *k.strides[2:]) for k in pair]
    across, lanes = _lanes(x, chunk)
    parameters = Parameters(4)
    numbers = {
        "channels": channels, "chunk": chunk, "samples": samples, "area": prod(x.shape[2:]),
        "size": lead[0] * channels, "kept": means.start, "scales": means.scales or 0,
    }  # fmt: skip
    return stage(
        "channel_sums", name, parameters, operands, lead[0] * channels * lanes, [x, grad],
        index=walk(
            parameters, "i", (*lead, each), at0=starts[0], at1=starts[1], at2=means.strides
        ),
        inner=walk(parameters, "j", shape, column0=insides[0], column1=insides[1]),
        across=flag(across), lanes=str(lanes), type=STORED[x.dtype], mean_type=means.kind,
        scaled=flag(means.scales is not None),
        **{key: parameters.add(number) for key, number in numbers.items()},
    )  # fmt: skip


def _lanes(x: Layout, chunk: int) -> tuple[bool, int]:
    """Whether neighbouring threads take neighbouring channels, as they do if those lie closer
    together in memory than a channel's elements, and how many share a channel: a power of 2.
    """
    many = min(chunk, x.shape[0]) * prod(x.shape[2:])
    _, ((*_, step),) = collapsed((x.shape[0], *x.shape[2:]), (x.strides[0], *x.strides[2:]))
    across = x.shape[1] >= WARP and abs(x.strides[1]) < abs(step)
    return across, 1 << min(3 if across else 8, (many // 4).bit_length())


def _cut(x: Layout) -> tuple[int, int]:
    """How many samples make up a part of a channel, and how many parts there are."""
    samples, channels = x.shape[:2]
    _, lanes = _lanes(x, samples)
    busy = BUSY // (max(channels, 1) * lanes)
    most = samples * prod(x.shape[2:]) // (lanes * _EACH)
    chunk = max(1, -(-samples // max(1, min(busy, most, samples))))
    return chunk, max(1, -(-samples // chunk))


def _beside(vector: Layout, x: Layout) -> Layout:
    """A vector over the channels of x."""
    strides = (0, *vector.strides, *(0,) * (x.rank - 2))
    return Layout(x.shape, strides, vector.dtype)

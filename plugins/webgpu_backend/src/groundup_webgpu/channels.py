"""batch_norm and group_norm, which scale channels (axis 1), and their gradients.

All operands are row-major: element (n, c, a) lies at (n C + c) area + a.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from groundup.backends.api import Declined
from groundup.dtypes import float32
from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.rows import WORKERS, lane_includes, lanes_for, too_wide, zeros
from groundup_webgpu.source import SCRATCH, STORED, Parameters, Stage, spread

Layouts = Sequence[Layout]
_WIDE = Declined("rows are too wide")
_FLOATS = Layout((), (), float32)  # in scratch memory
_PAIR = 8  # bytes of two numbers in scratch memory


def batch_norm(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """One dispatch over the elements."""
    x, (out,) = inputs[0], outputs
    if not out.size:
        return []
    parameters = Parameters(6)
    channel = _channel(x, parameters)
    eps = parameters.number(op.eps, float32)
    mean, var, weight, bias = (f"load{k}(param({k + 1}u) + channel)" for k in range(1, 5))
    lines = f"    let place = param(0u) + i;\n    let channel = {channel};"
    value = f"(load0(param(1u) + i) - {mean}) * (inverseSqrt({var} + {eps}) * {weight}) + {bias}"
    parts = {"size": parameters.add(x.size), "index": lines, "value": value}
    return [_stage("map", parts, parameters, enumerate((out, *inputs)), spread(x.size, 256))]


def batch_norm_backward(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """dx by elements; sums of each channel; and from those the gradients of the vectors."""
    x, mean, var, weight, grad = inputs
    if not x.size:
        return [zeros(i, out) for i, out in enumerate(outputs) if out.size]
    if too_wide(x.size // x.shape[1]):
        return _WIDE
    parameters = Parameters(4)
    channel, eps = _channel(x, parameters), parameters.number(op.eps, float32)
    scale = f"inverseSqrt(load1(param(2u) + channel) + {eps}) * load2(param(3u) + channel)"
    parts = {
        "size": parameters.add(x.size), "value": f"load0(param(1u) + i) * ({scale})",
        "index": f"    let place = param(0u) + i;\n    let channel = {channel};",
    }  # fmt: skip
    given = ((0, outputs[0]), (9, grad), (7, var), (8, weight))
    dx = _stage("map", parts, parameters, given, spread(x.size, 256))
    parameters = Parameters(7)
    parts = {
        "channels": parameters.add(x.shape[1]), "eps": parameters.number(op.eps, float32),
    }  # fmt: skip
    memory = (*enumerate(outputs[1:], 1), (SCRATCH, _FLOATS), (7, var), (8, weight))
    vectors = _stage(
        "batch_norm_vectors", parts, parameters, memory, spread(x.shape[1], WORKERS), written=4
    )  # fmt: skip
    return [dx, _batch_sums(x, mean, grad), vectors]


def _batch_sums(x: Layout, mean: Layout, grad: Layout) -> Stage:
    parameters = Parameters(4)
    parts = {
        **_sums(x, parameters), "grad": "load2(param(3u) + at)",
        "centred": "load0(param(1u) + at) - load1(param(2u) + channel)",
        "write": "save(param(0u) + 2 * channel, product);\n"
        "save(param(0u) + 2 * channel + 1, sum);",
    }  # fmt: skip
    memory = ((SCRATCH, _FLOATS), (5, x), (6, mean), (9, grad))
    return _stage(
        "channel_sums", parts, parameters, memory, spread(x.shape[1], 1),
        scratch=_PAIR * x.shape[1], includes=("lanes",),
    )  # fmt: skip


def group_norm(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """One dispatch over the groups."""
    x, (out,) = inputs[0], outputs
    if not out.size:
        return []
    width = x.size // (x.shape[0] * op.groups)
    if too_wide(width):
        return _WIDE
    parameters = Parameters(4)
    parts, lanes = _rows(op, x, parameters, machine)
    groups = spread(x.size // width, WORKERS // lanes)
    return [
        _stage(
            "group_norm", parts, parameters, enumerate((out, *inputs)), groups,
            includes=lane_includes(lanes, vector=False, machine=machine),
        )
    ]  # fmt: skip


def group_norm_backward(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """dx by groups, then sums of each channel."""
    x, weight, grad = inputs
    if not x.size:
        return [zeros(i, out) for i, out in enumerate(outputs) if out.size]
    width = x.size // (x.shape[0] * op.groups)
    if too_wide(width) or too_wide(x.size // x.shape[1]):
        return _WIDE
    parameters = Parameters(5)
    parts, lanes = _rows(op, x, parameters, machine)
    memory = ((0, outputs[0]), (SCRATCH, _FLOATS), (3, x), (4, weight), (5, grad))
    rows = x.size // width
    dx = _stage(
        "group_norm_backward", parts, parameters, memory, spread(rows, WORKERS // lanes),
        written=2, scratch=_PAIR * rows,
        includes=lane_includes(lanes, vector=False, machine=machine),
    )  # fmt: skip
    return [dx, _group_sums(op, x, grad, outputs)]


def _group_sums(op: Any, x: Layout, grad: Layout, outputs: Layouts) -> Stage:
    parameters = Parameters(5)
    add = parameters.add
    row = f"at / {add(x.size // (x.shape[0] * op.groups))}"
    pair = f"param(3u) + 2 * ({row})"
    parts = {
        **_sums(x, parameters), "grad": "load2(param(4u) + at)",
        "centred": f"(load0(param(2u) + at) - load1({pair})) * load1({pair} + 1)",
        "write": "save(param(0u) + channel, product);\nsave1(param(1u) + channel, sum);",
    }  # fmt: skip
    memory = ((1, outputs[1]), (2, outputs[2]), (3, x), (SCRATCH, _FLOATS), (5, grad))
    return _stage(
        "channel_sums", parts, parameters, memory, spread(x.shape[1], 1),
        written=2, includes=("lanes",),
    )  # fmt: skip


def _rows(
    op: Any, x: Layout, parameters: Parameters, machine: Machine
) -> tuple[dict[str, str], int]:
    """What kernels over groups are told, and how many threads share a group."""
    rows = x.shape[0] * op.groups
    width = x.size // rows
    lanes = lanes_for(rows, width, True, machine)
    parts = {
        "lanes": str(lanes), "rows": parameters.add(rows), "width": parameters.add(width),
        "size": parameters.number(width, float32), "eps": parameters.number(op.eps, float32),
        "groups": parameters.add(op.groups), "channels": parameters.add(x.shape[1] // op.groups),
        "area": parameters.add(prod(x.shape[2:])),
    }  # fmt: skip
    return parts, lanes


def _sums(x: Layout, parameters: Parameters) -> dict[str, str]:
    """What the kernel over channels is told."""
    return {
        "lanes": str(WORKERS), "channels": parameters.add(x.shape[1]),
        "count": parameters.add(x.size // x.shape[1]), "area": parameters.add(prod(x.shape[2:])),
    }  # fmt: skip


def _channel(x: Layout, parameters: Parameters) -> str:
    """The channel of element `i`."""
    area, channels = parameters.add(prod(x.shape[2:])), parameters.add(x.shape[1])
    return f"i32(u32(i) / u32({area}) % u32({channels}))"


def _stage(
    family: str, parts: Mapping[str, str], parameters: Parameters, operands: Any,
    groups: tuple[int, int, int], **options: Any,
) -> Stage:  # fmt: skip
    memory = tuple((i, STORED[x.dtype]) for i, x in operands)
    return Stage(family, parts, tuple(parameters.values), memory, groups, **options)

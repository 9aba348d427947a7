"""Ops that put each element in its place, or another one there: one dispatch, or one a piece."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs

from groundup.dtypes import float32
from groundup.layout import Layout
from groundup_webgpu.expressions import limited
from groundup_webgpu.machine import Machine
from groundup_webgpu.maps import Body, each_element, placed
from groundup_webgpu.source import (
    OUT,
    STORED,
    Parameters,
    Stage,
    computed,
    indented,
    spread,
    walk,
)  # fmt: skip

Layouts = Sequence[Layout]


def clamp(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """By vectors where x lies in them."""
    (x,), (out,) = inputs, outputs
    if not out.size:
        return []
    parameters = Parameters(2)
    index = walk(parameters, "i", out.shape, place=out.strides, at0=x.strides)
    text = f"{index}\n    let a = load0(at0);"
    made = each_element(parameters, [(1, x)], out, text, _limited(op, x, parameters))
    body = Body("a", [(1, x)], out, OUT)
    if not body.in_vectors:
        return [made]
    parameters = Parameters(2)
    return [attrs.evolve(made, aligned=body.vectors(parameters, _limited(op, x, parameters)))]


def _limited(op: Any, x: Layout, parameters: Parameters) -> str:
    return limited(op, x.dtype, lambda bound: parameters.number(bound, x.dtype))


def concat(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """Each tensor is copied into its window of the output: nothing is written twice."""
    (out,) = outputs
    axis, start, stages = op.axis % out.rank, 0, []
    for i, x in enumerate(inputs, 1):
        if x.size:
            window = Layout(x.shape, out.strides, out.dtype)
            stages.append(placed(i, x, window, start * out.strides[axis]))
        start += x.shape[axis]
    return stages


def triangle(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """tril and triu: what lies beside the triangle is not read."""
    (x,), (out,) = inputs, outputs
    if not out.size:
        return []
    parameters = Parameters(2)
    rows, columns = out.shape[-2:]
    index = walk(parameters, "i", out.shape, place=out.strides, at0=x.strides)
    lines = [
        f"let column = i32(u32(i) % u32({parameters.add(columns)}));",
        f"let row = i32(u32(i) / u32({parameters.add(columns)}) % u32({parameters.add(rows)}));",
    ]
    beyond = "<=" if op.name == "tril" else ">="
    # Where the diagonal lies beside the matrix, all or none is inside.
    far = max(min(op.diagonal, columns), -rows)
    lines.append(f"let inside = column - row {beyond} {parameters.add(far)};")
    value = f"select({computed(x.dtype)}(), load0(select(0, at0, inside)), inside)"
    return [each_element(parameters, [(1, x)], out, f"{index}\n{indented(lines)}", value)]


def one_hot(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """Each element compares its class with its row's index."""
    (indices,), (out,) = inputs, outputs
    if not out.size:
        return []
    parameters = Parameters(2)
    steps = (*indices.strides, 0)
    index = walk(parameters, "i", out.shape, place=out.strides, at0=steps)
    own = f"i32(u32(i) % u32({parameters.add(op.classes)}))"
    value = f"select(0.0, 1.0, load0(at0) == {own})"
    return [each_element(parameters, [(1, indices)], out, index, value)]


def rotary(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """rotary_embedding: a thread for each pair."""
    (x, positions), (out,) = inputs, outputs
    if not out.size:
        return []
    half = x.shape[-1] // 2
    parameters = Parameters(3)
    add = parameters.add
    lead = (0,) * (x.rank - 2)
    parts = {
        "size": add(out.size // 2), "half": add(half), "step0": add(x.strides[-1]),
        "step": add(out.strides[-1]), "sign": "-1.0" if op.inverse else "1.0",
        "slope": parameters.number(-math.log(op.theta) / half, float32),
        "index": walk(
            parameters, "i", (*x.shape[:-1], half), place=out.strides, at0=x.strides,
            at1=(*lead, positions.strides[0], 0),
        ),
    }  # fmt: skip
    memory = tuple((i, STORED[each.dtype]) for i, each in enumerate((out, x, positions)))
    return [Stage("rotary", parts, tuple(parameters.values), memory, spread(out.size // 2, 256))]

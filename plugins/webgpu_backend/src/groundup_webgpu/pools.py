"""Pools over windows of planes, and their gradients: one dispatch each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final

from groundup.backends.api import Declined
from groundup.dtypes import float32
from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.source import STORED, Parameters, Stage, fragment, spread, walk

Layouts = Sequence[Layout]
_TURNS: Final = 60_000  # of a thread's loops; Mesa's software driver leaves them after 65,535
_LARGE: Final = Declined("windows have too many elements")


def pool(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage] | Declined:
    """max_pool2d and avg_pool2d."""
    (x,), (out,) = inputs, outputs
    if not out.size:
        return []
    if machine.software and op.kernel[0] * (1 + op.kernel[1]) > _TURNS:
        return _LARGE
    parameters = Parameters(2)
    largest = op.name == "max_pool2d"
    parts = {
        **_settings(op, x.shape, out.shape, parameters), **_steps(x, parameters),
        "size": parameters.add(out.size), "start": "-infinity()" if largest else "0.0",
        "joined": "maximum_f32(total, found)" if largest else "total + found",
        "value": "total" if largest else f"total / {_area(op, parameters)}",
        "plane": walk(parameters, "i", x.shape[:2], at0=x.strides[:2]),
    }  # fmt: skip
    return [_stage("pool", parts, parameters, (out, x))]


def pool_backward(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """max_pool2d_backward, of x, out and grad; avg_pool2d_backward, of grad."""
    (dx,), grad = outputs, inputs[-1]
    if not dx.size:
        return []
    parameters = Parameters(1 + len(inputs))
    last = len(inputs) - 1
    # The windows of an element; for a maximum each goes over its elements before this one.
    down, across = (-(-n // step) for n, step in zip(op.kernel, op.stride, strict=True))
    taps = prod(op.kernel) if last else 0
    if machine.software and down * (1 + across * (1 + taps)) > _TURNS:
        return _LARGE
    given: Any = {f"at{k}": each.strides[:2] for k, each in enumerate(inputs)}
    settings = _settings(op, dx.shape, grad.shape, parameters)
    parts = {
        **settings, "size": parameters.add(dx.size), "functions": "",
        "planes": walk(parameters, "i", dx.shape[:2], **given),
    }  # fmt: skip
    share = _at(last, grad, parameters)
    if last:
        window = f"v * {settings['down']} - {settings['above']}"
        window += f", u * {settings['right']} - {settings['before']}"
        tap = f"r * {settings['wide']} + s"
        first = f"is_first(at0, {window}, {tap}, {_at(1, inputs[1], parameters)})"
        parts["share"] = f"select(0.0, {share}, {first})"
        steps = _steps(inputs[0], parameters)
        parts["functions"] = fragment("pool_first", {**settings, **steps})
    else:
        parts["share"] = f"{share} / {_area(op, parameters)}"
    return [_stage("pool_backward", parts, parameters, (dx, *inputs))]


def _settings(
    op: Any, plane: Sequence[int], windows: Sequence[int], parameters: Parameters
) -> dict[str, str]:
    """How windows lie in planes."""
    numbers = {
        "height": plane[2], "width": plane[3], "rows": windows[2], "columns": windows[3],
        "tall": op.kernel[0], "wide": op.kernel[1], "down": op.stride[0], "right": op.stride[1],
        "above": op.padding[0], "before": op.padding[1],
    }  # fmt: skip
    return {name: parameters.add(number) for name, number in numbers.items()}


def _steps(x: Layout, parameters: Parameters) -> dict[str, str]:
    return {"row_step": parameters.add(x.strides[2]), "column_step": parameters.add(x.strides[3])}


def _at(k: int, x: Layout, parameters: Parameters) -> str:
    """What input `k` has for window (v, u)."""
    down, right = (parameters.add(step) for step in x.strides[2:])
    return f"load{k}(at{k} + v * {down} + u * {right})"


def _area(op: Any, parameters: Parameters) -> str:
    return parameters.number(op.kernel[0] * op.kernel[1], float32)


def _stage(
    family: str, parts: Mapping[str, str], parameters: Parameters, operands: Layouts
) -> Stage:
    memory = tuple((i, STORED[x.dtype]) for i, x in enumerate(operands))
    return Stage(family, parts, tuple(parameters.values), memory, spread(operands[0].size, 256))

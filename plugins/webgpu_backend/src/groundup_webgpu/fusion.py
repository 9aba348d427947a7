"""fused: one thread an element, one statement a step of the body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from groundup.backends.api import Declined
from groundup.dtypes import DType
from groundup.layout import Layout, Spec
from groundup.ops.fusion import printed
from groundup.ops.op import Op
from groundup_webgpu.expressions import cast, expression, limited, literal
from groundup_webgpu.machine import Machine
from groundup_webgpu.maps import Body
from groundup_webgpu.source import STORED, Parameters, Stage, indented, spread, walk


def fused(
    op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout], machine: Machine
) -> list[Stage] | Declined:
    """Its body in WGSL. Values between its steps are not rounded to float16."""
    (out,) = outputs
    if not out.size:
        return []
    parameters = Parameters(1 + len(inputs))
    strides: Any = {f"at{k}": layout.strides for k, layout in enumerate(inputs)}
    index = walk(parameters, "i", out.shape, place=out.strides, **strides)
    specs = [Spec(out.shape, layout.dtype) for layout in inputs]
    steps = printed(op, specs, _text, parameters.number)
    if isinstance(steps, Op):
        return Declined(f"fused: no expression for {steps!r}")
    lines = [f"let x{k} = load{k}(at{k});" for k in range(len(inputs))]
    lines += [f"let t{k} = {text};" for k, text in enumerate(steps[:-1])]
    parts = {
        "size": parameters.add(out.size), "index": f"{index}\n{indented(lines)}",
        "value": steps[-1],
    }  # fmt: skip
    memory = tuple(enumerate(STORED[layout.dtype] for layout in (out, *inputs)))
    made = Stage("map", parts, tuple(parameters.values), memory, spread(out.size, 256))
    names = [f"x{k}" for k in range(len(inputs))]
    body = Body(names, list(enumerate(inputs, 1)), out, 0)
    if not body.in_vectors:
        return [made]
    parameters = Parameters(1 + len(inputs))
    steps = printed(op, specs, _text, parameters.number)
    assert not isinstance(steps, Op)
    lines = [f"let t{k} = {text};" for k, text in enumerate(steps[:-1])]
    return [attrs.evolve(made, aligned=body.vectors(parameters, steps[-1], lines))]


def _text(op: Op, dtypes: Sequence[DType]) -> str | None:
    if op.name == "cast":
        return cast(dtypes[0], op.dtype)  # type: ignore[attr-defined]
    if op.name == "clamp":
        return _limits(op, dtypes[0])
    return expression(repr(op), dtypes[-1])


def _limits(op: Any, dtype: DType) -> str | None:
    bounds = {bound: literal(bound, dtype) for bound in (op.min, op.max) if bound is not None}
    known = {bound: text for bound, text in bounds.items() if text is not None}
    return limited(op, dtype, known.__getitem__) if len(known) == len(bounds) else None

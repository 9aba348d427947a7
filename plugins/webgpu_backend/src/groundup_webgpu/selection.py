"""argmax, argmin, categorical and dropout: one dispatch each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from groundup import dtypes
from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.rows import WORKERS, Rows, begins, lanes_for, rows_of, too_wide
from groundup_webgpu.source import (
    STORED,
    Parameters,
    Stage,
    collapsed,
    computed,
    fragment,
    indented,
    spread,
    walk,
)  # fmt: skip

Layouts = Sequence[Layout]
_WIDTH: Final = 4  # places of one block of random bits
_NAN: Final = (
    "if (is_nan(a) || is_nan(b)) {",
    "    return is_nan(b) && (!is_nan(a) || at_b < at_a);",
    "}",
)


def extremum_at(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """argmax and argmin along an axis, or of all where x is evenly spaced."""
    (x,), out = inputs, outputs[0]
    if not out.size:
        return []
    if op.axis is None:
        shape, (steps,) = collapsed(x.shape, x.strides)
        if len(shape) > 1:
            return Declined("x is not evenly spaced in memory")
        rows = Rows((), (), shape[0], steps[0])
    else:
        rows = rows_of(x, op.axis)
    if too_wide(rows.width):
        return Declined("rows are too wide")
    parameters = Parameters(2)
    element = f"load0(at0 + c * {parameters.add(rows.step)})"
    parts = _found(op, x, rows, parameters, machine)
    return [_extremum({**parts, "element": element, "functions": ""}, (out, x), rows, parameters)]


def categorical(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """The argmax of logits and noise, which each thread draws for the elements that it reads."""
    (x, state), (out,) = inputs, outputs
    if not out.size:
        return []
    rows = rows_of(x)
    if too_wide(rows.width):
        return Declined("rows are too wide")
    parameters = Parameters(3)
    element = f"load0(at0 + c * {parameters.add(rows.step)})"
    noise = {"width": parameters.add(rows.width), "state_step": parameters.add(state.strides[0])}
    parts = {
        **_found(op, x, rows, parameters, machine), "element": f"{element} + noise(i, c)",
        "functions": fragment("gumbel", noise),
    }  # fmt: skip
    made = _extremum(parts, (out, x, state), rows, parameters)
    return [attrs.evolve(made, includes=("philox",))]


def _found(
    op: Any, x: Layout, rows: Rows, parameters: Parameters, machine: Machine
) -> dict[str, str]:
    """What kernels that look for an extremum of rows have in common."""
    lanes = lanes_for(rows.count, rows.width, rows.step == 1, machine)
    return {
        "lanes": str(lanes), "type": computed(x.dtype),
        "rows": parameters.add(rows.count), "units": parameters.add(rows.width),
        "nan": indented(_NAN) if x.dtype.is_floating else "",
        "beyond": "b < a" if op.name == "argmin" else "b > a",
        "index": begins(parameters, 1, rows.lead, (), at0=rows.steps),
    }  # fmt: skip


def _extremum(
    parts: dict[str, str], operands: Layouts, rows: Rows, parameters: Parameters
) -> Stage:
    memory = tuple((i, STORED[x.dtype]) for i, x in enumerate(operands))
    groups = spread(rows.count, WORKERS // int(parts["lanes"]))
    return Stage("extremum_at", parts, tuple(parameters.values), memory, groups)


def dropout(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage] | Declined:
    """Four elements a thread, which share a block of random bits."""
    x, state = inputs
    if not x.size:
        return []
    made = _dropout(op, x, state, vector=False)
    if x.is_row_major and x.size % _WIDTH == 0:
        made = attrs.evolve(made, aligned=_dropout(op, x, state, vector=True))
    return [made]


def _dropout(op: Any, x: Layout, state: Layout, vector: bool) -> Stage:
    parameters = Parameters(3)
    own = {
        "size": parameters.add(x.size), "threshold": parameters.add(op.threshold),
        "scale": parameters.number(op.scale, dtypes.float32),
        "index": "" if vector else walk(parameters, "i", x.shape, at0=x.strides),
    }  # fmt: skip
    parts = {
        "size": own["size"], "state_step": parameters.add(state.strides[0]),
        "write": fragment("dropout_vector" if vector else "dropout_numbers", own),
    }  # fmt: skip
    kind = f"vec4<{STORED[x.dtype]}>" if vector else STORED[x.dtype]
    groups = spread(-(-x.size // _WIDTH), WORKERS)
    return Stage(
        "dropout", parts, tuple(parameters.values), ((0, kind), (1, kind), (2, "i32")), groups,
        includes=("philox",),
    )  # fmt: skip

"""var, mse_loss and nll_loss: sums of what is computed of each element or row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from groundup.backends.api import Declined
from groundup.dtypes import float32
from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.maps import each_element, mapped
from groundup_webgpu.rows import WORKERS, begins, lane_includes, lanes_for, rows_of, too_wide
from groundup_webgpu.source import (
    SCRATCH,
    STORED,
    Parameters,
    Stage,
    collapsed,
    indented,
    spread,
    walk,
)  # fmt: skip

Layouts = Sequence[Layout]
_ITEM: Final = 4  # bytes of a number in scratch memory
_PARTS: Final = 1024  # workgroups that add up squares
_EACH: Final = 1 << 12  # squares that are worth one
_LARGEST: Final = 1 << 30
_IN_ORDER: Final = "    let place = param(0u) + i;"


def var(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage] | Declined:
    """One dispatch, where the axes that it is over are evenly spaced."""
    (x,), (out,) = inputs, outputs
    if not out.size:
        return []
    axes = op.dropped(x.spec)
    own, (steps,) = collapsed(tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes))
    width = own[0] if x.size else 0
    if not width:
        return [each_element(Parameters(1), [], out, _IN_ORDER, "nan()")]
    if len(own) > 1 or too_wide(width):
        return Declined("the axes are not evenly spaced in memory, or too wide")
    others = [a for a in range(x.rank) if a not in axes]
    lead, along = (tuple(of[a] for a in others) for of in (x.shape, x.strides))
    parameters = Parameters(2)
    lanes = lanes_for(out.size, width, steps[0] == 1, machine)
    degrees = parameters.number(max(width - op.correction, 0), float32)
    free = width > op.correction
    parts = {
        "lanes": str(lanes), "rows": parameters.add(out.size), "width": parameters.add(width),
        "step0": parameters.add(steps[0]), "size": parameters.number(width, float32),
        "value": f"sum / {degrees}" if free else "select(infinity(), nan(), !(sum > 0.0))",
        "index": begins(parameters, 1, lead, (), at0=along),
    }  # fmt: skip
    memory = ((0, STORED[out.dtype]), (1, STORED[x.dtype]))
    return [
        Stage(
            "variance", parts, tuple(parameters.values), memory,
            spread(out.size, WORKERS // lanes),
            includes=lane_includes(lanes, vector=False, machine=machine),
        )
    ]  # fmt: skip


def mse_loss(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """Squares are added up by workgroups, and what those found by one more; all row-major."""
    x, (out,) = inputs[0], outputs
    if op.reduction == "none":
        given = enumerate([Layout.contiguous(each.spec) for each in inputs], 1)
        return [mapped("(a - b) * (a - b)", given, out)] if out.size else []
    mean = op.reduction == "mean"
    if not x.size:
        return [each_element(Parameters(1), [], out, _IN_ORDER, "nan()" if mean else "0.0")]
    if x.size > _LARGEST:
        return Declined("there are too many elements")
    count = min(_PARTS, -(-x.size // _EACH))
    parameters = Parameters(3)
    value = f"sum / {parameters.number(x.size, float32)}" if mean else "sum"
    operands = tuple((i, STORED[each.dtype]) for i, each in enumerate(inputs, 1))
    target = (SCRATCH, "f32") if count > 1 else (0, STORED[out.dtype])
    parts = {
        "lanes": str(WORKERS), "size": parameters.add(x.size),
        "piece": parameters.add(-(-x.size // count)), "value": "sum" if count > 1 else value,
    }  # fmt: skip
    first = Stage(
        "squared_errors", parts, tuple(parameters.values), (target, *operands), (count, 1, 1),
        _ITEM * count if count > 1 else 0, includes=("lanes",),
    )  # fmt: skip
    if count == 1:
        return [first]
    parameters = Parameters(2)
    value = f"sum / {parameters.number(x.size, float32)}" if mean else "sum"
    parts = {"lanes": str(WORKERS), "parts": parameters.add(count), "value": value}
    memory = ((0, STORED[out.dtype]), (SCRATCH, "f32"))
    values = tuple(parameters.values)
    return [first, Stage("parts", parts, values, memory, (1, 1, 1), includes=("lanes",))]


def nll_loss(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """One dispatch over the rows."""
    (x, target), (out,) = inputs, outputs
    if too_wide(target.size):
        return Declined("there are too many rows")
    each = op.reduction == "none"
    if not target.size and not each:
        blank = "nan()" if op.reduction == "mean" else "0.0"
        return [each_element(Parameters(1), [], out, _IN_ORDER, blank)]
    parameters = Parameters(3)
    add = parameters.add
    places: Any = {"place": out.strides} if each else {}
    rows = rows_of(x)
    lines = [
        "let chosen = load1(at1);",
        f"let valid = chosen != {add(op.ignore_index)};",
        f"let inside = chosen >= 0 && chosen < {add(rows.width)};",
        f"let at = at0 + select(0, chosen, inside) * {add(rows.step)};",
        "let picked = select(0.0, load0(select(0, at, inside)), inside);",
    ]
    index = walk(parameters, "i", target.shape, **places, at0=rows.steps, at1=target.strides)
    index = f"{index}\n{indented(lines)}"
    if each:
        value = "select(0.0, -picked, valid)"
        made = each_element(parameters, enumerate(inputs, 1), out, index, value)
        return [made] if out.size else []
    parts = {
        "lanes": str(WORKERS), "rows": add(target.size), "index": index,
        "value": "select(sum / counted, nan(), counted == 0.0)" if op.reduction == "mean"
        else "sum",
    }  # fmt: skip
    memory = tuple((i, STORED[each.dtype]) for i, each in enumerate((out, *inputs)))
    return [
        Stage("nll", parts, tuple(parameters.values), memory, (1, 1, 1), includes=("lanes",))
    ]  # fmt: skip

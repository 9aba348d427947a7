"""softmax, log_softmax and logsumexp along an axis, and gradients: kernels over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.rows import (
    WORKERS,
    Rows,
    begins,
    kind,
    lane_includes,
    lanes_for,
    rows_of,
    too_wide,
)  # fmt: skip
from groundup_webgpu.source import Parameters, Stage, collapsed, spread

Layouts = Sequence[Layout]
_TOO_WIDE: Final = Declined("rows are too wide")
_VALUES: Final = {
    "softmax": {"factor": "1.0 / row.sum", "value": "exp(x - top) * factor"},
    "log_softmax": {"factor": "log(row.sum)", "value": "(x - top) - factor"},
}
_GRADIENTS: Final = {
    "softmax_backward": {"share": "y * dy", "value": "y * (dy - sum)"},
    "log_softmax_backward": {"share": "dy", "value": "dy - exp_of(y) * sum"},
}


def softmax(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage] | Declined:
    """softmax and log_softmax: one dispatch."""
    if not inputs[0].size:
        return []
    includes = ("exponentials",)
    kernel = _AlongAxis("softmax", op.axis, inputs, outputs[0], _VALUES[op.name], includes, machine)
    return kernel.stages()


def softmax_backward(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """The gradients of both: one dispatch."""
    if not inputs[0].size:
        return []
    values = _GRADIENTS[op.name]
    return _AlongAxis(
        "softmax_backward", op.axis, inputs, outputs[0], values, (), machine
    ).stages()  # fmt: skip


@attrs.frozen
class _AlongAxis:
    """A kernel that reads rows of the inputs, of one shape, and writes those of `out`."""

    family: str
    axis: int
    inputs: Layouts
    out: Layout
    values: dict[str, str]
    includes: tuple[str, ...]
    machine: Machine

    def stages(self) -> list[Stage] | Declined:
        every = [rows_of(x, self.axis) for x in (self.out, *self.inputs)]
        if too_wide(every[0].width):
            return _TOO_WIDE
        made = self.stage(every, vector=False)
        if all(rows.in_vectors for rows in every):
            made = attrs.evolve(made, aligned=self.stage(every, vector=True))
        return [made]

    def stage(self, every: Sequence[Rows], vector: bool) -> Stage:
        target, *given = every
        parameters = Parameters(len(every))
        add = parameters.add
        units = target.width // 4 if vector else target.width
        lanes = lanes_for(target.count, units, given[0].step == 1, self.machine)
        places = {f"at{i}": rows.steps for i, rows in enumerate(given)}
        divided = ("place", *places) if vector else ()
        parts = {
            "lanes": str(lanes), "rows": add(target.count), "units": add(units),
            "step": add(target.step), **self.values,
            "index": begins(
                parameters, 1, target.lead, divided, place=target.steps, **places
            ),
            **{f"step{i}": add(rows.step) for i, rows in enumerate(given)},
        }  # fmt: skip
        memory = [(i, kind(x.dtype, vector)) for i, x in enumerate((self.out, *self.inputs))]
        return Stage(
            self.family, parts, tuple(parameters.values), tuple(memory),
            spread(target.count, WORKERS // lanes),
            includes=(*lane_includes(lanes, vector, self.machine), *self.includes),
        )  # fmt: skip


def logsumexp(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """One dispatch, where the axes that are summed over are evenly spaced."""
    (x,), out = inputs, outputs[0]
    if not out.size:
        return []
    axes = range(x.rank) if op.axes is None else sorted(a % x.rank for a in op.axes)
    own, (steps,) = collapsed(tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes))
    if len(own) > 1 and x.size:
        return Declined("the axes are not evenly spaced in memory")
    others = [a for a in range(x.rank) if a not in axes]
    lead, along = (tuple(of[a] for a in others) for of in (x.shape, x.strides))
    rows = Rows(lead, along, own[0] if x.size else 0, steps[0])
    if too_wide(rows.width):
        return _TOO_WIDE
    made = _summed(x, out, rows, machine, vector=False)
    if rows.in_vectors:
        made = attrs.evolve(made, aligned=_summed(x, out, rows, machine, vector=True))
    return [made]


def _summed(x: Layout, out: Layout, rows: Rows, machine: Machine, vector: bool) -> Stage:
    parameters = Parameters(2)
    add = parameters.add
    units = rows.width // 4 if vector else rows.width
    lanes = lanes_for(rows.count, units, rows.step == 1, machine)
    divided = ("at0",) if vector else ()
    parts = {
        "lanes": str(lanes), "rows": add(rows.count), "units": add(units), "step0": add(rows.step),
        "index": begins(parameters, 1, rows.lead, divided, at0=rows.steps),
    }  # fmt: skip
    return Stage(
        "logsumexp", parts, tuple(parameters.values),
        ((0, kind(out.dtype, False)), (1, kind(x.dtype, vector))),
        spread(rows.count, WORKERS // lanes),
        includes=(*lane_includes(lanes, vector, machine), "exponentials"),
    )  # fmt: skip

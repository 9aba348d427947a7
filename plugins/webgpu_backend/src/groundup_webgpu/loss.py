"""cross_entropy and its gradient: kernels over rows of logits, and one over the rows' losses."""

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
from groundup_webgpu.source import SCRATCH, STORED, Parameters, Stage, spread, walk

Layouts = Sequence[Layout]
_REDUCED: Final = {"mean": "select(sum / counted, nan(), counted == 0.0)", "sum": "sum"}
_HOT: Final = "select(0.0, factor, known && c == chosen)"
_HOT_VECTOR: Final = (
    "select(Unit(), Unit(factor), vec4<bool>(known)"
    " & (c * 4 + vec4<i32>(0, 1, 2, 3) == vec4<i32>(chosen)))"
)


def cross_entropy(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """A dispatch over the logits; for a mean or a sum a second one over the rows."""
    refused = _refused(inputs[0])
    if refused is not None:
        return refused
    forward = _Forward(op, inputs[0], inputs[1], outputs, machine)
    stages = []
    if inputs[1].size:
        made = forward.rows_stage(vector=False)
        if forward.rows.in_vectors:
            made = attrs.evolve(made, aligned=forward.rows_stage(vector=True))
        stages.append(made)
    return stages if op.reduction == "none" else [*stages, forward.sum_stage()]


def cross_entropy_backward(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """A dispatch over the logits; for a mean one before it that counts the rows."""
    refused = _refused(inputs[0])
    if refused is not None or not inputs[0].size:
        return refused or []
    backward = _Backward(op, inputs, outputs[0], machine)
    made = backward.rows_stage(vector=False)
    if backward.rows.in_vectors:
        made = attrs.evolve(made, aligned=backward.rows_stage(vector=True))
    return [backward.count_stage(), made] if op.reduction == "mean" else [made]


def _refused(logits: Layout) -> Declined | None:
    if too_wide(logits.shape[-1]) or too_wide(rows_of(logits).count):
        return Declined("there are too many rows or classes")
    return None


@attrs.frozen
class _Forward:
    op: Any
    logits: Layout
    target: Layout
    outputs: Layouts
    machine: Machine

    @property
    def rows(self) -> Rows:
        return rows_of(self.logits)

    def rows_stage(self, vector: bool) -> Stage:
        parameters = Parameters(4)
        add = parameters.add
        rows, alone = self.rows, self.op.reduction == "none"
        units = rows.width // 4 if vector else rows.width
        lanes = lanes_for(rows.count, units, rows.step == 1, self.machine)
        count, step = add(rows.count), add(rows.step)
        picked = f"load0(at0 + class_id * {step})"
        if vector:
            picked = "load0(at0 + class_id / 4)[class_id % 4]"
        parts = {
            "lanes": str(lanes), "rows": count, "units": add(units), "step0": step,
            "classes": add(rows.width), "ignored": add(self.op.ignore_index), "picked": picked,
            "index": begins(
                parameters, 2, rows.lead, ("at0",) if vector else (),
                at0=rows.steps, at1=self.target.strides,
            ),
            "more": "" if alone else f"        save(param(0u) + {count} + i, f32(counts));",
        }  # fmt: skip
        loss = (0, STORED[self.outputs[0].dtype]) if alone else (SCRATCH, "f32")
        memory = (loss, (1, "f32"), (2, kind(self.logits.dtype, vector)), (3, "i32"))
        return Stage(
            "cross_entropy", parts, tuple(parameters.values), memory,
            spread(rows.count, WORKERS // lanes), scratch=0 if alone else 8 * rows.count, written=2,
            includes=(*lane_includes(lanes, vector, self.machine), "exponentials"),
        )  # fmt: skip

    def sum_stage(self) -> Stage:
        parameters = Parameters(2)
        parts = {
            "rows": parameters.add(self.rows.count), "lanes": str(WORKERS),
            "value": _REDUCED[self.op.reduction],
        }  # fmt: skip
        return Stage(
            "row_losses", parts, tuple(parameters.values),
            ((0, STORED[self.outputs[0].dtype]), (SCRATCH, "f32")), (1, 1, 1),
            scratch=8, includes=("lanes",),
        )  # fmt: skip


@attrs.frozen
class _Backward:
    op: Any
    inputs: Layouts  # logits, target, logsumexp, grad, grad of logsumexp
    out: Layout
    machine: Machine

    @property
    def rows(self) -> Rows:
        return rows_of(self.inputs[0])

    def count_stage(self) -> Stage:
        target = self.inputs[1]
        parameters = Parameters(2)
        parts = {
            "rows": parameters.add(target.size), "ignored": parameters.add(self.op.ignore_index),
            "lanes": str(WORKERS), "index": walk(parameters, "i", target.shape, at0=target.strides),
        }  # fmt: skip
        return Stage(
            "counted_rows", parts, tuple(parameters.values), ((SCRATCH, "f32"), (2, "i32")),
            (1, 1, 1), scratch=8, includes=("lanes",),
        )  # fmt: skip

    def rows_stage(self, vector: bool) -> Stage:
        logits, *given = self.inputs
        mean = self.op.reduction == "mean"
        parameters = Parameters(7 if mean else 6)
        add = parameters.add
        rows = self.rows
        units = rows.width // 4 if vector else rows.width
        lanes = lanes_for(rows.count, units, rows.step == 1, self.machine)
        steps = [x.strides if x.rank == len(rows.lead) else (0,) * len(rows.lead) for x in given]
        parts = {
            "lanes": str(lanes), "rows": add(rows.count), "units": add(units),
            "step0": add(rows.step), "classes": add(rows.width),
            "ignored": add(self.op.ignore_index), "hot": _HOT_VECTOR if vector else _HOT,
            "mean": " / load5(param(6u))" if mean else "",
            "index": begins(
                parameters, 1, rows.lead, ("at0",) if vector else (), at0=rows.steps,
                **{f"at{i}": own for i, own in enumerate(steps, 1)},
            ),
        }  # fmt: skip
        memory = [(0, kind(self.out.dtype, vector)), (1, kind(logits.dtype, vector))]
        memory += [(i, STORED[x.dtype]) for i, x in enumerate(given, 2)]
        if mean:
            memory.append((SCRATCH, "f32"))
        return Stage(
            "cross_entropy_backward", parts, tuple(parameters.values), tuple(memory),
            spread(rows.count, WORKERS // lanes),
            includes=lane_includes(lanes, vector, self.machine),
        )  # fmt: skip

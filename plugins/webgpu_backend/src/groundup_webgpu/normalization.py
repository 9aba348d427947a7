"""layer_norm, rms_norm, both behind a residual addition, and their gradients: kernels over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from groundup import dtypes
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
    zeros,
)  # fmt: skip
from groundup_webgpu.source import SCRATCH, STORED, Parameters, Stage, spread

Layouts = Sequence[Layout]
_KEPT: Final = {False: 16, True: 8}  # numbers, or vectors, of each operand in a thread's registers
_ROWS_EACH: Final = 16  # that a workgroup adds up before its sums go to memory
_SOFTWARE_ROWS: Final = 1024  # the same without a GPU; see TURNS, and each row has four loops more
_PIECES: Final = 1024  # sums that are kept in scratch memory at most


def normalized(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """The four forward ops: one dispatch, which reads each row once from memory."""
    if not outputs[0].size:
        return []
    count = 2 if op.residual else 1
    forward = _Forward(op, inputs[:count], inputs[count:], outputs, machine)
    if too_wide(inputs[0].shape[-1]):
        return Declined("rows are too wide")
    made = forward.stage(vector=False)
    if not forward.in_vectors:
        return [made]
    return [attrs.evolve(made, aligned=forward.stage(vector=True))]


@attrs.frozen
class _Forward:
    op: Any
    xs: Layouts  # x, or x and what is added to it
    vectors: Layouts  # weight and perhaps bias
    outputs: Layouts
    machine: Machine

    @property
    def in_vectors(self) -> bool:
        """Whether all that is read are whole vectors, but for where the memory begins."""
        return all(rows_of(x).in_vectors for x in (*self.xs, *self.vectors))

    def stage(self, vector: bool) -> Stage:
        written, given = len(self.outputs), (*self.xs, *self.vectors)
        parameters = Parameters(written + len(given))
        add = parameters.add
        rows = rows_of(self.xs[0])
        units = rows.width // 4 if vector else rows.width
        lanes = lanes_for(rows.count, units, rows.step == 1, self.machine)
        steps = [add(1 if vector else x.strides[-1]) for x in given]
        loads = [
            f"load{i}({self._begin(i, written, vector)} + c * {step})"
            for i, step in enumerate(steps)
        ]
        n = len(self.xs)
        names, rms = [f"at{i}" for i in range(n)], "rms" in self.op.name
        parts = {
            "lanes": str(lanes), "rows": add(rows.count), "units": add(units),
            "share": parameters.number(1 / rows.width, dtypes.float32),
            "eps": parameters.number(self.op.eps, dtypes.float32),
            "index": begins(
                parameters, written, rows.lead, names if vector else (),
                **{name: rows_of(x).steps for name, x in zip(names, self.xs, strict=True)},
            ),
            "x": f"({' + '.join(loads[:n])})", "weight": loads[n],
            "bias": f" + {loads[n + 1]}" if len(loads) > n + 1 else "",
            "mean": "0.0" if rms else f"mean_of({', '.join(names)}, lane, thread)",
            "places": ", ".join(f"{name}: i32" for name in names),
            "more": "            save1(param(1u) / WIDTH + goal, value);" if written > 1 else "",
        }  # fmt: skip
        memory = [(i, kind(x.dtype, vector)) for i, x in enumerate((*self.outputs, *given))]
        return Stage(
            "normalization", parts, tuple(parameters.values), tuple(memory),
            spread(rows.count, WORKERS // lanes), written=written,
            includes=lane_includes(lanes, vector, self.machine),
        )  # fmt: skip

    def _begin(self, i: int, written: int, vector: bool) -> str:
        if i < len(self.xs):
            return f"at{i}"
        return f"param({written + i}u){' / WIDTH' if vector else ''}"


def normalized_backward(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """Two dispatches: dx with each workgroup's sums over its rows, then the sums of those."""
    x = inputs[0]
    if not x.size:
        return [zeros(i, out) for i, out in enumerate(outputs) if out.size]
    backward = _Backward(op, inputs, outputs, machine)
    if x.shape[-1] > WORKERS * _KEPT[False]:
        return Declined("rows are too wide for a workgroup's registers")
    made = backward.rows_stage(vector=False)
    if all(rows_of(each).in_vectors for each in inputs):
        made = attrs.evolve(made, aligned=backward.rows_stage(vector=True))
    return [made, backward.sums_stage()]


@attrs.frozen
class _Backward:
    op: Any
    inputs: Layouts  # x, weight, grad and perhaps what is added to dx
    outputs: Layouts
    machine: Machine

    @property
    def rows(self) -> Rows:
        return rows_of(self.inputs[0])

    @property
    def turns(self) -> int:
        """Rows of one workgroup."""
        if self.machine.software:
            return min(self.rows.count, _SOFTWARE_ROWS)
        return max(-(-self.rows.count // _PIECES), min(self.rows.count, _ROWS_EACH))

    @property
    def pieces(self) -> int:
        """Workgroups, each with sums of its own."""
        return -(-self.rows.count // self.turns)

    def rows_stage(self, vector: bool) -> Stage:
        _, weight, *grads = self.inputs
        parameters = Parameters(2 + len(self.inputs))
        add = parameters.add
        rows, per = self.rows, 4 if vector else 1
        units = rows.width // per
        lanes = min(WORKERS, max(32, 1 << (-(-units // 2) - 1).bit_length()))
        rms = "rms" in self.op.name
        share = parameters.number(1 / rows.width, dtypes.float32)
        mean = "0.0" if rms else f"total(sum_of(share), thread) * {share}"
        steps = [add(1 if vector else grad.strides[-1]) for grad in grads]
        starts = {f"at{k}": rows_of(grad).steps for k, grad in enumerate(grads, 2)}
        parts = {
            "lanes": str(lanes), "threads": str(lanes), "count": str(-(-units // lanes)),
            "rows": add(rows.count), "units": add(units), "turns": add(self.turns),
            "pieces": add(self.pieces),
            "weight_step": add(1 if vector else weight.strides[0]),
            "step0": add(1 if vector else rows.step), "step2": steps[0],
            "more": f" + load3(at3 + place{{k}} * {steps[1]})" if steps[1:] else "",
            "share": share, "mean": mean, "level": mean,
            "eps": parameters.number(self.op.eps, dtypes.float32),
            "index": begins(
                parameters, 2, rows.lead, ("at0", *starts) if vector else (),
                at0=rows.steps, **starts,
            ),
        }  # fmt: skip
        given = enumerate(self.inputs, len(self.outputs))
        memory = (
            (0, kind(self.outputs[0].dtype, vector)), (SCRATCH, kind(dtypes.float32, vector)),
            *[(i, kind(each.dtype, vector)) for i, each in given],
        )  # fmt: skip
        return Stage(
            "normalization_backward", parts, tuple(parameters.values), memory,
            spread(self.pieces, 1), scratch=8 * self.pieces * rows.width, written=2,
            includes=lane_includes(lanes, vector, self.machine),
        )  # fmt: skip

    def sums_stage(self) -> Stage:
        targets = list(enumerate(self.outputs))[1:]
        parameters = Parameters(len(targets) + 1)
        parts = {
            "width": parameters.add(self.rows.width), "pieces": parameters.add(self.pieces),
            "begin": f"param({len(targets)}u)",
            "more": "        save1(param(1u) + column, second[thread]);" if targets[1:] else "",
        }  # fmt: skip
        memory = (*[(i, STORED[out.dtype]) for i, out in targets], (SCRATCH, "f32"))
        return Stage(
            "column_sums", parts, tuple(parameters.values), memory,
            spread(self.rows.width, 16), written=len(targets),
        )  # fmt: skip

"""fused: one thread an element, one statement a step of the body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from groundup.backends.api import Declined
from groundup.dtypes import DType
from groundup.layout import Spec
from groundup.ops.fusion import printed
from groundup.ops.op import Op
from groundup_cuda.expressions import computed, expression
from groundup_cuda.maps import map_stage
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import OUT, Parameters


def lower_fused(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered | Declined:
    """Its body in CUDA C++. Values between its steps are not rounded to 16 bits."""
    (out,) = outputs
    parameters = Parameters(1 + len(inputs))
    specs = [Spec(out.shape, layout.dtype) for layout in inputs]

    def number(value: float, dtype: DType) -> str:
        return parameters.number(value, computed(dtype))

    steps = printed(op, specs, _text, number)
    if isinstance(steps, Op):
        return Declined(f"fused: no expression for {steps!r}")
    kinds = [computed(spec.dtype) for spec in op.results(*specs)]
    lines = [f"const {kind} t{k} = {t};" for k, (kind, t) in enumerate(zip(kinds, steps[:-1]))]  # noqa: B905
    names = [f"x{k}" for k in range(len(inputs))]
    operands = [OUT, *range(len(inputs))]
    made = map_stage(
        "fused", parameters, operands, (out, *inputs), names, steps[-1], lines
    )  # fmt: skip
    in_place = op.aliases if inputs[0].is_row_major else {}
    return Lowered([made], in_place=in_place)


def _text(op: Op, dtypes: Sequence[DType]) -> str | None:
    return expression(repr(op), dtypes[-1])

"""Reference of fused: those of the ops in its body, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup.dtypes import as_dtype
from groundup.layout import Spec
from groundup.ops.fusion import Step, number_in
from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import exact, reference


@reference("fused")
@exact("fused")
def _fused(op: Any, *inputs: Number | Array) -> Number | Array:
    """Each step is rounded as its op alone would be; who keeps more digits is nearer still."""
    # Registered from here, evaluation would import itself.
    from groundup_conformance.oracle.evaluation import evaluate_numbers

    specs = [_spec(x) for x in inputs]
    results = op.results(*specs)
    profile = next((x.profile for x in inputs if isinstance(x, Number)), None)
    values: list[Any] = []
    for step in op.steps:
        given = _operands(step, op.operands(step, specs, results), inputs, values)
        values += evaluate_numbers(step.op, given, profile)  # type: ignore[arg-type]
    return values[-1]  # type: ignore[no-any-return]


def _operands(
    step: Step, specs: list[Spec], inputs: tuple[Number | Array, ...], values: list[Any]
) -> list[Any]:
    """What a step is given; its numbers as arrays, or as constants beside a Number."""
    known: list[Any] = [
        None if isinstance(place, tuple) else inputs[place] if place >= 0 else values[~place]
        for place in step.operands
    ]
    beside = next((x for x in known if isinstance(x, Number)), None)
    for i, (place, spec) in enumerate(zip(step.operands, specs, strict=True)):
        if isinstance(place, tuple):
            number = number_in(place[0], spec.dtype)
            known[i] = number if beside is None else beside.constant(number.astype(np.float64))
    return known


def _spec(x: Number | Array) -> Spec:
    dtype = x.dtype if isinstance(x, Number) else as_dtype(x.dtype)
    return Spec(x.shape, dtype)

"""References of recast and foreach_cast: those of cast and of the op in between."""

from __future__ import annotations

from typing import Any

from groundup.dtypes import DType
from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import exact, reference


@reference("recast")
@exact("recast")
def _recast(op: Any, *inputs: Number | Array) -> tuple[Any, ...]:
    """Each cast rounds; who keeps more digits is nearer still."""
    # Registered from here, evaluation would import itself.
    from groundup_conformance.oracle.evaluation import evaluate_numbers

    profile = next((x.profile for x in inputs if isinstance(x, Number)), None)
    given = list(inputs)
    for place, dtype in op.given:
        given[place] = _cast(given[place], dtype)
    results = list(evaluate_numbers(op.op, given, profile))  # type: ignore[arg-type]
    again = [_cast(results[place], dtype) for place, dtype in op.again]
    for place, dtype in op.made:
        results[place] = _cast(results[place], dtype)
    return (*results, *again)


@reference("foreach_cast")
@exact("foreach_cast")
def _foreach_cast(op: Any, *inputs: Number | Array) -> tuple[Any, ...]:
    return tuple(_cast(x, op.dtype) for x in inputs)


def _cast(x: Number | Array, dtype: DType) -> Number | Array:
    return x.to(dtype) if isinstance(x, Number) else x.astype(dtype.numpy)

"""Verdicts on results: against the oracle, against their own first period, on the memory around.

A result that does not hold raises `Failed`, whose text is all that there is to say about it.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from groundup.ops.op import Op
from groundup.tensor import Tensor
from groundup_conformance import guess
from groundup_conformance.budgets import Expected, Verdict
from groundup_conformance.budgets.units import Array
from groundup_conformance.grids import tiled_axis
from groundup_conformance.memory import Guard, Placed
from groundup_conformance.samples import outputs


@attrs.frozen
class Figures:
    """What a case measured: the largest error over its budget, the largest error in ULP."""

    ratio: float | None = None
    ulp: float | None = None

    def worst(self, other: Figures) -> Figures:
        """The larger of each."""
        return Figures(larger(self.ratio, other.ratio), larger(self.ulp, other.ulp))


class Failed(AssertionError):
    """A case that does not hold; the text says what was got, what was wanted, and a guess why."""

    def __init__(self, text: str, figures: Figures | None = None) -> None:
        super().__init__(text)
        self.figures = figures or Figures()


def judge_all(
    guard: Guard,
    op: Op,
    operands: Sequence[Placed],
    results: Sequence[Tensor],
    expected: Sequence[Expected],
) -> Figures:
    """All results of an op: shapes and dtypes, values, the memory around them, the inputs."""
    specs = outputs(op, [x.layout.spec for x in operands])
    if [y.spec for y in results] != list(specs):
        raise Failed(f"the results are {[y.spec for y in results]}, the op says {list(specs)}")
    figures = Figures()
    for index, (y, wanted) in enumerate(zip(results, expected, strict=True)):
        got, damage = guard.fetch(y)
        what = "the result" if len(results) == 1 else f"result {index}"
        axis = tiled_axis(wanted.value.shape, got.shape)
        verdict = wanted.judge(got) if axis is None else judge_tiled(wanted, got, axis)
        figures = figures.worst(_figures(verdict))
        if not verdict.ok:
            cause = guess.cause(op, operands, got, wanted, verdict)
            raise Failed(_text(what, verdict, cause), _figures(verdict))
        raise_damage(damage, figures)
    raise_damage(guard.check(), figures)
    return figures


def judge_arrays(op: Op, got: Sequence[Array], expected: Sequence[Expected]) -> Figures:
    """The same for results that are on the host already."""
    figures = Figures()
    for index, (result, wanted) in enumerate(zip(got, expected, strict=True)):
        verdict = wanted.judge(result)
        figures = figures.worst(_figures(verdict))
        if not verdict.ok:
            raise Failed(_text(f"result {index}", verdict, None), _figures(verdict))
    return figures


def judge_gradient(
    guard: Guard, what: str, got: Tensor | None, wanted: Expected | None, operand: Placed
) -> Figures:
    """One gradient; a missing one stands for zeros."""
    if got is None:
        if wanted is not None and not wanted.judge(np.zeros_like(operand.array)).ok:
            raise Failed(f"{what} is missing\nguess: a term of the vjp is dropped")
        return Figures()
    values, damage = guard.fetch(got)
    raise_damage(damage)
    if wanted is None:
        if values.any():
            raise Failed(f"{what} must be 0 or missing, it has {values[values != 0][0]!r}")
        return Figures()
    verdict = wanted.judge(values)
    if not verdict.ok:
        cause = guess.cause_of_gradient(values, wanted, verdict)
        raise Failed(_text(what, verdict, cause), _figures(verdict))
    return _figures(verdict)


def judge_tiled(expected: Expected, got: Array, axis: int) -> Verdict:
    """A result that repeats along an axis: its first period, and whatever differs from that.

    Vectorised kernels may treat the last elements by other means, so other bits are no fault.
    """
    period = expected.value.shape[axis]
    rows = np.moveaxis(got, axis, 0)
    verdict = expected.judge(np.ascontiguousarray(np.moveaxis(rows[:period], 0, axis)))
    place = np.arange(len(rows)) % period
    different = np.nonzero(unlike(rows, rows[place]))
    if not verdict.ok or not different[0].size:
        return verdict
    at = (place[different[0]], *different[1:])
    found = expected.at(at, axis).judge(rows[different])
    if found.index is not None:
        first, *rest = (int(places[found.index[0]]) for places in different)
        found = attrs.evolve(found, index=(*rest[:axis], first, *rest[axis:]))
    return verdict if found.ok and found.ratio <= verdict.ratio else found


def _text(what: str, verdict: Verdict, cause: str | None) -> str:
    text = f"{what}: {verdict}"
    return text if cause is None else f"{text}\nguess: {cause}"


def _figures(verdict: Verdict) -> Figures:
    return Figures(float(verdict.ratio), float(verdict.ulp))


def raise_damage(damage: str | None, figures: Figures | None = None) -> None:
    """Raise Failed if there is damage."""
    if damage is not None:
        raise Failed(damage, figures)


def same_bits(one: Array, two: Array) -> bool:
    """Whether two results are equal, NaN to NaN."""
    return one.shape == two.shape and not unlike(one, two).any()


def unlike(one: Array, two: Array) -> Array:
    """Where two results differ; NaN is like NaN."""
    different: Array = ~((one == two) | ((one != one) & (two != two)))
    return different


def sum_of(parts: Sequence[Expected | None]) -> Expected | None:
    """What the sum of several gradients must be: budgets add up, and so do their roundings."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    first, value = known[0], np.sum([part.value for part in known], axis=0)
    sizes = np.sum([np.abs(part.value) for part in known], axis=0)
    each = np.where(np.isfinite(sizes), first.profile.rounded(sizes, first.dtype), 0.0)
    added = (len(known) - 1) * each  # what is infinite has no rounding
    budget = np.sum([part.budget + np.zeros(value.shape) for part in known], axis=0) + added
    zeros = None
    if any(part.flushed is not None for part in known):
        zeros = sum_of([part.flushed or part for part in known])
    return attrs.evolve(first, value=value, budget=budget, flushed=zeros)


def input_name(op: Op, place: int) -> str:
    """What the op calls that input."""
    return op.inputs[place] if place < len(op.inputs) and not op.variadic else f"input {place}"


def larger(one: float | None, two: float | None) -> float | None:
    """The larger of what is known."""
    known = [value for value in (one, two) if value is not None]
    return max(known, default=None)

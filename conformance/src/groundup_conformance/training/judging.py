"""How near a training run must come to the one in float64.

The limits were measured, not chosen: each lies well above what correct float32 arithmetic shows
(the cpu backend's kernels and compositions, and results that are off by up to 4 ULP after every op)
and well below what wrong arithmetic shows (TF32 products, a gradient that is 1 % too small, a
missing term of a norm's gradient). The tests repeat both measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt

from groundup.dtypes import DType, bfloat16, float16, float32
from groundup_conformance.budgets import Expected, Profile, Verdict
from groundup_conformance.training.models import NETWORKS
from groundup_conformance.training.runs import (
    RECIPES,
    Arrays,
    Precision,
    Trace,
    first_update,
    wanted,
)

_EARLY: Final = 50  # steps; after them, a legal difference has had time to grow


@attrs.frozen
class Limits:
    """Relative errors: of losses in the first steps and later, and of gradients by their
    largest element.
    """

    early: float
    late: float
    gradient: float


_FULL: Final[Mapping[str, Limits]] = {
    "ieee": Limits(early=5e-6, late=2e-5, gradient=5e-6),
    "wgsl": Limits(early=2e-5, late=6e-5, gradient=4e-5),
}
_UNITS: Final = {bfloat16: 2.0**-8, float16: 2.0**-11}


def limits(dtype: DType, profile: Profile) -> Limits:
    """Those of runs whose contractions compute in `dtype`."""
    if dtype is float32:
        return _FULL[profile.name]
    unit = _UNITS[dtype]
    return Limits(early=1.5 * unit, late=1.5 * unit, gradient=8 * unit)


def judge_losses(got: Trace, want: Trace, precision: Precision, profile: Profile) -> Verdict:
    """The loss of every step."""
    losses = want.losses[: precision.steps]
    limit = limits(precision.dtype, profile)
    relative = np.where(np.arange(len(losses)) < _EARLY, limit.early, limit.late)
    return Expected(losses, float32, relative * losses, profile).judge(got.losses)


def judge_gradients(got: Trace, want: Trace, precision: Precision, profile: Profile) -> Verdict:
    """The gradients of the first step, each parameter by its largest one; the worst of them."""
    limit = limits(precision.dtype, profile).gradient

    def judged(name: str, value: npt.NDArray[Any]) -> Verdict:
        budget = np.full(value.shape, limit * np.abs(value).max())
        return Expected(value, float32, budget, profile).judge(got.gradients[name])

    return worst(want.gradients, judged)


def judge_update(got: Trace, network: str, recipe: str, profile: Profile) -> Verdict:
    """The parameters after one step, between those that too small and too large gradients give.

    Adam's first step is nearly lr * sign(g): where g is hardly more than its error, it is free, and
    everywhere else exact. Updates grow with the gradient, so that the two ends bound what is legal.
    """
    want = wanted(network, recipe)
    limit = _FULL[profile.name].gradient
    ends = []
    for sign in (-1, 1):
        moved = {n: g + sign * limit * np.abs(g).max() for n, g in want.gradients.items()}
        ends.append(first_update(NETWORKS[network], RECIPES[recipe], moved))
    rate = RECIPES[recipe].rate(0)

    def judged(name: str, value: npt.NDArray[Any]) -> Verdict:
        spread = np.maximum(*(np.abs(end[name] - value) for end in ends))
        rounding = 2.0**-22 * (np.abs(value) + rate)  # of the update itself, in float32
        return Expected(value, float32, spread + rounding, profile).judge(got.after_one[name])

    return worst(want.after_one, judged)


def worst(values: Arrays, judged: Callable[[str, npt.NDArray[Any]], Verdict]) -> Verdict:
    """The verdict with the largest ratio, its reason beginning with the name."""
    verdicts = {name: judged(name, value) for name, value in values.items()}
    name = max(verdicts, key=lambda name: verdicts[name].ratio)
    return attrs.evolve(verdicts[name], reason=f"{name}: {verdicts[name]}")

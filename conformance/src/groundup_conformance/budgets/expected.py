"""What a result must be and how far from it one may be; judging a result by that."""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from groundup.dtypes import DType, as_dtype
from groundup_conformance.budgets.profile import Profile
from groundup_conformance.budgets.units import FORMATS, Array, ulp

# A ratio is an error over a budget, both rounded to float64 themselves.
_ONE: Final = 1.0 + 1e-9


@attrs.frozen(eq=False)
class Verdict:
    """How a result compares. `ratio` is the largest error over its budget; at most 1 passes."""

    ok: bool
    ratio: float
    ulp: float  # the largest finite error in ULP of the result's dtype
    index: tuple[int, ...] | None  # of the worst element, None if there is none
    got: float | int | bool | None = None
    wanted: float | int | bool | None = None
    budget: float = 0.0
    failed: Array | None = None  # where the budget is exceeded
    reason: str = ""  # where shape or dtype are wrong, what is wrong

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        if self.index is None:
            return "nothing to compare"
        count = 0 if self.failed is None else int(self.failed.sum())
        total = 0 if self.failed is None else self.failed.size
        return (
            f"ratio {self.ratio:.3g}, {self.ulp:.3g} ULP, worst at {self.index}: "
            f"got {self.got!r}, wanted {self.wanted!r} +- {self.budget:.3g}; "
            f"{count} of {total} elements are out of budget"
        )


@attrs.frozen(eq=False)
class Expected:
    """The exact result of one output.

    `value` is float64, or holds integers or bools exactly. `budget` is the absolute error that each
    element may have: 0 demands the value itself, inf means that nothing is promised.
    `sign_of_zero` says whether -0 and +0 differ: where values are moved, not computed. `flushed` is
    what else the result may be, element by element, because inputs were subnormal.
    """

    value: Array
    dtype: DType
    budget: Array
    profile: Profile
    sign_of_zero: bool = False
    flushed: Expected | None = None

    def judge(self, got: Array) -> Verdict:
        """Compare what a backend computed. NaN must meet NaN, an infinity the same infinity.

        A finite result whose budget reaches beyond the dtype's range may be infinite; one that lies
        beyond must be (on `wgsl` the largest number will do).
        """
        reason = self._misfit(got)
        if reason:
            return Verdict(False, np.inf, np.inf, None, reason=reason)
        if not got.size:
            return Verdict(True, 0.0, 0.0, None)
        ratio, error = self._judged(got)
        worst = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        failed = ~(ratio <= _ONE)
        finite = np.isfinite(error)
        with np.errstate(invalid="ignore"):
            ulps = error / ulp(self.value, self.dtype) if self.dtype.is_floating else error
        return Verdict(
            ok=not failed.any(),
            ratio=float(ratio[worst]),
            ulp=float(ulps[finite].max()) if finite.any() else 0.0,
            index=tuple(int(i) for i in worst),
            got=got[worst].item(),
            wanted=self.value[worst].item(),
            budget=float(np.broadcast_to(self.budget, self.value.shape)[worst]),
            failed=failed,
        )

    def rounded(self) -> Array:
        """The value in the result's dtype: what an ideal device returns."""
        with np.errstate(all="ignore"):
            return self.value.astype(self.dtype.numpy)

    def at(self, places: tuple[Array, ...], axis: int) -> Expected:
        """The elements at `places`, of which the first counts along `axis`."""
        value, budget = np.broadcast_arrays(self.value, self.budget)
        return attrs.evolve(
            self,
            value=np.moveaxis(value, axis, 0)[places],
            budget=np.moveaxis(budget, axis, 0)[places],
            flushed=None if self.flushed is None else self.flushed.at(places, axis),
        )

    def _misfit(self, got: Array) -> str:
        if got.shape != self.value.shape:
            return f"the result has shape {got.shape}, not {self.value.shape}"
        if as_dtype(got.dtype) is not self.dtype:
            return f"the result is {got.dtype}, not {self.dtype}"
        return ""

    def _judged(self, got: Array) -> tuple[Array, Array]:
        """Error over budget, and error, per element; the better where there are two."""
        ratio, error = self._floats(got) if self.dtype.is_floating else self._exact(got)
        if self.flushed is None:
            return ratio, error
        other_ratio, other_error = self.flushed._judged(got)
        better = other_ratio < ratio
        return np.where(better, other_ratio, ratio), np.where(better, other_error, error)

    def _exact(self, got: Array) -> tuple[Array, Array]:
        error = np.abs(got.astype(np.float64) - self.value.astype(np.float64))
        equal = got == self.value
        error = np.where(equal, 0.0, np.maximum(error, 1.0))  # int64 may differ by less than an ULP
        free = np.isinf(np.broadcast_to(self.budget, self.value.shape))
        return np.where(equal | free, 0.0, np.inf), error

    def _floats(self, got: Array) -> tuple[Array, Array]:
        found, wanted, budget = got.astype(np.float64), self.value, self.budget
        kind = FORMATS[self.dtype]
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.abs(found - wanted)
            ratio = np.where(error <= 0, 0.0, error / budget)
            # Infinite results: right if the value, give or take its budget, can round to them.
            reaches = np.abs(wanted) + budget >= kind.overflow
            same_side = np.isinf(found) & (np.sign(found) == np.sign(wanted))
            beyond = np.abs(wanted) - budget >= kind.overflow
            must_be_finite = np.isinf(found) & ~(reaches & same_side)
        ratio = np.where(same_side & reaches, 0.0, ratio)
        ratio = np.where(must_be_finite, np.inf, ratio)
        saturated = (np.abs(found) == kind.largest) & (np.sign(found) == np.sign(wanted))
        allowed = saturated & np.isfinite(wanted) if self.profile.flushes else False
        ratio = np.where(beyond & ~same_side, np.where(allowed, 0.0, np.inf), ratio)
        nan_wanted, nan_found = np.isnan(wanted), np.isnan(found)
        ratio = np.where(nan_wanted | nan_found, np.where(nan_wanted & nan_found, 0, np.inf), ratio)
        if self.sign_of_zero and self.profile.signed_zeros:
            zeros = (found == 0) & (wanted == 0)
            ratio = np.where(zeros & (np.signbit(found) != np.signbit(wanted)), np.inf, ratio)
        ratio = np.where(np.isposinf(budget), 0.0, ratio)
        return ratio, np.where(np.isnan(error), np.inf, error)

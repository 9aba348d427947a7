"""What a kind of device may do at each step of a computation: the abstract `Profile`.

A profile bounds the error that one operation adds by itself; how errors of operands travel through
an operation is the same for all devices and stands in `oracle.number`. Bounds are absolute, per
element.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import numpy as np

from groundup.dtypes import DType, float64
from groundup_conformance.budgets.units import Array, Floats, accumulator, ulp, unit

# The oracle computes in float64, so where the dtype is float64 too, both are off: each by as much.
_BOTH: Final = 2.0
# The oracle's own roundings, of 2^-53, against those of narrower formats.
_SLACK: Final = 1.0 + 2.0**-20


def doubled(dtype: DType) -> float:
    """2 for float64, where the oracle errs as much as the device; just above 1 for others."""
    return _BOTH if dtype is float64 else _SLACK


class Profile(ABC):
    """The numerics of a class of devices."""

    name: str
    signed_zeros: bool  # whether -0 and +0 are told apart where nothing is computed
    flushes: bool  # whether subnormal numbers may become 0
    # ULP of a sum, difference, product and of storing; of a quotient; of a square root.
    rounded_ulp: float
    quotient_ulp: float
    root_ulp: float

    def rounded(self, value: Array, dtype: DType) -> Floats:
        """Of + - * and of rounding to `dtype`; value is the exact result."""
        return ulp(value, dtype) * (self.rounded_ulp * doubled(dtype))

    def quotient(self, value: Array, dtype: DType) -> Floats:
        """Of x / y."""
        return ulp(value, dtype) * (self.quotient_ulp * doubled(dtype))

    def root(self, value: Array, dtype: DType) -> Floats:
        """Of the square root."""
        return ulp(value, dtype) * (self.root_ulp * doubled(dtype))

    def summed(self, steps: Array | int, magnitude: Array, dtype: DType) -> Floats:
        """Of a sum with `steps` roundings, in any order; magnitude is the sum of the |terms|.

        No order does worse than `steps` units. Roundings do not conspire, so that their sum grows
        like a square root (Higham and Mary, 2019): 8 + 2 sqrt(steps) units accept every order of
        summation that was measured, sequential ones included, and no narrower arithmetic.
        Narrow floats accumulate in float32, or the result would depend on how a device is built.
        """
        kind = accumulator(dtype)
        likely = 8 + 2 * np.sqrt(steps)
        worst = np.minimum(np.asarray(steps, np.float64), likely)
        units = worst * unit(kind) * (2 * self.rounded_ulp * doubled(kind))
        found: Floats = np.asarray(units * magnitude, np.float64)
        return found

    def settled(
        self, value: Array, through: Array | float, local: Array | float
    ) -> tuple[Array, Array | float]:
        """The result of an operation and the bound of its error.

        `through` is what errors of operands do to it, `local` what it may add itself.
        """
        return value, through + local

    @abstractmethod
    def function(
        self, name: str, x: Array, value: Array, sensitivity: Array, dtype: DType
    ) -> Floats:
        """Of a transcendental function. `value` is f(x), `sensitivity` |x f'(x)|."""

    @abstractmethod
    def power(
        self, base: Array, exponent: Array, value: Array, sensitivity: Array, dtype: DType
    ) -> Floats:
        """Of base to the power exponent; `sensitivity` is the larger of |x df/dx| and |y df/dy|."""

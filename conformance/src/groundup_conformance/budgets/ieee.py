"""The profile of IEEE 754 devices: the CPU, and CUDA without fast-math."""

from __future__ import annotations

from typing import Final

import numpy as np

from groundup.dtypes import DType
from groundup.ops.op import REGISTRY
from groundup_conformance.budgets.profile import Profile, doubled
from groundup_conformance.budgets.units import Array, Floats, ulp, unit


class Ieee(Profile):
    """+ - * / and the square root round to nearest; functions within their op's accuracy class."""

    name = "ieee"
    signed_zeros = True
    flushes = False
    rounded_ulp = quotient_ulp = root_ulp = 0.5

    def function(
        self, name: str, x: Array, value: Array, sensitivity: Array, dtype: DType
    ) -> Floats:
        """max(c ULP, c u |x f'(x)|), with the c that the op of that name declares.

        The second term is what one rounding of x, as in reducing its range, does to the result.
        """
        c = REGISTRY[name].accuracy.factor * doubled(dtype)
        found: Floats = c * np.maximum(ulp(value, dtype), unit(dtype) * sensitivity)
        return found

    def power(
        self, base: Array, exponent: Array, value: Array, sensitivity: Array, dtype: DType
    ) -> Floats:
        """As any function."""
        return self.function("pow", base, value, sensitivity, dtype)


IEEE: Final = Ieee()

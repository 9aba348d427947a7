"""A legal device that errs as much as its profile allows, to try budgets on.

Every operation gives its exact result off by up to the operation's own allowance, in a random
direction. What comes out is a computation that the profile permits, so every budget must accept it;
and since it uses its allowance up, a budget that it stays far below is too wide.
"""

from __future__ import annotations

import numpy as np

from groundup.dtypes import DType
from groundup_conformance.budgets.profile import Profile
from groundup_conformance.budgets.units import Array, Floats


class Adversary(Profile):
    """`profile`, with every result disturbed. `bias` in [-1, 1] moves the errors to one side."""

    def __init__(self, profile: Profile, seed: int, bias: float = 0.0) -> None:
        self.profile = profile
        self.name = profile.name
        self.signed_zeros = profile.signed_zeros
        self.flushes = False  # it may, and does not
        self.rounded_ulp = profile.rounded_ulp
        self.quotient_ulp = profile.quotient_ulp
        self.root_ulp = profile.root_ulp
        self._low, self._high = max(-1.0, 2 * bias - 1), min(1.0, 2 * bias + 1)
        self._rng = np.random.default_rng(seed)

    def settled(
        self, value: Array, through: Array | float, local: Array | float
    ) -> tuple[Array, Array | float]:
        """value + a random part of local, as if it were exact: a device knows of no errors."""
        shape = np.broadcast_shapes(np.shape(value), np.shape(local))
        part = self._rng.uniform(self._low, self._high, shape) * local
        usable = np.isfinite(value) & np.isfinite(part)
        return np.where(usable, value + np.where(usable, part, 0.0), value), 0.0

    def function(
        self, name: str, x: Array, value: Array, sensitivity: Array, dtype: DType
    ) -> Floats:
        """As in the profile."""
        return self.profile.function(name, x, value, sensitivity, dtype)

    def power(
        self, base: Array, exponent: Array, value: Array, sensitivity: Array, dtype: DType
    ) -> Floats:
        """As in the profile."""
        return self.profile.power(base, exponent, value, sensitivity, dtype)

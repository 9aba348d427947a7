"""The profile of WebGPU: what the WGSL specification allows.

From "Accuracy of Concrete Floating Point Expressions": + - * give either neighbour of the exact
result, quotients err by 2.5 ULP, subnormals may be flushed, the sign of zero may be lost. Functions
that WGSL lacks (erf, sigmoid, expm1, log1p) inherit from those that express them. Stricter than the
specification in one point: sin and cos hold their absolute error up to |x| = 1e5, which rotary
positions need, so a backend must reduce the range itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from groundup.dtypes import DType, bfloat16, float16, float32
from groundup_conformance.budgets.profile import Profile, doubled
from groundup_conformance.budgets.units import FORMATS, Array, Floats, ulp, unit

# ULP that functions of three or more roundings and a quotient of their own may add.
_QUOTIENT: Final = 2.5
# Up to here sin and cos must reduce their argument; beyond, only their range is left.
_REDUCED: Final = 1e5
Row: TypeAlias = Callable[[Array, Array, DType], Array]


class Wgsl(Profile):
    """WGSL's table; compositions inherit as the specification says."""

    name = "wgsl"
    signed_zeros = False
    flushes = True
    rounded_ulp = 1.0
    quotient_ulp = _QUOTIENT
    root_ulp = 5.0  # 1 / inverseSqrt(x), each within its own bound

    def function(
        self, name: str, x: Array, value: Array, sensitivity: Array, dtype: DType
    ) -> Floats:
        """The row of `name`."""
        row = _ROWS[name]
        return _in_either_width(lambda kind: row(x, value, kind), value, dtype)

    def power(
        self, base: Array, exponent: Array, value: Array, sensitivity: Array, dtype: DType
    ) -> Floats:
        """exp2(y log2(x)), whose exponential multiplies the logarithm's error."""
        return _in_either_width(lambda kind: _power(base, exponent, value, kind), value, dtype)


def _in_either_width(row: Callable[[DType], Array], value: Array, dtype: DType) -> Floats:
    """16-bit floats may be computed in float32 and rounded; bfloat16, which WGSL lacks, must be."""
    if dtype is bfloat16:
        bound = row(float32) + ulp(value, dtype)
    elif dtype is float16:
        bound = np.maximum(row(dtype), row(float32) + ulp(value, dtype))
    else:
        bound = row(dtype)
    found: Floats = (bound + FORMATS[dtype].smallest_normal) * doubled(dtype)
    return found


def _exponential(x: Array, value: Array, dtype: DType) -> Array:
    base = 1.0 if dtype is float16 else 3.0
    return (base + 2 * np.abs(x)) * ulp(value, dtype)


def _logarithm(x: Array, value: Array, dtype: DType) -> Array:
    near_one = (x >= 0.5) & (x <= 2)
    absolute = 2.0**-7 if dtype is float16 else 2.0**-21
    return np.where(near_one, np.maximum(absolute, ulp(value, dtype)), 3 * ulp(value, dtype))


def _circular(x: Array, value: Array, dtype: DType) -> Array:
    absolute = 2.0**-7 if dtype is float16 else 2.0**-11
    return np.where(np.abs(x) <= _REDUCED, np.maximum(absolute, ulp(value, dtype)), 2.0)


def _tangent(x: Array, value: Array, dtype: DType) -> Array:
    """sin / cos: relative errors of both, which cos near 0 makes large."""
    each = 2.0**-7 if dtype is float16 else 2.0**-11
    cosine = np.maximum(np.abs(np.cos(x)) - each, 0)
    with np.errstate(divide="ignore"):
        found = each * (1 + np.abs(value)) / cosine + _QUOTIENT * ulp(value, dtype)
    return np.where(np.abs(x) <= _REDUCED, found, np.inf)


def _tanh(x: Array, value: Array, dtype: DType) -> Array:
    """The worse of 1e-5 and sinh / cosh, each a difference or sum of exponentials."""
    from_exponentials = (3 + 2 * np.abs(x)) * 2 * unit(dtype) + 4 * ulp(value, dtype)
    return np.maximum(1e-5, from_exponentials)


def _erf(x: Array, value: Array, dtype: DType) -> Array:
    """1 - p(x) exp(-x^2) or a polynomial (Abramowitz and Stegun 7.1.26: 1.5e-7 absolute)."""
    tail = np.exp(-x * x) * (4 + 2 * x * x) * 2 * unit(dtype)
    return np.asarray(np.maximum(8 * ulp(value, dtype), 3e-7) + tail)


def _sigmoid(x: Array, value: Array, dtype: DType) -> Array:
    """1 / (1 + exp(-x)): the error of exp counts where exp counts."""
    small = np.minimum(value, 1 - value)
    from_exp = small * (3 + 2 * np.abs(x)) * 2 * unit(dtype)
    return np.asarray(from_exp + (1 + _QUOTIENT) * ulp(value, dtype))


def _expm1(x: Array, value: Array, dtype: DType) -> Array:
    """Accurate near 0, by a polynomial; else exp(x) - 1."""
    return (4 + 2 * np.abs(x)) * np.maximum(ulp(value, dtype), ulp(value + 1, dtype)) * np.where(
        np.abs(x) < 0.25, np.minimum(1, 4 * np.abs(x)), 1
    ) + 4 * ulp(value, dtype)


def _log1p(x: Array, value: Array, dtype: DType) -> Array:
    """Accurate near 0, by a polynomial or a correction of log(1 + x)."""
    absolute = _logarithm(1 + x, value, dtype) + 2 * ulp(value, dtype)
    return np.where(np.abs(x) < 0.25, np.minimum(absolute, 16 * ulp(value, dtype)), absolute)


def _power(base: Array, exponent: Array, value: Array, dtype: DType) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log2(np.abs(base))
        power = np.abs(exponent * log)
        inner = np.abs(exponent) * _logarithm(np.abs(base), log, dtype) + ulp(power, dtype)
        found = (3 + 2 * power) * ulp(value, dtype) + np.abs(value) * np.expm1(inner * np.log(2))
    return np.where(np.isnan(found), 0.0, found)


_ROWS: Final[dict[str, Row]] = {
    "exp": _exponential,
    "log": _logarithm,
    "sin": _circular,
    "cos": _circular,
    "tan": _tangent,
    "tanh": _tanh,
    "erf": _erf,
    "sigmoid": _sigmoid,
    "expm1": _expm1,
    "log1p": _log1p,
    "rsqrt": lambda x, value, dtype: 2 * ulp(value, dtype),
}

WGSL: Final = Wgsl()

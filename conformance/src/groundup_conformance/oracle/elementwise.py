"""References of elementwise arithmetic and functions of floats; integers are in `bits`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle import functions as f
from groundup_conformance.oracle.moves import larger, masked, smaller
from groundup_conformance.oracle.number import Number, inexact, quotient_of, scaled
from groundup_conformance.oracle.registry import moves, reference

_TANH_SLOPE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


@reference("add")
def _add(op: Any, x: Number, y: Number) -> Number:
    return x + y


@reference("sub")
def _sub(op: Any, x: Number, y: Number) -> Number:
    return x - y


@reference("mul")
def _mul(op: Any, x: Number, y: Number) -> Number:
    return x * y


@reference("div")
def _div(op: Any, x: Number, y: Number) -> Number:
    return x / y


@reference("neg")
def _neg(op: Any, x: Number) -> Number:
    return -x


@reference("reciprocal")
def _reciprocal(op: Any, x: Number) -> Number:
    """1 / x; the derivative is -out^2."""
    value = 1 / x.value
    through = quotient_of(scaled(value, x.error) + np.zeros_like(value),
                          np.maximum(np.abs(x.value) - x.bound, 0))  # fmt: skip
    out = x.made(
        value, through, x, pull=lambda g: (-g * out * out,),
        local=x.profile.quotient(value, x.dtype),
    )  # fmt: skip
    return out


@reference("abs")
def _abs(op: Any, x: Number) -> Number:
    return x.made(
        np.abs(x.value), x.bound if x.error is not None else 0.0, x,
        pull=lambda g: (g * g.constant(np.sign(x.value)),),
    )  # fmt: skip


@reference("maximum")
def _maximum(op: Any, x: Number, y: Number) -> Number:
    return larger(x, y)


@reference("minimum")
def _minimum(op: Any, x: Number, y: Number) -> Number:
    return smaller(x, y)


@reference("pow")
def _pow(op: Any, x: Number, y: Number) -> Number:
    return f.power(x, y)


@reference("remainder")
def _remainder(op: Any, x: Number, y: Number) -> Number:
    """x - floor(x / y) y, with the divisor's sign. Its derivatives are 1 and -floor(x / y).

    Where a device divides inexactly, a quotient just off a whole number takes the result once
    around, to the divisor.
    """
    quotient = x / y
    value = np.where(np.isinf(y.value), _of_infinity(x.value, y.value), np.mod(x.value, y.value))
    whole = Number(np.floor(quotient.value), x.dtype, x.profile, _steps(quotient))
    return x.made(
        value, _around(quotient, y), x, y, pull=lambda g: (g, -g * whole),
        local=x.profile.rounded(value, x.dtype),
    )  # fmt: skip


@reference("floor_divide")
def _floor_divide(op: Any, x: Number, y: Number) -> Number:
    """floor(x / y), by the exact quotient or by the rounded one; NaN for an infinite x (Array API).

    No gradient.
    """
    quotient = x / y
    value = np.floor_divide(x.value, y.value)
    return inexact(value, x.profile.rounded(value, x.dtype), x, _steps(quotient))


def _of_infinity(x: Array, y: Array) -> Array:
    """x modulo an infinity: x itself, or the infinity if the signs differ (Array API)."""
    different = (np.sign(x) * np.sign(y)) < 0
    return np.where(np.isfinite(x), np.where(different, y, x), np.nan)


def _steps(quotient: Number) -> Array:
    """1 where the quotient's error reaches another whole number, else 0."""
    low = np.floor(quotient.value - quotient.bound)
    high = np.floor(quotient.value + quotient.bound)
    return np.where(np.isfinite(quotient.value), high - low, 0.0)


def _around(quotient: Number, y: Number) -> Array | float:
    """What an inexact quotient does to the remainder."""
    if quotient.profile.quotient_ulp <= 0.5:
        return 0.0
    product = np.abs(np.floor(quotient.value) * y.value)
    rounding = quotient.profile.rounded(product, y.dtype)
    return np.where(np.isfinite(product), _steps(quotient) * np.abs(y.value) + rounding, 0.0)


@reference("relu")
def _relu(op: Any, x: Number) -> Number:
    """max(x, 0), NaN stays; the gradient at 0 is 0."""
    value = np.where(x.value <= 0, 0.0, x.value)
    error = np.where(x.value <= 0, 0.0, x.bound) if x.error is not None else 0.0
    passes = ~(x.value <= 0)
    return x.made(value, error, x, pull=lambda g: (masked(passes, g),))


@reference("clamp")
def _clamp(op: Any, x: Number) -> Number:
    """Limited to [min, max], bounds rounded to x's dtype; the gradient is 0 outside."""
    low = -np.inf if op.min is None else float(np.asarray(op.min).astype(x.dtype.numpy))
    high = np.inf if op.max is None else float(np.asarray(op.max).astype(x.dtype.numpy))
    value = np.where(np.isnan(x.value), np.nan, np.minimum(np.maximum(x.value, low), high))
    inside = ~((x.value < low) | (x.value > high))
    error = np.where(inside, x.bound, 0.0) if x.error is not None else 0.0
    return x.made(value, error, x, pull=lambda g: (masked(inside, g),))


@reference("sign")
def _sign(op: Any, x: Number) -> Number:
    """-1, 0, 1 or NaN. A number that may be flushed to zero may have the sign 0."""
    return Number(np.sign(x.value), x.dtype, x.profile, None if x.error is None else (
        np.where(x.bound > 0, 1.0, 0.0)))  # fmt: skip


@moves("where")
def _where(op: Any, condition: Array, x: Array, y: Array) -> Array:
    return np.where(condition, x, y)


# ---- functions ----


@reference("exp")
def _exp(op: Any, x: Number) -> Number:
    return f.exp(x)


@reference("expm1")
def _expm1(op: Any, x: Number) -> Number:
    return f.expm1(x)


@reference("log")
def _log(op: Any, x: Number) -> Number:
    return f.log(x)


@reference("log1p")
def _log1p(op: Any, x: Number) -> Number:
    return f.log1p(x)


@reference("sqrt")
def _sqrt(op: Any, x: Number) -> Number:
    return f.sqrt(x)


@reference("rsqrt")
def _rsqrt(op: Any, x: Number) -> Number:
    return f.rsqrt(x)


@reference("sin")
def _sin(op: Any, x: Number) -> Number:
    return f.sin(x)


@reference("cos")
def _cos(op: Any, x: Number) -> Number:
    return f.cos(x)


@reference("tan")
def _tan(op: Any, x: Number) -> Number:
    return f.tan(x)


@reference("tanh")
def _tanh(op: Any, x: Number) -> Number:
    return f.tanh(x)


@reference("erf")
def _erf(op: Any, x: Number) -> Number:
    return f.erf(x)


@reference("sigmoid")
def _sigmoid(op: Any, x: Number) -> Number:
    return f.sigmoid(x)


# ---- activations, composed in the dtype of x, each step rounded to it ----


@reference("gelu")
def _gelu(op: Any, x: Number) -> Number:
    """x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2; or with tanh, as GPT-2 has it."""
    if op.approximate == "tanh":
        return x * 0.5 * (f.tanh((x + x * x * x * _CUBIC) * _TANH_SLOPE) + 1.0)
    return x * 0.5 * (f.erf(x * math.sqrt(0.5)) + 1.0)


@reference("gelu_backward")
def _gelu_backward(op: Any, x: Number, grad: Number) -> Number:
    """grad (Phi(x) + x phi(x)), phi the normal density; or the derivative of the tanh form."""
    if op.approximate == "tanh":
        square = x * x
        t = f.tanh((x + x * square * _CUBIC) * _TANH_SLOPE)
        slope = (square * (3 * _CUBIC) + 1.0) * _TANH_SLOPE
        return grad * ((t + 1.0) * 0.5 + x * 0.5 * (1.0 - t * t) * slope)
    density = f.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return grad * ((f.erf(x * math.sqrt(0.5)) + 1.0) * 0.5 + x * density)


@reference("silu")
def _silu(op: Any, x: Number) -> Number:
    """x sigmoid(x)."""
    return x * f.sigmoid(x)


@reference("silu_backward")
def _silu_backward(op: Any, x: Number, grad: Number) -> Number:
    """grad s (1 + x (1 - s)), s = sigmoid(x)."""
    s = f.sigmoid(x)
    return grad * s * (x * (1.0 - s) + 1.0)

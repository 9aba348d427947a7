"""Functions of one Number, elementwise, with their derivatives as the ops define them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from groundup.dtypes import float64
from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.number import Number, scaled

Function = Callable[[Array], Array]
_BEYOND = 1e100  # beyond the range of every format but float64, and far from the end of that
_erf: Function = np.frompyfunc(math.erf, 1, 1)


def exp(x: Number) -> Number:
    """e to the power x."""
    function = np.exp if x.dtype is float64 else _exp
    out = _transcendental("exp", x, function, function(x.value), lambda g: g * out)
    return out


def _exp(a: Array) -> Array:
    """exp for formats of a smaller range than float64, where it is finite if x is."""
    return np.where(np.isfinite(a), np.minimum(np.exp(a), _BEYOND), np.exp(a))


def expm1(x: Number) -> Number:
    """exp(x) - 1, accurate near 0."""
    slope = np.exp(x.value)
    out = _transcendental("expm1", x, np.expm1, slope, lambda g: g * (out + 1.0))
    return out


def log(x: Number) -> Number:
    """The natural logarithm."""
    return _transcendental("log", x, np.log, 1 / x.value, lambda g: g / x, lowest=0.0)


def log1p(x: Number) -> Number:
    """log(1 + x), accurate near 0."""
    slope = 1 / (1 + x.value)
    return _transcendental("log1p", x, np.log1p, slope, lambda g: g / (x + 1.0), lowest=-1.0)


def sin(x: Number) -> Number:
    """Sine."""
    return _transcendental("sin", x, np.sin, np.cos(x.value), lambda g: g * cos(x))


def cos(x: Number) -> Number:
    """Cosine."""
    return _transcendental("cos", x, np.cos, np.sin(x.value), lambda g: -g * sin(x))


def tan(x: Number) -> Number:
    """Tangent."""
    slope = 1 + np.tan(x.value) ** 2
    out = _transcendental("tan", x, np.tan, slope, lambda g: g * (out * out + 1.0))
    return out


def tanh(x: Number) -> Number:
    """Hyperbolic tangent."""
    slope = 1 - np.tanh(x.value) ** 2
    out = _transcendental("tanh", x, np.tanh, slope, lambda g: g * (1.0 - out * out))
    return out


def erf(x: Number) -> Number:
    """The error function."""
    factor = 2 / math.sqrt(math.pi)
    slope = factor * np.exp(-x.value * x.value)
    return _transcendental("erf", x, error_function, slope, lambda g: g * exp(-x * x) * factor)


def sigmoid(x: Number) -> Number:
    """1 / (1 + exp(-x))."""
    value = logistic(x.value)
    slope = value * logistic(-x.value)
    out = _transcendental("sigmoid", x, logistic, slope, lambda g: g * out * (1.0 - out))
    return out


def rsqrt(x: Number) -> Number:
    """1 / sqrt(x)."""
    slope = 0.5 * x.value**-1.5
    out = _transcendental(
        "rsqrt", x, lambda a: 1 / np.sqrt(a), slope, lambda g: g * -0.5 * out * out * out,
        lowest=0.0,
    )  # fmt: skip
    return out


def sqrt(x: Number) -> Number:
    """The square root, which devices round correctly."""
    value = np.sqrt(x.value)
    error = through(x, np.sqrt, value, 0.5 / value, 0.0)
    local = x.profile.root(value + error, x.dtype)
    out = x.made(value, error, x, pull=lambda g: (g * 0.5 / out,), local=local)
    return out


def power(x: Number, y: Number) -> Number:
    """x to the power y. The gradient of x is 0 where y is 0, that of y where x is 0."""
    value = np.power(x.value, y.value)
    by_x = np.abs(y.value * value)
    by_y = np.abs(value * np.where(x.value == 0, 0.0, y.value * np.log(np.abs(x.value))))
    sensitivity = np.fmax(by_x, by_y)
    error = scaled(by_x / np.abs(x.value), x.error)
    error = error + scaled(value * np.log(np.abs(x.value)), y.error)
    moved = value + np.copysign(error, value)
    local = x.profile.power(x.value, y.value, moved, sensitivity, x.dtype)
    if y.error is not None:  # a negative base is defined for whole exponents only
        unclear = (x.value < 0) & (y.error > 0)
        value, error = np.where(unclear, 1.0, value), np.where(unclear, np.inf, error)

    def pull(g: Number) -> tuple[Number, Number]:
        slope = y * power(x, y - 1.0)
        return (
            (g * _unless(y.value == 0, slope)).fitted(x),
            (g * _unless(x.value == 0, out * log(x))).fitted(y),
        )

    out = x.made(value, error, x, y, pull=pull, local=local)
    return out


def error_function(a: Array) -> Array:
    """erf of an array, by the C library."""
    return np.asarray(_erf(a), np.float64)


def logistic(a: Array) -> Array:
    """1 / (1 + exp(-a)), without overflow and accurate on both sides."""
    small = np.exp(-np.abs(a))
    return np.where(a >= 0, 1 / (1 + small), small / (1 + small))


def through(
    x: Number, function: Function, value: Array, slope: Array, lowest: float = -math.inf
) -> Array | float:
    """What x's error does to function(x): by the slope, and where it bends by the ends of the
    interval. Below `lowest` the function is not defined. What overflowed lies between its value
    and the infinity of its sign.
    """
    if x.error is None:
        return 0.0
    over = np.isinf(x.error)
    low = np.where(over & (x.value > 0), x.value, x.value - x.error)
    high = np.where(over & (x.value < 0), x.value, x.value + x.error)
    left = np.abs(function(np.maximum(low, lowest)) - value)
    right = np.abs(function(high) - value)
    found = np.fmax(left, right)
    found = np.where(over, found, np.fmax(found, scaled(slope, x.error)))
    return np.where(x.error == 0, 0.0, found)


def _transcendental(
    name: str,
    x: Number,
    function: Function,
    slope: Array,
    pull: Callable[[Number], Number],
    lowest: float = -math.inf,
) -> Number:
    value = function(x.value)
    sensitivity = np.abs(x.value * slope)
    sensitivity = np.where(np.isfinite(sensitivity), sensitivity, 0.0)
    local: Array = x.profile.function(name, x.value, value, sensitivity, x.dtype)
    error = through(x, function, value, slope, lowest)
    if x.error is not None:  # what moved the result may have moved it to where floats lie wider
        moved = value + np.copysign(error, value)
        wider = x.profile.function(name, x.value, moved, sensitivity, x.dtype)
        local = np.where(np.isfinite(error), np.maximum(local, wider), local)
    local = np.where(np.isinf(x.value), 0.0, local)  # limits are exact
    return x.made(value, error, x, pull=lambda g: (pull(g),), local=local)


def _unless(zero: Array, x: Number) -> Number:
    """x, but exactly 0 in some places."""
    error = None if x.error is None else np.where(zero, 0.0, x.error)
    return Number(np.where(zero, 0.0, x.value), x.dtype, x.profile, error)

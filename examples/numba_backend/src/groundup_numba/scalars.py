"""Functions of one number for compiled loops: float32 in arithmetic that the compiler vectorises.

The C library's functions are called once per element. These are straight lines of sums, products
and selections, so that a loop computes eight or sixteen at once. The polynomials are those of
Cephes (Moshier, 1984-1992: `expf.c`, `tanhf.c`, `ndtrf.c`). float64 goes to the C library.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit, types
from numba.extending import overload

from groundup_numba.native import BETWEEN, INLINED
from groundup_numba.rows import as_float32

_f: Final = np.float32
_LOG2E: Final = _f(1.44269504088896341)
_LN2_HIGH, _LN2_LOW = _f(0.693359375), _f(-2.12194440e-4)  # ln 2 in two parts, the first exact


@njit(**INLINED)
def _power_of_two(n: Any) -> Any:
    """2**n for -126 <= n <= 127, by its exponent bits."""
    return as_float32(np.int32((n + np.int32(127)) << np.int32(23)))


@njit(**INLINED)
def _exp32(x: Any) -> Any:
    """2**n exp(r) with |r| <= ln(2)/2; the power in two steps, for results that are subnormal."""
    bounded = min(max(x, _f(-104.0)), _f(89.0))
    whole = np.floor(bounded * _LOG2E + _f(0.5))  # math.floor would make it an integer
    r = bounded - whole * _LN2_HIGH
    r = r - whole * _LN2_LOW
    p = _f(1.9875691500e-4)
    p = p * r + _f(1.3981999507e-3)
    p = p * r + _f(8.3334519073e-3)
    p = p * r + _f(4.1665795894e-2)
    p = p * r + _f(1.6666665459e-1)
    p = p * r + _f(5.0000001201e-1)
    y = p * (r * r) + r + _f(1.0)
    n = np.int32(whole)
    half = n >> np.int32(1)
    y = y * _power_of_two(half) * _power_of_two(n - half)
    return y if x == x else x  # NaN


@njit(**INLINED)
def _tanh32(x: Any) -> Any:
    """A polynomial near 0, where 1 - 2 / (exp(2|x|) + 1) would cancel."""
    size = abs(x)
    z = x * x
    p = _f(-5.70498872745e-3)
    p = p * z + _f(2.06390887954e-2)
    p = p * z + _f(-5.37397155531e-2)
    p = p * z + _f(1.33314422036e-1)
    p = p * z + _f(-3.33332819422e-1)
    near = p * z * x + x
    far = _f(1.0) - _f(2.0) / (_exp32(size + size) + _f(1.0))
    return near if size < _f(0.625) else (far if x > _f(0.0) else (-far if x < _f(0.0) else x))


@njit(**INLINED)
def _erfc32(x: Any) -> Any:
    """Three polynomials: for |x| below 1, below 2, and above."""
    size = abs(x)
    z = x * x
    p = _f(7.853861353153693e-5)
    p = p * z + _f(-8.010193625184903e-4)
    p = p * z + _f(5.188327685732524e-3)
    p = p * z + _f(-2.685381193529856e-2)
    p = p * z + _f(1.128358514861418e-1)
    p = p * z + _f(-3.761262582423300e-1)
    near = _f(1.0) - x * (p * z + _f(1.128379165726710))
    q = _f(1.0) / max(size, _f(1.0))
    y = q * q
    p = _f(2.326819970068386e-2)
    p = p * y + _f(-1.387039388740657e-1)
    p = p * y + _f(3.687424674597105e-1)
    p = p * y + _f(-5.824733027278666e-1)
    p = p * y + _f(6.210004621745983e-1)
    p = p * y + _f(-4.944515323274145e-1)
    p = p * y + _f(3.404879937665872e-1)
    p = p * y + _f(-2.741127028184656e-1)
    middle = p * y + _f(5.638259427386472e-1)
    p = _f(-1.047766399936249e1)
    p = p * y + _f(1.297719955372516e1)
    p = p * y + _f(-7.495518717768503)
    p = p * y + _f(2.921019019210786)
    p = p * y + _f(-1.015265279202700)
    p = p * y + _f(4.218463358204948e-1)
    p = p * y + _f(-2.820767439740514e-1)
    far = p * y + _f(5.641895067754075e-1)
    tail = _exp32(-z) * q * (middle if size < _f(2.0) else far)
    both = tail if x > _f(0.0) else _f(2.0) - tail
    return near if size < _f(1.0) else both


@njit(**INLINED)
def _erf32(x: Any) -> Any:
    """erfc is 1 - erf, but near 0 that would cancel."""
    z = x * x
    p = _f(7.853861353153693e-5)
    p = p * z + _f(-8.010193625184903e-4)
    p = p * z + _f(5.188327685732524e-3)
    p = p * z + _f(-2.685381193529856e-2)
    p = p * z + _f(1.128358514861418e-1)
    p = p * z + _f(-3.761262582423300e-1)
    near = x * (p * z + _f(1.128379165726710))
    far = _f(1.0) - _erfc32(x)  # computed always: a selection can be vectorised, a branch cannot
    return near if abs(x) < _f(1.0) else far


def exp(x: Any) -> Any:
    """e to the power x, in x's width."""
    raise NotImplementedError("for compiled code")


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, in x's width."""
    raise NotImplementedError("for compiled code")


def erf(x: Any) -> Any:
    """The error function, in x's width."""
    raise NotImplementedError("for compiled code")


def erfc(x: Any) -> Any:
    """1 - erf(x), in x's width."""
    raise NotImplementedError("for compiled code")


# Numba compares the signatures, annotations included, with those of the lambdas.
@overload(exp, jit_options=BETWEEN)
def _exp(x):
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: math.exp(x)


@overload(tanh, jit_options=BETWEEN)
def _tanh(x):
    if x == types.float32:
        return lambda x: _tanh32(x)
    return lambda x: math.tanh(x)


@overload(erf, jit_options=BETWEEN)
def _erf(x):
    if x == types.float32:
        return lambda x: _erf32(x)
    return lambda x: math.erf(x)


@overload(erfc, jit_options=BETWEEN)
def _erfc(x):
    if x == types.float32:
        return lambda x: _erfc32(x)
    return lambda x: math.erfc(x)

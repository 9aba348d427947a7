"""References that must hold bit by bit: integers, comparisons, logic, casts, whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup import dtypes as dt
from groundup.dtypes import DType, as_dtype
from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import exact, reference


def wrapped(values: Array, like: Array) -> Array:
    """Integers modulo 2^bits of like's dtype."""
    return values.astype(like.dtype)


def _wide(x: Array) -> Array:
    """int64, in which products and sums of narrower integers fit; int64 wraps by itself."""
    return x.astype(np.int64)


@exact("add")
def _add(op: Any, x: Array, y: Array) -> Array:
    return wrapped(_wide(x) + _wide(y), x)


@exact("sub")
def _sub(op: Any, x: Array, y: Array) -> Array:
    return wrapped(_wide(x) - _wide(y), x)


@exact("mul")
def _mul(op: Any, x: Array, y: Array) -> Array:
    return wrapped(_wide(x) * _wide(y), x)


@exact("neg")
def _neg(op: Any, x: Array) -> Array:
    return wrapped(-_wide(x), x)


@exact("abs")
def _abs(op: Any, x: Array) -> Array:
    return wrapped(np.abs(_wide(x)), x)


@exact("sign")
def _sign(op: Any, x: Array) -> Array:
    return wrapped((_wide(x) > 0).astype(np.int64) - (_wide(x) < 0), x)


@exact("maximum")
def _maximum(op: Any, x: Array, y: Array) -> Array:
    return np.where(x > y, x, y)


@exact("minimum")
def _minimum(op: Any, x: Array, y: Array) -> Array:
    return np.where(x < y, x, y)


@exact("remainder")
def _remainder(op: Any, x: Array, y: Array) -> Array:
    """x - floor(x / y) y, in Python's integers' sense."""
    return wrapped(_wide(x) % _wide(y), x)


@exact("floor_divide")
def _floor_divide(op: Any, x: Array, y: Array) -> Array:
    return wrapped(_wide(x) // _wide(y), x)


@exact("relu")
def _relu(op: Any, x: Array) -> Array:
    return np.where(x > 0, x, np.zeros_like(x))


@exact("clamp")
def _clamp(op: Any, x: Array) -> Array:
    found = _wide(x)
    if op.min is not None:
        found = np.where(found < op.min, op.min, found)
    if op.max is not None:
        found = np.where(found > op.max, op.max, found)
    return wrapped(found, x)


# ---- comparisons and logic ----


def _compare(x: Array) -> Array:
    """Floats as float64, in which they compare as in their own dtype."""
    return x.astype(np.float64) if as_dtype(x.dtype).is_floating else x


@exact("less")
def _less(op: Any, x: Array, y: Array) -> Array:
    return _compare(x) < _compare(y)


@exact("less_equal")
def _less_equal(op: Any, x: Array, y: Array) -> Array:
    return _compare(x) <= _compare(y)


@exact("greater")
def _greater(op: Any, x: Array, y: Array) -> Array:
    return _compare(x) > _compare(y)


@exact("greater_equal")
def _greater_equal(op: Any, x: Array, y: Array) -> Array:
    return _compare(x) >= _compare(y)


@exact("equal")
def _equal(op: Any, x: Array, y: Array) -> Array:
    return np.equal(_compare(x), _compare(y))


@exact("not_equal")
def _not_equal(op: Any, x: Array, y: Array) -> Array:
    return np.not_equal(_compare(x), _compare(y))


def _true(x: Array) -> Array:
    """Whether elements are not zero; NaN is not."""
    return np.not_equal(_compare(x), 0)


@exact("logical_and")
def _logical_and(op: Any, x: Array, y: Array) -> Array:
    return _true(x) & _true(y)


@exact("logical_or")
def _logical_or(op: Any, x: Array, y: Array) -> Array:
    return _true(x) | _true(y)


@exact("logical_xor")
def _logical_xor(op: Any, x: Array, y: Array) -> Array:
    return _true(x) ^ _true(y)


@exact("logical_not")
def _logical_not(op: Any, x: Array) -> Array:
    return ~_true(x)


@exact("isnan")
def _isnan(op: Any, x: Array) -> Array:
    return np.isnan(_compare(x))


@exact("isfinite")
def _isfinite(op: Any, x: Array) -> Array:
    return np.isfinite(_compare(x))


@exact("bitwise_and")
def _bitwise_and(op: Any, x: Array, y: Array) -> Array:
    return np.asarray(np.bitwise_and(x, y))


@exact("bitwise_or")
def _bitwise_or(op: Any, x: Array, y: Array) -> Array:
    return np.asarray(np.bitwise_or(x, y))


@exact("bitwise_xor")
def _bitwise_xor(op: Any, x: Array, y: Array) -> Array:
    return np.asarray(np.bitwise_xor(x, y))


@exact("bitwise_not")
def _bitwise_not(op: Any, x: Array) -> Array:
    return ~x


@exact("bitwise_left_shift")
def _bitwise_left_shift(op: Any, x: Array, y: Array) -> Array:
    """x 2^y, bits beyond the width lost."""
    return wrapped(_wide(x) * (np.int64(1) << _wide(y)), x)


@exact("bitwise_right_shift")
def _bitwise_right_shift(op: Any, x: Array, y: Array) -> Array:
    """floor(x / 2^y)."""
    return wrapped(_wide(x) // (np.int64(1) << _wide(y)), x)


# ---- whole numbers and other dtypes ----


@exact("floor")
def _floor(op: Any, x: Array) -> Array:
    return np.floor(_compare(x))


@exact("ceil")
def _ceil(op: Any, x: Array) -> Array:
    return np.ceil(_compare(x))


@exact("round")
def _round(op: Any, x: Array) -> Array:
    """To the nearest whole number, halves to the even one."""
    return np.rint(_compare(x))


@reference("cast")
def _cast(op: Any, x: Number) -> Any:
    """Between floats rounded; to integers cut towards zero and limited to their range."""
    if op.dtype.is_floating:
        return x.to(op.dtype)
    if op.dtype is dt.bool_:
        return x.value != 0
    return saturated(x.value, op.dtype)


@exact("cast")
def _cast_integers(op: Any, x: Array) -> Any:
    """To bool by != 0, to narrower integers by wrapping; to floats by rounding to nearest."""
    if op.dtype is dt.bool_:
        return x != 0
    return x.astype(op.dtype.numpy)


def saturated(values: Array, dtype: DType) -> Array:
    """Floats as integers: cut towards zero, limited to the range; NaN is 0."""
    low, high = dtype.range
    cut = np.trunc(np.where(np.isnan(values), 0.0, values))
    inside = np.where((cut > low) & (cut < high), cut, 0.0).astype(np.int64)
    found = np.where(cut <= low, low, np.where(cut >= float(high), high, inside))
    return found.astype(dtype.numpy)

"""The extremes of a row. NaN is passed over or not; `some_nan` tells, in another quick look.

A compiler may not compare floats in lanes, since NaN makes the order matter. It may compare
integers, and the bits of floats, seen as integers, are in the order of the floats once those of
negative ones are turned round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from groundup_numba.native import COMPILED

_SIGN32, _REST32 = np.int32(31), np.int32(2**31 - 1)
_SIGN64, _REST64 = np.int64(63), np.int64(2**63 - 1)


def _same_bits(source: types.Type, target: types.Type) -> Any:
    """A function that reads a number's bits as another type's."""

    @intrinsic
    def reread(typing: Any, number: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), generate

    return reread


as_float32: Final = _same_bits(types.int32, types.float32)
as_float64: Final = _same_bits(types.int64, types.float64)


def _extreme(better: Callable[[Any, Any], Any]) -> tuple[Any, Any, Any]:
    """The best of a row, for float32, float64 and integers."""

    @njit(**COMPILED)
    def of_float32(x: Any) -> Any:
        bits = x.view(np.int32)
        best = bits[0] ^ ((bits[0] >> _SIGN32) & _REST32)
        for i in range(bits.size):
            best = better(best, bits[i] ^ ((bits[i] >> _SIGN32) & _REST32))
        return as_float32(np.int32(best ^ ((best >> _SIGN32) & _REST32)))

    @njit(**COMPILED)
    def of_float64(x: Any) -> Any:
        bits = x.view(np.int64)
        best = bits[0] ^ ((bits[0] >> _SIGN64) & _REST64)
        for i in range(bits.size):
            best = better(best, bits[i] ^ ((bits[i] >> _SIGN64) & _REST64))
        return as_float64(best ^ ((best >> _SIGN64) & _REST64))

    @njit(**COMPILED)
    def of_integers(x: Any) -> Any:
        best = x[0]
        for i in range(x.size):
            best = better(best, x[i])
        return best

    return of_float32, of_float64, of_integers


_max32, _max64, _max_integer = _extreme(max)
_min32, _min64, _min_integer = _extreme(min)


def row_max(x: Any) -> Any:
    """The largest of a row that holds no NaN; of one that does, some number."""
    raise NotImplementedError("for compiled code")


def row_min(x: Any) -> Any:
    """The least of a row that holds no NaN; of one that does, some number."""
    raise NotImplementedError("for compiled code")


@overload(row_max)
def _row_max(x):
    if x.dtype == types.float32:
        return lambda x: _max32(x)
    if x.dtype == types.float64:
        return lambda x: _max64(x)
    return lambda x: _max_integer(x)


@overload(row_min)
def _row_min(x):
    if x.dtype == types.float32:
        return lambda x: _min32(x)
    if x.dtype == types.float64:
        return lambda x: _min64(x)
    return lambda x: _min_integer(x)


@njit(**COMPILED)
def some_nan(x: Any) -> bool:
    """Whether there is a NaN in a row."""
    found = False
    for i in range(x.size):
        found |= x[i] != x[i]
    return found

"""The table op -> WGSL expression of its inputs a, b, c, by dtype.

bool is u32, 0 or 1. float16 is computed as float32, and rounded when it is stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from groundup import dtypes
from groundup.dtypes import DType

_F32, _F16, _I32, _BOOL = dtypes.float32, dtypes.float16, dtypes.int32, dtypes.bool_

_COMPARISONS: Final = {
    "less": "a < b",
    "less_equal": "a <= b",
    "greater": "a > b",
    "greater_equal": "a >= b",
    "equal": "a == b",
}
_ANY: Final = {
    "contiguous": "a",
    "where": "select(c, b, a != 0u)",
    "not_equal": "select(1u, 0u, a == b)",
    **{name: f"select(0u, 1u, {text})" for name, text in _COMPARISONS.items()},
}
_NUMBERS: Final = {
    "add": "a + b",
    "sub": "a - b",
    "mul": "a * b",
    "abs": "abs(a)",
    "neg": "-a",
}
# Whether a and b are not zero: NaN is not.
_FLOAT_TRUTHS: Final = ("(a != 0.0 || is_nan(a))", "(b != 0.0 || is_nan(b))")


def _logic(a: str, b: str) -> dict[str, str]:
    """The logical ops, by texts of whether a and b are true."""
    return {
        "logical_and": f"select(0u, 1u, {a} && {b})",
        "logical_or": f"select(0u, 1u, {a} || {b})",
        "logical_xor": f"select(0u, 1u, ({a}) != ({b}))",
        "logical_not": f"select(1u, 0u, {a})",
    }


# Comparisons with NaN are false in IEEE 754; drivers may fold them otherwise.
_NO_NAN: Final = "!is_nan(a) && !is_nan(b)"
_FLOATS: Final = {
    "maximum": "maximum_f32(a, b)",
    "minimum": "minimum_f32(a, b)",
    "remainder": "remainder_f32(a, b)",
    "floor_divide": "floor_divide_f32(a, b)",
    "div": "a / b",
    "pow": "pow_f32(a, b)",
    "exp": "exp_f32(a)",
    "expm1": "expm1_f32(a)",
    "log": "log_f32(a)",
    "log1p": "log1p_f32(a)",
    "sqrt": "sqrt(a)",
    "rsqrt": "inverseSqrt(a)",
    "sin": "sin(a)",
    "cos": "cos(a)",
    "tanh": "tanh_f32(a)",
    "erf": "erf_f32(a)",
    "floor": "floor(a)",
    "ceil": "ceil(a)",
    "round": "round(a)",
    "isnan": "select(0u, 1u, is_nan(a))",
    "isfinite": "select(0u, 1u, !is_nan(a) && !is_infinite(a))",
    **_logic(*_FLOAT_TRUTHS),
    # Composites that are one line here, so they need not be ten launches.
    "reciprocal": "1.0 / a",
    "relu": "maximum_f32(a, 0.0)",
    "sign": "select(sign(a), a, a == 0.0 || is_nan(a))",
    "tan": "sin(a) / cos(a)",
    "sigmoid": "sigmoid_f32(a)",
    "silu": "a * sigmoid_f32(a)",
    "silu_backward": "silu_backward(a, b)",
    "gelu(approximate='tanh')": "gelu_tanh(a)",
    "gelu(approximate='none')": "gelu_none(a)",
    "gelu_backward(approximate='tanh')": "gelu_tanh_backward(a, b)",
    "gelu_backward(approximate='none')": "gelu_none_backward(a, b)",
    "not_equal": f"select(1u, 0u, a == b && {_NO_NAN})",
    **{name: f"select(0u, 1u, {text} && {_NO_NAN})" for name, text in _COMPARISONS.items()},
}
_INTEGERS: Final = {
    "maximum": "maximum_i32(a, b)",
    "minimum": "minimum_i32(a, b)",
    "remainder": "remainder_i32(a, b)",
    "floor_divide": "floor_divide_i32(a, b)",
    "bitwise_left_shift": "a << u32(b)",
    "bitwise_right_shift": "a >> u32(b)",
    "bitwise_not": "~a",
    "sign": "sign(a)",
    **_logic("a != 0", "b != 0"),
}
_BITS: Final = {"bitwise_and": "a & b", "bitwise_or": "a | b", "bitwise_xor": "a ^ b"}
_CASTS: Final = {
    (_F32, _I32): "to_i32(a)",
    (_F32, _BOOL): "select(0u, 1u, a != 0.0 || is_nan(a))",
    (_I32, _F32): "f32(a)",
    (_I32, _BOOL): "select(0u, 1u, a != 0)",
    (_BOOL, _F32): "f32(a)",
    (_BOOL, _I32): "i32(a)",
}
_TABLES: Final[dict[DType, dict[str, str]]] = {
    _F32: {**_ANY, **_NUMBERS, **_FLOATS},
    _F16: {**_ANY, **_NUMBERS, **_FLOATS},
    _I32: {**_ANY, **_NUMBERS, **_INTEGERS, **_BITS},
    _BOOL: {**_ANY, **_BITS, "bitwise_not": "1u - a", **_logic("a != 0u", "b != 0u")},
}


def expression(op: str, dtype: DType) -> str | None:
    """The expression of an elementwise op, as it prints itself, on inputs of `dtype`.

    Of `where` the dtype is that of its last two inputs.
    """
    return _TABLES[dtype].get(op)


def cast(source: DType, target: DType) -> str:
    """The expression that converts one element."""
    from_to = (_F32 if source is _F16 else source, _F32 if target is _F16 else target)
    return _CASTS.get(from_to, "a")


def limited(op: Any, dtype: DType, number: Callable[[float], str]) -> str:
    """The expression of clamp, with its bounds as `number` writes them."""
    kind, value = "i32" if dtype is _I32 else "f32", "a"
    if op.min is not None:
        value = f"maximum_{kind}({value}, {number(op.min)})"
    if op.max is not None:
        value = f"minimum_{kind}({value}, {number(op.max)})"
    return value


def literal(value: float, dtype: DType) -> str | None:
    """A number as `dtype` has it, in WGSL; None for infinity and NaN, which WGSL cannot write."""
    with np.errstate(over="ignore"):
        found = np.asarray(value).astype(dtype.numpy).item()
    return repr(found) if math.isfinite(found) else None

"""The table op -> WGSL expression of its inputs a, b, c, by dtype. bool is u32, 0 or 1."""

from __future__ import annotations

from typing import Final

from groundup import dtypes
from groundup.dtypes import DType

_F32, _I32, _BOOL = dtypes.float32, dtypes.int32, dtypes.bool_

_ANY: Final = {
    "contiguous": "a",
    "less": "select(0u, 1u, a < b)",
    "less_equal": "select(0u, 1u, a <= b)",
    "greater": "select(0u, 1u, a > b)",
    "greater_equal": "select(0u, 1u, a >= b)",
    "equal": "select(0u, 1u, a == b)",
    "not_equal": "select(1u, 0u, a == b)",
    "where": "select(c, b, a != 0u)",
}
_NUMBERS: Final = {
    "add": "a + b",
    "sub": "a - b",
    "mul": "a * b",
    "abs": "abs(a)",
    "neg": "-a",
}
_FLOATS: Final = {
    "maximum": "maximum_f32(a, b)",
    "minimum": "minimum_f32(a, b)",
    "remainder": "remainder_f32(a, b)",
    "floor_divide": "floor_divide_f32(a, b)",
    "div": "a / b",
    "pow": "pow_f32(a, b)",
    "exp": "exp(a)",
    "expm1": "expm1_f32(a)",
    "log": "log(a)",
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
    # Composites that are one line here, so they need not be ten launches.
    "reciprocal": "1.0 / a",
    "relu": "maximum_f32(a, 0.0)",
    "sigmoid": "sigmoid_f32(a)",
    "silu": "a * sigmoid_f32(a)",
    "silu_backward": "silu_backward(a, b)",
    "gelu(approximate='tanh')": "gelu_tanh(a)",
    "gelu(approximate='none')": "gelu_none(a)",
    "gelu_backward(approximate='tanh')": "gelu_tanh_backward(a, b)",
    "gelu_backward(approximate='none')": "gelu_none_backward(a, b)",
    # Comparisons with NaN are false in IEEE 754; drivers may fold them otherwise.
    "less": "select(0u, 1u, a < b && !is_nan(a) && !is_nan(b))",
    "less_equal": "select(0u, 1u, a <= b && !is_nan(a) && !is_nan(b))",
    "greater": "select(0u, 1u, a > b && !is_nan(a) && !is_nan(b))",
    "greater_equal": "select(0u, 1u, a >= b && !is_nan(a) && !is_nan(b))",
    "equal": "select(0u, 1u, a == b && !is_nan(a) && !is_nan(b))",
    "not_equal": "select(1u, 0u, a == b && !is_nan(a) && !is_nan(b))",
}
_INTEGERS: Final = {
    "maximum": "maximum_i32(a, b)",
    "minimum": "minimum_i32(a, b)",
    "remainder": "remainder_i32(a, b)",
    "floor_divide": "floor_divide_i32(a, b)",
    "bitwise_left_shift": "a << u32(b)",
    "bitwise_right_shift": "a >> u32(b)",
    "bitwise_not": "~a",
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
    _I32: {**_ANY, **_NUMBERS, **_INTEGERS, **_BITS},
    _BOOL: {**_ANY, **_BITS, "bitwise_not": "1u - a"},
}


def expression(op: str, dtype: DType) -> str | None:
    """The expression of an elementwise op, as it prints itself, on inputs of `dtype`.

    Of `where` the dtype is that of its last two inputs.
    """
    return _TABLES[dtype].get(op)


def cast(source: DType, target: DType) -> str:
    """The expression that converts one element."""
    return _CASTS.get((source, target), "a")


def literal(value: float, dtype: DType) -> str:
    """A number as WGSL, which has no text for infinities and NaN: those come from their bits."""
    if dtype is _BOOL:
        return "1u" if value else "0u"
    if dtype is _I32:
        return f"i32({int(value)})" if value != -(2**31) else "(-2147483647 - 1)"
    import numpy as np

    bits = int(np.float32(value).view(np.uint32))
    # `| zero` keeps the compiler from refusing the constant; `param(0u)` is an offset, never < 0.
    return f"bitcast<f32>({bits:#x}u | (bitcast<u32>(param(0u)) >> 31u))"

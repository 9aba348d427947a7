"""The table op -> CUDA expression of its inputs a, b, c. float16 and bfloat16 reach it as float.

Functions that are named here and not CUDA's own are in `kernels/common.cu`.
"""

from __future__ import annotations

from typing import Final

import attrs

from groundup import dtypes
from groundup.dtypes import DType

STORED: Final = {
    dtypes.float32: "float", dtypes.float16: "half_t", dtypes.bfloat16: "bfloat_t",
    dtypes.int32: "int", dtypes.int64: "long long", dtypes.uint8: "u8",
    dtypes.int8: "signed char", dtypes.bool_: "bool",
}  # fmt: skip
_ANY: Final = {
    "contiguous": "a", "cast": "a", "where": "a ? b : c",
    "less": "a < b", "less_equal": "a <= b", "greater": "a > b", "greater_equal": "a >= b",
    "equal": "a == b", "not_equal": "a != b", "logical_not": "a == 0",
    "logical_and": "a != 0 && b != 0", "logical_or": "a != 0 || b != 0",
    "logical_xor": "(a != 0) != (b != 0)",
}  # fmt: skip
_NUMBERS: Final = {
    "add": "add(a, b)", "sub": "sub(a, b)", "mul": "mul(a, b)", "neg": "neg(a)",
    "abs": "absolute(a)", "sign": "sign(a)", "maximum": "maximum(a, b)",
    "minimum": "minimum(a, b)", "remainder": "modulo(a, b)", "floor_divide": "floor_divide(a, b)",
    "relu": "a > 0 || a != a ? a : 0",
}  # fmt: skip
_FLOATS: Final = {
    "div": "a / b", "pow": "powf(a, b)", "exp": "expf(a)", "expm1": "expm1f(a)", "log": "logf(a)",
    "log1p": "log1pf(a)", "sqrt": "sqrtf(a)", "rsqrt": "1.0f / sqrtf(a)", "reciprocal": "1.0f / a",
    "sin": "sinf(a)", "cos": "cosf(a)", "tan": "tanf(a)", "tanh": "tanhf(a)", "erf": "erff(a)",
    "floor": "floorf(a)", "ceil": "ceilf(a)", "round": "rintf(a)", "isnan": "a != a",
    "isfinite": "a - a == 0.0f", "sigmoid": "sigmoid(a)", "silu": "a * sigmoid(a)",
    "silu_backward": "silu_backward(a, b)",
    "gelu(approximate='tanh')": "gelu_tanh(a)", "gelu(approximate='none')": "gelu_none(a)",
    "gelu_backward(approximate='tanh')": "gelu_tanh_backward(a, b)",
    "gelu_backward(approximate='none')": "gelu_none_backward(a, b)",
}  # fmt: skip
_BITS: Final = {"bitwise_and": "a & b", "bitwise_or": "a | b", "bitwise_xor": "a ^ b"}
_INTEGERS: Final = {
    "bitwise_not": "~a", "bitwise_left_shift": "(long long)((u64)a << b)",
    "bitwise_right_shift": "a >> b",
}  # fmt: skip
_TABLES: Final[dict[str, dict[str, str]]] = {
    "float": {**_ANY, **_NUMBERS, **_FLOATS},
    "int": {**_ANY, **_NUMBERS, **_BITS, **_INTEGERS},
    "bool": {**_ANY, **_BITS, "bitwise_not": "!a"},
}


def expression(op: str, dtype: DType) -> str | None:
    """The expression of an elementwise op, as it prints itself, on inputs of `dtype`.

    Of `where` the dtype is that of its last two inputs; a cast's parameter is its output's.
    """
    return _TABLES[dtype.kind].get("cast" if op.startswith("cast(") else op)


def computed(dtype: DType) -> str:
    """The C++ type in which values of `dtype` are computed."""
    return "float" if dtype.is_floating else STORED[dtype]


def accumulated(dtype: DType) -> DType:
    """The dtype in which many values of `dtype` are added up."""
    if dtype.is_floating:
        return dtypes.float32
    return dtype if dtype is dtypes.int64 else dtypes.int32


@attrs.frozen
class Joining:
    """A reduction: what it begins with, how it joins a and b, what it takes of an element x."""

    start: str
    combine: str
    element: str = "(Value)x"


REDUCTIONS: Final = {
    "sum": Joining("0", "add(a, b)"),
    "mean": Joining("0", "add(a, b)"),  # and divided at the end
    "prod": Joining("1", "mul(a, b)"),
    "max": Joining("Extremes<Value>::lowest()", "maximum(a, b)"),
    "min": Joining("Extremes<Value>::highest()", "minimum(a, b)"),
    "any": Joining("0", "maximum(a, b)", "(Value)(x != 0)"),
    "all": Joining("1", "minimum(a, b)", "(Value)(x != 0)"),
}

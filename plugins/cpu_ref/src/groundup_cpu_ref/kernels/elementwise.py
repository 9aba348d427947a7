"""Elementwise kernels: mostly NumPy's own functions, which take their output as last argument."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from groundup.errors import DomainError
from groundup.ops.op import Op
from groundup_cpu_ref.kernels.activation import blocks
from groundup_cpu_ref.native import NATIVE, Array, Native, native

_FEW: Final = 512
# NumPy computes float16, and ml_dtypes bfloat16, in float32 and rounds once: exact for these.
_UFUNCS: Final[dict[str, np.ufunc]] = {
    "abs": np.abs, "neg": np.negative, "exp": np.exp, "expm1": np.expm1, "log": np.log,
    "log1p": np.log1p, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "tanh": np.tanh, "floor": np.floor, "ceil": np.ceil, "round": np.rint,
    "isnan": np.isnan, "isfinite": np.isfinite,
    "sub": np.subtract, "div": np.true_divide, "pow": np.power,
    "less": np.less, "less_equal": np.less_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "equal": np.equal, "not_equal": np.not_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
    "logical_not": np.logical_not, "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor, "bitwise_not": np.invert,
    "bitwise_left_shift": np.left_shift, "bitwise_right_shift": np.right_shift,
    "add": np.add, "mul": np.multiply,
}  # fmt: skip
NATIVE.update({name: Native(f, frozenset(), False, True) for name, f in _UFUNCS.items()})


@native("maximum", exact=True)
def maximum(op: Op, x: Array, y: Array, out: Array) -> None:
    np.maximum(x, y, out=out)  # of all ufuncs, this and minimum want their output by name


@native("minimum", exact=True)
def minimum(op: Op, x: Array, y: Array, out: Array) -> None:
    np.minimum(x, y, out=out)


@native("sign")
def sign(op: Op, x: Array, out: Array) -> None:
    np.sign(x, out)


@native("rsqrt")
def rsqrt(op: Op, x: Array, out: Array) -> None:
    np.divide(1, np.sqrt(x, out), out)


@native("reciprocal")
def reciprocal(op: Op, x: Array, out: Array) -> None:
    np.divide(1, x, out)


@native("sigmoid")
def sigmoid(op: Op, x: Array, out: Array) -> None:
    blocks(_sigmoid, x, out)


def _sigmoid(x: Array, out: Array) -> None:
    """0.5 * tanh(x / 2) + 0.5 overflows nowhere; for very negative x exp(x) keeps the small values.

    1 / (1 + small) and small / (1 + small), small = exp(-|x|) <= 1, differ in what is divided.
    """
    small = np.abs(x)
    np.exp(np.negative(small, small), small)
    top = np.maximum(small, x >= 0)
    np.divide(top, np.add(small, 1, small), out)


@native("relu", exact=True)
def relu(op: Op, x: Array, out: Array) -> None:
    np.maximum(x, x.dtype.type(0), out=out)


@native("silu")
def silu(op: Op, x: Array, out: Array) -> None:
    blocks(_silu, x, out)


def _silu(x: Array, out: Array) -> None:
    _sigmoid(x, out)
    np.multiply(x, out, out)


@native("silu_backward")
def silu_backward(op: Op, x: Array, grad: Array, out: Array) -> None:
    blocks(_silu_backward, x, grad, out)


def _silu_backward(x: Array, grad: Array, out: Array) -> None:
    s = np.empty_like(x)
    _sigmoid(x, s)
    np.multiply(grad, s * (1 + x * (1 - s)), out)


@native("where", exact=True)
def where(op: Op, condition: Array, x: Array, y: Array, out: Array) -> None:
    blocks(_where, condition, x, y, out)


def _where(condition: Array, x: Array, y: Array, out: Array) -> None:
    """y ^ ((x ^ y) & mask), on their bits: NumPy's own way branches on every element, and takes
    twenty times as long where branches cannot be foretold. For few elements it is quicker.
    """
    if out.size <= _FEW:
        np.copyto(out, y)
        np.copyto(out, x, where=condition)
        return
    bits = np.dtype(f"i{x.itemsize}")
    chosen = np.negative(condition.view(np.int8)).astype(bits)
    x, y, out = x.view(bits), y.view(bits), out.view(bits)
    np.bitwise_xor(x, y, out)
    np.bitwise_and(out, chosen, out)
    np.bitwise_xor(out, y, out)


@native("clamp", params=("min", "max"), exact=True)
def clamp(op: Any, x: Array, out: Array) -> None:
    np.copyto(out, x)
    if op.min is not None:
        np.maximum(out, x.dtype.type(op.min), out=out)
    if op.max is not None:
        np.minimum(out, x.dtype.type(op.max), out=out)


@native("remainder", exact=True)
def remainder(op: Op, x: Array, y: Array, out: Array) -> None:
    _refuse_zero("remainder", y)
    blocks(_remainder if _is_narrow(out) else np.remainder, x, y, out)


@native("floor_divide", exact=True)
def floor_divide(op: Op, x: Array, y: Array, out: Array) -> None:
    _refuse_zero("floor_divide", y)
    blocks(_floor_divide if _is_narrow(out) else np.floor_divide, x, y, out)


def _remainder(x: Array, y: Array, out: Array) -> None:
    wide = y.astype(np.float64)
    _, rest, sure = _divided(x.astype(np.float64), wide)
    out[...] = np.copysign(rest, wide, rest)
    if not sure.all():
        np.remainder(x, y, out, where=~sure)


def _floor_divide(x: Array, y: Array, out: Array) -> None:
    quotient, _, sure = _divided(x.astype(np.float64), y.astype(np.float64))
    out[...] = quotient
    if not sure.all():
        np.floor_divide(x, y, out, where=~sure)


def _is_narrow(out: Array) -> bool:
    """Floats of at most 24 bits, for which `_divided` is right."""
    return out.dtype.kind not in "iu" and out.dtype != np.float64


def _divided(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """floor(x / y), x - floor(x / y) y, and where that is certain. NumPy's own way takes ten times
    as long.

    Of two numbers of 24 bits, a quotient below 2^29 lies further from the next integer than
    float64's rounding reaches, and its product with y is exact. Infinities and NaN are uncertain.
    """
    quotient = np.floor(x / y)
    rest = x - quotient * y
    sure = (np.abs(quotient) < 2.0**29) & (rest == rest)
    return quotient, rest, sure


def _refuse_zero(name: str, divisor: Array) -> None:
    if divisor.dtype.kind in "iu" and not divisor.all():
        raise DomainError(f"{name}: integer division by zero", hint="test the divisor first")


@native("cast", params=("dtype",), exact=True)
def cast(op: Any, x: Array, out: Array) -> None:
    """Floats to integers truncate and saturate, NaN becomes 0; NumPy leaves both undefined."""
    if out.dtype.kind in "iu" and x.dtype.kind not in "iub":
        info = np.iinfo(out.dtype)
        wide = np.nan_to_num(np.trunc(x.astype(np.float64)), posinf=np.inf, neginf=-np.inf)
        # The largest int64 is no float64; the next lower one is.
        high = np.nextafter(float(info.max), 0) if info.bits == 64 else float(info.max)
        out[...] = np.where(
            wide >= float(info.max), info.max, np.clip(wide, info.min, high).astype(out.dtype)
        )
    else:
        np.copyto(out, x, casting="unsafe")

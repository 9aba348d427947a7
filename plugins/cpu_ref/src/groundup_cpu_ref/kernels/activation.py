"""gelu and erf. They work in blocks, so that their temporaries stay in cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from groundup.ops.op import Op
from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import parallel


@native("erf")
def erf(op: Op, x: Array, out: Array) -> None:
    blocks(_erf, x, out)


@native("gelu", params=("approximate",))
def gelu(op: Any, x: Array, out: Array) -> None:
    blocks(_gelu_tanh if op.approximate == "tanh" else _gelu, x, out)


@native("gelu_backward", params=("approximate",))
def gelu_backward(op: Any, x: Array, grad: Array, out: Array) -> None:
    blocks(_gelu_tanh_backward if op.approximate == "tanh" else _gelu_backward, x, grad, out)


# Elements: a few float32 temporaries of this size fit a second-level cache of 1 MiB, and NumPy's
# price of a call, which smaller blocks pay more often, is a tenth of its work.
_BLOCK: Final = 32768
_ROOT: Final = math.sqrt(2 / math.pi)
_CUBIC: Final = 0.044715
_TOP: Final = (
    1.1283791680585982, 0.17715332344768817, 0.05258551922959972, 0.00344900037819333,
    0.00033976842028137514, 3.3073168337861318e-06, 2.792007152617822e-09, -1.44522580046872e-10,
)  # fmt: skip
_BOTTOM: Final = (
    1.0, 0.49033141416648096, 0.11004626340156926, 0.0145157262195399, 0.0011790508063643991,
    5.286772362879758e-05,
)  # fmt: skip


def blocks(function: Callable[..., None], *arrays: Array) -> None:
    """`function(*inputs, out)` on flat blocks, in threads; views that are not row-major go
    whole.
    """
    if not all(array.flags.c_contiguous for array in arrays):
        function(*arrays)
        return
    flat = [array.reshape(-1) for array in arrays]

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, _BLOCK):
            function(*[array[low : min(low + _BLOCK, stop)] for array in flat])

    parallel(work, flat[0].size, _BLOCK)


def _gelu_tanh(x: Array, out: Array) -> None:
    t = np.multiply(x, x)
    t *= _ROOT * _CUBIC
    t += _ROOT
    t *= x
    np.tanh(t, t)
    t += 1
    t *= 0.5
    np.multiply(x, t, out)


def _gelu_tanh_backward(x: Array, grad: Array, out: Array) -> None:
    """t = tanh(u): gelu' = (1 + t) / 2 + x / 2 (1 - t^2) u'."""
    square = np.multiply(x, x)
    t = square * (_ROOT * _CUBIC)
    t += _ROOT
    t *= x
    np.tanh(t, t)
    square *= 1.5 * _ROOT * _CUBIC
    square += 0.5 * _ROOT
    slope = np.multiply(t, t)
    np.subtract(1, slope, slope)
    slope *= square
    slope *= x  # last: for a large x all else is 0 by now, and x^3 would overflow
    t += 1
    t *= 0.5
    slope += t
    np.multiply(slope, grad, out)


def _gelu(x: Array, out: Array) -> None:
    t = np.empty_like(x)
    _erf(x * x.dtype.type(math.sqrt(0.5)), t)
    t += 1
    t *= 0.5
    np.multiply(x, t, out)


def _gelu_backward(x: Array, grad: Array, out: Array) -> None:
    t = np.empty_like(x)
    _erf(x * x.dtype.type(math.sqrt(0.5)), t)
    t += 1
    t *= 0.5
    density = np.exp(x * x * -0.5)
    density *= 1 / math.sqrt(2 * math.pi)
    density *= x
    t += density
    np.multiply(t, grad, out)


def _erf(x: Array, out: Array) -> None:
    """x P(x^2) / Q(x^2) in float64, which is 1 within float32 beyond 4; float64 itself by the C
    library.

    The coefficients are our own minimax fit on (0, 4]; its relative error is below 1e-9, so a
    float32 result is off by at most 0.52 units in the last place.
    """
    if x.dtype == np.float64:
        out[...] = np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x
        return
    inner = np.clip(x, -4, 4).astype(np.float64)
    square = inner * inner
    top = np.full_like(square, _TOP[-1])
    for coefficient in _TOP[-2::-1]:
        top *= square
        top += coefficient
    bottom = np.full_like(square, _BOTTOM[-1])
    for coefficient in _BOTTOM[-2::-1]:
        bottom *= square
        bottom += coefficient
    inner *= top
    inner /= bottom
    np.clip(inner, -1, 1, inner)
    out[...] = inner

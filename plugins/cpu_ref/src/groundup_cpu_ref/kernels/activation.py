"""gelu and erf. They work in blocks, so that their temporaries stay in cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from groundup.ops.op import Op
from groundup_cpu_ref.native import Array, flattened, native
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
# Our own minimax fit of atanh(erf(x)) = x + x P(x^2) / Q(x^2) on (0, 4.2]; erf errs by 4e-9.
_TOP: Final = (0.1283791708, 0.1229142492, 0.01895662834, 0.001853357037)
_BOTTOM: Final = (1.0, 0.1568925638, 0.0236899219, 0.0003249242509)
_END: Final = 18.0  # x^2 from which erf is 1 in float32, whatever becomes of the fit


def blocks(function: Callable[..., None], *arrays: Array) -> None:
    """`function(*inputs, out)` on flat blocks, in threads. A number that was expanded stays one;
    other views that are not row-major go whole.
    """
    if not all(array.flags.c_contiguous or not any(array.strides) for array in arrays):
        function(*arrays)
        return
    flat = [flattened(array) for array in arrays]

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, _BLOCK):
            high = min(low + _BLOCK, stop)
            function(*[array if array.size == 1 else array[low:high] for array in flat])

    parallel(work, flat[-1].size, _BLOCK)


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
    """tanh(x + x P(x^2) / Q(x^2)) in float32, off by less than 2.3 units in the last place: where
    erf nears 1, tanh forgives what errors there are in its argument. float64 by the C library.
    """
    if x.dtype == np.float64:
        out[...] = np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x
        return
    square = np.multiply(x, x)
    np.minimum(square, _END, out=square)
    inner = _polynomial(square, _TOP)
    inner /= _polynomial(square, _BOTTOM)
    inner *= x
    inner += x
    np.tanh(inner, out)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """c0 + c1 x + c2 x^2 ... by Horner's rule."""
    constant, *rest, highest = coefficients
    value = np.multiply(x, highest)
    for coefficient in reversed(rest):
        value += coefficient
        value *= x
    value += constant
    return value

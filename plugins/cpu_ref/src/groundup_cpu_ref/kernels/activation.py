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
    _blocks(_erf, x, out)


@native("gelu", params=("approximate",))
def gelu(op: Any, x: Array, out: Array) -> None:
    _blocks(_gelu_tanh if op.approximate == "tanh" else _gelu, x, out)


@native("gelu_backward", params=("approximate",))
def gelu_backward(op: Any, x: Array, grad: Array, out: Array) -> None:
    _blocks(_gelu_tanh_backward if op.approximate == "tanh" else _gelu_backward, x, grad, out)


_BLOCK: Final = 16384  # elements: a few float32 temporaries of this size fit the second-level cache
_ROOT: Final = math.sqrt(2 / math.pi)
_CUBIC: Final = 0.044715


def _blocks(function: Callable[..., None], *arrays: Array) -> None:
    """`function(*inputs, out)` on flat blocks, in threads; views that are not row-major go whole."""
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
    t *= _CUBIC
    t += 1
    t *= x
    t *= _ROOT
    np.tanh(t, t)
    t += 1
    t *= 0.5
    np.multiply(x, t, out)


def _gelu_tanh_backward(x: Array, grad: Array, out: Array) -> None:
    """t = tanh(u): gelu' = (1 + t) / 2 + x / 2 (1 - t^2) u'."""
    square = np.multiply(x, x)
    t = square * _CUBIC
    t += 1
    t *= x
    t *= _ROOT
    np.tanh(t, t)
    square *= 3 * _CUBIC
    square += 1
    square *= 0.5 * _ROOT
    square *= x
    slope = np.multiply(t, t)
    np.subtract(1, slope, slope)
    slope *= square
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
    """Below 2 by its Taylor-like series, above by the complement's continued fraction, in float64."""
    out[...] = np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x

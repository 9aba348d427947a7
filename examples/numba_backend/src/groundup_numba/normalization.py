"""layer_norm and rms_norm with their gradients, each in one visit to a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from groundup.backends.api import View
from groundup.layout import Layout
from groundup_numba.native import SUMMING, Plan, dense, native
from groundup_numba.threads import parallel, pieces

Layouts = Sequence[Layout]


@njit(**SUMMING)
def _moments(line, centred, eps):
    """(mean, 1 / deviation) of a row; the mean is 0 unless it is `centred`."""
    width, mean, square = line.size, line.dtype.type(0), line.dtype.type(0)
    if centred:
        for i in range(width):
            mean += line[i]
        mean /= width
    for i in range(width):
        square += (line[i] - mean) * (line[i] - mean)
    return line.dtype.type(mean), line.dtype.type(1 / math.sqrt(square / width + eps))


@njit(**SUMMING)
def _norm(x, weight, bias, centred, eps, out, first, last):
    """`bias` may be empty."""
    width = weight.size
    for row in range(first, last):
        line, target = x[row * width : (row + 1) * width], out[row * width : (row + 1) * width]
        mean, scale = _moments(line, centred, eps)
        if bias.size:
            for i in range(width):
                target[i] = (line[i] - mean) * scale * weight[i] + bias[i]
        else:
            for i in range(width):
                target[i] = (line[i] - mean) * scale * weight[i]


@njit(**SUMMING)
def _norm_backward(x, weight, grad, centred, eps, dx, dweight, dbias, first, last):
    """dweight and dbias are added to."""
    width = weight.size
    for row in range(first, last):
        low, high = row * width, (row + 1) * width
        line, dy, target = x[low:high], grad[low:high], dx[low:high]
        mean, scale = _moments(line, centred, eps)
        along, total = x.dtype.type(0), x.dtype.type(0)
        for i in range(width):
            y, g = (line[i] - mean) * scale, dy[i] * weight[i]
            along += g * y
            total += g
            dweight[i] += dy[i] * y
            dbias[i] += dy[i]
        along, total = x.dtype.type(along / width), x.dtype.type(total / width)
        if not centred:
            total = x.dtype.type(0)
        for i in range(width):
            y = (line[i] - mean) * scale
            target[i] = (dy[i] * weight[i] - total - y * along) * scale


def _forward(op: Any, inputs: Layouts, centred: bool) -> Plan:
    rows = inputs[0].size // max(inputs[1].size, 1)

    def run(*views: View) -> None:
        x, weight, *rest = (dense(view) for view in views)
        bias, out = rest if len(rest) == 2 else (weight[:0], *rest)
        parallel(
            lambda a, b: _norm(x, weight, bias, centred, op.eps, out, a, b), rows, 4 * weight.size
        )

    return Plan(run, contiguous=range(len(inputs)))


def _backward(op: Any, inputs: Layouts, centred: bool) -> Plan:
    """Sums over rows are kept per piece and added in order: who was first makes no difference."""
    width = inputs[1].size
    rows = inputs[0].size // max(width, 1)
    shares = pieces(rows, 4 * width)

    def run(*views: View) -> None:
        x, weight, grad, dx, *sums = (dense(view) for view in views)
        partial = np.zeros((len(shares), 2, width), x.dtype)

        def work(first: int, last: int) -> None:
            for i in range(first, last):
                dweight, dbias = partial[i]
                _norm_backward(x, weight, grad, centred, op.eps, dx, dweight, dbias, *shares[i])

        parallel(work, len(shares), 4 * rows * width)
        for target, total in zip(sums, partial.sum(0), strict=False):
            target[...] = total

    return Plan(run, contiguous=range(len(inputs)))


@native("layer_norm", "eps")
def _layer_norm(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    return _forward(op, inputs, centred=True)


@native("rms_norm", "eps")
def _rms_norm(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    return _forward(op, inputs, centred=False)


@native("layer_norm_backward", "eps")
def _layer_norm_backward(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    return _backward(op, inputs, centred=True)


@native("rms_norm_backward", "eps")
def _rms_norm_backward(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    return _backward(op, inputs, centred=False)

"""softmax, log_softmax and their gradients over the last axis, each in one visit to a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from numba import njit

from groundup.backends.api import Declined, View
from groundup.layout import Layout
from groundup_numba.native import SUMMING, Plan, dense, native
from groundup_numba.rows import row_max
from groundup_numba.scalars import exp
from groundup_numba.threads import parallel


@njit(**SUMMING)
def _softmax(x, out, width, first, last):
    for row in range(first, last):
        line, target = x[row * width : (row + 1) * width], out[row * width : (row + 1) * width]
        top, total = row_max(line), x.dtype.type(0)
        for i in range(width):
            power = exp(line[i] - top)
            target[i] = power
            total += power
        scale = x.dtype.type(1) / total
        for i in range(width):
            target[i] *= scale


@njit(**SUMMING)
def _softmax_backward(y, grad, out, width, first, last):
    for row in range(first, last):
        line, dy = y[row * width : (row + 1) * width], grad[row * width : (row + 1) * width]
        target, dot = out[row * width : (row + 1) * width], y.dtype.type(0)
        for i in range(width):
            dot += line[i] * dy[i]
        for i in range(width):
            target[i] = line[i] * (dy[i] - dot)


@njit(**SUMMING)
def _log_softmax(x, out, width, first, last):
    for row in range(first, last):
        line, target = x[row * width : (row + 1) * width], out[row * width : (row + 1) * width]
        top, total = row_max(line), x.dtype.type(0)
        for i in range(width):
            total += exp(line[i] - top)
        logarithm = math.log(total)
        for i in range(width):
            target[i] = (line[i] - top) - logarithm


@njit(**SUMMING)
def _log_softmax_backward(y, grad, out, width, first, last):
    for row in range(first, last):
        line, dy = y[row * width : (row + 1) * width], grad[row * width : (row + 1) * width]
        target, total = out[row * width : (row + 1) * width], y.dtype.type(0)
        for i in range(width):
            total += dy[i]
        for i in range(width):
            target[i] = dy[i] - exp(line[i]) * total


def _over_rows(name: str, loop: Callable[..., None]) -> None:
    def factory(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan | Declined:
        x = inputs[0]
        if op.axis % x.rank != x.rank - 1:
            return Declined("only over the last axis")
        width = x.shape[-1]
        rows = x.size // width if width else 0

        def run(*views: View) -> None:
            flat = [dense(view) for view in views]
            parallel(lambda a, b: loop(*flat, width, a, b), rows, 4 * width)

        return Plan(run, contiguous=range(len(inputs)))

    native(name, "axis")(factory)


_over_rows("softmax", _softmax)
_over_rows("softmax_backward", _softmax_backward)
_over_rows("log_softmax", _log_softmax)
_over_rows("log_softmax_backward", _log_softmax_backward)

"""cross_entropy and its gradient: one visit to each row of logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from groundup.backends.api import View
from groundup.errors import DomainError
from groundup.layout import Layout
from groundup_numba.native import SUMMING, Array, Plan, dense, native
from groundup_numba.rows import row_max
from groundup_numba.scalars import exp
from groundup_numba.threads import parallel

Layouts = Sequence[Layout]


@njit(**SUMMING)
def _losses(logits, target, ignored, width, losses, logsumexp, first, last):
    for row in range(first, last):
        line = logits[row * width : (row + 1) * width]
        top, total = row_max(line), logits.dtype.type(0)
        for i in range(width):
            total += exp(line[i] - top)
        logarithm = math.log(total)
        logsumexp[row] = logarithm + top
        if target[row] == ignored:
            losses[row] = 0
        else:
            losses[row] = logarithm - (line[target[row]] - top)


@njit(**SUMMING)
def _spread(logits, target, logsumexp, ignored, width, grad, dlogsumexp, out, first, last):
    """`grad` holds a number per row."""
    for row in range(first, last):
        line, result = logits[row * width : (row + 1) * width], out[row * width : (row + 1) * width]
        share = grad[row] if target[row] != ignored else logits.dtype.type(0)
        if target[row] == ignored and dlogsumexp[row] == 0:
            result[:] = 0  # exactly, though 0 * NaN is NaN
            continue
        factor = share + dlogsumexp[row]
        for i in range(width):
            result[i] = exp(line[i] - logsumexp[row]) * factor
        if target[row] != ignored:
            result[target[row]] -= share


def _check(target: Array, ignored: int, width: int) -> None:
    counted = target[target != ignored]
    if counted.size and (counted.min() < 0 or counted.max() >= width):
        wrong = counted[(counted < 0) | (counted >= width)][0]
        raise DomainError(f"cross_entropy: target {wrong} is out of range for {width} classes")


@native("cross_entropy", "ignore_index", "reduction")
def _cross_entropy(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    ignored, width, rows = op.ignore_index, inputs[0].shape[-1], inputs[1].size

    def run(*views: View) -> None:
        logits, target, loss, logsumexp = (dense(view) for view in views)
        _check(target, ignored, width)
        losses = loss if op.reduction == "none" else np.empty(rows, logits.dtype)
        arrays = (logits, target, ignored, width, losses, logsumexp)
        parallel(lambda a, b: _losses(*arrays, a, b), rows, 4 * width)
        if op.reduction != "none":
            total = losses.sum(dtype=np.float64)
            with np.errstate(invalid="ignore"):  # the mean of no rows is NaN
                loss[0] = (
                    total / np.float64((target != ignored).sum())
                    if (op.reduction == "mean")
                    else total
                )

    return Plan(run, contiguous=(0, 1))


@native("cross_entropy_backward", "ignore_index", "reduction")
def _cross_entropy_backward(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    ignored, width, rows = op.ignore_index, inputs[0].shape[-1], inputs[1].size

    def run(*views: View) -> None:
        logits, target, logsumexp, grad, dlogsumexp, out = (dense(view) for view in views)
        _check(target, ignored, width)
        with np.errstate(all="ignore"):
            count = (target != ignored).sum() if op.reduction == "mean" else 1
            shares = np.broadcast_to(grad / count, rows).astype(logits.dtype)
        arrays = (logits, target, logsumexp, ignored, width, shares, dlogsumexp, out)
        parallel(lambda a, b: _spread(*arrays, a, b), rows, 4 * width)

    return Plan(run, contiguous=range(5))

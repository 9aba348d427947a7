"""References of losses. 16-bit floats accumulate in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle import functions as f
from groundup_conformance.oracle.moves import reshape, select, where
from groundup_conformance.oracle.normalization import shifted
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import gradient, reference
from groundup_conformance.oracle.sums import mean


def _picked(x: Number, ids: Array) -> Number:
    """x[..., id] per row."""
    return select(lambda a: np.take_along_axis(a, ids[..., None], -1)[..., 0], x)


def _valid(op: Any, target: Array) -> tuple[Array, Array]:
    """Which rows count, and ids with 0 in place of the ignored ones."""
    valid = target != op.ignore_index
    return valid, np.where(valid, target, 0).astype(np.int64)


def _reduced(op: Any, losses: Number, valid: Array) -> Number:
    """All, their sum, or that divided by the number of rows that count."""
    losses = where(valid, losses, losses.constant(0.0))
    if op.reduction == "none":
        return losses
    total = losses.sum()
    return total if op.reduction == "sum" else total / total.constant(float(valid.sum()))


@reference("cross_entropy")
def _cross_entropy(op: Any, logits: Number, target: Array) -> tuple[Number, Number]:
    """logsumexp(logits) - logits[target], and the logsumexp."""
    valid, ids = _valid(op, target)
    x = logits.wide()
    low = shifted(x, -1)
    log_sum = f.log(f.exp(low).sum((low.value.ndim - 1,)))
    loss = _reduced(op, log_sum - _picked(low, ids), valid)
    top = x.constant(x.value.max(-1, initial=-np.inf))
    return loss.to(logits.dtype), log_sum + top


@reference("cross_entropy_backward")
def _cross_entropy_backward(
    op: Any, logits: Number, target: Array, logsumexp: Number, grad: Number, grad_sum: Number
) -> Number:
    """p (g + grad_sum) - onehot(target) g, p = exp(logits - logsumexp); g is 0 for ignored rows.

    Rows that get no gradient at all are 0, even where p is NaN.
    """
    valid, ids = _valid(op, target)
    x = logits.wide()
    g = grad.to(x.dtype)
    if op.reduction == "mean":
        g = g / g.constant(float(valid.sum()))
    g = where(valid, g, g.constant(np.zeros(target.shape)))
    column = (*target.shape, 1)
    p = f.exp(x - reshape(logsumexp.to(x.dtype), column))
    factor = g + grad_sum.to(x.dtype)
    counts = (valid | (grad_sum.value != 0)).reshape(column)
    spread = p * reshape(factor, column)
    spread = where(counts, spread, spread.constant(np.zeros(spread.shape)))
    chosen = ids[..., None] == np.arange(x.shape[-1])
    hit = where(chosen, reshape(g, column), g.constant(np.zeros(chosen.shape)))
    return (spread - hit).to(logits.dtype)


@gradient("cross_entropy")
def _cross_entropy_gradient(op: Any, inputs: Any, outputs: Any, cotangents: Any) -> Number:
    logits, target = inputs
    return _cross_entropy_backward(op, logits, target, outputs[1], *cotangents)


@reference("nll_loss")
def _nll_loss(op: Any, log_probs: Number, target: Array) -> Number:
    """-log_probs[target]."""
    valid, ids = _valid(op, target)
    return _reduced(op, -_picked(log_probs.wide(), ids), valid).to(log_probs.dtype)


@reference("mse_loss")
def _mse_loss(op: Any, x: Number, target: Number) -> Number:
    """(x - target)^2, each, their sum or their mean."""
    error = x.wide() - target.wide()
    square = error * error
    if op.reduction == "mean":
        square = mean(square, tuple(range(square.value.ndim)))
    elif op.reduction == "sum":
        square = square.sum()
    return square.to(x.dtype)


@gradient("mse_loss")
def _mse_gradient(op: Any, inputs: Any, outputs: Any, cotangents: Any) -> tuple[Number, Number]:
    """2 (x - target) grad, divided by the number of elements for the mean."""
    (x, target), (g,) = inputs, cotangents
    scale = 2 / max(x.value.size, 1) if op.reduction == "mean" else 2.0
    dx = ((x.wide() - target.wide()) * (g.wide() * scale)).to(x.dtype)
    return dx, -dx

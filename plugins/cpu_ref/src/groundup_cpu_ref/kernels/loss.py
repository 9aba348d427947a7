"""Losses. Cross entropy and its gradient go over blocks of rows that stay in cache."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from groundup.errors import DomainError
from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import parallel

_CACHE: Final = 128 * 1024  # bytes of one block of rows; a second one is scratch


def _rows_of(array: Array) -> int:
    """How many rows of a matrix make a block."""
    return int(max(1, _CACHE // max(array.shape[1] * array.itemsize, 1)))


def checked_ids(op: Any, target: Array, classes: int) -> tuple[Array, Array]:
    """Flat (valid, ids), 0 in place of ignored ids. Raises DomainError for an id outside [0, C)."""
    ids = target.reshape(-1)
    valid = ids != op.ignore_index
    wrong = valid & ((ids < 0) | (ids >= classes))
    if wrong.any():
        raise DomainError(
            f"{op.name}: target {ids[wrong.argmax()]} is outside [0, {classes})",
            hint=f"ignore_index is {op.ignore_index}",
        )
    return valid, np.where(valid, ids, 0)


@native("cross_entropy", params=("ignore_index", "reduction"))
def cross_entropy(op: Any, logits: Array, target: Array, loss: Array, logsumexp: Array) -> None:
    valid, ids = checked_ids(op, target, logits.shape[-1])
    x = logits.reshape(ids.size, logits.shape[-1])
    losses, sums = np.empty(ids.size, x.dtype), logsumexp.reshape(-1)
    block = _rows_of(x)

    def work(start: int, stop: int) -> None:
        scratch = np.empty((min(block, stop - start), x.shape[1]), x.dtype)
        for low in range(start, stop, block):
            span = slice(low, min(low + block, stop))
            rows, shifted = x[span], scratch[: span.stop - low]
            top = rows.max(1)
            np.subtract(rows, top[:, None], shifted)
            picked = shifted[np.arange(len(rows)), ids[span]]
            np.exp(shifted, shifted)
            log_sum = np.log(shifted.sum(1))
            np.subtract(log_sum, picked, losses[span])
            np.add(log_sum, top, sums[span])

    parallel(work, ids.size, block)
    losses[~valid] = 0
    _reduce(op, losses, valid, loss)


@native("cross_entropy_backward", params=("ignore_index", "reduction"))
def cross_entropy_backward(
    op: Any, logits: Array, target: Array, logsumexp: Array, grad: Array, grad_logsumexp: Array,
    out: Array,
) -> None:  # fmt: skip
    valid, ids = checked_ids(op, target, logits.shape[-1])
    shape = (ids.size, logits.shape[-1])
    x, result, sums = logits.reshape(shape), out.reshape(shape), logsumexp.reshape(-1)
    chosen = _row_factors(op, grad, valid, x.dtype)
    spread = grad_logsumexp.reshape(-1) + chosen
    silent = ~valid & (grad_logsumexp.reshape(-1) == 0)
    block = _rows_of(x)

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, block):
            span = slice(low, min(low + block, stop))
            rows = result[span]
            np.subtract(x[span], sums[span, None], rows)
            np.exp(rows, rows)
            rows *= spread[span, None]
            rows[silent[span]] = 0
            rows[np.arange(len(rows)), ids[span]] -= chosen[span]

    parallel(work, ids.size, block)


@native("nll_loss", params=("ignore_index", "reduction"))
def nll_loss(op: Any, log_probs: Array, target: Array, loss: Array) -> None:
    valid, ids = checked_ids(op, target, log_probs.shape[-1])
    picked = np.take_along_axis(log_probs, ids.reshape(*target.shape, 1), -1).reshape(-1)
    losses = -picked if picked.size else picked
    losses[~valid] = 0
    _reduce(op, losses, valid, loss)


def _reduce(op: Any, losses: Array, valid: Array, out: Array) -> None:
    if op.reduction == "none":
        out[...] = losses.reshape(out.shape)
        return
    total = losses.sum()
    if op.reduction == "mean":
        total = total / losses.dtype.type(np.count_nonzero(valid))
    out[...] = total


def _row_factors(op: Any, grad: Array, valid: Array, dtype: Any) -> Array:
    """The gradient of each row's loss."""
    flat = grad.reshape(-1)
    if op.reduction == "mean":
        flat = flat / dtype.type(np.count_nonzero(valid))
    return np.where(valid, flat, dtype.type(0))


@native("mse_loss", params=("reduction",))
def mse_loss(op: Any, x: Array, target: Array, out: Array) -> None:
    if op.reduction == "none":
        np.subtract(x, target, out)
        np.multiply(out, out, out)
        return
    error = (x - target).reshape(-1)
    total = float((error * error).sum())
    out[...] = total if op.reduction == "sum" else np.float64(total) / error.size

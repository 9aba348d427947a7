"""Attention: some heads and some rows of queries at a time, so that their scores stay in cache.

Threads share out the heads; each product is one call for all heads of a block. No T x S matrix of
all scores exists. A causal block ends at the last key that its last query sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import numpy as np

from groundup.ops.random_ops import threshold
from groundup_cpu_ref.blas import single_threaded
from groundup_cpu_ref.kernels.random_ops import below, words_at
from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.rows import row_dots, row_sums
from groundup_cpu_ref.threads import parallel

_SCORES: Final = 1 << 17  # scores of one block: 512 KiB of float32
_ROWS: Final = 64  # queries of one block, where the keys are not too many


@attrs.frozen(eq=False)
class Block:
    """Queries `rows` of the heads `heads` (of k and v) of batch `batch`; they see keys below
    `end`.
    """

    batch: int
    heads: slice
    rows: slice
    end: int


@attrs.frozen(eq=False)
class Problem:
    """The operands, with heads as (heads of k and v, query heads that share one)."""

    q: Array  # (B, G, H / G, T, D)
    k: Array  # (B, G, 1, S, D)
    v: Array  # (B, G, 1, S, E)
    scale: Any
    last: int | None = None  # query i sees keys up to i + last; None: all
    mask: Array | None = None  # (B, G, H / G, T, S)
    state: Array | None = None
    threshold: int = 0
    keep: float = 1.0  # what dropout multiplies the kept probabilities by

    def blocks(self, batch: int, heads: slice) -> Iterator[Block]:
        """From the last queries, which see the most keys, to the first."""
        T, S = self.q.shape[3], self.k.shape[3]
        shared = (heads.stop - heads.start) * self.q.shape[2]
        step = max(1, min(T, max(8, min(_ROWS, _SCORES // max(S * shared, 1)))))
        for stop in range(T, 0, -step):
            end = S if self.last is None else min(S, max(0, stop + self.last))
            yield Block(batch, heads, slice(max(stop - step, 0), stop), end)

    def over_heads(self, work: Callable[[int, slice], None]) -> None:
        """`work(batch, heads of k and v)` for all, over threads, while BLAS keeps to one."""
        B, G, shared, T, _ = self.q.shape
        each = max(1, min(G, _SCORES // max(min(T, _ROWS) * self.k.shape[3] * shared, 1)))
        parts = [(b, slice(g, min(g + each, G))) for b in range(B) for g in range(0, G, each)]

        def run(start: int, stop: int) -> None:
            for batch, heads in parts[start:stop]:
                work(batch, heads)

        with single_threaded():
            parallel(run, len(parts), 1)

    def queries(self, block: Block) -> Array:
        """Those of a block, times `scale`."""
        scaled: Array = self.q[block.batch, block.heads, :, block.rows] * self.scale
        return scaled

    def scores(self, block: Block, queries: Array, out: Array) -> None:
        """Scaled and masked."""
        keys = self.k[block.batch, block.heads, :, : block.end]
        np.matmul(queries, keys.mT, out)
        if self.mask is not None:
            mask = self.mask[block.batch, block.heads, :, block.rows, : block.end]
            if mask.dtype == np.bool_:
                np.copyto(out, -np.inf, where=~mask)
            else:
                out += mask
        if self.last is not None:
            self._hide_later(block, out)

    def _hide_later(self, block: Block, scores: Array) -> None:
        """Keys that the last query of a block sees but earlier ones do not."""
        assert self.last is not None
        first = max(0, block.rows.start + self.last + 1)
        if first < block.end:
            rows = np.arange(block.rows.start, block.rows.stop)[:, None]
            later = np.arange(first, block.end) > rows + self.last
            np.copyto(scores[..., first:], -np.inf, where=later)

    def dropped(self, block: Block) -> Array | None:
        """Which probabilities of a block dropout drops; the bits belong to places in (B, H, T,
        S).
        """
        if self.state is None:
            return None
        _, G, shared, T, _ = self.q.shape
        S, end = self.k.shape[3], block.end
        groups = np.arange(block.heads.start, block.heads.stop) + block.batch * G
        heads = (groups[:, None] * shared + np.arange(shared))[..., None]
        first = (heads * T + np.arange(block.rows.start, block.rows.stop)) * S  # place of each row
        each = -(-end // 4) + (S % 4 > 0)  # counters; a row may begin inside one
        counters = first.reshape(-1, 1) // 4 + np.arange(each)
        words = np.empty((counters.size, 4), np.uint32)
        words_at(self.state, counters.reshape(-1).astype(np.uint64), words)
        found = below(words, self.threshold).reshape(-1, 4 * each)
        if S % 4 == 0:
            return found.reshape(*first.shape, -1)[..., :end]
        columns = first.reshape(-1, 1) % 4 + np.arange(end)
        return np.take_along_axis(found, columns, 1).reshape(*first.shape, end)


def problem(op: Any, q: Array, k: Array, v: Array, extras: tuple[Array, ...]) -> Problem:
    """The operands of the two attention ops."""
    heads = (k.shape[1], q.shape[1] // k.shape[1])
    mask, state = op.split(extras)
    if mask is not None:
        mask = np.broadcast_to(mask, (*q.shape[:3], k.shape[2]))
        mask = mask.reshape(q.shape[0], *heads, *mask.shape[2:])
    return Problem(
        *_by_heads(q, k, v),
        scale=q.dtype.type(op.scale),
        last=0 if op.causal else None,
        mask=mask,
        state=state,
        threshold=threshold(op.dropout),
        keep=1 / (1 - op.dropout),
    )


def _by_heads(q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    B, G = k.shape[:2]
    q, k, v = (x if x.strides[-1] == x.itemsize else np.ascontiguousarray(x) for x in (q, k, v))
    return q.reshape(B, G, q.shape[1] // max(G, 1), *q.shape[2:]), k[:, :, None], v[:, :, None]


def attend(p: Problem, out: Array, logsumexp: Array) -> None:
    """Forward: softmax of each block's scores, times v."""
    result = out.reshape(*p.q.shape[:4], out.shape[-1])
    sums = logsumexp.reshape(p.q.shape[:4])

    def work(batch: int, heads: slice) -> None:
        scratch = Scratch(1, out.dtype)
        for block in p.blocks(batch, heads):
            (weights,) = scratch.arrays(p, block)
            p.scores(block, p.queries(block), weights)
            at = (batch, heads, slice(None), block.rows)
            top = np.max(weights, -1, keepdims=True, initial=-np.inf)
            top[top == -np.inf] = 0
            np.subtract(weights, top, weights)
            np.exp(weights, weights)
            total = row_sums(weights)
            sums[at] = (np.log(total) + top)[..., 0]
            _zero(weights, p.dropped(block))
            np.matmul(weights, p.v[batch, heads, :, : block.end], result[at])
            total[total == 0] = 1
            result[at] *= out.dtype.type(p.keep) / total

    p.over_heads(work)


@native("scaled_dot_product_attention", params=("scale", "causal", "dropout", "masked"))
def scaled_dot_product_attention(op: Any, q: Array, k: Array, v: Array, *rest: Array) -> None:
    *extras, out, logsumexp = rest
    attend(problem(op, q, k, v, tuple(extras)), out, logsumexp)


@native("cached_attention", params=("scale",))
def cached_attention(op: Any, q: Array, k: Array, v: Array, length: Array, out: Array) -> None:
    filled = min(max(int(length.reshape(-1)[0]), 0), k.shape[2])
    operands = _by_heads(q, k[:, :, :filled], v[:, :, :filled])
    last = int(length.reshape(-1)[0]) - q.shape[2]
    p = Problem(*operands, scale=q.dtype.type(op.scale), last=last)
    attend(p, out, np.empty(q.shape[:3], q.dtype))


@native("scaled_dot_product_attention_backward", params=("scale", "causal", "dropout", "masked"))
def scaled_dot_product_attention_backward(
    op: Any, q: Array, k: Array, v: Array, out: Array, logsumexp: Array, grad: Array,
    grad_logsumexp: Array, *rest: Array,
) -> None:  # fmt: skip
    *extras, dq, dk, dv = rest
    p = problem(op, q, k, v, tuple(extras))
    rows = p.q.shape[:4]
    shift = np.where(logsumexp == -np.inf, 0, logsumexp).astype(dq.dtype).reshape(*rows, 1)
    delta = row_dots(grad, out)[..., 0] - grad_logsumexp
    passed = Passed(
        grad=grad.reshape(*rows, grad.shape[-1]),
        shift=shift,
        delta=delta.astype(dq.dtype).reshape(*rows, 1),
        dq=dq.reshape(p.q.shape), dk=dk, dv=dv,
    )  # fmt: skip
    if not q.shape[2]:  # no block will write them
        dk.fill(0)
        dv.fill(0)
    p.over_heads(lambda batch, heads: _gradients(p, passed, batch, heads))


@attrs.frozen(eq=False)
class Passed:
    """What the backward pass reads and writes beside the operands."""

    grad: Array
    shift: Array
    delta: Array
    dq: Array
    dk: Array
    dv: Array


def _gradients(p: Problem, passed: Passed, batch: int, heads: slice) -> None:
    scratch = Scratch(2, passed.dq.dtype)
    dk, dv = passed.dk[batch, heads], passed.dv[batch, heads]
    for block in p.blocks(batch, heads):
        at = (batch, heads, slice(None), block.rows)
        weights, dscores = scratch.arrays(p, block)
        queries, grad = p.queries(block), passed.grad[at]
        p.scores(block, queries, weights)
        weights -= passed.shift[at]
        np.exp(weights, weights)
        np.matmul(grad, p.v[batch, heads, :, : block.end].mT, dscores)
        dropped = p.dropped(block)
        if dropped is not None:
            dscores *= dscores.dtype.type(p.keep)
            _zero(dscores, dropped)
        dscores -= passed.delta[at]
        dscores *= weights
        np.matmul(dscores, p.k[batch, heads, :, : block.end], passed.dq[at])
        passed.dq[at] *= p.scale
        if dropped is not None:
            weights *= weights.dtype.type(p.keep)
            _zero(weights, dropped)
        _add(dk, block, dscores, queries, p.q.shape[3])
        _add(dv, block, weights, grad, p.q.shape[3])


def _zero(scores: Array, dropped: Array | None) -> None:
    if dropped is not None:
        np.copyto(scores, 0, where=dropped)


def _add(total: Array, block: Block, left: Array, right: Array, length: int) -> None:
    """total[keys] += left^T right, summed over the query heads; the first block writes instead."""
    product = np.matmul(left.mT, right)
    part = product[:, 0] if product.shape[1] == 1 else product.sum(1)
    if block.rows.stop == length:
        total[:, : block.end] = part
        total[:, block.end :] = 0
    else:
        total[:, : block.end] += part


class Scratch:
    """Memory for the scores of one thread's blocks, taken once: fresh pages cost more than
    products.
    """

    def __init__(self, count: int, dtype: Any) -> None:
        self._count, self._dtype = count, dtype
        self._memory = np.empty(0, dtype)

    def arrays(self, p: Problem, block: Block) -> list[Array]:
        """Uninitialised, each (heads, shared, rows, end)."""
        heads, rows = (part.stop - part.start for part in (block.heads, block.rows))
        shape = (self._count, heads, p.q.shape[2], rows, block.end)
        size = int(np.prod(shape))
        if self._memory.size < size:
            self._memory = np.empty(size, self._dtype)
        return list(self._memory[:size].reshape(shape))


@native("rotary_embedding", params=("theta", "inverse"))
def rotary_embedding(op: Any, x: Array, positions: Array, out: Array) -> None:
    """Angles are computed in float64, products in the dtype of x."""
    half = x.shape[-1] // 2
    powers = np.exp(np.arange(half) * (-np.log(op.theta) / max(half, 1)))
    angle = positions.astype(np.float64)[:, None] * powers
    cos = np.cos(angle).astype(x.dtype)
    sin = (np.sin(angle) * (-1 if op.inverse else 1)).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    np.multiply(first, cos, out[..., :half])
    out[..., :half] -= second * sin
    np.multiply(second, cos, out[..., half:])
    out[..., half:] += first * sin

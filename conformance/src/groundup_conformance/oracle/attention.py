"""References of attention, over whole sequences and over a cache, and of rotary positions.

P = softmax(q k^T scale + mask), out = P v. All in float32 for 16-bit floats, rounded once.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle import functions as f
from groundup_conformance.oracle.creation import dropped
from groundup_conformance.oracle.moves import concat, reshape, select, transpose, where
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import gradient, reference
from groundup_conformance.oracle.sums import matmul


@attrs.frozen(eq=False)
class Sight:
    """What changes plain attention: where a query may look, what is added to scores, dropout."""

    scale: float
    seen: Array  # broadcasts to the scores
    bias: Number | None = None
    state: Array | None = None
    p: float = 0.0

    def scores(self, q: Number, k: Number) -> Number:
        """q k^T scale (B, H, T, S), -inf where a query must not look."""
        found = matmul(q, transpose(k)) * self.scale
        if self.bias is not None:
            found = found + self.bias.to(found.dtype)
        seen = np.broadcast_to(self.seen, found.shape)
        return where(seen, found, found.constant(np.full(found.shape, -np.inf)))

    def drop(self, weights: Number) -> Number:
        """Dropout of probabilities."""
        return weights if self.state is None else dropped(weights, self.state, self.p)


def sight(op: Any, q: Number, k: Number, extras: Any) -> Sight:
    """By the settings of an op and its extra inputs."""
    T, S = q.shape[2], k.shape[2]
    seen = np.ones((T, S), bool)
    if op.causal:
        seen = np.arange(T)[:, None] >= np.arange(S)
    bias = None
    if op.masked and isinstance(extras[0], Number):
        bias = extras[0]
    elif op.masked:
        seen = seen & extras[0]
    return Sight(op.scale, seen, bias, extras[-1] if op.dropout else None, op.dropout)


def attend(q: Number, k: Number, v: Number, how: Sight) -> tuple[Number, Number]:
    """out and logsumexp, of wide Numbers. Rows that see nothing give 0 and -inf."""
    heads = q.shape[1]
    scores = how.scores(q, _per_query_head(k, heads))
    top = scores.value.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(top == -np.inf, 0.0, top)
    weights = f.exp(scores - scores.constant(top))
    total = weights.sum((3,), keepdims=True)
    product = matmul(how.drop(weights), _per_query_head(v, heads))
    blind = total.value == 0
    out = product / where(blind, total.constant(np.ones(total.shape)), total)
    logsumexp = f.log(total) + total.constant(top)
    return out, reshape(logsumexp, logsumexp.shape[:3])


def attend_gradient(
    q: Number, k: Number, v: Number, out: Number, logsumexp: Number, grad: Number,
    grad_sum: Number, how: Sight,
) -> tuple[Number, Number, Number, Number]:  # fmt: skip
    """dq, dk, dv and the gradient of the scores, all wide, of Numbers as they are stored.

    P = exp(scores - logsumexp), dS = P (drop(grad v^T) - sum(grad out) + grad_sum).
    """
    heads, groups = q.shape[1], k.shape[1]
    logsumexp = logsumexp.to(q.wide().dtype)
    shift = where(logsumexp.value == -np.inf, logsumexp.constant(np.zeros(logsumexp.shape)),
                  logsumexp)  # fmt: skip
    column = (*logsumexp.shape, 1)
    # Each use of a 16-bit float widens it, so that its gradient is rounded once for each use.
    p = f.exp(how.scores(q.wide(), _per_query_head(k.wide(), heads)) - reshape(shift, column))
    dy = grad.wide()
    delta = (dy * out.wide()).sum((3,)) - grad_sum.to(dy.dtype)
    seen = matmul(dy, transpose(_per_query_head(v.wide(), heads)))
    scores = p * (how.drop(seen) - reshape(delta, column))
    dq = matmul(scores, _per_query_head(k.wide(), heads)) * how.scale
    dk = matmul(transpose(scores), q.wide()) * how.scale
    dv = matmul(transpose(how.drop(p)), grad.wide())
    return dq, _per_group(dk, groups), _per_group(dv, groups), scores


def _per_query_head(x: Number, heads: int) -> Number:
    """Query head h reads head h // group."""
    group = heads // x.shape[1]
    return x if group == 1 else select(lambda a: np.repeat(a, group, 1), x)


def _per_group(x: Number, groups: int) -> Number:
    B, H, S, D = x.shape
    return x if groups == H else reshape(x, (B, groups, H // groups, S, D)).sum((2,))


@reference("scaled_dot_product_attention")
def _attention(op: Any, q: Number, k: Number, v: Number, *extras: Any) -> tuple[Number, Number]:
    wide = q.wide(), k.wide(), v.wide()
    out, logsumexp = attend(*wide, sight(op, q, k, extras))
    return out.to(q.dtype), logsumexp


@reference("scaled_dot_product_attention_backward")
def _attention_backward(
    op: Any, q: Number, k: Number, v: Number, out: Number, logsumexp: Number, grad: Number,
    grad_sum: Number, *extras: Any,
) -> tuple[Number, ...]:  # fmt: skip
    found = attend_gradient(q, k, v, out, logsumexp, grad, grad_sum, sight(op, q, k, extras))
    return tuple(x.to(q.dtype) for x in found[:3])


@gradient("scaled_dot_product_attention")
def _attention_gradient(
    op: Any, inputs: Any, outputs: Any, cotangents: Any
) -> tuple[Number | None, ...]:
    q, k, v, *extras = inputs
    (out, logsumexp), (grad, grad_sum) = outputs, cotangents
    how = sight(op, q, k, extras)
    *found, scores = attend_gradient(q, k, v, out, logsumexp, grad, grad_sum, how)
    results: list[Number | None] = [x.to(q.dtype) for x in found]
    if op.masked and isinstance(extras[0], Number):
        results.append(scores.fitted(extras[0]).to(extras[0].dtype))
    return tuple(results)


# ---- over a cache ----


def _cache_sight(op: Any, q: Number, k: Number, length: Array) -> Sight:
    """Query i stands at position length - T + i and sees all up to its own."""
    T, S = q.shape[2], k.shape[2]
    last = int(length.reshape(())) - T + np.arange(T)
    return Sight(op.scale, np.arange(S) <= last[:, None])


def _filled(x: Number, length: Array) -> Number:
    """0 behind `length`, where memory may hold anything."""
    inside = (np.arange(x.shape[2]) < int(length.reshape(())))[:, None]
    inside = np.broadcast_to(inside, x.shape)
    return where(inside, x, x.constant(np.zeros(x.shape)))


@reference("cached_attention")
def _cached_attention(op: Any, q: Number, k: Number, v: Number, length: Array) -> Number:
    how = _cache_sight(op, q, k, length)
    return attend(q.wide(), k.wide(), _filled(v, length).wide(), how)[0].to(q.dtype)


@gradient("cached_attention")
def _cached_gradient(op: Any, inputs: Any, outputs: Any, cotangents: Any) -> tuple[Number, ...]:
    q, k, v, length = inputs
    how, values = _cache_sight(op, q, k, length), _filled(v, length)
    _, logsumexp = attend(q.wide(), k.wide(), values.wide(), how)
    nothing = logsumexp.constant(np.zeros(logsumexp.shape))
    found = attend_gradient(
        q, k, values, outputs[0], logsumexp.stored(), cotangents[0], nothing, how
    )
    dq, dk, dv = (x.to(q.dtype) for x in found[:3])
    return dq, dk, _filled(dv, length)


# ---- rotary positions ----


@reference("rotary_embedding")
def _rotary(op: Any, x: Number, positions: Array) -> Number:
    """(x[i], x[i + D/2]) turned by the angle position theta^(-2i / D); back if `inverse`."""
    wide = x.wide()
    half = x.shape[-1] // 2
    powers = f.exp(wide.constant(np.arange(half)) * (-math.log(op.theta) / max(half, 1)))
    at = wide.constant(positions.astype(np.float64)[:, None])
    angle = at * powers
    cos, sin = f.cos(angle), f.sin(angle) * (-1.0 if op.inverse else 1.0)
    first = select(lambda a: a[..., :half], wide)
    second = select(lambda a: a[..., half:], wide)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return concat(turned, x.value.ndim - 1).to(x.dtype)

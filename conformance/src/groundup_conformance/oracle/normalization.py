"""References of softmax and of the norms, with their gradient ops.

All compute in float32 for 16-bit floats and round each result once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup_conformance.oracle import functions as f
from groundup_conformance.oracle.moves import reshape
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import gradient, reference
from groundup_conformance.oracle.sums import mean

# ---- softmax ----


def shifted(x: Number, axis: int) -> Number:
    """x - max(x) along an axis. The shift cancels later, so it has no gradient."""
    top = x.value.max(axis, keepdims=True, initial=-np.inf)
    return x - x.constant(top)


@reference("softmax")
def _softmax(op: Any, x: Number) -> Number:
    """exp(x - max(x)) / sum(exp(x - max(x)))."""
    powers = f.exp(shifted(x.wide(), op.axis))
    return (powers / total(powers, op.axis)).to(x.dtype)


@reference("log_softmax")
def _log_softmax(op: Any, x: Number) -> Number:
    """x - max(x) - log(sum(exp(x - max(x))))."""
    low = shifted(x.wide(), op.axis)
    return (low - f.log(total(f.exp(low), op.axis))).to(x.dtype)


@reference("softmax_backward")
def _softmax_backward(op: Any, out: Number, grad: Number) -> Number:
    """out (grad - sum(out grad))."""
    y, dy = out.wide(), grad.wide()
    return (y * (dy - total(y * dy, op.axis))).to(out.dtype)


@reference("log_softmax_backward")
def _log_softmax_backward(op: Any, out: Number, grad: Number) -> Number:
    """grad - exp(out) sum(grad)."""
    y, dy = out.wide(), grad.wide()
    return (dy - f.exp(y) * total(dy, op.axis)).to(out.dtype)


@gradient("softmax")
def _softmax_gradient(op: Any, inputs: Any, outputs: Any, cotangents: Any) -> Number:
    return _softmax_backward(op, outputs[0], cotangents[0])


@gradient("log_softmax")
def _log_softmax_gradient(op: Any, inputs: Any, outputs: Any, cotangents: Any) -> Number:
    return _log_softmax_backward(op, outputs[0], cotangents[0])


def total(x: Number, axis: int) -> Number:
    """The sum along one axis, kept."""
    return x.sum((axis % x.value.ndim,), keepdims=True)


def _average(x: Number) -> Number:
    return mean(x, (x.value.ndim - 1,), keepdims=True)


# ---- rows ----


def layer_norm(x: Number, weight: Number, bias: Number | None, eps: float) -> Number:
    """(x - mean) / sqrt(var + eps) weight + bias, of wide Numbers."""
    centred, scale = _standard(x, eps)
    scaled = centred * scale * weight
    return scaled if bias is None else scaled + bias


def rms_norm(x: Number, weight: Number, eps: float) -> Number:
    """x / sqrt(mean(x^2) + eps) weight, of wide Numbers."""
    return x * _root(x, eps) * weight


def _standard(x: Number, eps: float) -> tuple[Number, Number]:
    """x - mean(x), and what makes its variance 1."""
    centred = x - _average(x)
    return centred, _root(centred, eps)


def _root(x: Number, eps: float) -> Number:
    return f.rsqrt(_average(x * x) + eps)


def _wide(x: Number | None) -> Number | None:
    return None if x is None else x.wide()


@reference("layer_norm")
def _layer_norm(op: Any, x: Number, weight: Number, bias: Number | None = None) -> Number:
    return layer_norm(x.wide(), weight.wide(), _wide(bias), op.eps).to(x.dtype)


@reference("rms_norm")
def _rms_norm(op: Any, x: Number, weight: Number) -> Number:
    return rms_norm(x.wide(), weight.wide(), op.eps).to(x.dtype)


@reference("add_layer_norm")
def _add_layer_norm(
    op: Any, x: Number, residual: Number, weight: Number, bias: Number | None = None
) -> tuple[Number, Number]:
    """The norm of the sum before it is rounded, and the sum."""
    both = x.wide() + residual.wide()
    out = layer_norm(both, weight.wide(), _wide(bias), op.eps)
    return out.to(x.dtype), both.to(x.dtype)


@reference("add_rms_norm")
def _add_rms_norm(op: Any, x: Number, residual: Number, weight: Number) -> tuple[Number, Number]:
    both = x.wide() + residual.wide()
    return rms_norm(both, weight.wide(), op.eps).to(x.dtype), both.to(x.dtype)


@reference("layer_norm_backward")
def _layer_norm_backward(
    op: Any, x: Number, weight: Number, grad: Number
) -> tuple[Number, Number, Number]:
    found = _layer_norm_gradients(op, x, weight, grad)
    return tuple(n.to(x.dtype) for n in found)  # type: ignore[return-value]


def _layer_norm_gradients(
    op: Any, x: Number, weight: Number, grad: Number
) -> tuple[Number, Number, Number]:
    """Wide. y = (x - mean) s, g = grad weight: dx = (g - mean(g) - y mean(g y)) s."""
    centred, scale = _standard(x.wide(), op.eps)
    y, dy = centred * scale, grad.wide()
    g = dy * weight.wide()
    dx = (g - _average(g) - y * _average(g * y)) * scale
    rows = tuple(range(x.value.ndim - 1))
    return dx, (dy * y).sum(rows), dy.sum(rows)


@reference("rms_norm_backward")
def _rms_norm_backward(op: Any, x: Number, weight: Number, grad: Number) -> tuple[Number, Number]:
    dx, dweight = _rms_norm_gradients(op, x, weight, grad)
    return dx.to(x.dtype), dweight.to(x.dtype)


def _rms_norm_gradients(op: Any, x: Number, weight: Number, grad: Number) -> tuple[Number, Number]:
    """Wide. y = x s, g = grad weight: dx = (g - y mean(g y)) s."""
    wide, dy = x.wide(), grad.wide()
    scale = _root(wide, op.eps)
    y, g = wide * scale, dy * weight.wide()
    dx = (g - y * _average(g * y)) * scale
    return dx, (dy * y).sum(tuple(range(x.value.ndim - 1)))


@reference("add_layer_norm_backward")
def _add_layer_norm_backward(
    op: Any, x: Number, weight: Number, grad: Number, grad_sum: Number
) -> tuple[Number, ...]:
    """layer_norm's gradients, and grad_sum in dx before it is rounded."""
    dx, dweight, dbias = _layer_norm_gradients(op, x, weight, grad)
    found = dx + grad_sum.wide(), dweight, dbias
    return tuple(n.to(x.dtype) for n in found)


@reference("add_rms_norm_backward")
def _add_rms_norm_backward(
    op: Any, x: Number, weight: Number, grad: Number, grad_sum: Number
) -> tuple[Number, ...]:
    dx, dweight = _rms_norm_gradients(op, x, weight, grad)
    return (dx + grad_sum.wide()).to(x.dtype), dweight.to(x.dtype)


@gradient("add_layer_norm")
def _add_layer_norm_gradient(
    op: Any, inputs: Any, outputs: Any, cotangents: Any
) -> tuple[Number, ...]:
    """Of the norm of the sum as it was stored, and of the sum itself, which both terms get."""
    (_, both), (grad, grad_sum) = outputs, cotangents
    dx, *vectors = _layer_norm_backward(op, both, inputs[2], grad)
    dx = dx + grad_sum
    return (dx, dx, *vectors)[: len(inputs)]


@gradient("add_rms_norm")
def _add_rms_norm_gradient(
    op: Any, inputs: Any, outputs: Any, cotangents: Any
) -> tuple[Number, ...]:
    (_, both), (grad, grad_sum) = outputs, cotangents
    dx, dweight = _rms_norm_backward(op, both, inputs[2], grad)
    dx = dx + grad_sum
    return dx, dx, dweight


# ---- channels ----


def _beside(vector: Number, x: Number) -> Number:
    """(C,) so that it broadcasts against x (N, C, ...), wide."""
    return reshape(vector.wide(), (-1, *[1] * (x.value.ndim - 2)))


def _rest(x: Number) -> tuple[int, ...]:
    """All axes but the channels."""
    return (0, *range(2, x.value.ndim))


@reference("batch_norm")
def _batch_norm(
    op: Any, x: Number, mean: Number, var: Number, weight: Number, bias: Number
) -> Number:
    """(x - mean) / sqrt(var + eps) weight + bias, by channel."""
    scale = f.rsqrt(var.wide() + op.eps) * weight.wide()
    out = (x.wide() - _beside(mean, x)) * _beside(scale, x) + _beside(bias, x)
    return out.to(x.dtype)


@reference("batch_norm_backward")
def _batch_norm_backward(
    op: Any, x: Number, mean: Number, var: Number, weight: Number, grad: Number
) -> tuple[Number, ...]:
    """With s = 1 / sqrt(var + eps), sums over all but the channels."""
    dy, s, w = grad.wide(), f.rsqrt(var.wide() + op.eps), weight.wide()
    total = dy.sum(_rest(x))
    moment = (dy * (x.wide() - _beside(mean, x))).sum(_rest(x))
    slope = s * w
    dvar = moment * slope * s * s * -0.5
    found = dy * _beside(slope, x), -total * slope, dvar, moment * s, total
    return tuple(n.to(x.dtype) for n in found)


def _by_group(x: Number, groups: int) -> Number:
    """(N, C, ...) as (N, groups, elements of a group)."""
    n = x.shape[0]
    return reshape(x, (n, groups, x.value.size // (n * groups) if x.value.size else 0))


@reference("group_norm")
def _group_norm(op: Any, x: Number, weight: Number, bias: Number) -> Number:
    """Each group of channels of each sample with mean 0 and variance 1, then the channels' own."""
    centred, scale = _standard(_by_group(x.wide(), op.groups), op.eps)
    y = reshape(centred * scale, x.shape)
    return (y * _beside(weight, x) + _beside(bias, x)).to(x.dtype)


@reference("group_norm_backward")
def _group_norm_backward(op: Any, x: Number, weight: Number, grad: Number) -> tuple[Number, ...]:
    """As layer_norm's, over each group."""
    centred, scale = _standard(_by_group(x.wide(), op.groups), op.eps)
    y, dy = centred * scale, grad.wide()
    g = _by_group(dy * _beside(weight, x), op.groups)
    dx = (g - _average(g) - y * _average(g * y)) * scale
    flat = dy * reshape(y, x.shape)
    found = reshape(dx, x.shape), flat.sum(_rest(x)), dy.sum(_rest(x))
    return tuple(n.to(x.dtype) for n in found)

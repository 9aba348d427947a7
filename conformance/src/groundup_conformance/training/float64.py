"""A neural network library of its own, in float64: what level 3 holds a backend's training against.

Each layer is written twice, forward and as its gradient, by hand from the formula. Nothing here
uses groundup, the oracle of single ops, or a backend, so an error in one of those cannot hide in
both sides of a comparison. Central differences check every layer in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Ids: TypeAlias = npt.NDArray[np.int32]
Pull: TypeAlias = Callable[[Array], Sequence[Array]]


class Value:
    """An array, and how the gradient of what it was made of follows from its own."""

    __slots__ = ("data", "grad", "parents", "pull")

    def __init__(self, data: Any, parents: Sequence[Value] = (), pull: Pull | None = None) -> None:
        self.data: Array = np.asarray(data, np.float64)
        self.grad: Array = np.zeros_like(self.data)
        self.parents = parents
        self.pull = pull

    def backward(self) -> None:
        """Add the gradients of this scalar to `grad` of everything that it was made of."""
        self.grad = np.ones_like(self.data)
        for value in reversed(_ordered(self)):
            if value.pull is not None:
                for parent, grad in zip(value.parents, value.pull(value.grad), strict=True):
                    parent.grad = parent.grad + grad


def _ordered(root: Value) -> list[Value]:
    """`root` and all that it depends on, each after its parents."""
    found: list[Value] = []
    seen: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        value, expanded = waiting.pop()
        if expanded:
            found.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.append((value, True))
            waiting += [(parent, False) for parent in value.parents]
    return found


# ---- shapes ----


def add(x: Value, y: Value) -> Value:
    """x + y; y is broadcast to x."""
    return Value(x.data + y.data, (x, y), lambda g: (g, _unbroadcast(g, y.data)))


def reshape(x: Value, *shape: int) -> Value:
    """The same elements in another shape."""
    return Value(x.data.reshape(shape), (x,), lambda g: (g.reshape(x.data.shape),))


def permute(x: Value, *axes: int) -> Value:
    """The axes in another order."""
    y = np.ascontiguousarray(x.data.transpose(axes))  # products of views are slow
    return Value(y, (x,), lambda g: (g.transpose(np.argsort(axes)),))


def pick(x: Value, index: Any) -> Value:
    """x[index], for an index that takes each element once at most."""

    def pull(g: Array) -> Sequence[Array]:
        whole = np.zeros_like(x.data)
        whole[index] = g
        return (whole,)

    return Value(x.data[index], (x,), pull)


def embedding(weight: Value, ids: Ids) -> Value:
    """Rows of weight (V, C); those that are taken twice get both gradients."""

    def pull(g: Array) -> Sequence[Array]:
        whole = np.zeros_like(weight.data)
        np.add.at(whole, ids, g)
        return (whole,)

    return Value(weight.data[ids], (weight,), pull)


# ---- layers ----


def linear(x: Value, weight: Value, bias: Value | None = None) -> Value:
    """x W^T + b over the last axis."""
    y = x.data @ weight.data.T
    rows = x.data.reshape(-1, x.data.shape[-1])

    def pull(g: Array) -> Sequence[Array]:
        flat = g.reshape(-1, g.shape[-1])
        grads = (g @ weight.data, flat.T @ rows)
        return grads if bias is None else (*grads, flat.sum(axis=0))

    if bias is None:
        return Value(y, (x, weight), pull)
    return Value(y + bias.data, (x, weight, bias), pull)


def conv2d(x: Value, weight: Value, *, stride: int = 1, padding: int = 0) -> Value:
    """Correlation of x (N, C, H, W) with weight (O, C, h, w)."""
    padded = np.pad(x.data, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    high, wide = weight.data.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (high, wide), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    y = np.einsum("nchwij,ocij->nohw", windows, weight.data, optimize=True)

    def pull(g: Array) -> Sequence[Array]:
        rows, columns = g.shape[2:]
        whole = np.zeros_like(padded)
        for i in range(high):
            for j in range(wide):
                part = np.einsum("nohw,oc->nchw", g, weight.data[:, :, i, j], optimize=True)
                down = slice(i, i + stride * rows, stride)
                right = slice(j, j + stride * columns, stride)
                whole[:, :, down, right] += part
        rows, columns = x.data.shape[2:]
        inner = whole[:, :, padding : padding + rows, padding : padding + columns]
        return inner, np.einsum("nohw,nchwij->ocij", g, windows, optimize=True)

    return Value(y, (x, weight), pull)


def max_pool2d(x: Value, size: int) -> Value:
    """The maximum of each `size` x `size` tile; the first one gets the gradient."""
    n, c, h, w = x.data.shape
    tiles = x.data.reshape(n, c, h // size, size, w // size, size).transpose(0, 1, 2, 4, 3, 5)
    flat = tiles.reshape(n, c, h // size, w // size, size * size)
    best = flat.argmax(axis=-1)[..., None]

    def pull(g: Array) -> Sequence[Array]:
        whole = np.zeros_like(flat)
        np.put_along_axis(whole, best, g[..., None], axis=-1)
        tiled = whole.reshape(n, c, h // size, w // size, size, size).transpose(0, 1, 2, 4, 3, 5)
        return (tiled.reshape(n, c, h, w),)

    return Value(np.take_along_axis(flat, best, axis=-1)[..., 0], (x,), pull)


def mean_pool(x: Value) -> Value:
    """The mean over the positions of x (N, C, H, W)."""
    count = x.data.shape[2] * x.data.shape[3]

    def pull(g: Array) -> Sequence[Array]:
        return (np.broadcast_to(g[:, :, None, None] / count, x.data.shape),)

    return Value(x.data.mean(axis=(2, 3)), (x,), pull)


def layer_norm(x: Value, weight: Value, bias: Value, eps: float = 1e-5) -> Value:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis."""
    return _normalized(x, weight, bias, (-1,), eps)


def group_norm(x: Value, weight: Value, bias: Value, groups: int, eps: float = 1e-5) -> Value:
    """Each sample's channels of x (N, C, H, W) normalized in groups."""
    n, c, h, w = x.data.shape
    grouped = reshape(x, n, groups, c // groups, h, w)
    per_channel = (groups, c // groups, 1, 1)
    y = _normalized(
        grouped, reshape(weight, *per_channel), reshape(bias, *per_channel), (2, 3, 4), eps
    )
    return reshape(y, n, c, h, w)


def batch_norm(x: Value, weight: Value, bias: Value, eps: float = 1e-5) -> Value:
    """Each channel of x (N, C, H, W) normalized over batch and positions."""
    per_channel = (-1, 1, 1)
    return _normalized(
        x, reshape(weight, *per_channel), reshape(bias, *per_channel), (0, 2, 3), eps
    )


def _normalized(x: Value, weight: Value, bias: Value, axes: tuple[int, ...], eps: float) -> Value:
    """Over `axes`; weight and bias are broadcast."""
    centred = x.data - x.data.mean(axis=axes, keepdims=True)
    root = 1 / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)
    normal = centred * root

    def pull(g: Array) -> Sequence[Array]:
        inner = g * weight.data
        along = normal * (inner * normal).mean(axis=axes, keepdims=True)
        by_x = root * (inner - inner.mean(axis=axes, keepdims=True) - along)
        return by_x, _unbroadcast(g * normal, weight.data), _unbroadcast(g, bias.data)

    return Value(normal * weight.data + bias.data, (x, weight, bias), pull)


def _unbroadcast(grad: Array, target: Array) -> Array:
    lead = grad.ndim - target.ndim
    axes = [lead + i for i, size in enumerate(target.shape) if size == 1]
    summed: Array = grad.sum(axis=(*range(lead), *axes), keepdims=True)
    return summed.reshape(target.shape)


def rms_norm(x: Value, weight: Value, eps: float = 1e-6) -> Value:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""
    root = 1 / np.sqrt((x.data**2).mean(axis=-1, keepdims=True) + eps)
    normal = x.data * root

    def pull(g: Array) -> Sequence[Array]:
        inner = g * weight.data
        by_x = root * (inner - normal * (inner * normal).mean(axis=-1, keepdims=True))
        return by_x, _unbroadcast(g * normal, weight.data)

    return Value(normal * weight.data, (x, weight), pull)


def attention(q: Value, k: Value, v: Value) -> Value:
    """softmax(q k^T / sqrt(D)) v for (B, H, T, D); position t sees positions up to t."""
    scale = 1 / math.sqrt(q.data.shape[-1])
    hidden = ~np.tri(q.data.shape[-2], k.data.shape[-2], dtype=bool)
    p = softmax(np.where(hidden, -np.inf, q.data @ k.data.swapaxes(-1, -2) * scale))

    def pull(g: Array) -> Sequence[Array]:
        by_p = g @ v.data.swapaxes(-1, -2)
        by_s = p * (by_p - (by_p * p).sum(axis=-1, keepdims=True)) * scale
        return by_s @ k.data, by_s.swapaxes(-1, -2) @ q.data, p.swapaxes(-1, -2) @ g

    return Value(p @ v.data, (q, k, v), pull)


# ---- elementwise ----


def relu(x: Value) -> Value:
    """max(x, 0)."""
    return Value(np.maximum(x.data, 0), (x,), lambda g: (g * (x.data > 0),))


def silu(x: Value) -> Value:
    """x * sigmoid(x)."""
    s = 1 / (1 + np.exp(-x.data))
    return Value(x.data * s, (x,), lambda g: (g * s * (1 + x.data * (1 - s)),))


def gelu(x: Value) -> Value:
    """x * Phi(x), by the error function."""
    phi = 0.5 * (1 + _erf(x.data / math.sqrt(2)))
    density = np.exp(-0.5 * x.data**2) / math.sqrt(2 * math.pi)
    return Value(x.data * phi, (x,), lambda g: (g * (phi + x.data * density),))


_erf: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])


def gelu_tanh(x: Value) -> Value:
    """GPT-2's approximation of `gelu`."""
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x.data + 0.044715 * x.data**3))

    def pull(g: Array) -> Sequence[Array]:
        inner = c * (1 + 3 * 0.044715 * x.data**2)
        return (g * (0.5 * (1 + t) + 0.5 * x.data * (1 - t * t) * inner),)

    return Value(0.5 * x.data * (1 + t), (x,), pull)


def cross_entropy(logits: Value, targets: Ids) -> Value:
    """The mean of -log softmax(logits)[target], for logits (..., C)."""
    rows = logits.data.reshape(-1, logits.data.shape[-1])
    wanted = targets.reshape(-1)
    p = softmax(rows)
    top = rows.max(axis=-1)
    logsumexp = top + np.log(np.exp(rows - top[:, None]).sum(axis=-1))
    places = np.arange(len(wanted))

    def pull(g: Array) -> Sequence[Array]:
        by_rows = p.copy()
        by_rows[places, wanted] -= 1
        return ((g / len(wanted) * by_rows).reshape(logits.data.shape),)

    return Value((logsumexp - rows[places, wanted]).mean(), (logits,), pull)


def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)) along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    probabilities: Array = e / e.sum(axis=-1, keepdims=True)
    return probabilities

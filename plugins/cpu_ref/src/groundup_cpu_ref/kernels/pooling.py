"""Pools, tap by tap: all windows of some images at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import parallel

_GRAIN = 1 << 16  # elements that are worth a thread


@native("max_pool2d", params=("kernel", "stride", "padding"), exact=True)
def max_pool2d(op: Any, x: Array, out: Array) -> None:
    def work(part: slice) -> None:
        target = out[part]
        target[...] = -np.inf
        for view in _taps(op, _padded(op, x[part], -np.inf), out.shape[2:]):
            np.maximum(target, view, out=target)

    _by_image(work, x)


@native("max_pool2d_backward", params=("kernel", "stride", "padding"))
def max_pool2d_backward(op: Any, x: Array, out: Array, grad: Array, dx: Array) -> None:
    def work(part: slice) -> None:
        images = _padded(op, x[part], -np.inf)
        total = np.zeros(images.shape, dx.dtype)
        free = np.ones(out[part].shape, np.bool_)  # windows whose maximum was not met yet
        places = _taps(op, total, out.shape[2:])
        for view, place in zip(_taps(op, images, out.shape[2:]), places, strict=True):
            hit = ((view == out[part]) | np.isnan(view)) & free
            free &= ~hit
            np.add(place, np.where(hit, grad[part], 0), place)
        np.copyto(dx[part], _inner(op, total))

    _by_image(work, x)


@native("avg_pool2d", params=("kernel", "stride", "padding"))
def avg_pool2d(op: Any, x: Array, out: Array) -> None:
    def work(part: slice) -> None:
        target = out[part]
        target[...] = 0
        for view in _taps(op, _padded(op, x[part], 0), out.shape[2:]):
            np.add(target, view, target)
        np.divide(target, op.kernel[0] * op.kernel[1], target)

    _by_image(work, x)


@native("avg_pool2d_backward", params=("kernel", "stride", "padding", "size"))
def avg_pool2d_backward(op: Any, grad: Array, dx: Array) -> None:
    def work(part: slice) -> None:
        share = grad[part] / (op.kernel[0] * op.kernel[1])
        shape = [n + 2 * p for n, p in zip(dx.shape[2:], op.padding, strict=True)]
        total = np.zeros((*share.shape[:2], *shape), dx.dtype)
        for place in _taps(op, total, grad.shape[2:]):
            np.add(place, share, place)
        np.copyto(dx[part], _inner(op, total))

    _by_image(work, dx)


def _by_image(work: Callable[[slice], None], images: Array) -> None:
    """`work(slice of images)` over the threads."""
    each = images[0].size if len(images) else 0
    parallel(lambda a, b: work(slice(a, b)), len(images), _GRAIN // max(each, 1) + 1)


def _padded(op: Any, images: Array, value: float) -> Array:
    top, left = op.padding
    if not (top or left):
        return images
    n, channels, high, wide = images.shape
    padded = np.full((n, channels, high + 2 * top, wide + 2 * left), value, images.dtype)
    _inner(op, padded)[...] = images
    return padded


def _inner(op: Any, padded: Array) -> Array:
    (top, left), (high, wide) = op.padding, padded.shape[2:]
    return padded[:, :, top : high - top, left : wide - left]


def _taps(op: Any, padded: Array, counts: tuple[int, ...]) -> Iterator[Array]:
    """What each tap sees of padded (N, C, H, W) in all windows, row by row."""
    down, right = op.stride
    for i in range(op.kernel[0]):
        for j in range(op.kernel[1]):
            rows = slice(i, i + (counts[0] - 1) * down + 1, down)
            yield padded[:, :, rows, j : j + (counts[1] - 1) * right + 1 : right]

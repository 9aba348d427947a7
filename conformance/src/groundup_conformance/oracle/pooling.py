"""References of pools over windows of images."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from groundup_conformance.oracle.convolution import Windows
from groundup_conformance.oracle.moves import numbered, reshape, scattered, select
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import reference


def _windows(op: Any) -> Windows:
    return Windows(op.kernel, op.stride, op.padding, (1, 1))


def _patches(op: Any, x: Number, fill: float) -> Number:
    """(N, C, *counts, taps)."""
    found = select(_windows(op).patches, x, x.constant(fill))
    return reshape(found, (*found.shape[:4], prod(op.kernel)))


@reference("max_pool2d")
def _max_pool(op: Any, x: Number) -> Number:
    """The largest of each window, NaN if it holds one; the gradient goes to the first of equals."""
    taps = _patches(op, x, -np.inf)
    first = np.argmax(taps.value, -1)  # NumPy: the first NaN, else the first of the largest
    return select(lambda a: np.take_along_axis(a, first[..., None], -1)[..., 0], taps)


@reference("max_pool2d_backward")
def _max_pool_backward(op: Any, x: Number, out: Number, grad: Number) -> Number:
    """grad added at the first tap of each window whose value is `out`, or that is NaN."""
    windows = _windows(op)
    patches = windows.patches(x.value, np.asarray(-np.inf))
    taps = patches.reshape(*patches.shape[:4], prod(op.kernel))
    hits = (taps == out.value[..., None]) | np.isnan(taps)
    first = np.argmax(hits, -1)
    (numbers,) = numbered([x.shape])
    origin = windows.patches(numbers, np.asarray(x.value.size)).reshape(taps.shape)
    places = np.take_along_axis(origin, first[..., None], -1)[..., 0]
    # Windows that hit nothing, or padding, lead nowhere: one place behind the last.
    places = np.where(hits.any(-1), places, x.value.size)
    nowhere = x.constant(np.zeros(1))
    wide = grad.wide()
    dx, _ = scattered(wide, places.reshape(-1), [x, nowhere])

    def pull(g: Number) -> tuple[Number]:
        return (g.moved(lambda a: np.append(a.reshape(-1), 0.0)[places]),)

    return wide.made(dx.value, dx.bound, wide, pull=pull).to(grad.dtype)


@reference("avg_pool2d")
def _avg_pool(op: Any, x: Number) -> Number:
    """The mean of each window; padding counts as zeros."""
    taps = _patches(op, x.wide(), 0.0)
    total = taps.sum((4,))
    return (total / total.constant(prod(op.kernel))).to(x.dtype)


@reference("avg_pool2d_backward")
def _avg_pool_backward(op: Any, grad: Number) -> Number:
    """Each window's gradient, shared out over its elements and added up."""
    wide = grad.wide()
    share = wide / wide.constant(prod(op.kernel))
    shape = (*grad.shape[:2], *op.size)
    windows = _windows(op)
    (numbers,) = numbered([shape])
    origin = windows.patches(numbers, np.asarray(numbers.size))
    image = share.constant(np.zeros(shape))
    nowhere = share.constant(np.zeros(1))
    spread = share.moved(lambda a: np.broadcast_to(a[..., None, None], origin.shape))
    dx, _ = scattered(spread, origin.reshape(-1), [image, nowhere])

    def pull(g: Number) -> tuple[Number]:
        seen = g.moved(lambda a: windows.patches(a, np.zeros(())))
        return (seen.sum((4, 5)),)

    return share.made(dx.value, dx.bound, share, pull=pull).to(grad.dtype)

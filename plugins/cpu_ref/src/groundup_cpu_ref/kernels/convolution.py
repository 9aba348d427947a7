"""Convolutions as matrix products: windows of a few images are laid out as columns ("im2col")."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from groundup_cpu_ref import blas
from groundup_cpu_ref.native import Array, native

_COLUMNS: Final = 1 << 18  # elements of columns at a time: 1 MiB of float32


@native("conv2d", params=("stride", "padding", "dilation", "groups"))
def conv2d(op: Any, x: Array, weight: Array, *rest: Array) -> None:
    *bias, out = rest
    groups, kernel = op.groups, weight.shape[2:]
    matrix = weight.reshape(groups, weight.shape[0] // groups, prod(weight.shape[1:]))
    for part, columns in _columns(op, x, kernel, out.shape[2:]):
        target = out[part]
        shape = (len(target), groups, matrix.shape[1], columns.shape[-1])
        blas.matmul(matrix, columns, target.reshape(shape))
        if bias:
            np.add(target, bias[0][:, None, None], target)


@native("conv1d", params=("stride", "padding", "dilation", "groups"))
def conv1d(op: Any, x: Array, weight: Array, *rest: Array) -> None:
    """Images of height 1."""
    *bias, out = rest
    flat = SimpleNamespace(
        stride=(1, *op.stride), padding=(0, *op.padding), dilation=(1, *op.dilation),
        groups=op.groups,
    )  # fmt: skip
    conv2d(flat, x[:, :, None], weight[:, :, None], *bias, out[:, :, None])


@native("conv2d_backward_weight", params=("stride", "padding", "dilation", "groups", "kernel"))
def conv2d_backward_weight(op: Any, x: Array, grad: Array, out: Array) -> None:
    groups = op.groups
    total = out.reshape(groups, out.shape[0] // groups, prod(out.shape[1:]))
    total[...] = 0
    for part, columns in _columns(op, x, op.kernel, grad.shape[2:]):
        shape = (columns.shape[0], groups, total.shape[1], columns.shape[-1])
        products = np.empty((len(columns), *total.shape), out.dtype)
        blas.matmul(grad[part].reshape(shape), columns.swapaxes(-1, -2), products)
        np.add(total, np.add.reduce(products, axis=0), total)


@native("conv_transpose2d", params=("stride", "padding", "dilation", "groups", "output_padding"))
def conv_transpose2d(op: Any, x: Array, weight: Array, *rest: Array) -> None:
    """Columns by one product, then every tap added where its windows lie ("col2im")."""
    *bias, out = rest
    n, channels, *counts = x.shape
    groups, (top, left) = op.groups, op.padding
    high, wide = out.shape[2:]
    matrix = weight.reshape(groups, channels // groups, prod(weight.shape[1:])).swapaxes(1, 2)
    canvas = np.empty((1, out.shape[1], high + 2 * top, wide + 2 * left), out.dtype)
    for i in range(n):
        pixels = x[i].reshape(groups, channels // groups, prod(counts))
        columns = np.empty((*matrix.shape[:2], prod(counts)), out.dtype)
        blas.matmul(matrix, pixels, columns)
        taps = columns.reshape(1, out.shape[1], *weight.shape[2:], *counts)
        canvas[...] = 0
        for tap, view in _taps(op, canvas, weight.shape[2:], tuple(counts)):
            np.add(view, taps[:, :, tap[0], tap[1]], view)
        np.copyto(out[i], canvas[0, :, top : top + high, left : left + wide])
    if bias:
        np.add(out, bias[0][:, None, None], out)


def _columns(
    op: Any, x: Array, kernel: tuple[int, ...], counts: tuple[int, ...]
) -> Iterator[tuple[slice, Array]]:
    """For a few images at a time: their slice, and (images, groups, C / groups kh kw, windows)."""
    n, channels, high, wide = x.shape
    shape = (op.groups, channels // op.groups * prod(kernel), prod(counts))
    step = max(1, min(n, _COLUMNS // max(prod(shape), 1)))
    top, left = op.padding
    plain = kernel == (1, 1) and op.stride == (1, 1) and op.padding == (0, 0)
    padded = np.zeros((step, channels, high + 2 * top, wide + 2 * left), x.dtype)
    columns = np.empty((0 if plain else step, channels, *kernel, *counts), x.dtype)
    for start in range(0, n, step):
        images = x[start : start + step]
        count = len(images)
        if plain:
            yield slice(start, start + count), images.reshape(count, *shape)
            continue
        if top or left:
            padded[:count, :, top : top + high, left : left + wide] = images
            images = padded[:count]
        for (i, j), view in _taps(op, images, kernel, counts):
            np.copyto(columns[:count, :, i, j], view)
        yield slice(start, start + count), columns[:count].reshape(count, *shape)


def _taps(
    op: Any, padded: Array, kernel: tuple[int, ...], counts: tuple[int, ...]
) -> Iterator[tuple[tuple[int, int], Array]]:
    """(i, j) and the view of padded (N, C, H, W) that tap sees in every window."""
    (down, right), (high, wide) = op.stride, op.dilation
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i * high, i * high + (counts[0] - 1) * down + 1, down)
            columns = slice(j * wide, j * wide + (counts[1] - 1) * right + 1, right)
            yield (i, j), padded[:, :, rows, columns]

"""batch_norm, group_norm and their gradients, in blocks of samples."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.rows import block_count, centre, inverse_deviation, row_blocks, row_dots


@native("batch_norm", params=("eps",))
def batch_norm(
    op: Any, x: Array, mean: Array, var: Array, weight: Array, bias: Array, out: Array
) -> None:
    images, target = _flat(x), _flat(out)
    scale = (np.reciprocal(np.sqrt(var + op.eps)) * weight)[:, None]

    def work(_: int, part: slice) -> None:
        np.subtract(images[part], mean[:, None], target[part])
        np.multiply(target[part], scale, target[part])
        np.add(target[part], bias[:, None], target[part])

    _by_sample(work, out)


@native("batch_norm_backward", params=("eps",))
def batch_norm_backward(
    op: Any, x: Array, mean: Array, var: Array, weight: Array, grad: Array, *outs: Array
) -> None:
    dx, dmean, dvar, dweight, dbias = outs
    images, grads, target = _flat(x), _flat(grad), _flat(dx)
    inverse = np.reciprocal(np.sqrt(var + op.eps))
    slope = inverse * weight
    sums = np.zeros((2, _count(dx), dx.shape[1]), dx.dtype)

    def work(i: int, part: slice) -> None:
        centred = np.subtract(images[part], mean[:, None])
        np.multiply(centred, grads[part], centred)
        np.add.reduce(np.add.reduce(grads[part], axis=2), axis=0, out=sums[0, i])
        np.add.reduce(np.add.reduce(centred, axis=2), axis=0, out=sums[1, i])
        np.multiply(grads[part], slope[:, None], target[part])

    _by_sample(work, dx)
    total, moment = np.add.reduce(sums, axis=1)
    np.multiply(total, -slope, dmean)
    np.multiply(moment, slope * inverse * inverse * -0.5, dvar)
    np.multiply(moment, inverse, dweight)
    np.copyto(dbias, total)


@native("group_norm", params=("eps", "groups"))
def group_norm(op: Any, x: Array, weight: Array, bias: Array, out: Array) -> None:
    images, target = _flat(x), _flat(out)

    def work(_: int, part: slice) -> None:
        block = target[part]
        rows = _by_group(block, op.groups)
        centre(_by_group(images[part], op.groups), rows)
        np.multiply(rows, inverse_deviation(rows, op.eps), rows)
        np.multiply(block, weight[:, None], block)
        np.add(block, bias[:, None], block)

    _by_sample(work, out)


@native("group_norm_backward", params=("eps", "groups"))
def group_norm_backward(op: Any, x: Array, weight: Array, grad: Array, *outs: Array) -> None:
    dx, dweight, dbias = outs
    images, grads, target = _flat(x), _flat(grad), _flat(dx)
    sums = np.zeros((2, _count(dx), dx.shape[1]), dx.dtype)

    def work(i: int, part: slice) -> None:
        y, g = np.empty_like(target[part]), np.multiply(grads[part], weight[:, None])
        rows, slopes, result = (_by_group(a, op.groups) for a in (y, g, target[part]))
        centre(_by_group(images[part], op.groups), rows)
        scale = inverse_deviation(rows, op.eps)
        np.multiply(rows, scale, rows)
        np.add.reduce(np.add.reduce(grads[part] * y, axis=2), axis=0, out=sums[0, i])
        np.add.reduce(np.add.reduce(grads[part], axis=2), axis=0, out=sums[1, i])
        centre(slopes, result)
        mean_gy = row_dots(slopes, rows) / rows.shape[-1]
        np.multiply(rows, mean_gy, rows)
        np.subtract(result, rows, result)
        np.multiply(result, scale, result)

    _by_sample(work, dx)
    np.add.reduce(sums[0], axis=0, out=dweight)
    np.add.reduce(sums[1], axis=0, out=dbias)


def _flat(x: Array) -> Array:
    """(N, C, ...) as (N, C, positions)."""
    return x.reshape(*x.shape[:2], prod(x.shape[2:]))


def _by_group(images: Array, groups: int) -> Array:
    """(N, C, positions) as one row per sample and group."""
    n, channels, area = images.shape
    return images.reshape(n * groups, channels // groups * area)


def _count(images: Array) -> int:
    return block_count(len(images), prod(images.shape[1:]))


def _by_sample(work: Callable[[int, slice], None], images: Array) -> None:
    row_blocks(work, len(images), prod(images.shape[1:]))

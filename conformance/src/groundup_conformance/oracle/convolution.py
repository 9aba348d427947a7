"""References of convolutions, all as one product of a matrix of patches and a matrix of weights.

Patches are selected from the padded image by index, so that the gradients of the image, which
conv_transpose2d computes, follow from where its elements went.
"""

from __future__ import annotations

from math import prod
from typing import Any

import attrs
import numpy as np

from groundup.shapes import Shape
from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.moves import permute, reshape, select, transpose
from groundup_conformance.oracle.number import Number, backpropagate
from groundup_conformance.oracle.registry import reference
from groundup_conformance.oracle.sums import matmul


@attrs.frozen
class Windows:
    """Windows of `kernel` elements on each axis, `dilation` apart, every `stride`."""

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape

    def counts(self, size: Shape) -> Shape:
        """How many windows fit on each axis."""
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                size, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )

    def patches(self, x: Array, fill: Array) -> Array:
        """x (N, C, *size) as (N, C, *counts, *kernel), `fill` where a window hangs over."""
        pads = [(0, 0), (0, 0), *[(p, p) for p in self.padding]]
        padded = np.full([n + a + b for n, (a, b) in zip(x.shape, pads, strict=True)], fill)
        inside = [slice(p, p + n) for p, n in zip(self.padding, x.shape[2:], strict=True)]
        padded[(slice(None), slice(None), *inside)] = x
        counts, rank = self.counts(x.shape[2:]), len(self.kernel)
        index: list[Any] = [slice(None), slice(None)]
        for axis in range(rank):
            starts = np.arange(counts[axis]) * self.stride[axis]
            taps = np.arange(self.kernel[axis]) * self.dilation[axis]
            shape = [1] * (2 * rank)
            shape[axis], shape[rank + axis] = len(starts), len(taps)
            index.append((starts[:, None] + taps).reshape(shape))
        return np.asarray(padded[tuple(index)])


def windows_of(op: Any, kernel: Shape) -> Windows:
    """The windows of a convolution's settings."""
    return Windows(kernel, op.stride, op.padding, op.dilation)


def correlate(x: Number, weight: Number, windows: Windows, groups: int) -> Number:
    """The sums over channels and taps: x (N, C, *size), weight (O, C / groups, *kernel)."""
    n, c = x.shape[:2]
    outer, inner, taps = weight.shape[0], c // groups, prod(windows.kernel)
    counts = windows.counts(x.shape[2:])
    found = select(windows.patches, x, x.constant(0.0))
    rank = len(counts)
    # (N, C, *counts, *kernel) -> (N, groups, C / groups, taps, positions)
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    columns = reshape(permute(found, order), (n, groups, inner * taps, prod(counts)))
    rows = reshape(weight, (1, groups, outer // groups, inner * taps))
    rows = rows if n == 1 else _repeated(rows, n)
    return reshape(matmul(rows, columns), (n, outer, *counts))


def _repeated(x: Number, n: int) -> Number:
    return select(lambda a: np.repeat(a, n, 0), x)


def _with_bias(out: Number, bias: Number | None, rank: int) -> Number:
    return out if bias is None else out + reshape(bias.wide(), (-1, *[1] * rank))


@reference("conv1d", "conv2d")
def _conv(op: Any, x: Number, weight: Number, bias: Number | None = None) -> Number:
    """Cross-correlation, accumulated in float32 for 16-bit floats and rounded once."""
    windows = windows_of(op, weight.shape[2:])
    out = correlate(x.wide(), weight.wide(), windows, op.groups)
    return _with_bias(out, bias, len(op.stride)).to(x.dtype)


@reference("conv_transpose2d")
def _conv_transpose(op: Any, x: Number, weight: Number, bias: Number | None = None) -> Number:
    """Every element of x adds weight, scaled by it, into the result: (N, O, ...).

    x (N, C, H, W), weight (C, O / groups, kh, kw).
    """
    n, c, *size = x.shape
    kernel, groups = weight.shape[2:], op.groups
    outer = weight.shape[1] * groups
    full = [
        (m - 1) * s - 2 * p + d * (k - 1) + extra + 1
        for m, s, p, d, k, extra in zip(
            size, op.stride, op.padding, op.dilation, kernel, op.output_padding, strict=True
        )
    ]
    # (N, groups, C / groups, positions) by (groups, O / groups taps, C / groups)
    rows = reshape(weight.wide(), (1, groups, c // groups, weight.shape[1] * prod(kernel)))
    rows = transpose(rows if n == 1 else _repeated(rows, n))
    columns = reshape(x.wide(), (n, groups, c // groups, prod(size)))
    parts = reshape(matmul(rows, columns), (n, outer, *kernel, *size))
    out = _overlapped(parts, (n, outer, *full), windows_of(op, kernel))
    return _with_bias(out, bias, 2).to(x.dtype)


def _overlapped(parts: Number, shape: Shape, windows: Windows) -> Number:
    """parts (N, O, *kernel, *counts) added where windows over an image of `shape` lie.

    The image whose patches they would be gets them as gradients.
    """
    image = Number(np.zeros(shape), parts.dtype, parts.profile)
    patches = select(windows.patches, image, image.constant(0.0))
    size = parts.shape[4:]
    covered = select(lambda a: a[:, :, : size[0], : size[1]], patches)
    turned = permute(parts, (0, 1, 4, 5, 2, 3))
    (total,) = backpropagate([covered], [turned.stored()], [image])
    assert total is not None

    def pull(g: Number) -> tuple[Number]:
        return (g.moved(lambda a: _taken(a, windows, size)),)

    return parts.made(total.value, total.bound, parts, pull=pull)


def _taken(a: Array, windows: Windows, size: Shape) -> Array:
    """The patches of an image, the first `size` of them, taps first."""
    found = windows.patches(a, np.zeros(()))[:, :, : size[0], : size[1]]
    return found.transpose(0, 1, 4, 5, 2, 3)


@reference("conv2d_backward_weight")
def _conv_backward_weight(op: Any, x: Number, grad: Number) -> Number:
    """dweight[o, c, i, j]: the sum over images and positions of grad and what the tap saw."""
    n, c = x.shape[:2]
    outer, inner, groups = grad.shape[1], c // op.groups, op.groups
    area, taps = prod(grad.shape[2:]), prod(op.kernel)
    patches = select(windows_of(op, op.kernel).patches, x.wide(), x.wide().constant(0.0))
    # patches (N, C, V, U, kh, kw) -> (groups, C / groups taps, N positions)
    seen = reshape(permute(patches, (1, 4, 5, 0, 2, 3)), (groups, inner * taps, n * area))
    dy = reshape(permute(grad.wide(), (1, 0, 2, 3)), (groups, outer // groups, n * area))
    out = matmul(dy, transpose(seen))
    return reshape(out, (outer, inner, *op.kernel)).to(x.dtype)

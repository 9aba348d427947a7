"""Sliding windows over the last two axes, for compositions of convolutions and pools.

They are read tap by tap: tap (i, j) of all windows together is one strided slice of the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from groundup.errors import ShapeError
from groundup.shapes import Shape, as_integers

if TYPE_CHECKING:
    from groundup.tensor import Tensor


@attrs.frozen
class Windows:
    """Windows of `kernel` elements, `dilation` apart, every `stride`, over a padded input."""

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape

    def counts(self, name: str, size: Shape) -> Shape:
        """How many windows fit on each axis. Raises ShapeError if a setting is bad or none fits."""
        self.check(name)
        found = []
        for n, k, s, p, d in zip(
            size, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            room = n + 2 * p - d * (k - 1) - 1
            if room < 0:
                raise ShapeError(
                    f"{name}: a window of {k} (dilation {d}) does not fit {n} elements "
                    f"(padding {p})"
                )
            found.append(room // s + 1)
        return tuple(found)

    def check(self, name: str) -> None:
        """Raises ShapeError unless sizes, strides and dilations are at least 1 and paddings 0."""
        low = min(*self.kernel, *self.stride, *self.dilation)
        if low < 1 or min(self.padding) < 0:
            raise ShapeError(
                f"{name}: kernel {self.kernel}, stride {self.stride} and dilation {self.dilation} "
                f"must be at least 1, padding {self.padding} at least 0"
            )

    def taps(
        self, x: Tensor, counts: Shape, fill: float = 0.0
    ) -> Iterator[tuple[int, int, Tensor]]:
        """(i, j, the elements of x (N, C, H, W) at tap (i, j) of every window (N, C, *counts))."""
        top, left = self.padding
        if top or left:
            x = x.pad((0, 0, top, left), (0, 0, top, left), fill)
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                rows, columns = (self._span(axis, at, counts) for axis, at in ((0, i), (1, j)))
                yield i, j, x[:, :, rows, columns]

    def spread(self, part: Tensor, tap: tuple[int, int], size: Shape) -> Tensor:
        """The transpose of one tap: part (N, C, *counts) put back into zeros of (N, C, *size)."""
        before, after = [0, 0], [0, 0]
        for axis in (0, 1):
            span = self._span(axis, tap[axis], part.shape[2:])
            before.append(span.start)
            after.append(size[axis] + 2 * self.padding[axis] - span.stop)
        full = part.pad(before, after, interior=(0, 0, *[s - 1 for s in self.stride]))
        top, left = self.padding
        return full[:, :, top : top + size[0], left : left + size[1]] if top or left else full

    def _span(self, axis: int, at: int, counts: Shape) -> slice:
        start = at * self.dilation[axis]
        step = self.stride[axis]
        return slice(start, start + (counts[axis] - 1) * step + 1, step)


def sizes(value: int | Sequence[int], rank: int, name: str) -> Shape:
    """One number for every axis, or one per axis. Raises ShapeError for others, or too many."""
    found = as_integers((value,), name) * (rank if hasattr(value, "__index__") else 1)
    if len(found) != rank:
        raise ShapeError(f"{name} must be one number or {rank}, got {found}")
    return found

"""Sorting along an axis, and the largest elements. NaN counts as the largest value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import EXACT
from groundup.ops.assembly import concat, stack
from groundup.ops.filling import positions, zero
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.reduction_base import NUMBERS, need_number
from groundup.ops.samples import BadCase, Case, Make, Operand
from groundup.shapes import normalize_axis

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["sort", "topk"]

Pair = tuple[Spec, Spec]
_PASSES: Final = 64  # of topk over a long axis
_FEW: Final = 1024  # elements that are compared with each other: a few launches, n^2 in memory


class Ordering(Op):
    """What sort and topk share: two outputs; the gradient goes to where the values came from."""

    axis: int = -1
    outputs = ("values", "indices")
    accuracy = EXACT
    dtypes = NUMBERS
    saves = ("indices",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (indices,) = ctx.saved
        return (zero(grad).expand(ctx.specs[0].shape).scatter_add(indices, grad, self.axis),)

    def cost(self, x: Spec) -> Cost:
        """size * log2(length) comparisons."""
        length = x.shape[self.axis] if x.size else 1
        moved = x.nbytes + sum(out.nbytes for out in self.infer_all(x))
        return Cost(x.size * (length - 1).bit_length(), moved)


class Sort(Ordering, name="sort", family="indexing"):
    """x in rising (or falling) order along `axis`, and the int32 indices that each value had.

    Stable: equal values keep their order, either way. (Array API `sort` and `argsort` in one.)
    """

    descending: bool = False

    def infer(self, x: Spec) -> Pair:
        need_number("sort", x, "use x.astype(groundup.int32)")
        normalize_axis(self.axis, x.rank, "sort")
        return x, Spec(x.shape, dt.int32)

    def compose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        axis = normalize_axis(self.axis, x.ndim, "sort")
        return self._counted(x, axis) if x.shape[axis] <= _FEW else self._merged(x, axis)

    def _counted(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """An element's place is the number of elements that belong before it: n^2 comparisons."""
        size = x.shape[axis]
        order = positions(x, size).reshape(size, *[1] * (x.ndim - axis - 1)).expand(x.shape)
        mine, other = x.unsqueeze(axis), x.unsqueeze(axis + 1)
        before = _before(mine, other) if self.descending else _before(other, mine)
        tied = ~_before(mine, other) & ~_before(other, mine)
        earlier = order.unsqueeze(axis + 1) < order.unsqueeze(axis)
        place = (before | (tied & earlier)).sum(axis)
        indices = zero(x, dt.int32).expand(x.shape).scatter_add(place, order, axis)
        return x.gather(indices, axis), indices

    def _merged(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """A bitonic network (Batcher, 1968): sorted blocks are merged two by two, in log(n)^2 / 2
        steps of n / 2 comparisons. What fills up to a power of two is sorted to the end.
        """
        size, last = x.shape[axis], x.ndim - 1
        axes = [a for a in range(x.ndim) if a != axis]
        lines = x.permute(*axes, axis)
        full = 1 << (size - 1).bit_length()
        values = lines.pad((0,) * x.ndim, (0,) * last + (full - size,))
        indices = positions(x, full).expand(values.shape)
        blocks = [2 << k for k in range(full.bit_length() - 1)]
        for block in blocks:
            values, indices = self._exchange(values, indices, block, size, mirrored=True)
            while block > 2:
                block //= 2
                values, indices = self._exchange(values, indices, block, size, mirrored=False)
        back = [axes.index(a) if a != axis else last for a in range(x.ndim)]
        first, second = (t[..., :size].permute(*back).contiguous() for t in (values, indices))
        return first, second

    def _exchange(
        self, values: Tensor, indices: Tensor, block: int, size: int, mirrored: bool
    ) -> tuple[Tensor, Tensor]:
        """In each block, put elements of the lower and the upper half in order, pair by pair.

        `mirrored`: the first with the last, which turns two sorted halves into a bitonic block.
        """
        shape = values.shape
        halves = []
        for t in (values, indices):
            split = t.reshape(*shape[:-1], shape[-1] // block, 2, block // 2)
            upper = split[..., 1, :]
            halves.append((split[..., 0, :], upper.flip(-1) if mirrored else upper))
        (low, high), (low_at, high_at) = halves
        mine, other = (low, high) if self.descending else (high, low)
        later = low_at > high_at
        wrong = _before(mine, other) | (~_before(other, mine) & later)
        wrong = (low_at.maximum(high_at) >= size).where(later, wrong)
        joined = []
        for lower, upper in halves:
            lower, upper = wrong.where(upper, lower), wrong.where(lower, upper)
            joined.append(stack([lower, upper.flip(-1) if mirrored else upper], -2).reshape(shape))
        return joined[0], joined[1]

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for case in _samples(make):
            for descending in (False, True):
                name, axis, x, tags = case
                op = cls(axis=axis, descending=descending)
                yield Case(op, (x,), f"{name}-falling" if descending else name, tags)
        for name, axis, shape in (("empty", 1, (3, 0)), ("odd", 0, (257,))):
            yield Case(cls(axis=axis), (make.distinct(*shape),), name)
        if make.dtype is dt.float32:
            yield Case(cls(axis=0), (make.distinct(40_000),), "long", frozenset({"extreme"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(axis=2), (make.normal(2, 3),), ShapeError, "axis 2 is out of range")
        yield BadCase(cls(), (make.normal(),), ShapeError, "allowed is nothing (rank 0)")
        yield BadCase(cls(), (make.of(dt.bool_, 3),), DTypeError, "x must hold numbers")


class TopK(Ordering, name="topk", family="indexing"):
    """The k largest values along `axis`, largest first, and their int32 indices.

    Among equal values the one with the lowest index comes first. (PyTorch `topk`.)
    """

    k: int

    def infer(self, x: Spec) -> Pair:
        need_number("topk", x, "use x.astype(groundup.int32)")
        axis = normalize_axis(self.axis, x.rank, "topk")
        if not 0 <= self.k <= x.shape[axis]:
            raise ShapeError(
                f"topk: k is {self.k}, but axis {axis} of x {x} has size {x.shape[axis]}"
            )
        shape = (*x.shape[:axis], self.k, *x.shape[axis + 1 :])
        return Spec(shape, x.dtype), Spec(shape, dt.int32)

    def compose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        axis = normalize_axis(self.axis, x.ndim, "topk")
        if 0 < self.k <= _PASSES and x.shape[axis] > _FEW:
            return self._picked(x, axis)
        first = (*[slice(None)] * normalize_axis(self.axis, x.ndim, "topk"), slice(0, self.k))
        values, indices = x.sort(self.axis, descending=True)
        return values[first].contiguous(), indices[first].contiguous()

    def _picked(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """The largest, then the largest of what is left: k passes, where sorting takes many."""
        least = -math.inf if x.dtype.is_floating else x.dtype.range[0]
        order = positions(x, x.shape[axis]).reshape(-1, *[1] * (x.ndim - axis - 1))
        taken = (zero(x, dt.int32) != 0).expand(x.shape)
        found = []
        for _ in range(self.k):
            place = taken.where(least, x).argmax(axis, keepdims=True)
            # If only the least values are left, it may have met one that is taken.
            free = (~taken).astype(dt.int32).argmax(axis, keepdims=True)
            found.append(taken.gather(place, axis).where(free, place))
            taken = taken | (order == found[-1])
        indices = concat(found, axis)
        return x.gather(indices, axis), indices

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, axis, x, tags in _samples(make):
            for k in {1, 2, x.array.shape[axis]} - ({2} if x.array.shape[axis] < 2 else set()):
                yield Case(cls(k=k, axis=axis), (x,), f"{name}-{k}", tags)
        yield Case(cls(k=0), (make.distinct(3, 4),), "none", frozenset({"empty"}))
        yield Case(cls(k=2), (make.distinct(0, 4),), "empty", frozenset({"empty"}))
        yield Case(cls(k=7), (make.distinct(2, 1025),), "odd")
        if make.dtype is dt.float32:
            yield Case(cls(k=900), (make.distinct(2, 2000),), "many")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(2, 3)
        yield BadCase(cls(k=1, axis=2), (x,), ShapeError, "axis 2 is out of range")
        yield BadCase(cls(k=4), (x,), ShapeError, "k is 4, but axis 1")
        yield BadCase(cls(k=-1), (x,), ShapeError, "k is -1")
        yield BadCase(cls(k=1), (make.of(dt.bool_, 3),), DTypeError, "x must hold numbers")


def sort(x: Tensor, axis: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """(values, int32 indices) of x sorted along `axis`; stable, NaN is the largest.

    Raises ShapeError (axis), DTypeError (bool).
    """
    values, indices = Sort(axis=axis, descending=descending).many(x)
    return values, indices


def topk(x: Tensor, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """(values, int32 indices) of the k largest along `axis`, largest first; NaN is the largest.

    Raises ShapeError (axis, k), DTypeError (bool).
    """
    values, indices = TopK(k=k, axis=axis).many(x)
    return values, indices


def _before(x: Tensor, y: Tensor) -> Tensor:
    """Whether x < y, with NaN above everything; NaN is not itself."""
    return (x < y) | ((x == x) & (y != y))


def _samples(make: Make) -> Iterator[tuple[str, int, Operand, frozenset[str]]]:
    plain: frozenset[str] = frozenset()
    for name, axis, shape in (
        ("last", -1, (4, 6)), ("first", 0, (5, 3)), ("middle", 1, (2, 5, 3)), ("one", 0, (1,)),
    ):  # fmt: skip
        yield name, axis, make.distinct(*shape), plain
    for name, view in (("transposed", lambda x: x.mT), ("sliced", lambda x: x[::2, ::-1])):
        yield name, 1, make.distinct(6, 5, view=view), frozenset({"view"})
    yield "ties", 1, make.values([[2, 1, 2, 1], [0, 0, 0, 0], [3, 1, 1, 3]]), frozenset({"tie"})
    if make.dtype.is_floating:
        nan, inf = np.nan, np.inf
        rows = make.values(
            [
                [nan, 1, nan, -inf, inf], [0.0, -0.0, 0.0, -0.0, 1], [-inf, inf, 2, inf, nan],
                [nan, -nan, 3, -nan, nan],
            ]
        )  # fmt: skip
        yield "special", 1, rows, frozenset({"nan", "tie", "special"})
    else:
        yield "limits", 0, make.values([5, -(2**31), 2**31 - 1, 0]), plain

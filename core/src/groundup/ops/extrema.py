"""Largest and smallest values, and where they are. NaN propagates: it counts as the extreme."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import EXACT
from groundup.ops.filling import positions
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.reduction_base import NUMBERS, Reduction, as_axes, need_number, wide
from groundup.ops.samples import BadCase, Case, Make, Operand, ViewOf
from groundup.shapes import Axis, Shape, normalize_axis, reduced

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["argmax", "argmin", "max", "min"]


class Extremum(Reduction):
    """Shape rule, gradient and samples of max and min. Equal extremes share the gradient evenly."""

    accuracy = EXACT
    dtypes = NUMBERS
    saves = ("x", "out")

    def infer(self, x: Spec) -> Spec:
        need_number(self.name, x, "use any or all")
        if self.count(x) == 0:
            raise ShapeError(f"{self.name}: x is {x}: there is no {self.name} of nothing")
        return Spec(self.shape_of(x), x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        x, out = ctx.saved
        chosen = wide((x == self.spread(out, x.spec)).astype(x.dtype))
        share = chosen / chosen.sum(self.axes, keepdims=True)
        return (self.spread(grad, x.spec) * share.astype(x.dtype),)

    @classmethod
    def values(cls, make: Make, *shape: int, view: ViewOf = lambda x: x) -> Operand:
        """Without ties, where the gradient has no unique value."""
        return make.distinct(*shape, view=view)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield from _ties(cls(axes=(1,)), make)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield from super().errors(make)
        yield BadCase(cls(axes=(0,)), (make.normal(0, 3),), ShapeError, f"{cls.name} of nothing")
        yield BadCase(cls(), (make.of(dt.bool_, 3),), DTypeError, "x must hold numbers")


class Max(Extremum, name="max", family="reduction"):
    """The largest element over `axes`; NaN if one is NaN. Of nothing it is a ShapeError."""


class Min(Extremum, name="min", family="reduction"):
    """The smallest element over `axes`; NaN if one is NaN. Of nothing it is a ShapeError."""

    def compose(self, x: Tensor) -> Tensor:
        return _mirrored(_mirrored(x).max(self.axes, self.keepdims))


class ArgExtremum(Op):
    """What argmax and argmin share. The first among equals wins, and the first NaN."""

    axis: int | None = None
    keepdims: bool = False
    accuracy = EXACT
    dtypes = NUMBERS
    differentiable = ()

    def infer(self, x: Spec) -> Spec:
        need_number(self.name, x, "use x.astype(groundup.int32)")
        axes: Shape = tuple(range(x.rank))
        if self.axis is not None:
            axes = (normalize_axis(self.axis, x.rank, self.name),)
        if 0 in [x.shape[a] for a in axes]:
            raise ShapeError(f"{self.name}: x is {x}: there is no {self.name} of nothing")
        return Spec(reduced(x.shape, axes, self.keepdims), dt.int32)

    def cost(self, x: Spec) -> Cost:
        """One comparison per element."""
        return Cost(x.size, x.nbytes + self.infer(x).nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, axis, shape in (
            ("all", None, (5, 7)), ("last", -1, (5, 7)), ("first", 0, (5, 7)),
            ("middle", 1, (3, 4, 5)), ("one", 0, (1,)), ("scalar", None, ()), ("odd", 0, (1023,)),
            ("empty", 1, (0, 3)),
        ):  # fmt: skip
            tags = {"empty"} if name == "empty" else set()
            yield Case(cls(axis=axis), (make.distinct(*shape),), name, frozenset(tags))
        yield Case(cls(axis=1, keepdims=True), (make.distinct(4, 5),), "keepdims")
        yield Case(cls(keepdims=True), (make.distinct(4, 5),), "keepdims-all")
        for name, view in (("transposed", lambda x: x.mT), ("sliced", lambda x: x[1:5, ::2])):
            for axis in (None, 0, 1):
                x = make.distinct(6, 9, view=view)
                yield Case(cls(axis=axis), (x,), f"{name}-{axis}", frozenset({"view"}))
        yield from _ties(cls(axis=1), make)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(2, 3)
        yield BadCase(cls(axis=2), (x,), ShapeError, "axis 2 is out of range for rank 2")
        yield BadCase(cls(axis=0), (make.normal(0, 3),), ShapeError, f"{cls.name} of nothing")
        yield BadCase(cls(), (make.of(dt.bool_, 3),), DTypeError, "x must hold numbers")


class ArgMax(ArgExtremum, name="argmax", family="reduction"):
    """The index of the largest element along `axis` (None: in the flattened tensor), int32."""

    def compose(self, x: Tensor) -> Tensor:
        out = self.infer(x.spec)
        flat = x.reshape(-1) if self.axis is None else x
        axis = 0 if self.axis is None else normalize_axis(self.axis, x.ndim, "argmax")
        size = flat.shape[axis]
        top = flat.max(axis, keepdims=True)
        largest = (flat == top) | (flat != flat)  # NaN is not itself
        place = positions(x, size).reshape(size, *[1] * (flat.ndim - axis - 1))
        return largest.where(place, size).min(axis).reshape(out.shape)


class ArgMin(ArgExtremum, name="argmin", family="reduction"):
    """The index of the smallest element along `axis` (None: in the flattened tensor), int32."""

    def compose(self, x: Tensor) -> Tensor:
        return ArgMax(axis=self.axis, keepdims=self.keepdims)(_mirrored(x))


def _mirrored(x: Tensor) -> Tensor:
    """x in reversed order: -x, or ~x for integers, since -(-2**31) does not fit int32."""
    return -x if x.dtype.is_floating else ~x


def _ties(op: Op, make: Make) -> Iterator[Case]:
    rows = make.values([[2, 1, 2, 1], [1, 1, 1, 1], [3, 0, 0, 3]])
    yield Case(op, (rows,), "ties", frozenset({"tie"}))
    if make.dtype is dt.int32:
        yield Case(op, (make.values([[-(2**31), 5], [2**31 - 1, -5]]),), "limits")
    if make.dtype.is_floating:
        nan, inf = float("nan"), float("inf")
        rows = make.values([[1, nan, 2, nan], [-inf, -inf, -inf, -inf], [0.0, inf, -inf, inf]])
        yield Case(op, (rows,), "nan-ties", frozenset({"nan", "tie", "special"}))


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over `axis`. Raises ShapeError (axis, nothing there), DTypeError."""
    return Max(axes=as_axes(axis, "max"), keepdims=keepdims)(x)


def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over `axis`. Raises ShapeError (axis, nothing there), DTypeError."""
    return Min(axes=as_axes(axis, "min"), keepdims=keepdims)(x)


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """int32 index of the largest, the first among equals. Raises ShapeError, DTypeError."""
    return ArgMax(axis=axis, keepdims=keepdims)(x)


def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """int32 index of the smallest, the first among equals. Raises ShapeError, DTypeError."""
    return ArgMin(axis=axis, keepdims=keepdims)(x)

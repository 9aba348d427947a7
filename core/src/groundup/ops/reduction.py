"""Reductions: sum, mean, prod, var, logsumexp, any, all. Largest and smallest are in `extrema`.

`axis` is None (all), a number or several; `keepdims` keeps them with size 1 (Array API). float16
and bfloat16 accumulate in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.errors import DTypeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED, CONTRACTION, EXACT
from groundup.ops.op import Cost, Ctx
from groundup.ops.reduction_base import (
    NUMBERS,
    Reduction,
    accumulated,
    as_axes,
    need_float,
    wide,
)  # fmt: skip
from groundup.ops.samples import BadCase, Case, Make, Operand, ViewOf
from groundup.ops.scan import products_of_others
from groundup.shapes import Axis, Shape

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["all", "any", "logsumexp", "mean", "prod", "sum", "var"]


class Sum(Reduction, name="sum", family="reduction"):
    """The sum over `axes`; 0 for nothing. Integers wrap; bool and 8-bit integers give int32."""

    accuracy = CONTRACTION
    dtypes = (*NUMBERS, dt.bool_)

    def infer(self, x: Spec) -> Spec:
        return Spec(self.shape_of(x), accumulated(x.dtype))

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        return (self.spread(grad, ctx.specs[0]),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield Case(cls(axes=(0,)), (make.normal(0, 3),), "empty", frozenset({"empty"}))
        if make.dtype is dt.int32:
            wrapping = make.values([[2**31 - 1, 1], [2**24, 1], [-(2**31), -1]])
            yield Case(cls(axes=(1,)), (wrapping,), "limits")
        if make.dtype.is_floating:
            yield Case(cls(), (make.values([4096.0, 0.5, -4096.0, 0.25]),), "cancelling")
            yield Case(cls(axes=(0,)), (make.uniform(0, 1, 5000, 2),), "one-sign")
            turned = make.normal(4, 150, 140, view=lambda x: x.T)
            yield Case(cls(axes=(1, 2)), (turned,), "turned", frozenset({"view"}))


class Mean(Reduction, name="mean", family="reduction"):
    """The arithmetic mean over `axes`; NaN for nothing. Floats only."""

    accuracy = CONTRACTION

    def infer(self, x: Spec) -> Spec:
        return Spec(self.shape_of(need_float("mean", x)), x.dtype)

    def compose(self, x: Tensor) -> Tensor:
        total = wide(x).sum(self.axes, self.keepdims)
        return (total / self.count(x.spec)).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.specs
        return (self.spread(grad / (self.count(x) or 1), x),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield Case(cls(axes=(0,)), (make.normal(0, 3),), "empty", frozenset({"empty", "nan"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield from super().errors(make)
        yield BadCase(cls(), (make.of(dt.int32, 3),), DTypeError, "x must be floating point")


class Prod(Reduction, name="prod", family="reduction"):
    """The product over `axes`; 1 for nothing. Integers wrap; bool and 8-bit integers give int32."""

    accuracy = COMPOSED
    dtypes = (*NUMBERS, dt.bool_)
    saves = ("x",)

    def infer(self, x: Spec) -> Spec:
        return Spec(self.shape_of(x), accumulated(x.dtype))

    def compose(self, x: Tensor) -> Tensor:
        """The two halves are multiplied until one element is left."""
        out = self.infer(x.spec)
        rows = self._rows(wide(x.astype(out.dtype)))
        size = rows.shape[-1]
        if size == 0:
            rows, size = rows.pad((0,) * rows.ndim, (0,) * (rows.ndim - 1) + (1,), value=1), 1
        while size > 1:
            half = -(-size // 2)
            lead = (0,) * (rows.ndim - 1)
            upper = rows[..., half:].pad((*lead, 0), (*lead, 2 * half - size), value=1)
            rows, size = rows[..., :half] * upper, half
        return rows.reshape(out.shape).astype(out.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        """Each element's gradient is the product of the others; zeros need no special case."""
        (x,) = ctx.saved
        others = products_of_others(self._rows(wide(x)))
        shape = [x.shape[a] for a in self._order(x.spec)]
        back = [self._order(x.spec).index(a) for a in range(x.ndim)]
        slopes = others.reshape(shape).permute(back).astype(x.dtype)
        return (self.spread(grad, x.spec) * slopes,)

    def _order(self, x: Spec) -> Shape:
        dropped = self.dropped(x)
        return (*[a for a in range(x.rank) if a not in dropped], *dropped)

    def _rows(self, x: Tensor) -> Tensor:
        """x with the dropped axes joined into one last axis."""
        kept = [size for a, size in enumerate(x.shape) if a not in self.dropped(x.spec)]
        return x.permute(self._order(x.spec)).reshape(*kept, self.count(x.spec))

    @classmethod
    def values(cls, make: Make, *shape: int, view: ViewOf = lambda x: x) -> Operand:
        """Near 1, so that long products stay finite."""
        if not make.dtype.is_floating:
            return make.normal(*shape, view=view)
        return make.uniform(0.9, 1.1, *shape, view=view)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield Case(cls(axes=(0,)), (make.normal(0, 3),), "empty", frozenset({"empty"}))
        zeros = make.values([[0, 2, 3], [0, 2, 0], [1, 2, 3]])
        yield Case(cls(axes=(1,)), (zeros,), "zeros")


class Var(Reduction, name="var", family="reduction"):
    """sum((x - mean(x))^2) / (count - correction) over `axes`, in two passes. Floats only.

    `correction=1` is the unbiased estimate (Array API). Infinite or NaN where count <= correction.
    """

    correction: int = 0
    accuracy = COMPOSED
    saves = ("x",)

    def infer(self, x: Spec) -> Spec:
        return Spec(self.shape_of(need_float("var", x)), x.dtype)

    def compose(self, x: Tensor) -> Tensor:
        centred = self._centred(x)
        total = (centred * centred).sum(self.axes, self.keepdims)
        return (total / self._degrees(x.spec)).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        slope = self._centred(x) * 2 / self._degrees(x.spec)
        return ((self.spread(wide(grad), x.spec) * slope).astype(x.dtype),)

    def cost(self, x: Spec) -> Cost:
        """Subtract, square, and two sums."""
        return Cost(4 * x.size, x.nbytes + self.infer(x).nbytes)

    def _centred(self, x: Tensor) -> Tensor:
        return wide(x) - wide(x).mean(self.axes, keepdims=True)

    def _degrees(self, x: Spec) -> int:
        degrees = self.count(x) - self.correction
        return degrees if degrees > 0 else 0

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield Case(cls(axes=(1,), correction=1), (make.normal(4, 5),), "unbiased")
        shifted = make.uniform(1000, 1001, 4, 64)
        yield Case(cls(axes=(1,)), (shifted,), "far-mean", frozenset({"extreme"}))
        yield Case(cls(axes=(0,)), (make.normal(0, 3),), "empty", frozenset({"empty", "nan"}))
        one = make.normal(1, 3)
        yield Case(
            cls(axes=(0,), correction=1), (one,), "no-freedom", frozenset({"nan", "special"})
        )

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield from super().errors(make)
        yield BadCase(cls(), (make.of(dt.int32, 3),), DTypeError, "x must be floating point")


class LogSumExp(Reduction, name="logsumexp", family="reduction"):
    """log(sum(exp(x))) over `axes`, shifted by the maximum so that nothing overflows.

    -inf for nothing and where all are -inf; the gradient is NaN there, as softmax is. Floats only.
    """

    accuracy = COMPOSED
    saves = ("x", "out")

    def infer(self, x: Spec) -> Spec:
        return Spec(self.shape_of(need_float("logsumexp", x)), x.dtype)

    def compose(self, x: Tensor) -> Tensor:
        out = self.infer(x.spec)
        high = wide(x)
        if self.count(x.spec) == 0:
            return high.exp().sum(self.axes, self.keepdims).log().astype(x.dtype)
        top = high.max(self.axes, keepdims=True)
        top = top.isfinite().where(top, 0)
        total = (high - top).exp().sum(self.axes, self.keepdims)
        return (total.log() + top.reshape(out.shape)).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        """grad * softmax(x)."""
        x, out = ctx.saved
        weight = (wide(x) - self.spread(wide(out), x.spec)).exp()
        return ((self.spread(wide(grad), x.spec) * weight).astype(x.dtype),)

    def cost(self, x: Spec) -> Cost:
        """Maximum, subtraction, exp and sum."""
        return Cost(4 * x.size, x.nbytes + self.infer(x).nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield Case(cls(axes=(0,)), (make.normal(0, 3),), "empty", frozenset({"empty"}))
        large = make.normal(4, 9, scale=1000)
        yield Case(cls(axes=(1,)), (large,), "large", frozenset({"extreme"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield from super().errors(make)
        yield BadCase(cls(), (make.of(dt.int32, 3),), DTypeError, "x must be floating point")


class Any(Reduction, name="any", family="reduction"):
    """Whether any element over `axes` is not zero; false for nothing. NaN is not zero."""

    accuracy = EXACT
    dtypes = (*NUMBERS, dt.bool_)
    differentiable = ()

    def infer(self, x: Spec) -> Spec:
        return Spec(self.shape_of(x), dt.bool_)

    def compose(self, x: Tensor) -> Tensor:
        return (x != 0).sum(self.axes, self.keepdims) != 0

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield from _truths(cls, make)


class All(Reduction, name="all", family="reduction"):
    """Whether no element over `axes` is zero; true for nothing. NaN is not zero."""

    accuracy = EXACT
    dtypes = (*NUMBERS, dt.bool_)
    differentiable = ()

    def infer(self, x: Spec) -> Spec:
        return Spec(self.shape_of(x), dt.bool_)

    def compose(self, x: Tensor) -> Tensor:
        return (x == 0).sum(self.axes, self.keepdims) == 0

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield from _truths(cls, make)


def _truths(cls: type[Reduction], make: Make) -> Iterator[Case]:
    rows = make.values([[0, 0, 0], [0, 2, 0], [1, 2, 3]])
    yield Case(cls(axes=(1,)), (rows,), "truths")
    yield Case(cls(axes=(0,)), (make.normal(0, 3),), "empty", frozenset({"empty"}))


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`; 0 for nothing. bool and 8-bit integers give int32. Raises ShapeError."""
    return Sum(axes=as_axes(axis, "sum"), keepdims=keepdims)(x)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean; NaN for nothing. Raises ShapeError, DTypeError (not floating)."""
    return Mean(axes=as_axes(axis, "mean"), keepdims=keepdims)(x)


def prod(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`; 1 for nothing. dtypes as for sum. Raises ShapeError."""
    return Prod(axes=as_axes(axis, "prod"), keepdims=keepdims)(x)


def var(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """sum((x - mean)^2) / (count - correction). Raises ShapeError, DTypeError (not floating)."""
    return Var(axes=as_axes(axis, "var"), keepdims=keepdims, correction=correction)(x)


def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow. Raises ShapeError, DTypeError (not floating)."""
    return LogSumExp(axes=as_axes(axis, "logsumexp"), keepdims=keepdims)(x)


def any(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element is not zero, as bool; false for nothing. Raises ShapeError."""
    return Any(axes=as_axes(axis, "any"), keepdims=keepdims)(x)


def all(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether no element is zero, as bool; true for nothing. Raises ShapeError."""
    return All(axes=as_axes(axis, "all"), keepdims=keepdims)(x)

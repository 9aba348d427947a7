"""Elementwise arithmetic of two tensors. Inputs broadcast and promote; see `elementwise_base`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from groundup import dtypes as dt
from groundup.ops.accuracy import EXACT, ROUNDED, transcendental
from groundup.ops.elementwise_base import Binary
from groundup.ops.op import Ctx, Op
from groundup.ops.samples import Case, Make

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["add", "div", "floor_divide", "maximum", "minimum", "mul", "pow", "remainder", "sub"]

NUMBERS = (*dt.FLOATS, dt.int32)
Pair: TypeAlias = "tuple[Tensor | None, Tensor | None]"
Operand: TypeAlias = "Tensor | bool | int | float"


class Add(Binary, name="add", family="elementwise"):
    """x + y. Integers wrap."""

    accuracy = ROUNDED
    dtypes = NUMBERS

    def vjp(self, ctx: Ctx, grad: Tensor) -> Pair:
        return grad, grad


class Sub(Binary, name="sub", family="elementwise"):
    """x - y. Integers wrap."""

    accuracy = ROUNDED
    dtypes = NUMBERS

    def compose(self, x: Tensor, y: Tensor) -> Tensor:
        return x + (-y)

    def vjp(self, ctx: Ctx, grad: Tensor) -> Pair:
        return grad, -grad


class Mul(Binary, name="mul", family="elementwise"):
    """x * y. Integers wrap."""

    accuracy = ROUNDED
    dtypes = NUMBERS
    saves = ("x", "y")

    def vjp(self, ctx: Ctx, grad: Tensor) -> Pair:
        x, y = ctx.saved
        dx = grad * y if ctx.needs[0] else None
        return dx, grad * x if ctx.needs[1] else None


class Div(Binary, name="div", family="elementwise"):
    """x / y; integers are cast to float32 first."""

    accuracy = ROUNDED
    float_only = True
    second = (0.5, 3.0)
    saves = ("y", "out")

    def vjp(self, ctx: Ctx, grad: Tensor) -> Pair:
        y, out = ctx.saved
        dx = grad / y
        return dx, -dx * out if ctx.needs[1] else None


class Pow(Binary, name="pow", family="elementwise"):
    """x to the power y; 0 to the power 0 is 1. Integers are cast to float32 first."""

    accuracy = transcendental(8)
    float_only = True
    domain = (0.2, 3.0)
    saves = ("x", "y", "out")

    def vjp(self, ctx: Ctx, grad: Tensor) -> Pair:
        x, y, out = ctx.saved
        dx = dy = None
        if ctx.needs[0]:
            dx = grad * (y == 0).where(0, y * x ** (y - 1))
        if ctx.needs[1]:
            dy = grad * (x == 0).where(0, out * x.log())
        return dx, dy


class Maximum(Binary, name="maximum", family="elementwise"):
    """The larger of x and y; NaN if either is. Equal inputs share the gradient."""

    accuracy = EXACT
    dtypes = NUMBERS
    ties = True
    saves = ("x", "y")

    def vjp(self, ctx: Ctx, grad: Tensor) -> Pair:
        return _share(ctx, grad, ctx.saved[0] > ctx.saved[1])


class Minimum(Binary, name="minimum", family="elementwise"):
    """The smaller of x and y; NaN if either is. Equal inputs share the gradient."""

    accuracy = EXACT
    dtypes = NUMBERS
    ties = True
    saves = ("x", "y")

    def vjp(self, ctx: Ctx, grad: Tensor) -> Pair:
        return _share(ctx, grad, ctx.saved[0] < ctx.saved[1])


class Remainder(Binary, name="remainder", family="elementwise"):
    """x - floor(x / y) * y: the remainder with the divisor's sign. Integer division by zero
    raises.
    """

    accuracy = ROUNDED
    dtypes = NUMBERS
    second = (1.0, 3.0)
    saves = ("x", "y")

    def vjp(self, ctx: Ctx, grad: Tensor) -> Pair:
        x, y = ctx.saved
        return grad, -grad * (x / y).floor() if ctx.needs[1] else None

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield from _divisions(cls(), make)


class FloorDivide(Binary, name="floor_divide", family="elementwise"):
    """floor(x / y). The gradient is 0. Integer division by zero raises."""

    accuracy = ROUNDED
    dtypes = NUMBERS
    second = (1.0, 3.0)

    def vjp(self, ctx: Ctx, grad: Tensor) -> Pair:
        return None, None

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield from _divisions(cls(), make)


def _divisions(op: Op, make: Make) -> Iterator[Case]:
    """Quotients of more digits than a float has: what is left of x is exact all the same. And one
    divisor for more elements than kernels take at a time.
    """
    if make.dtype is dt.float32:
        x = make.values([2.5e4, -1e7, 6e9, 2.5e13, -1e14, 1e15, -3e16, 7e18])
        y = make.values([0.01, 0.07, -0.003, 1.1, 2.3, 3.0, -7.0, -1.7])
        yield Case(op, (x, y), "far", frozenset({"extreme"}))
        long = make.uniform(-3, 3, 40_000)
        yield Case(op, (long, make.uniform(1, 3)), "long", frozenset({"broadcast"}))


def _share(ctx: Ctx, grad: Tensor, first_wins: Tensor) -> Pair:
    x, y = ctx.saved
    share = (x == y).where(0.5, first_wins.astype(grad.dtype))
    return grad * share, grad * (1 - share)


def add(x: Operand, y: Operand) -> Tensor:
    """x + y. Integers wrap."""
    return Add()(x, y)


def sub(x: Operand, y: Operand) -> Tensor:
    """x - y. Integers wrap."""
    return Sub()(x, y)


def mul(x: Operand, y: Operand) -> Tensor:
    """x * y. Integers wrap."""
    return Mul()(x, y)


def div(x: Operand, y: Operand) -> Tensor:
    """x / y; integers are cast to float32 first."""
    return Div()(x, y)


def pow(x: Operand, y: Operand) -> Tensor:
    """x to the power y; 0 to the power 0 is 1. Integers are cast to float32 first."""
    return Pow()(x, y)


def maximum(x: Operand, y: Operand) -> Tensor:
    """The larger of x and y; NaN if either is. Equal inputs share the gradient."""
    return Maximum()(x, y)


def minimum(x: Operand, y: Operand) -> Tensor:
    """The smaller of x and y; NaN if either is. Equal inputs share the gradient."""
    return Minimum()(x, y)


def remainder(x: Operand, y: Operand) -> Tensor:
    """x - floor(x / y) * y: the remainder with the divisor's sign. Integer division by zero
    raises.
    """
    return Remainder()(x, y)


def floor_divide(x: Operand, y: Operand) -> Tensor:
    """floor(x / y). The gradient is 0. Integer division by zero raises."""
    return FloorDivide()(x, y)

"""Elementwise functions of one tensor: absolute value, exponentials, roots, trigonometry.

Each has its derivative beside it. Integers given to a function that needs floats are cast to
float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.ops.accuracy import EXACT, ROUNDED, transcendental
from groundup.ops.elementwise_base import Unary
from groundup.ops.op import Ctx

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = [
    "abs", "cos", "erf", "exp", "expm1", "log", "log1p", "neg", "reciprocal", "rsqrt", "sign",
    "sin", "sqrt", "tan", "tanh",
]  # fmt: skip

NUMBERS = (*dt.FLOATS, dt.int32)


class Abs(Unary, name="abs", family="elementwise"):
    """|x|. The gradient at 0 is 0."""

    accuracy = EXACT
    dtypes = NUMBERS
    saves = ("x",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        return (grad * x.sign(),)


class Neg(Unary, name="neg", family="elementwise"):
    """-x. Integers wrap."""

    accuracy = EXACT
    dtypes = NUMBERS

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        return (-grad,)


class Sign(Unary, name="sign", family="elementwise"):
    """-1, 0 or 1; NaN for NaN. The gradient is 0 everywhere."""

    accuracy = EXACT
    dtypes = NUMBERS

    def compose(self, x: Tensor) -> Tensor:
        rest = (x < 0).where(-1, x) if x.dtype.signed else x
        return (x > 0).where(1, rest)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None]:
        return (None,)


class Exp(Unary, name="exp", family="elementwise"):
    """e to the power x."""

    accuracy = transcendental(3)  # NumPy's float32 exp errs by up to 2.4 ULP
    float_only = True
    saves = ("out",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (grad * out,)


class Expm1(Unary, name="expm1", family="elementwise"):
    """e to the power x, minus 1; accurate near 0."""

    accuracy = transcendental(3)
    float_only = True
    saves = ("out",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (grad * (out + 1),)


class Log(Unary, name="log", family="elementwise"):
    """Natural logarithm; -inf at 0, NaN below."""

    accuracy = transcendental(2)
    float_only = True
    domain = (0.1, 5.0)
    saves = ("x",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        return (grad / x,)


class Log1p(Unary, name="log1p", family="elementwise"):
    """log(1 + x), accurate near 0."""

    accuracy = transcendental(3)
    float_only = True
    domain = (-0.6, 4.0)
    saves = ("x",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        return (grad / (x + 1),)


class Sqrt(Unary, name="sqrt", family="elementwise"):
    """Square root; NaN below 0."""

    accuracy = ROUNDED
    float_only = True
    domain = (0.1, 5.0)
    saves = ("out",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (grad * 0.5 / out,)


class Rsqrt(Unary, name="rsqrt", family="elementwise"):
    """1 / sqrt(x)."""

    accuracy = transcendental(2)
    float_only = True
    domain = (0.1, 5.0)
    saves = ("out",)

    def compose(self, x: Tensor) -> Tensor:
        return x.sqrt().reciprocal()

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (grad * -0.5 * out * out * out,)


class Reciprocal(Unary, name="reciprocal", family="elementwise"):
    """1 / x."""

    accuracy = ROUNDED
    float_only = True
    domain = (0.2, 4.0)
    saves = ("out",)

    def compose(self, x: Tensor) -> Tensor:
        return 1 / x

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (-grad * out * out,)


class Sin(Unary, name="sin", family="elementwise"):
    """Sine, x in radians."""

    accuracy = transcendental(2)
    float_only = True
    saves = ("x",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        return (grad * x.cos(),)


class Cos(Unary, name="cos", family="elementwise"):
    """Cosine, x in radians."""

    accuracy = transcendental(2)
    float_only = True
    saves = ("x",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        return (-grad * x.sin(),)


class Tan(Unary, name="tan", family="elementwise"):
    """Tangent, x in radians."""

    accuracy = transcendental(4)
    float_only = True
    domain = (-1.2, 1.2)
    saves = ("out",)

    def compose(self, x: Tensor) -> Tensor:
        return x.sin() / x.cos()

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (grad * (out * out + 1),)


class Tanh(Unary, name="tanh", family="elementwise"):
    """Hyperbolic tangent."""

    accuracy = transcendental(3)
    float_only = True
    saves = ("out",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (grad * (1 - out * out),)


class Erf(Unary, name="erf", family="elementwise"):
    """Error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""

    accuracy = transcendental(4)
    float_only = True
    saves = ("x",)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        return (grad * (-x * x).exp() * (2 / math.sqrt(math.pi)),)


def abs(x: Tensor) -> Tensor:
    """|x|. The gradient at 0 is 0."""
    return Abs()(x)


def neg(x: Tensor) -> Tensor:
    """-x. Integers wrap."""
    return Neg()(x)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1; NaN for NaN. The gradient is 0 everywhere."""
    return Sign()(x)


def exp(x: Tensor) -> Tensor:
    """e to the power x."""
    return Exp()(x)


def expm1(x: Tensor) -> Tensor:
    """e to the power x, minus 1; accurate near 0."""
    return Expm1()(x)


def log(x: Tensor) -> Tensor:
    """Natural logarithm; -inf at 0, NaN below."""
    return Log()(x)


def log1p(x: Tensor) -> Tensor:
    """log(1 + x), accurate near 0."""
    return Log1p()(x)


def sqrt(x: Tensor) -> Tensor:
    """Square root; NaN below 0."""
    return Sqrt()(x)


def rsqrt(x: Tensor) -> Tensor:
    """1 / sqrt(x)."""
    return Rsqrt()(x)


def reciprocal(x: Tensor) -> Tensor:
    """1 / x."""
    return Reciprocal()(x)


def sin(x: Tensor) -> Tensor:
    """Sine, x in radians."""
    return Sin()(x)


def cos(x: Tensor) -> Tensor:
    """Cosine, x in radians."""
    return Cos()(x)


def tan(x: Tensor) -> Tensor:
    """Tangent, x in radians."""
    return Tan()(x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return Tanh()(x)


def erf(x: Tensor) -> Tensor:
    """Error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return Erf()(x)

"""Activation functions: relu, gelu, silu, sigmoid, each with its fused gradient where that pays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.errors import ConfigError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED, EXACT, transcendental
from groundup.ops.elementwise_base import Binary, Unary
from groundup.ops.op import Ctx
from groundup.ops.samples import Case, Make

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["gelu", "relu", "sigmoid", "silu"]

_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_CUBIC = 0.044715
APPROXIMATIONS = ("none", "tanh")


class Sigmoid(Unary, name="sigmoid", family="elementwise"):
    """1 / (1 + exp(-x)), without overflow: 0.5 * tanh(x / 2) + 0.5."""

    accuracy = transcendental(4)
    float_only = True
    saves = ("out",)

    def compose(self, x: Tensor) -> Tensor:
        small = (-x.abs()).exp()
        return (x >= 0).where(1 / (small + 1), small / (small + 1))

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (grad * out * (1 - out),)


class Relu(Unary, name="relu", family="elementwise"):
    """max(x, 0); NaN stays. The gradient at 0 is 0."""

    accuracy = EXACT
    dtypes = (*dt.FLOATS, dt.int32)
    saves = ("out",)

    def compose(self, x: Tensor) -> Tensor:
        return x.maximum(0)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return ((out <= 0).where(0, grad),)


class Gelu(Unary, name="gelu", family="elementwise"):
    """x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016).

    `approximate="tanh"`: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as GPT-2 uses.
    """

    approximate: str = "none"
    accuracy = COMPOSED
    float_only = True
    saves = ("x",)

    def compose(self, x: Tensor) -> Tensor:
        if self.approximate == "tanh":
            inner = (x + x * x * x * _CUBIC) * _SQRT_2_OVER_PI
            return x * 0.5 * (inner.tanh() + 1)
        return x * 0.5 * ((x * math.sqrt(0.5)).erf() + 1)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        return (GeluBackward(approximate=self.approximate)(x, grad),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for approximate in APPROXIMATIONS:
            for case in super().samples(make):
                op = cls(approximate=approximate)
                yield Case(op, case.inputs, f"{approximate}-{case.id}", case.tags)


class GeluBackward(Binary, name="gelu_backward", family="elementwise"):
    """grad * gelu'(x), in one pass."""

    approximate: str = "none"
    accuracy = COMPOSED
    float_only = True
    saves = ("x", "grad")

    def infer(self, x: Spec, grad: Spec) -> Spec:
        return x

    def compose(self, x: Tensor, grad: Tensor) -> Tensor:
        if self.approximate == "tanh":
            square = x * x
            t = ((x + x * square * _CUBIC) * _SQRT_2_OVER_PI).tanh()
            slope = (square * (3 * _CUBIC) + 1) * _SQRT_2_OVER_PI
            return grad * (0.5 * (t + 1) + 0.5 * x * (1 - t * t) * slope)
        density = (x * x * -0.5).exp() * (1 / math.sqrt(2 * math.pi))
        return grad * (0.5 * ((x * math.sqrt(0.5)).erf() + 1) + x * density)


class Silu(Unary, name="silu", family="elementwise"):
    """x * sigmoid(x), also called swish."""

    accuracy = COMPOSED
    float_only = True
    saves = ("x",)

    def compose(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        return (SiluBackward()(x, grad),)


class SiluBackward(Binary, name="silu_backward", family="elementwise"):
    """grad * silu'(x), with s = sigmoid(x): grad * s * (1 + x * (1 - s))."""

    accuracy = COMPOSED
    float_only = True
    saves = ("x", "grad")

    def infer(self, x: Spec, grad: Spec) -> Spec:
        return x

    def compose(self, x: Tensor, grad: Tensor) -> Tensor:
        s = x.sigmoid()
        return grad * s * (x * (1 - s) + 1)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return Sigmoid()(x)


def relu(x: Tensor) -> Tensor:
    """max(x, 0); NaN stays."""
    return Relu()(x)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x * Phi(x); `approximate` is "none" or "tanh". Raises ConfigError for another."""
    if approximate not in APPROXIMATIONS:
        raise ConfigError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return Gelu(approximate=approximate)(x)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return Silu()(x)

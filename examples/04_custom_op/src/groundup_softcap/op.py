"""The op: one class that says everything about it, and the function that users call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from groundup.errors import ConfigError
from groundup.ops.accuracy import COMPOSED
from groundup.ops.elementwise_base import Unary

if TYPE_CHECKING:
    from groundup import Tensor
    from groundup.ops import Ctx


class Softcap(Unary, name="softcap::softcap", family="elementwise"):
    """cap * tanh(x / cap): nearly x near 0, never beyond +-cap.

    Source: the Gemma 2 report, 2024, section 2: logits and attention scores are capped like this.
    """

    cap: float = 30.0
    accuracy = COMPOSED
    float_only = True
    saves = ("out",)

    def compose(self, x: Tensor) -> Tensor:
        return (x * (1 / self.cap)).tanh() * self.cap

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        t = out * (1 / self.cap)
        return (grad * (1 - t * t),)


def softcap(x: Tensor, cap: float = 30.0) -> Tensor:
    """cap * tanh(x / cap), elementwise. Raises ConfigError unless cap is above 0."""
    if not cap > 0:
        raise ConfigError(f"softcap: cap must be above 0, got {cap}")
    return Softcap(cap=float(cap))(x)

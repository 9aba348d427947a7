"""softmax and log_softmax over one axis, with their gradients in one pass each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make, Operand
from groundup.shapes import normalize_axis

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["log_softmax", "softmax"]


def widened(x: Tensor) -> Tensor:
    """x in the dtype that its sums are kept in: float32 for float16 and bfloat16, else its own."""
    return x.astype(dt.float32) if x.dtype in (dt.float16, dt.bfloat16) else x


class OverAxis(Op):
    """Values of one shape and floating dtype, normalised along `axis`."""

    axis: int = -1
    accuracy = COMPOSED

    def infer(self, x: Spec) -> Spec:
        return self.check(x)

    def check(self, x: Spec) -> Spec:
        """x, if it is floating-point and has the axis. Raises DTypeError or ShapeError."""
        if not x.dtype.is_floating:
            hint = "use x.astype(groundup.float32)"
            raise DTypeError(f"{self.name}: x must be floating-point, got {x}", hint=hint)
        normalize_axis(self.axis, x.rank, self.name)
        return x

    def cost(self, *specs: Spec) -> Cost:
        return Cost(5 * specs[0].size, sum(spec.nbytes for spec in specs) + specs[0].nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        def case(name: str, x: Operand, axis: int = -1, *tags: str) -> Case:
            return Case(cls(axis=axis), (x,), name, frozenset(tags))

        yield case("matrix", make.normal(5, 7))
        yield case("first-axis", make.normal(5, 7), 0)
        yield case("middle-axis", make.normal(2, 5, 3), 1)
        yield case("vector", make.normal(33))
        yield case("one", make.normal(4, 1))
        yield case("odd", make.normal(3, 1023))
        yield case("empty-rows", make.normal(0, 4), -1, "empty")
        yield case("empty-axis", make.normal(4, 0), -1, "empty")
        yield case("transposed", make.normal(4, 6, view=lambda x: x.mT), -1, "view")
        yield case("sliced", make.normal(6, 9, view=lambda x: x[1:5, ::2]), -1, "view")
        yield case("flipped", make.normal(3, 7, view=lambda x: x[:, ::-1]), -1, "view")
        yield case("ties", make.values([[1.0, 1.0, 1.0], [2.0, 2.0, 0.0]]), -1, "tie")
        yield case("large", make.normal(4, 5, scale=1e4), -1, "scale")
        inf, nan = float("inf"), float("nan")
        masked = [[0.0, -inf, 1.0], [-inf, -inf, -inf], [inf, 0.0, 1.0], [nan, 0.0, 1.0]]
        yield case("special", make.values(masked), -1, "nan", "special")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(axis=2), (make.normal(2, 3),), ShapeError, "axis 2 is out of range")
        yield BadCase(cls(), (make.normal(),), ShapeError, "rank 0")
        yield BadCase(cls(), (make.of(dt.int32, 3),), DTypeError, "floating-point")


class OverAxisBackward(OverAxis):
    """The gradient from the op's result and the result's gradient."""

    outputs = ("dx",)

    def infer(self, out: Spec, grad: Spec) -> Spec:  # type: ignore[override]
        if out is not grad:
            raise ShapeError(f"{self.name}: out is {out} but grad is {grad}")
        return self.check(out)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for case in super().samples(make):
            (out,) = case.inputs
            yield Case(case.op, (out, make.normal(*out.array.shape)), case.id, case.tags)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        pair = (make.normal(2, 3), make.normal(3, 2))
        yield BadCase(cls(), pair, ShapeError, "out is")


class Softmax(OverAxis, name="softmax", family="normalization"):
    """exp(x - max(x)) / sum(exp(x - max(x))) along `axis`.

    A slice of only -inf, or one that holds NaN or +inf, gives NaN.
    """

    saves = ("out",)

    def compose(self, x: Tensor) -> Tensor:
        if not x.size:
            return x
        wide = widened(x)
        powers = (wide - wide.max(self.axis, keepdims=True)).exp()
        return (powers / powers.sum(self.axis, keepdims=True)).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (SoftmaxBackward(axis=self.axis)(out, grad),)


class SoftmaxBackward(OverAxisBackward, name="softmax_backward", family="normalization"):
    """out * (grad - sum(out * grad)) along `axis`: the gradient of softmax."""

    saves = ("out", "grad")

    def compose(self, out: Tensor, grad: Tensor) -> Tensor:
        y, dy = widened(out), widened(grad)
        return (y * (dy - (y * dy).sum(self.axis, keepdims=True))).astype(out.dtype)


class LogSoftmax(OverAxis, name="log_softmax", family="normalization"):
    """x - max(x) - log(sum(exp(x - max(x)))) along `axis`: log(softmax(x)) without underflow."""

    saves = ("out",)

    def compose(self, x: Tensor) -> Tensor:
        if not x.size:
            return x
        wide = widened(x)
        shifted = wide - wide.max(self.axis, keepdims=True)
        return (shifted - shifted.exp().sum(self.axis, keepdims=True).log()).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (out,) = ctx.saved
        return (LogSoftmaxBackward(axis=self.axis)(out, grad),)


class LogSoftmaxBackward(OverAxisBackward, name="log_softmax_backward", family="normalization"):
    """grad - exp(out) * sum(grad) along `axis`: the gradient of log_softmax."""

    saves = ("out", "grad")

    def compose(self, out: Tensor, grad: Tensor) -> Tensor:
        y, dy = widened(out), widened(grad)
        return (dy - y.exp() * dy.sum(self.axis, keepdims=True)).astype(out.dtype)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`, without overflow. Raises ShapeError, DTypeError."""
    return Softmax(axis=axis)(x)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """log(softmax(x)) along `axis`, without underflow. Raises ShapeError, DTypeError."""
    return LogSoftmax(axis=axis)(x)

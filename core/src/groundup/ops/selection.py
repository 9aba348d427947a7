"""Choosing between values, elementwise: where and clamp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.errors import DTypeError
from groundup.layout import Spec
from groundup.ops.accuracy import EXACT
from groundup.ops.arithmetic import NUMBERS, Operand
from groundup.ops.elementwise_base import Unary
from groundup.ops.op import Ctx, Op
from groundup.ops.samples import BadCase, Case, Make

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["clamp", "where"]


class Where(Op, name="where", family="elementwise"):
    """x where condition is true, else y. `condition` is bool; x and y promote to one dtype."""

    accuracy = EXACT
    dtypes = (*NUMBERS, dt.bool_)
    broadcasts = True
    promotes = (1, 2)
    saves = ("condition",)

    def infer(self, condition: Spec, x: Spec, y: Spec) -> Spec:
        if condition.dtype is not dt.bool_:
            raise DTypeError(
                f"where: condition must be bool, got {condition}",
                hint="compare first, as in x != 0",
            )
        return x

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (condition,) = ctx.saved
        dx = condition.where(grad, 0) if ctx.needs[1] else None
        return None, dx, condition.where(0, grad) if ctx.needs[2] else None

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        shapes = {
            "matrix": ((4, 5), (4, 5), (4, 5)), "scalars": ((), (), ()),
            "empty": ((0,), (0,), (0,)),
            "broadcast-x": ((3, 4), (4,), (3, 4)), "broadcast-condition": ((4,), (3, 4), (3, 4)),
            "outer": ((3, 1, 1), (1, 4, 1), (1, 1, 5)), "scalar-y": ((5,), (5,), ()),
        }  # fmt: skip
        for name, (condition, x, y) in shapes.items():
            operands = (make.bools(*condition), make.normal(*x), make.normal(*y))
            yield Case(cls(), operands, name)
        view = make.normal(5, 3, view=lambda x: x.mT)
        yield Case(cls(), (make.bools(3, 5), view, make.normal(3, 5)), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        bad = (make.of(dt.int32, 3), make.normal(3), make.normal(3))
        yield BadCase(cls(), bad, DTypeError, "condition must be bool")


class Clamp(Unary, name="clamp", family="elementwise"):
    """x limited to [min, max]; either may be None. NaN stays. The gradient is 0 outside."""

    min: float | None = None
    max: float | None = None
    accuracy = EXACT
    dtypes = NUMBERS
    saves = ("x",)

    def infer(self, x: Spec) -> Spec:
        for name, bound in (("min", self.min), ("max", self.max)):
            if bound is None or x.dtype.kind != "int":
                continue
            low, high = x.dtype.range
            if not isinstance(bound, int) or not low <= bound <= high:
                raise DTypeError(
                    f"clamp: {name} is {bound!r}, which no {x.dtype} is, but x is {x}",
                    hint="use an integer in range, or x.astype(groundup.float32)",
                )
        return super().infer(x)

    def compose(self, x: Tensor) -> Tensor:
        if self.min is not None:
            x = x.maximum(self.min)
        return x if self.max is None else x.minimum(self.max)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved
        if self.min is not None:
            grad = (x < self.min).where(0, grad)
        return (grad if self.max is None else (x > self.max).where(0, grad),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for case in super().samples(make):
            yield Case(cls(min=-1, max=2), case.inputs, case.id, case.tags)
        yield Case(cls(min=0), (make.normal(9),), "only-min")
        yield Case(cls(max=0), (make.normal(9),), "only-max")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield from super().errors(make)
        yield BadCase(cls(min=0.5), (make.of(dt.int32, 3),), DTypeError, "min is 0.5")
        yield BadCase(cls(max=256), (make.of(dt.uint8, 3),), DTypeError, "max is 256")


def where(condition: Tensor, x: Operand, y: Operand) -> Tensor:
    """x where condition is true, else y. Raises DTypeError unless condition is bool."""
    return Where()(condition, x, y)


def clamp(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """x limited to [min, max]; either may be None.

    Raises DTypeError for bounds that are no numbers, or that an integer x's dtype cannot hold, as
    0.5.
    """
    return Clamp(min=min, max=max)(x)

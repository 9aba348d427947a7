"""Rounding, classification and change of dtype, elementwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.dtypes import DType, DTypeLike, as_dtype
from groundup.layout import Spec
from groundup.ops.accuracy import EXACT, ROUNDED
from groundup.ops.elementwise_base import Unary
from groundup.ops.op import Ctx, Op
from groundup.ops.samples import SPECIAL_FLOATS, Case, Make

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["cast", "ceil", "floor", "isfinite", "isnan", "round"]


class Floor(Unary, name="floor", family="elementwise"):
    """Largest integer not above x, in x's dtype. The gradient is 0."""

    accuracy = EXACT
    float_only = True

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None]:
        return (None,)


class Ceil(Unary, name="ceil", family="elementwise"):
    """Smallest integer not below x, in x's dtype. The gradient is 0."""

    accuracy = EXACT
    float_only = True

    def compose(self, x: Tensor) -> Tensor:
        return -(-x).floor()

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None]:
        return (None,)


class Round(Unary, name="round", family="elementwise"):
    """Nearest integer, ties to even, in x's dtype. The gradient is 0."""

    accuracy = EXACT
    float_only = True

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None]:
        return (None,)


class IsNan(Unary, name="isnan", family="elementwise"):
    """Whether x is NaN; bool."""

    accuracy = EXACT
    float_only = True
    result_bool = True
    differentiable = ()


class IsFinite(Unary, name="isfinite", family="elementwise"):
    """Whether x is neither NaN nor infinite; bool."""

    accuracy = EXACT
    float_only = True
    result_bool = True
    differentiable = ()

    def compose(self, x: Tensor) -> Tensor:
        return (x - x) == 0


class Cast(Op, name="cast", family="elementwise"):
    """x in another dtype. Floats to integers truncate and saturate, NaN becomes 0; to bool: x !=
    0.
    """

    dtype: DType
    accuracy = ROUNDED
    dtypes = (*dt.FLOATS, dt.int32, dt.bool_)

    def infer(self, x: Spec) -> Spec:
        return Spec(x.shape, self.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None]:
        source = ctx.specs[0].dtype
        return (grad.astype(source) if source.is_floating and self.dtype.is_floating else None,)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for target in dt.ALL:
            yield Case(cls(dtype=target), (make.normal(4, 5),), f"to-{target}")
        view = make.normal(4, 6, view=lambda x: x.mT[::2])
        yield Case(cls(dtype=dt.float32), (view,), "view", frozenset({"view"}))
        yield Case(cls(dtype=dt.int32), (make.normal(0, 3),), "empty", frozenset({"empty"}))
        yield Case(cls(dtype=dt.float32), (make.normal(),), "scalar")
        if make.dtype.is_floating:
            special = make.values([*SPECIAL_FLOATS, 1e30, -1e30, 0.5, 1.5, -2.5])
            for target in (dt.int32, dt.bool_, dt.float16, dt.uint8, dt.int64):
                tags = frozenset({"nan", "special"})
                yield Case(cls(dtype=target), (special,), f"special-to-{target}", tags)


def floor(x: Tensor) -> Tensor:
    """Largest integer not above x, in x's dtype; integers are x itself. The gradient is 0."""
    return x if x.dtype.kind == "int" else Floor()(x)


def ceil(x: Tensor) -> Tensor:
    """Smallest integer not below x, in x's dtype; integers are x itself. The gradient is 0."""
    return x if x.dtype.kind == "int" else Ceil()(x)


def round(x: Tensor) -> Tensor:
    """Nearest integer, ties to even, in x's dtype; integers are x itself. The gradient is 0."""
    return x if x.dtype.kind == "int" else Round()(x)


def isnan(x: Tensor) -> Tensor:
    """Whether x is NaN; bool."""
    return IsNan()(x)


def isfinite(x: Tensor) -> Tensor:
    """Whether x is neither NaN nor infinite; bool."""
    return IsFinite()(x)


def cast(x: Tensor, dtype: DTypeLike) -> Tensor:
    """x in another dtype; x itself if it has that dtype. Raises DTypeError for an unknown dtype."""
    target = as_dtype(dtype)
    return x if x.dtype is target else Cast(dtype=target)(x)

"""Matrix products: matmul, and linear with its weight in PyTorch's layout."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.dtypes import promote
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import CONTRACTION
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make
from groundup.shapes import broadcast_shapes

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["linear", "matmul"]


class MatMul(Op, name="matmul", family="contraction"):
    """x @ y over the last two axes; leading axes broadcast. A vector is a row of x, a column of y.

    Low-precision inputs accumulate in float32. (Array API `matmul`.)
    """

    accuracy = CONTRACTION
    saves = ("x", "y")
    dtypes = (*dt.FLOATS, dt.int32)

    def infer(self, x: Spec, y: Spec) -> Spec:
        if x.dtype is not y.dtype:
            wide = promote(x.dtype, y.dtype)
            raise DTypeError(
                f"matmul: x is {x}, y is {y}: dtypes differ", hint=f"cast both to {wide}"
            )
        if x.dtype is dt.bool_:
            raise DTypeError(f"matmul: x is {x}, y is {y}", hint="cast both to int32 or float32")
        if not x.rank or not y.rank:
            raise ShapeError(f"matmul: x is {x}, y is {y}: rank 0 is not allowed", hint="use x * y")
        rows = x.shape[:-1] if x.rank == 1 else x.shape[-2:-1]
        inner = y.shape[-1] if y.rank == 1 else y.shape[-2]
        if x.shape[-1] != inner:
            raise ShapeError(
                f"matmul: x is {x}, y is {y}: inner sizes {x.shape[-1]} and {inner} differ"
            )
        lead = broadcast_shapes(x.shape[:-2], y.shape[:-2], op="matmul")
        tail = (() if x.rank == 1 else rows) + (() if y.rank == 1 else y.shape[-1:])
        return Spec(lead + tail, x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved
        if x.ndim > 2 and y.ndim == 2:  # one matrix for all rows: two plain products do
            rows, grad_rows = _rows(x), _rows(grad)
            dx = (grad_rows @ y.mT).reshape(x.shape) if ctx.needs[0] else None
            return dx, rows.mT @ grad_rows if ctx.needs[1] else None
        column = y if y.ndim > 1 else y.reshape(-1, 1)
        row = x if x.ndim > 1 else x.reshape(1, -1)
        if y.ndim == 1:
            grad = grad.unsqueeze(-1)
        if x.ndim == 1:
            grad = grad.unsqueeze(-2)
        dx = _reduce_to(grad @ column.mT, row, x) if ctx.needs[0] else None
        return dx, _reduce_to(row.mT @ grad, column, y) if ctx.needs[1] else None

    def cost(self, x: Spec, y: Spec) -> Cost:
        out = self.infer(x, y)
        return Cost(2 * out.size * x.shape[-1], x.nbytes + y.nbytes + out.nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, left, right in (
            ("matrix", (5, 7), (7, 3)), ("one", (1, 1), (1, 1)), ("odd", (33, 65), (65, 17)),
            ("batched", (2, 3, 4, 5), (2, 3, 5, 6)), ("broadcast", (2, 1, 4, 5), (3, 5, 6)),
            ("shared-y", (3, 4, 5), (5, 6)), ("shared-x", (4, 5), (3, 5, 6)),
            ("vector-y", (4, 5), (5,)), ("vector-x", (5,), (5, 6)), ("dot", (5,), (5,)),
            ("batched-vector", (2, 4, 5), (5,)), ("empty", (0, 5), (5, 3)),
            ("empty-inner", (2, 0), (0, 3)),
        ):  # fmt: skip
            tags = {"empty"} if "empty" in name else set()
            yield Case(cls(), (make.normal(*left), make.normal(*right)), name, frozenset(tags))
        for name, view in (("transposed", lambda x: x.mT), ("sliced", lambda x: x[:, ::2].mT)):
            pair = (make.normal(7, 10, view=view), make.normal(3, 7, view=lambda y: y.mT))
            yield Case(cls(), pair, name, frozenset({"view"}))
        yield Case(cls(), (make.normal(700, 500), make.normal(500)), "large-vector")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(), (make.normal(2, 3), make.normal(4, 5)), ShapeError, "sizes 3 and 4")
        yield BadCase(cls(), (make.normal(), make.normal(4)), ShapeError, "rank 0")
        batches = (make.normal(2, 3, 4), make.normal(3, 4, 5))
        yield BadCase(cls(), batches, ShapeError, "do not broadcast")
        bools = (make.of(dt.bool_, 2, 3), make.of(dt.bool_, 3, 4))
        yield BadCase(cls(), bools, DTypeError, "cast both to int32")


class Linear(Op, name="linear", family="contraction"):
    """x @ weight.mT + bias: x (..., K), weight (N, K), bias (N,) or none give (..., N).

    The weight's layout is PyTorch's. Low-precision inputs accumulate in float32.
    """

    accuracy = CONTRACTION
    saves = ("x", "weight")

    def infer(self, x: Spec, weight: Spec, bias: Spec | None = None) -> Spec:
        if not x.dtype.is_floating:
            hint = "use x.astype(groundup.float32)"
            raise DTypeError(f"linear: x must be floating-point, got {x}", hint=hint)
        for name, spec in (("weight", weight), ("bias", bias)):
            if spec is not None and spec.dtype is not x.dtype:
                hint = f"use {name}.astype(groundup.{x.dtype})"
                raise DTypeError(f"linear: x is {x} but {name} is {spec}", hint=hint)
        if weight.rank != 2 or not x.rank or x.shape[-1] != weight.shape[1]:
            raise ShapeError(
                f"linear: x must be (..., K) and weight (N, K), got {x.shape} and {weight.shape}"
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ShapeError(f"linear: bias must have shape {weight.shape[:1]}, got {bias.shape}")
        return Spec((*x.shape[:-1], weight.shape[0]), x.dtype)

    def compose(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = x @ weight.mT
        return product if bias is None else product + bias

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved
        rows = _rows(grad)
        dx = (rows @ weight).reshape(x.shape) if ctx.needs[0] else None
        dweight = rows.mT @ _rows(x) if ctx.needs[1] else None
        if len(ctx.needs) == 2:
            return dx, dweight
        return dx, dweight, rows.sum(axis=0) if ctx.needs[2] else None

    def cost(self, x: Spec, weight: Spec, bias: Spec | None = None) -> Cost:
        out = self.infer(x, weight, bias)
        moved = x.nbytes + weight.nbytes + out.nbytes + (bias.nbytes if bias else 0)
        return Cost(2 * out.size * x.shape[-1] + (out.size if bias else 0), moved)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, lead, inner, outer in (
            ("matrix", (5,), 7, 3), ("vector", (), 4, 6), ("batched", (2, 3), 5, 4),
            ("odd", (33,), 65, 17), ("one", (1,), 1, 1), ("empty", (0,), 5, 3),
            ("empty-batch", (2, 0), 5, 3), ("empty-inner", (2,), 0, 3), ("empty-outer", (2,), 3, 0),
        ):  # fmt: skip
            tags = frozenset({"empty"} if "empty" in name else ())
            x, weight = make.normal(*lead, inner), make.normal(outer, inner)
            yield Case(cls(), (x, weight, make.normal(outer)), name, tags)
            yield Case(cls(), (x, weight), f"{name}-no-bias", tags)
        weight = make.normal(7, 5, view=lambda w: w.mT)
        for name, x in (
            ("transposed", make.normal(7, 2, 3, view=lambda x: x.T)),
            ("sliced", make.normal(6, 14, view=lambda x: x[1::2, ::2])),
            ("flipped", make.normal(4, 7, view=lambda x: x[::-1])),
        ):
            yield Case(cls(), (x, weight, make.normal(5)), name, frozenset({"view"}))
        big = make.normal(3, 7, scale=100.0)
        yield Case(cls(), (big, weight, make.normal(5)), "large", frozenset({"scale"}))
        special = make.values([[float("nan"), 1.0], [float("inf"), 1.0], [1.0, 2.0]])
        yield Case(cls(), (special, make.normal(3, 2)), "special", frozenset({"nan", "special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x, weight = make.normal(2, 3), make.normal(4, 3)
        yield BadCase(cls(), (x, make.normal(3, 4)), ShapeError, "weight (N, K)")
        yield BadCase(cls(), (x, make.normal(3)), ShapeError, "weight (N, K)")
        yield BadCase(cls(), (x, weight, make.normal(3)), ShapeError, "bias must have shape (4,)")
        yield BadCase(cls(), (make.of(dt.int32, 2, 3), weight), DTypeError, "floating-point")
        yield BadCase(cls(), (x, make.of(dt.int32, 4, 3)), DTypeError, "weight is int32")


def _rows(x: Tensor) -> Tensor:
    """x (..., D) as a matrix; rank 1 is one row."""
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _reduce_to(grad: Tensor, like: Tensor, target: Tensor) -> Tensor:
    """Sum the leading axes over which `like` was broadcast, in the shape of `target`."""
    extra = grad.ndim - like.ndim
    axes = [
        axis
        for axis in range(grad.ndim - 2)
        if axis < extra or like.shape[axis - extra] != grad.shape[axis]
    ]
    if axes:
        grad = grad.sum(axis=tuple(axes), keepdims=True)
    return grad.reshape(target.shape)


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """x @ y over the last two axes; leading axes broadcast. Raises ShapeError, DTypeError."""
    return MatMul()(x, y)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., K) times weight (N, K) transposed, plus bias (N,). Raises ShapeError, DTypeError."""
    return Linear()(x, weight) if bias is None else Linear()(x, weight, bias)

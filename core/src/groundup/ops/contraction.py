"""Contractions: matmul and what is built on it."""

from __future__ import annotations

from collections.abc import Iterator
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


class MatMul(Op, name="matmul", family="contraction"):
    """x @ y over the last two axes; leading axes broadcast. Rank 1 inputs gain an axis that is dropped.

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
            left = make.normal(7, 10, view=view)
            right = make.normal(3, 7, view=lambda y: y.mT)
            yield Case(cls(), (left, right), name, frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(), (make.normal(2, 3), make.normal(4, 5)), ShapeError, "sizes 3 and 4")
        yield BadCase(cls(), (make.normal(), make.normal(4)), ShapeError, "rank 0")
        batches = (make.normal(2, 3, 4), make.normal(3, 4, 5))
        yield BadCase(cls(), batches, ShapeError, "do not broadcast")


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

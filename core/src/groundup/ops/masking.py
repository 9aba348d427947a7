"""Triangles of matrices, and one-hot rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import EXACT
from groundup.ops.filling import positions
from groundup.ops.indexing import ids, need_index
from groundup.ops.movement import Movement
from groundup.ops.op import Ctx, Op
from groundup.ops.samples import BadCase, Case, Make, Operand

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["one_hot", "tril", "triu"]


class Triangle(Movement):
    """What tril and triu share: the last two axes are matrices, elements beside the triangle are 0.

    In compositions the zero is written False, which leaves every dtype as it is, bool included.
    """

    diagonal: int = 0

    def infer(self, x: Spec) -> Spec:
        if x.rank < 2:
            raise ShapeError(f"{self.name}: x must have at least 2 axes, got {x}")
        return x

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        return (self(grad),)

    def offsets(self, x: Tensor) -> Tensor:
        """Column minus row, (rows, columns): 0 on the main diagonal."""
        rows, columns = x.shape[-2:]
        return positions(x, columns) - positions(x, rows).reshape(rows, 1)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape, diagonal in (
            ("square", (5, 5), 0), ("above", (5, 5), 2), ("below", (5, 5), -2), ("wide", (3, 7), 1),
            ("tall", (7, 3), -1), ("batch", (2, 3, 4, 4), 0), ("one", (1, 1), 0),
            ("far", (3, 3), 9),
            ("far-below", (3, 3), -9), ("empty", (0, 3), 0), ("odd", (33, 65), 0),
        ):  # fmt: skip
            tags = {"empty"} if name == "empty" else set()
            yield Case(cls(diagonal=diagonal), (make.normal(*shape),), name, frozenset(tags))
        for name, view in (("transposed", lambda x: x.mT), ("sliced", lambda x: x[::2, ::-1])):
            yield Case(cls(), (make.normal(6, 5, view=view),), name, frozenset({"view"}))
        if make.dtype.is_floating:
            x = make.values(np.full((3, 3), np.nan))
            yield Case(cls(), (x,), "nan", frozenset({"nan", "special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(), (make.normal(3),), ShapeError, "x must have at least 2 axes")


class Tril(Triangle, name="tril", family="indexing"):
    """x where column - row <= diagonal, else 0: the lower triangle (Array API `tril`)."""

    def compose(self, x: Tensor) -> Tensor:
        return (self.offsets(x) <= self.diagonal).where(x, False)


class Triu(Triangle, name="triu", family="indexing"):
    """x where column - row >= diagonal, else 0: the upper triangle (Array API `triu`)."""

    def compose(self, x: Tensor) -> Tensor:
        return (self.offsets(x) >= self.diagonal).where(x, False)


class OneHot(Op, name="one_hot", family="indexing"):
    """out[..., c] = 1.0 where indices[...] == c, else 0.0; float32 of shape (*indices, classes).

    Indices outside [0, classes) raise DomainError on the CPU, and give rows of zeros elsewhere.
    """

    classes: int
    accuracy = EXACT
    dtypes = (dt.int32,)
    differentiable = ()

    def infer(self, indices: Spec) -> Spec:
        need_index("one_hot", indices)
        if self.classes < 0:
            raise ShapeError(f"one_hot: classes must not be negative, got {self.classes}")
        return Spec((*indices.shape, self.classes), dt.float32)

    def compose(self, indices: Tensor) -> Tensor:
        return (indices.unsqueeze(-1) == positions(indices, self.classes)).astype(dt.float32)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, classes, shape in (
            ("matrix", 7, (3, 4)), ("vector", 5, (6,)), ("scalar", 3, ()), ("one", 1, (1,)),
            ("empty", 4, (0,)), ("odd", 33, (65,)),
        ):  # fmt: skip
            tags = {"empty"} if name == "empty" else set()
            yield Case(
                cls(classes=classes), (make.ints(0, classes, *shape),), name, frozenset(tags)
            )
        yield Case(cls(classes=3), (ids([2, 2, 0, 2]),), "repeated")
        byte = Operand(np.array([2, 0], np.uint8))
        yield Case(cls(classes=3), (byte,), "uint8-indices")
        view = make.ints(0, 5, 4, 6, view=lambda x: x.mT[::2])
        yield Case(cls(classes=5), (view,), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        floats = make.of(dt.float32, 3)
        yield BadCase(cls(classes=3), (floats,), DTypeError, "indices must be int32")
        yield BadCase(cls(classes=-1), (ids([0]),), ShapeError, "must not be negative")


def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """x on and below a diagonal of its last two axes, 0 above. Raises ShapeError below rank 2."""
    return Tril(diagonal=diagonal)(x)


def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """x on and above a diagonal of its last two axes, 0 below. Raises ShapeError below rank 2."""
    return Triu(diagonal=diagonal)(x)


def one_hot(indices: Tensor, classes: int) -> Tensor:
    """float32 rows of `classes` zeros with a 1 at each index.

    Raises DTypeError, ShapeError (classes), DomainError (an index out of range, on the CPU).
    """
    return OneHot(classes=classes)(indices)

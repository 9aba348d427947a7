"""Running sums, and what else is built by combining each element with those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from groundup import dtypes as dt
from groundup.errors import ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import CONTRACTION
from groundup.ops.op import Ctx, Op
from groundup.ops.reduction_base import NUMBERS, accumulated, wide
from groundup.ops.samples import BadCase, Case, Make
from groundup.shapes import normalize_axis

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["cumsum"]


class CumSum(Op, name="cumsum", family="reduction"):
    """Element i along `axis` is the sum of elements 0 to i. Integers wrap; dtypes as for sum.

    float16 and bfloat16 accumulate in float32. (Array API `cumulative_sum`, PyTorch `cumsum`.)
    """

    axis: int = -1
    accuracy = CONTRACTION
    dtypes = (*NUMBERS, dt.bool_)

    def infer(self, x: Spec) -> Spec:
        normalize_axis(self.axis, x.rank, "cumsum")
        return Spec(x.shape, accumulated(x.dtype))

    def compose(self, x: Tensor) -> Tensor:
        dtype = accumulated(x.dtype)
        axis = normalize_axis(self.axis, x.ndim, "cumsum")
        return scan(wide(x.astype(dtype)), axis, lambda a, b: a + b, 0).astype(dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        """Element i of x is in every sum from i on: the running sum from the other end."""
        backwards = grad.flip(self.axis)
        return (CumSum(axis=self.axis)(backwards).flip(self.axis),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, axis, shape in (
            ("last", -1, (5, 7)), ("first", 0, (5, 7)), ("middle", 1, (3, 4, 5)), ("one", 0, (1,)),
            ("odd", 0, (1023,)), ("empty", 1, (3, 0)), ("empty-rows", 1, (0, 3)),
        ):  # fmt: skip
            tags = {"empty"} if "empty" in name else set()
            yield Case(cls(axis=axis), (make.normal(*shape),), name, frozenset(tags))
        for name, view in (
            ("transposed", lambda x: x.mT), ("sliced", lambda x: x[1:5, ::2]),
            ("flipped", lambda x: x[::-1]),
        ):  # fmt: skip
            for axis in (0, 1):
                x = make.normal(6, 9, view=view)
                yield Case(cls(axis=axis), (x,), f"{name}-{axis}", frozenset({"view"}))
        if make.dtype.is_floating:
            x = make.values([[1, np.nan, 2, 3], [1, np.inf, 2, -np.inf]])
            yield Case(cls(), (x,), "special", frozenset({"nan", "special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(axis=2), (make.normal(2, 3),), ShapeError, "axis 2 is out of range")
        yield BadCase(cls(), (make.normal(),), ShapeError, "allowed is nothing (rank 0)")


def cumsum(x: Tensor, axis: int = -1) -> Tensor:
    """The running sum along `axis`. Raises ShapeError if it is out of range."""
    return CumSum(axis=axis)(x)


def scan(
    x: Tensor, axis: int, combine: Callable[[Tensor, Tensor], Tensor], identity: float
) -> Tensor:
    """Element i combined with all before it, in log2(size) steps (Hillis and Steele, 1986)."""
    step = 1
    while step < x.shape[axis]:
        x = combine(x, _shifted(x, axis, step, identity))
        step *= 2
    return x


def products_of_others(rows: Tensor) -> Tensor:
    """Along the last axis, the product of all other elements: of those before times those after."""
    if rows.shape[-1] == 0:
        return rows
    last = rows.ndim - 1
    before = scan(_shifted(rows, last, 1, 1), last, lambda a, b: a * b, 1)
    after = scan(_shifted(rows.flip(-1), last, 1, 1), last, lambda a, b: a * b, 1)
    return before * after.flip(-1)


def _shifted(x: Tensor, axis: int, by: int, fill: float) -> Tensor:
    """x moved `by` places towards the end of `axis`; `fill` moves in."""
    kept = x[(*[slice(None)] * axis, slice(0, x.shape[axis] - by))]
    before = tuple(by if a == axis else 0 for a in range(x.ndim))
    return kept.pad(before, (0,) * x.ndim, value=fill)

"""What reductions share: the axes they drop, their shape rule, samples, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.op import Cost, Op
from groundup.ops.samples import BadCase, Case, Make, Operand, ViewOf
from groundup.shapes import Axis, Shape, as_integers, normalize_axes, reduced

if TYPE_CHECKING:
    from groundup.tensor import Tensor

NUMBERS = (*dt.FLOATS, dt.int32)
_NARROW_INTS = (dt.bool_, dt.uint8, dt.int8)
_Case: TypeAlias = tuple[str, tuple[int, ...], Shape | None]

# name, shape of x, axes
_CASES: tuple[_Case, ...] = (
    ("all", (5, 7), None), ("last", (5, 7), (-1,)), ("first", (5, 7), (0,)),
    ("middle", (3, 4, 5), (1,)), ("outer", (3, 4, 5), (0, 2)), ("one", (1, 1), (0,)),
    ("scalar", (), None), ("no-axes", (3, 4), ()), ("odd", (3, 1023), (1,)),
    ("tall", (1025, 3), (0,)), ("empty-kept", (0, 3), (1,)),
)  # fmt: skip
_VIEWS: tuple[tuple[str, ViewOf], ...] = (
    ("transposed", lambda x: x.mT), ("sliced", lambda x: x[1:5, ::2]),
    ("flipped", lambda x: x[::-1]),
)  # fmt: skip


class Reduction(Op):
    """`axes` (None: all) are dropped, or kept with size 1 if `keepdims`."""

    axes: Shape | None = None
    keepdims: bool = False

    def dropped(self, x: Spec) -> Shape:
        """The axes as sorted numbers in [0, rank). Raises ShapeError."""
        return normalize_axes(self.axes, x.rank, self.name)

    def count(self, x: Spec) -> int:
        """How many elements make one result."""
        return prod(x.shape[a] for a in self.dropped(x))

    def shape_of(self, x: Spec) -> Shape:
        """The shape of the result."""
        return reduced(x.shape, self.dropped(x), self.keepdims)

    def kept(self, x: Spec) -> Shape:
        """The shape of the result with size 1 on the dropped axes; it broadcasts against x."""
        return reduced(x.shape, self.dropped(x), keepdims=True)

    def spread(self, result: Tensor, x: Spec) -> Tensor:
        """Something of the result's shape, repeated to x's shape without memory."""
        return result.reshape(self.kept(x)).expand(x.shape)

    def cost(self, x: Spec) -> Cost:
        """One operation per element of x."""
        return Cost(x.size, x.nbytes + self.infer_all(x)[0].nbytes)

    @classmethod
    def values(cls, make: Make, *shape: int, view: ViewOf = lambda x: x) -> Operand:
        """Ordinary sample values."""
        return make.normal(*shape, view=view)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape, axes in _CASES:
            tags = {"empty"} if "empty" in name else set()
            yield Case(cls(axes=axes), (cls.values(make, *shape),), name, frozenset(tags))
        yield Case(cls(axes=(-1,), keepdims=True), (cls.values(make, 4, 6),), "keepdims")
        yield Case(cls(keepdims=True), (cls.values(make, 4, 6),), "keepdims-all")
        for name, view in _VIEWS:
            for axes in ((0,), (1,)):
                x = cls.values(make, 6, 10, view=view)
                yield Case(cls(axes=axes), (x,), f"{name}-{axes[0]}", frozenset({"view"}))
        if make.dtype.is_floating:
            inf, nan = np.inf, np.nan
            rows = [[nan, 1, 2], [inf, 1, 2], [-inf, inf, 0], [-inf, -inf, -inf], [0.0, -0.0, -0.0]]
            x = make.values(rows)
            yield Case(cls(axes=(1,)), (x,), "special", frozenset({"nan", "special"}))
            yield Case(cls(axes=(0,)), (x,), "special-first", frozenset({"nan", "special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(2, 3)
        yield BadCase(cls(axes=(2,)), (x,), ShapeError, "axis 2 is out of range for rank 2")
        yield BadCase(cls(axes=(1, -1)), (x,), ShapeError, "names one axis twice")


def as_axes(axis: Axis, op: str) -> Shape | None:
    """The field `axes` for what users write: None, a number, or several. Raises ShapeError."""
    return None if axis is None else as_integers((axis,), op)


def accumulated(dtype: dt.DType) -> dt.DType:
    """The dtype of sums and products: bool and 8-bit integers give int32, others stay."""
    return dt.int32 if dtype in _NARROW_INTS else dtype


def wide(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, the dtype in which they accumulate."""
    return x.astype(dt.float32) if x.dtype in (dt.float16, dt.bfloat16) else x


def need_float(op: str, x: Spec) -> Spec:
    """`x`, or DTypeError unless it holds floats."""
    if not x.dtype.is_floating:
        raise DTypeError(
            f"{op}: x must be floating point, got {x}", hint="use x.astype(groundup.float32)"
        )
    return x


def need_number(op: str, x: Spec, hint: str) -> Spec:
    """`x`, or DTypeError if it holds bools."""
    if x.dtype is dt.bool_:
        raise DTypeError(f"{op}: x must hold numbers, got {x}", hint=hint)
    return x

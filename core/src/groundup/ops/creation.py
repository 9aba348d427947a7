"""Tensors from nothing: full and arange. They take no tensors; the core passes the device."""

from __future__ import annotations

from collections.abc import Iterator

from groundup import dtypes as dt
from groundup.dtypes import DType
from groundup.layout import Spec
from groundup.ops.accuracy import EXACT, ROUNDED
from groundup.ops.op import Op
from groundup.ops.samples import Case, Make
from groundup.shapes import Shape

__all__: list[str] = []  # the functions are in groundup.creation: they choose a device


class Full(Op, name="full", family="creation"):
    """`value` everywhere."""

    shape: Shape
    value: float
    dtype: DType
    accuracy = EXACT
    dtypes = (*dt.FLOATS, dt.int32, dt.bool_)
    differentiable = ()

    def infer(self) -> Spec:
        return Spec(self.shape, self.dtype)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape in (
            ("matrix", (3, 5)),
            ("scalar", ()),
            ("empty", (0, 3)),
            ("odd", (1023,)),
        ):
            yield Case(cls(shape=shape, value=1, dtype=make.dtype), (), name)
        if make.dtype.is_floating:
            for value in (float("nan"), float("inf"), -0.0, 2.5):
                yield Case(cls(shape=(3,), value=value, dtype=make.dtype), (), f"value-{value}")


class Arange(Op, name="arange", family="creation"):
    """start + i * step for i in [0, count), computed in float64 or int64 and then rounded."""

    start: float
    step: float
    count: int
    dtype: DType
    accuracy = ROUNDED
    dtypes = (*dt.FLOATS, dt.int32)
    differentiable = ()

    def infer(self) -> Spec:
        return Spec((self.count,), self.dtype)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for start, step, count in ((0, 1, 10), (3, -2, 5), (0, 1, 0), (-7, 3, 1), (0, 1, 129)):
            op = cls(start=start, step=step, count=count, dtype=make.dtype)
            yield Case(op, (), f"{start}-{step}-{count}")

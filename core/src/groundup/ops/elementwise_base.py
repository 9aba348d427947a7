"""What elementwise ops share: shape and dtype rules, samples with the edge cases, refusals.

An elementwise op sees equal shapes and dtypes: the core inserts `expand` and `cast` before it, so
no gradient here un-broadcasts anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from groundup.dtypes import bool_
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.op import Op
from groundup.ops.samples import SPECIAL_FLOATS, BadCase, Case, Make, Operand, extremes


class Unary(Op):
    """One input, the same shape and dtype out."""

    broadcasts = True
    promotes = (0,)
    domain: ClassVar[tuple[float, float]] = (
        -3.0,
        3.0,
    )  # where samples for values and gradients lie
    result_bool: ClassVar[bool] = False

    def infer(self, x: Spec) -> Spec:
        need_numbers(self, x)
        return Spec(x.shape, bool_) if self.result_bool else x

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        low, high = cls.domain
        op = cls()

        def case(name: str, x: Operand, *tags: str) -> Case:
            return Case(op, (x,), name, frozenset(tags))

        yield case("matrix", make.uniform(low, high, 5, 7))
        yield case("scalar", make.uniform(low, high))
        yield case("one", make.uniform(low, high, 1))
        yield case("empty", make.uniform(low, high, 3, 0), "empty")
        yield case("odd", make.uniform(low, high, 1023))
        yield case("transposed", make.uniform(low, high, 4, 6, view=lambda x: x.mT), "view")
        yield case("sliced", make.uniform(low, high, 6, 9, view=lambda x: x[1:5, ::2]), "view")
        yield case("flipped", make.uniform(low, high, 7, view=lambda x: x[::-1]), "view")
        if make.dtype.is_floating:
            yield case("special", make.values(SPECIAL_FLOATS), "nan", "special")
            yield case("extreme", make.values(extremes(make.dtype)), "special")
        elif make.dtype.kind == "int":
            low, high = make.dtype.range
            yield case("limits", Operand(np.array([low, high, 0, 1], make.dtype.numpy)))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        if bool_ not in cls.dtypes and not cls.float_only:
            yield BadCase(cls(), (make.of(bool_, 3),), DTypeError, "needs numbers")


class Binary(Op):
    """Two inputs, broadcast and promoted to one shape and dtype."""

    broadcasts = True
    promotes = (0, 1)
    domain: ClassVar[tuple[float, float]] = (-3.0, 3.0)
    second: ClassVar[tuple[float, float] | None] = None  # the second input's domain, if another
    ties: ClassVar[bool] = False  # whether equal inputs are a case of their own
    result_bool: ClassVar[bool] = False

    def infer(self, x: Spec, y: Spec) -> Spec:
        need_numbers(self, x)
        return Spec(x.shape, bool_) if self.result_bool else x

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        op = cls()
        one, two = cls.domain, cls.second or cls.domain

        def case(name: str, x: Operand, y: Operand, *tags: str) -> Case:
            return Case(op, (x, y), name, frozenset(tags))

        def pair(name: str, left: tuple[int, ...], right: tuple[int, ...], *tags: str) -> Case:
            return case(name, make.uniform(*one, *left), make.uniform(*two, *right), *tags)

        yield pair("matrix", (5, 7), (5, 7))
        yield pair("scalars", (), ())
        yield pair("one", (1,), (1,))
        yield pair("empty", (0, 3), (0, 3), "empty")
        yield pair("odd", (1023,), (1023,))
        yield pair("rows", (4, 5), (5,), "broadcast")
        yield pair("columns", (4, 1), (4, 5), "broadcast")
        yield pair("outer", (4, 1, 3), (1, 2, 1), "broadcast")
        yield pair("scalar-left", (), (2, 3), "broadcast")
        yield pair("scalar-right", (2, 3), (), "broadcast")
        yield pair("empty-broadcast", (0, 1), (1, 3), "broadcast", "empty")
        transposed = make.uniform(*one, 3, 5, view=lambda x: x.mT)
        yield case("transposed", transposed, make.uniform(*two, 5, 3), "view")
        sliced = make.uniform(*two, 8, 9, view=lambda x: x[1:7:2, 2:7])
        yield case("sliced", make.uniform(*one, 3, 5), sliced, "view")
        if cls.ties:
            yield case("ties", make.values([1, 2, 2, 3]), make.values([1, 2, 3, 2]), "tie")
        if make.dtype.is_floating:
            grid = np.meshgrid(SPECIAL_FLOATS, SPECIAL_FLOATS)
            left, right = (make.values(side.ravel()) for side in grid)
            yield case("special", left, right, "nan", "special")
            big = make.values(extremes(make.dtype))
            yield case("extreme", big, make.values(extremes(make.dtype)[::-1]), "special")
        elif make.dtype.kind == "int" and cls.second is None:  # where any two integers will do
            least, most = make.dtype.range
            ends = (most, least, most, least), (1, most, most, least)
            x, y = (Operand(np.array(values, make.dtype.numpy)) for values in ends)
            yield case("limits", x, y)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        pair = (make.normal(2, 3), make.normal(4))
        yield BadCase(cls(), pair, ShapeError, "do not broadcast")
        if bool_ not in cls.dtypes and not cls.float_only:
            bools = (make.of(bool_, 3), make.of(bool_, 3))
            yield BadCase(cls(), bools, DTypeError, "needs numbers")


def need_numbers(op: Op, x: Spec) -> None:
    """Raises DTypeError for bools, unless they are among the op's dtypes."""
    if x.dtype is bool_ and bool_ not in op.dtypes:
        raise DTypeError(
            f"{op.name}: needs numbers, got {x}",
            hint="use x.astype(groundup.int32), or the logic of & | ^ ~",
        )

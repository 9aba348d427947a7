"""Comparisons, logic and bits, elementwise. None has a gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from groundup import dtypes as dt
from groundup.dtypes import DType
from groundup.errors import DTypeError
from groundup.layout import Spec
from groundup.ops.accuracy import EXACT
from groundup.ops.arithmetic import NUMBERS, Operand
from groundup.ops.elementwise_base import Binary, Unary
from groundup.ops.op import Op
from groundup.ops.samples import BadCase, Make

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = [
    "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "equal", "greater", "greater_equal", "less", "less_equal", "logical_and",
    "logical_not", "logical_or", "logical_xor", "not_equal",
]  # fmt: skip


class Comparison(Binary):
    """bool out, no gradient; NaN compares as IEEE 754 says."""

    accuracy = EXACT
    dtypes = (*NUMBERS, dt.bool_)
    differentiable = ()
    result_bool = True
    ties = True


class Less(Comparison, name="less", family="elementwise"):
    """x < y; false if either is NaN."""


class Equal(Comparison, name="equal", family="elementwise"):
    """x == y; false if either is NaN."""


class LessEqual(Comparison, name="less_equal", family="elementwise"):
    """x <= y; false if either is NaN."""

    def compose(self, x: Tensor, y: Tensor) -> Tensor:
        return (x < y) | (x == y)


class Greater(Comparison, name="greater", family="elementwise"):
    """x > y; false if either is NaN."""

    def compose(self, x: Tensor, y: Tensor) -> Tensor:
        return y < x


class GreaterEqual(Comparison, name="greater_equal", family="elementwise"):
    """x >= y; false if either is NaN."""

    def compose(self, x: Tensor, y: Tensor) -> Tensor:
        return y <= x


class NotEqual(Comparison, name="not_equal", family="elementwise"):
    """x != y; true if either is NaN."""

    def compose(self, x: Tensor, y: Tensor) -> Tensor:
        return ~(x == y)


class LogicalAnd(Comparison, name="logical_and", family="elementwise"):
    """Whether both are nonzero."""

    def compose(self, x: Tensor, y: Tensor) -> Tensor:
        return (x != 0) & (y != 0)


class LogicalOr(Comparison, name="logical_or", family="elementwise"):
    """Whether either is nonzero."""

    def compose(self, x: Tensor, y: Tensor) -> Tensor:
        return (x != 0) | (y != 0)


class LogicalXor(Comparison, name="logical_xor", family="elementwise"):
    """Whether exactly one is nonzero."""

    def compose(self, x: Tensor, y: Tensor) -> Tensor:
        return (x != 0) ^ (y != 0)


class LogicalNot(Unary, name="logical_not", family="elementwise"):
    """Whether x is zero."""

    accuracy = EXACT
    dtypes = (*NUMBERS, dt.bool_)
    differentiable = ()
    result_bool = True

    def compose(self, x: Tensor) -> Tensor:
        return x == 0


class Bitwise(Binary):
    """Bits of integers or bool."""

    accuracy = EXACT
    dtypes: ClassVar[Sequence[DType]] = (dt.int32, dt.uint8, dt.bool_)
    differentiable = ()

    def infer(self, x: Spec, y: Spec) -> Spec:
        _no_floats(self, x)
        return super().infer(x, y)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        floats = (make.of(dt.float32, 3), make.of(dt.float32, 3))
        yield BadCase(cls(), floats, DTypeError, "integers or bool")


class BitwiseAnd(Bitwise, name="bitwise_and", family="elementwise"):
    """Bits that are set in both."""


class BitwiseOr(Bitwise, name="bitwise_or", family="elementwise"):
    """Bits that are set in either."""


class BitwiseXor(Bitwise, name="bitwise_xor", family="elementwise"):
    """Bits that are set in exactly one."""


class Shift(Bitwise):
    """x shifted by y bits, 0 <= y < width; other counts are undefined."""

    dtypes = (dt.int32, dt.uint8)
    second = (0.0, 6.0)


class BitwiseLeftShift(Shift, name="bitwise_left_shift", family="elementwise"):
    """x * 2**y, bits beyond the width lost; 0 <= y < width."""


class BitwiseRightShift(Shift, name="bitwise_right_shift", family="elementwise"):
    """floor(x / 2**y); the sign is kept; 0 <= y < width."""


class BitwiseNot(Unary, name="bitwise_not", family="elementwise"):
    """All bits flipped; for bool, not."""

    accuracy = EXACT
    dtypes = (dt.int32, dt.uint8, dt.bool_)
    differentiable = ()

    def infer(self, x: Spec) -> Spec:
        _no_floats(self, x)
        return x

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(), (make.of(dt.float32, 3),), DTypeError, "integers or bool")


def _no_floats(op: Op, x: Spec) -> None:
    if x.dtype.is_floating:
        raise DTypeError(f"{op.name}: works on integers or bool, got {x}", hint="use x.astype(int)")


def less(x: Operand, y: Operand) -> Tensor:
    """x < y; false if either is NaN."""
    return Less()(x, y)


def equal(x: Operand, y: Operand) -> Tensor:
    """x == y; false if either is NaN."""
    return Equal()(x, y)


def less_equal(x: Operand, y: Operand) -> Tensor:
    """x <= y; false if either is NaN."""
    return LessEqual()(x, y)


def greater(x: Operand, y: Operand) -> Tensor:
    """x > y; false if either is NaN."""
    return Greater()(x, y)


def greater_equal(x: Operand, y: Operand) -> Tensor:
    """x >= y; false if either is NaN."""
    return GreaterEqual()(x, y)


def not_equal(x: Operand, y: Operand) -> Tensor:
    """x != y; true if either is NaN."""
    return NotEqual()(x, y)


def logical_and(x: Operand, y: Operand) -> Tensor:
    """Whether both are nonzero."""
    return LogicalAnd()(x, y)


def logical_or(x: Operand, y: Operand) -> Tensor:
    """Whether either is nonzero."""
    return LogicalOr()(x, y)


def logical_xor(x: Operand, y: Operand) -> Tensor:
    """Whether exactly one is nonzero."""
    return LogicalXor()(x, y)


def bitwise_and(x: Operand, y: Operand) -> Tensor:
    """Bits that are set in both."""
    return BitwiseAnd()(x, y)


def bitwise_or(x: Operand, y: Operand) -> Tensor:
    """Bits that are set in either."""
    return BitwiseOr()(x, y)


def bitwise_xor(x: Operand, y: Operand) -> Tensor:
    """Bits that are set in exactly one."""
    return BitwiseXor()(x, y)


def bitwise_left_shift(x: Operand, y: Operand) -> Tensor:
    """x * 2**y in x's width."""
    return BitwiseLeftShift()(x, y)


def bitwise_right_shift(x: Operand, y: Operand) -> Tensor:
    """floor(x / 2**y)."""
    return BitwiseRightShift()(x, y)


def logical_not(x: Tensor) -> Tensor:
    """Whether x is zero."""
    return LogicalNot()(x)


def bitwise_not(x: Tensor) -> Tensor:
    """All bits flipped; for bool, not. Raises DTypeError for floats."""
    return BitwiseNot()(x)

"""A tensor's operators and methods: each is one op, or one line of ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from groundup import dispatch, ops
from groundup.dtypes import DTypeLike
from groundup.ops.arithmetic import Add, Div, FloorDivide, Mul, Pow, Remainder, Sub
from groundup.ops.comparison import (
    BitwiseAnd,
    BitwiseLeftShift,
    BitwiseNot,
    BitwiseOr,
    BitwiseRightShift,
    BitwiseXor,
    Equal,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    NotEqual,
)  # fmt: skip
from groundup.ops.contraction import MatMul
from groundup.ops.elementwise import Abs, Neg
from groundup.shapes import Axis

if TYPE_CHECKING:
    from groundup.tensor import Tensor

_ADD, _SUB, _MUL, _DIV, _NEG = Add(), Sub(), Mul(), Div(), Neg()


class TensorMethods:
    """Mixed into Tensor. See the functions of the same name in `groundup.ops`."""

    __slots__ = ()

    if TYPE_CHECKING:
        shape: Any
        ndim: Any
        size: Any

    def __add__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(_ADD, (self, other))  # type: ignore[no-any-return]

    def __radd__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(_ADD, (other, self))  # type: ignore[no-any-return]

    def __sub__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(_SUB, (self, other))  # type: ignore[no-any-return]

    def __rsub__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(_SUB, (other, self))  # type: ignore[no-any-return]

    def __mul__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(_MUL, (self, other))  # type: ignore[no-any-return]

    def __rmul__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(_MUL, (other, self))  # type: ignore[no-any-return]

    def __truediv__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(_DIV, (self, other))  # type: ignore[no-any-return]

    def __rtruediv__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(_DIV, (other, self))  # type: ignore[no-any-return]

    def __floordiv__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(FloorDivide(), (self, other))  # type: ignore[no-any-return]

    def __rfloordiv__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(FloorDivide(), (other, self))  # type: ignore[no-any-return]

    def __mod__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(Remainder(), (self, other))  # type: ignore[no-any-return]

    def __rmod__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(Remainder(), (other, self))  # type: ignore[no-any-return]

    def __pow__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(Pow(), (self, other))  # type: ignore[no-any-return]

    def __rpow__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(Pow(), (other, self))  # type: ignore[no-any-return]

    def __and__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseAnd(), (self, other))  # type: ignore[no-any-return]

    def __rand__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseAnd(), (other, self))  # type: ignore[no-any-return]

    def __or__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseOr(), (self, other))  # type: ignore[no-any-return]

    def __ror__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseOr(), (other, self))  # type: ignore[no-any-return]

    def __xor__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseXor(), (self, other))  # type: ignore[no-any-return]

    def __rxor__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseXor(), (other, self))  # type: ignore[no-any-return]

    def __lshift__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseLeftShift(), (self, other))  # type: ignore[no-any-return]

    def __rlshift__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseLeftShift(), (other, self))  # type: ignore[no-any-return]

    def __rshift__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseRightShift(), (self, other))  # type: ignore[no-any-return]

    def __rrshift__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(BitwiseRightShift(), (other, self))  # type: ignore[no-any-return]

    def __matmul__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(MatMul(), (self, other))  # type: ignore[no-any-return]

    def __lt__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(Less(), (self, other))  # type: ignore[no-any-return]

    def __le__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(LessEqual(), (self, other))  # type: ignore[no-any-return]

    def __gt__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(Greater(), (self, other))  # type: ignore[no-any-return]

    def __ge__(self: Any, other: Any) -> Tensor:
        return dispatch.dispatch(GreaterEqual(), (self, other))  # type: ignore[no-any-return]

    def __eq__(self: Any, other: Any) -> Tensor:  # type: ignore[override]
        return dispatch.dispatch(Equal(), (self, other))  # type: ignore[no-any-return]

    def __ne__(self: Any, other: Any) -> Tensor:  # type: ignore[override]
        return dispatch.dispatch(NotEqual(), (self, other))  # type: ignore[no-any-return]

    def __neg__(self: Any) -> Tensor:
        return dispatch.apply(_NEG, (self,))  # type: ignore[no-any-return]

    def __abs__(self: Any) -> Tensor:
        return dispatch.apply(Abs(), (self,))  # type: ignore[no-any-return]

    def __invert__(self: Any) -> Tensor:
        return dispatch.apply(BitwiseNot(), (self,))  # type: ignore[no-any-return]

    # ---- elementwise ----

    def abs(self: Any) -> Tensor:
        return ops.abs(self)

    def sign(self: Any) -> Tensor:
        return ops.sign(self)

    def exp(self: Any) -> Tensor:
        return ops.exp(self)

    def expm1(self: Any) -> Tensor:
        return ops.expm1(self)

    def log(self: Any) -> Tensor:
        return ops.log(self)

    def log1p(self: Any) -> Tensor:
        return ops.log1p(self)

    def sqrt(self: Any) -> Tensor:
        return ops.sqrt(self)

    def rsqrt(self: Any) -> Tensor:
        return ops.rsqrt(self)

    def reciprocal(self: Any) -> Tensor:
        return ops.reciprocal(self)

    def sin(self: Any) -> Tensor:
        return ops.sin(self)

    def cos(self: Any) -> Tensor:
        return ops.cos(self)

    def tan(self: Any) -> Tensor:
        return ops.tan(self)

    def tanh(self: Any) -> Tensor:
        return ops.tanh(self)

    def erf(self: Any) -> Tensor:
        return ops.erf(self)

    def sigmoid(self: Any) -> Tensor:
        return ops.sigmoid(self)

    def relu(self: Any) -> Tensor:
        return ops.relu(self)

    def silu(self: Any) -> Tensor:
        return ops.silu(self)

    def floor(self: Any) -> Tensor:
        return ops.floor(self)

    def ceil(self: Any) -> Tensor:
        return ops.ceil(self)

    def round(self: Any) -> Tensor:
        return ops.round(self)

    def isnan(self: Any) -> Tensor:
        return ops.isnan(self)

    def isfinite(self: Any) -> Tensor:
        return ops.isfinite(self)

    def logical_not(self: Any) -> Tensor:
        return ops.logical_not(self)

    def add(self: Any, other: Any) -> Tensor:
        return ops.add(self, other)

    def sub(self: Any, other: Any) -> Tensor:
        return ops.sub(self, other)

    def mul(self: Any, other: Any) -> Tensor:
        return ops.mul(self, other)

    def div(self: Any, other: Any) -> Tensor:
        return ops.div(self, other)

    def pow(self: Any, other: Any) -> Tensor:
        return ops.pow(self, other)

    def maximum(self: Any, other: Any) -> Tensor:
        return ops.maximum(self, other)

    def minimum(self: Any, other: Any) -> Tensor:
        return ops.minimum(self, other)

    def remainder(self: Any, other: Any) -> Tensor:
        return ops.remainder(self, other)

    def floor_divide(self: Any, other: Any) -> Tensor:
        return ops.floor_divide(self, other)

    def logical_and(self: Any, other: Any) -> Tensor:
        return ops.logical_and(self, other)

    def logical_or(self: Any, other: Any) -> Tensor:
        return ops.logical_or(self, other)

    def logical_xor(self: Any, other: Any) -> Tensor:
        return ops.logical_xor(self, other)

    def gelu(self: Any, approximate: str = "none") -> Tensor:
        return ops.gelu(self, approximate)

    def where(self: Any, x: Any, y: Any) -> Tensor:
        return ops.where(self, x, y)

    def clamp(self: Any, min: float | None = None, max: float | None = None) -> Tensor:
        return ops.clamp(self, min, max)

    def astype(self: Any, dtype: DTypeLike) -> Tensor:
        return ops.cast(self, dtype)

    # ---- reductions ----

    def sum(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis, keepdims)

    def mean(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis, keepdims)

    def prod(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.prod(self, axis, keepdims)

    def max(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis, keepdims)

    def min(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis, keepdims)

    def any(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.any(self, axis, keepdims)

    def all(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.all(self, axis, keepdims)

    def logsumexp(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.logsumexp(self, axis, keepdims)

    def var(self: Any, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
        return ops.var(self, axis, keepdims, correction)

    def argmax(self: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return ops.argmax(self, axis, keepdims)

    def argmin(self: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return ops.argmin(self, axis, keepdims)

    def cumsum(self: Any, axis: int = -1) -> Tensor:
        return ops.cumsum(self, axis)

    # ---- movement ----

    def reshape(self: Any, *shape: int | Sequence[int]) -> Tensor:
        return ops.reshape(self, *shape)

    def permute(self: Any, *axes: int | Sequence[int]) -> Tensor:
        return ops.permute(self, *axes)

    def expand(self: Any, *shape: int | Sequence[int]) -> Tensor:
        return ops.expand(self, *shape)

    def flip(self: Any, axis: int | Sequence[int] | None = None) -> Tensor:
        return ops.flip(self, axis)

    def contiguous(self: Any) -> Tensor:
        return ops.contiguous(self)

    def clone(self: Any) -> Tensor:
        return ops.clone(self)

    def pad(
        self: Any,
        before: Sequence[int],
        after: Sequence[int],
        value: float = 0.0,
        interior: Sequence[int] | None = None,
    ) -> Tensor:
        return ops.pad(self, before, after, value, interior)

    def repeat(self: Any, repeats: int, axis: int) -> Tensor:
        return ops.repeat(self, repeats, axis)

    def transpose(self: Any, axis0: int = -2, axis1: int = -1) -> Tensor:
        return ops.transpose(self, axis0, axis1)

    def squeeze(self: Any, axis: Axis = None) -> Tensor:
        return ops.squeeze(self, axis)

    def unsqueeze(self: Any, axis: int) -> Tensor:
        return ops.unsqueeze(self, axis)

    def flatten(self: Any, start: int = 0, end: int = -1) -> Tensor:
        return ops.flatten(self, start, end)

    def split(self: Any, size: int, axis: int = 0) -> tuple[Tensor, ...]:
        return ops.split(self, size, axis)

    @property
    def T(self: Any) -> Tensor:  # noqa: N802 - the Array API's name
        """All axes reversed."""
        return ops.permute(self, *reversed(range(self.ndim)))

    @property
    def mT(self: Any) -> Tensor:  # noqa: N802 - the Array API's name
        """The last two axes swapped."""
        return ops.transpose(self, -2, -1)

    # ---- indexing ----

    def take(self: Any, indices: Tensor, axis: int = 0) -> Tensor:
        return ops.take(self, indices, axis)

    def gather(self: Any, indices: Tensor, axis: int) -> Tensor:
        return ops.gather(self, indices, axis)

    def scatter_add(self: Any, indices: Tensor, source: Tensor, axis: int) -> Tensor:
        return ops.scatter_add(self, indices, source, axis)

    def tril(self: Any, diagonal: int = 0) -> Tensor:
        return ops.tril(self, diagonal)

    def triu(self: Any, diagonal: int = 0) -> Tensor:
        return ops.triu(self, diagonal)

    def sort(self: Any, axis: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
        return ops.sort(self, axis, descending)

    def topk(self: Any, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
        return ops.topk(self, k, axis)

    def one_hot(self: Any, classes: int) -> Tensor:
        return ops.one_hot(self, classes)

    def matmul(self: Any, other: Tensor) -> Tensor:
        return ops.matmul(self, other)

    def softmax(self: Any, axis: int = -1) -> Tensor:
        return ops.softmax(self, axis)

    def log_softmax(self: Any, axis: int = -1) -> Tensor:
        return ops.log_softmax(self, axis)


for _name, _method in vars(TensorMethods).items():
    if not _name.startswith("_") and _method.__doc__ is None:  # help(x.sum) says what ops.sum does
        _method.__doc__ = getattr(ops, "cast" if _name == "astype" else _name).__doc__

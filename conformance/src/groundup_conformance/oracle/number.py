"""Numbers that know how wrong a correct computation of them may be, and their own derivatives.

A `Number` is an array in float64, beside it a bound on what a correct device's value may differ
by: running error analysis (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, chapter
3). Every operation lets the bounds of its operands through, by the operation's slope, and adds what
the `Profile` allows it to add. `dtype` is the format in which a device holds the value, so that
`x * y` of float16 Numbers rounds to float16. Operations keep their operands, and `backpropagate`
walks back over them; it computes with Numbers too, so gradients bring bounds of their own.

`error` is None where a value is exact, as inputs are. It is infinite where nothing is promised of
what comes next: a device holds infinity where a value is beyond the range of its format, and a
formula that goes on from there may give NaN where another way to write it would not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import Final, TypeAlias

import numpy as np

from groundup.dtypes import DType
from groundup_conformance.budgets.profile import Profile
from groundup_conformance.budgets.units import FORMATS, Array, accumulator

Pull: TypeAlias = Callable[["Number"], Sequence["Number | None"]]
Operand: TypeAlias = "Number | float"
_order: Final = itertools.count()


class Number:
    """See the module. Operators need operands of one dtype, or Python numbers; shapes broadcast."""

    __slots__ = ("dtype", "error", "final", "fixed", "order", "parents", "profile", "pull", "value")

    def __init__(
        self,
        value: Array,
        dtype: DType,
        profile: Profile,
        error: Array | None = None,
        parents: Sequence[Number] = (),
        pull: Pull | None = None,
    ) -> None:
        self.value = value
        self.dtype = dtype
        self.profile = profile
        self.final = error  # the bound of this value as a result
        self.error = _beyond_range(value, dtype, error)  # and as an operand of what follows
        self.parents = parents
        self.pull = pull  # the gradient of this value -> those of the parents
        self.order = next(_order)
        self.fixed = False  # a constant, which wants no gradient

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the array."""
        shape: tuple[int, ...] = self.value.shape
        return shape

    @property
    def bound(self) -> Array:
        """`error`, as an array of this shape."""
        nothing = np.zeros(()) if self.error is None else self.error
        return np.broadcast_to(nothing, self.shape)

    def made(
        self,
        value: Array,
        through: Array | float,
        *parents: Number,
        pull: Pull,
        local: Array | float = 0.0,
    ) -> Number:
        """The result of an operation, in this Number's dtype.

        `through` is what the errors of its operands do to it, `local` what it adds itself.
        """
        return _made(self, value, (through, local), self.dtype, parents, pull)

    @property
    def budget(self) -> Array:
        """The bound of this value as a result, as an array of this shape."""
        nothing = np.zeros(()) if self.final is None else self.final
        return np.broadcast_to(nothing, self.shape)

    def rounding(self, value: Array, through: Array | float) -> Array:
        """Of a result of this dtype that errors of operands move by up to `through`.

        That may move it to where floats lie wider apart.
        """
        return self.profile.rounded(np.abs(value) + through, self.dtype)

    def constant(self, value: Array | float) -> Number:
        """An exact constant beside this Number, of its dtype."""
        found = Number(np.asarray(value, np.float64), self.dtype, self.profile)
        found.fixed = True
        return found

    def rounded_constant(self, value: Array | float) -> Number:
        """A constant that a device holds in this dtype, off by a rounding unless it fits."""
        found = self.constant(value)
        kept = found.value.astype(self.dtype.numpy).astype(np.float64)
        off = ~(kept == found.value) & np.isfinite(found.value)
        if off.any():
            local = np.where(off, self.profile.rounded(found.value, self.dtype), 0.0)
            found = inexact(found.value, local, self)
            found.fixed = True
        return found

    # ---- arithmetic ----

    def __add__(self, other: Operand) -> Number:
        y = self._beside(other)
        value = self.value + y.value
        through = _sum_of_errors(self, y)
        return self.made(
            value, through, self, y, pull=lambda g: (g.fitted(self), y.wanting(lambda: g)),
            local=self.rounding(value, through),
        )  # fmt: skip

    def __sub__(self, other: Operand) -> Number:
        y = self._beside(other)
        value = self.value - y.value
        through = _sum_of_errors(self, y)
        return self.made(
            value, through, self, y, pull=lambda g: (g.fitted(self), y.wanting(lambda: -g)),
            local=self.rounding(value, through),
        )  # fmt: skip

    def __mul__(self, other: Operand) -> Number:
        y = self._beside(other)
        value = self.value * y.value
        through = through_product(self, y)
        return self.made(
            value, through, self, y,
            pull=lambda g: (self.wanting(lambda: g * y), y.wanting(lambda: g * self)),
            local=self.rounding(value, through),
        )  # fmt: skip

    def __truediv__(self, other: Operand) -> Number:
        y = self._beside(other)
        value = self.value / y.value
        through: Array | float = 0.0
        if self.error is not None or y.error is not None:
            room = np.maximum(np.abs(y.value) - y.bound, 0)
            through = quotient_of((self.bound + scaled(value, y.error)), room)

        def pull(g: Number) -> tuple[Number | None, Number | None]:
            share = g / y
            return self.wanting(lambda: share), y.wanting(lambda: -share * out)

        local = self.profile.quotient(np.abs(value) + through, self.dtype)
        out = self.made(value, through, self, y, pull=pull, local=local)
        return out

    def __radd__(self, other: float) -> Number:
        return self + other

    def __rsub__(self, other: float) -> Number:
        return self._beside(other) - self

    def __rmul__(self, other: float) -> Number:
        return self * other

    def __rtruediv__(self, other: float) -> Number:
        return self._beside(other) / self

    def __neg__(self) -> Number:
        return self.made(-self.value, _or_zero(self.error), self, pull=lambda g: (-g,))

    def sum(self, axes: Sequence[int] | None = None, keepdims: bool = False) -> Number:
        """The sum over `axes` (None: all). 16-bit floats accumulate in float32 and round once."""
        chosen = tuple(range(self.value.ndim) if axes is None else axes)
        count = prod(self.shape[a] for a in chosen)
        kept = tuple(1 if a in chosen else n for a, n in enumerate(self.shape))
        value = self.value.sum(chosen, keepdims=keepdims)
        magnitude = np.abs(self.value).sum(chosen, keepdims=keepdims)
        exact = self.error is None
        through = 0.0 if exact else self.bound.sum(chosen, keepdims=keepdims)
        local = self.profile.summed(max(count - 1, 0), magnitude + through, self.dtype)
        if count > 1 and self.dtype.bits < 32:
            local = local + self.rounding(value, through + local)
        return self.made(
            value, through, self,
            pull=lambda g: (g.moved(lambda a: np.broadcast_to(a.reshape(kept), self.shape)),),
            local=local,
        )  # fmt: skip

    # ---- gradients ----

    def moved(self, function: Callable[[Array], Array]) -> Number:
        """Elements in other places, for gradients: no way back is kept."""
        error = None if self.error is None else function(self.bound)
        return Number(function(self.value), self.dtype, self.profile, error)

    def fitted(self, like: Number) -> Number:
        """This gradient, summed over the axes along which `like` was broadcast."""
        if self.shape == like.shape:
            return self
        new = len(self.shape) - len(like.shape)
        axes = [a for a, n in enumerate(self.shape) if a < new or like.shape[a - new] != n]
        return self.sum(axes).moved(lambda a: a.reshape(like.shape))

    def wanting(self, gradient: Callable[[], Number]) -> Number | None:
        """The gradient of this operand; constants want none."""
        return None if self.fixed else gradient().fitted(self)

    # ---- formats ----

    def to(self, dtype: DType) -> Number:
        """Rounded to another format; where that is wider, only renamed."""
        if dtype is self.dtype:
            return self
        local: Array | float = 0.0
        new, old = FORMATS[dtype], FORMATS[self.dtype]
        # A float16 has more digits than a bfloat16, but its subnormals are coarser.
        if new.fraction < old.fraction or new.lowest - new.fraction > old.lowest - old.fraction:
            local = self.profile.rounded(np.abs(self.value) + _or_zero(self.error), dtype)
        errors = _or_zero(self.error), local
        return _made(self, self.value, errors, dtype, (self,), lambda g: (g.to(self.dtype),))

    def wide(self) -> Number:
        """In the format that sums are kept in: float32 for the 16-bit floats."""
        return self.to(accumulator(self.dtype))

    def stored(self) -> Number:
        """The same, cut off from what it was made of: a result that a later op reads."""
        return Number(self.value, self.dtype, self.profile, self.error)

    def rounded(self) -> Array:
        """The value in its format, as an ideal device would hold it."""
        return self.value.astype(self.dtype.numpy)

    def _beside(self, other: Operand) -> Number:
        if not isinstance(other, Number):
            return self.rounded_constant(other)
        assert other.dtype is self.dtype, f"{self.dtype} beside {other.dtype}"
        return other


def leaf(array: Array, dtype: DType, profile: Profile) -> Number:
    """An input: exact, unless the profile lets a device flush its subnormals to zero."""
    value = array.astype(np.float64)
    return Number(value, dtype, profile, _flushed(value, dtype, profile))


def backpropagate(
    outputs: Sequence[Number], cotangents: Sequence[Number | None], inputs: Sequence[Number]
) -> tuple[Number | None, ...]:
    """Gradients of `inputs`, None where no output depends on one.

    Operations run in reverse order of their making, so each runs once, after all its uses.
    """
    found: dict[int, Number] = {}
    waiting: dict[int, Number] = {}
    for out, cotangent in zip(outputs, cotangents, strict=True):
        if cotangent is not None:
            _accumulate(found, waiting, out, cotangent)
    while waiting:
        node = waiting.pop(max(waiting))
        if node.pull is None:
            continue
        for parent, gradient in zip(node.parents, node.pull(found[node.order]), strict=True):
            if gradient is not None:
                _accumulate(found, waiting, parent, gradient)
    return tuple(found.get(x.order) for x in inputs)


def _accumulate(
    found: dict[int, Number], waiting: dict[int, Number], node: Number, gradient: Number
) -> None:
    before = found.get(node.order)
    found[node.order] = gradient if before is None else before + gradient
    waiting[node.order] = node


# ---- errors ----


def scaled(slope: Array | float, error: Array | None) -> Array | float:
    """|slope| error, where an exact value has no error however steep the slope."""
    if error is None:
        return 0.0
    return np.where(error == 0, 0.0, np.abs(slope) * error)


def quotient_of(error: Array, room: Array) -> Array:
    """error / room, 0 where there is no error."""
    return np.where(error == 0, 0.0, error / room)


def through_product(x: Number, y: Number) -> Array | float:
    """What the errors of two factors do to their product, the product of errors included."""
    both = 0.0 if x.error is None or y.error is None else scaled(x.error, y.error)
    return scaled(y.value, x.error) + scaled(x.value, y.error) + both


def _sum_of_errors(x: Number, y: Number) -> Array | float:
    return _or_zero(x.error) + _or_zero(y.error)


def _or_zero(error: Array | None) -> Array | float:
    return 0.0 if error is None else error


def inexact(
    value: Array, local: Array | float, beside: Number, through: Array | float = 0.0
) -> Number:
    """A result from which no way leads back, of the dtype and profile of `beside`."""
    return _made(beside, value, (through, local), beside.dtype, (), None)


def _made(
    beside: Number,
    value: Array,
    errors: tuple[Array | float, Array | float],
    dtype: DType,
    parents: Sequence[Number],
    pull: Pull | None,
) -> Number:
    """A result. Where it is not finite it has no error; flushing to zero adds one."""
    profile = beside.profile
    through, local = errors
    value, error = profile.settled(np.asarray(value, np.float64), through, local)
    flushed = _flushed(value, dtype, profile)
    if flushed is not None:
        error = error + flushed
    if isinstance(error, float) and error == 0:
        return Number(value, dtype, profile, None, parents, pull)
    error = np.where(np.isfinite(value), error, 0.0)
    error = np.where(np.isnan(error), np.inf, error)  # 0 times what may be infinite
    return Number(value, dtype, profile, error, parents, pull)


def _beyond_range(value: Array, dtype: DType, error: Array | None) -> Array | None:
    """Nothing is known of a finite value that the format cannot hold."""
    over = np.abs(value) >= FORMATS[dtype].overflow
    if not over.any():
        return error
    return np.where(over & np.isfinite(value), np.inf, 0.0 if error is None else error)


def _flushed(value: Array, dtype: DType, profile: Profile) -> Array | None:
    """The error of flushing subnormal numbers to zero, None where no element can be flushed."""
    if not profile.flushes:
        return None
    small = np.abs(value)
    small = np.where(small < FORMATS[dtype].smallest_normal, small, 0.0)
    return small if small.any() else None

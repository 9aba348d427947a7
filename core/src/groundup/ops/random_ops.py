"""Random numbers as pure functions of a state: random_bits, uniform, normal, dropout, categorical.

The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
1, 2, 3", SC 2011). A state is int32[4]: (seed low, seed high, draw low, draw high), each the bits
of an unsigned word. One state gives one draw of any size; `AdvanceState` gives the state of the
next draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from groundup import dtypes as dt
from groundup.dtypes import DType, DTypeLike, as_dtype
from groundup.errors import ConfigError, DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED, EXACT, transcendental
from groundup.ops.loss import wide
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make, Operand
from groundup.shapes import Shape

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["categorical", "dropout", "normal", "random_bits", "uniform"]

_UNIT: Final = 2.0**-24
STATES: Final = {
    "zero": (0, 0, 0, 0), "seeded": (1234, 0, 7, 0), "high": (-1, -1, -1, -1),
    "mixed": (-1540483477, 608135816, 3, -2052912941),
}  # fmt: skip


def check_state(op: str, state: Spec) -> None:
    """Raises ShapeError or DTypeError unless `state` is int32[4]."""
    if state.shape != (4,):
        raise ShapeError(f"{op}: state must be int32[4], got {state}")
    if state.dtype is not dt.int32:
        raise DTypeError(f"{op}: state must be int32[4], got {state}")


def sample_state(name: str = "seeded") -> Operand:
    """A state for samples."""
    return Operand(np.array(STATES[name], np.int32))


class Draw(Op):
    """What creates random tensors from a state alone."""

    shape: Shape
    differentiable = ()
    dtypes = (dt.int32,)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        op = next(cls.samples(make)).op
        yield BadCase(op, (make.ints(0, 9, 3),), ShapeError, "state must be int32[4]")
        yield BadCase(op, (make.of(dt.float32, 4),), DTypeError, "state must be int32[4]")


_SHAPES: Final[dict[str, Shape]] = {
    "matrix": (5, 7), "scalar": (), "one": (1,), "empty": (3, 0), "whole": (8,), "odd": (1023,),
    "blocks": (3, 40001),
}  # fmt: skip


class RandomBits(Draw, name="random_bits", family="random"):
    """32 random bits per element, as int32; the same on every backend.

    Element i (row-major) is word i % 4 of philox4x32_10(counter, key) with
    counter = (low word of i // 4, high word of i // 4, draw low, draw high),
    key = (seed low, seed high).
    """

    accuracy = EXACT

    def infer(self, state: Spec) -> Spec:
        check_state(self.name, state)
        return Spec(self.shape, dt.int32)

    def cost(self, state: Spec) -> Cost:
        size = self.infer(state).size
        return Cost(25 * size, 4 * size)  # ten rounds of ten operations make four words

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape in _SHAPES.items():
            yield Case(cls(shape=shape), (sample_state(),), name)
        for name in STATES:
            yield Case(cls(shape=(13,)), (sample_state(name),), f"state-{name}")
        strided = Operand(np.arange(8, dtype=np.int32), lambda s: s[::2])
        yield Case(cls(shape=(6,)), (strided,), "view", frozenset({"view"}))


class AdvanceState(Op, name="advance_state", family="random"):
    """The state of the next draw: the 64-bit draw counter grows by one."""

    aliases = {0: 0}  # noqa: RUF012
    accuracy = EXACT
    differentiable = ()
    dtypes = (dt.int32,)

    def infer(self, state: Spec) -> Spec:
        check_state(self.name, state)
        return state

    def compose(self, state: Tensor) -> Tensor:
        from groundup.ops.assembly import concat

        low = state[2:3] + 1
        high = state[3:4] + (low == 0).astype(dt.int32)
        return concat([state[0:2], low, high])

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name in STATES:
            yield Case(cls(), (sample_state(name),), name)
        yield Case(cls(), (Operand(np.array([5, 6, -1, 8], np.int32)),), "carry")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(), (make.ints(0, 9, 2, 2),), ShapeError, "state must be int32[4]")
        yield BadCase(cls(), (make.of(dt.float32, 4),), DTypeError, "state must be int32[4]")


def unit(bits: Tensor) -> Tensor:
    """float32 in [0, 1): the upper 24 bits times 2^-24, exact."""
    return upper(bits).astype(dt.float32) * _UNIT


def upper(bits: Tensor) -> Tensor:
    """The upper 24 of 32 bits as an int32 in [0, 2^24)."""
    return (bits >> 8) & 0xFFFFFF


class Uniform(Draw, name="uniform", family="random"):
    """u * (high - low) + low with u = (bits >> 8) * 2^-24, in [0, 1).

    Product and sum round separately in float32, and the result once more to `dtype`; by rounding,
    `high` itself may come out where the range is not [0, 1) or the dtype has 16 bits.
    """

    low: float = 0.0
    high: float = 1.0
    dtype: DType = dt.float32
    accuracy = EXACT

    def infer(self, state: Spec) -> Spec:
        check_state(self.name, state)
        return Spec(self.shape, self.dtype)

    def compose(self, state: Tensor) -> Tensor:
        u = unit(random_bits(state, self.shape))
        if (self.low, self.high) != (0.0, 1.0):
            u = u * (self.high - self.low) + self.low
        return u.astype(self.dtype)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape in _SHAPES.items():
            yield Case(cls(shape=shape), (sample_state(),), name)
        yield Case(cls(shape=(9, 5), low=-3.0, high=0.5), (sample_state(),), "range")
        for dtype in dt.FLOATS:
            yield Case(cls(shape=(65,), dtype=dtype), (sample_state("mixed"),), dtype.name)


class Normal(Draw, name="normal", family="random"):
    """Normal numbers by Box and Muller (1958), float32, rounded once to `dtype`.

    Of m = ceil(n / 2) pairs (a, b) of bits, a from the first m of one draw of 2m and b from the
    rest: r = sqrt(-2 ln(((a >> 8) + 1) 2^-24)), t = 2 pi ((b >> 8) 2^-24 - 1/2); the first m
    results are r cos t, the others r sin t; each times `std`, plus `mean`. |r| is at most 5.77.
    """

    mean: float = 0.0
    std: float = 1.0
    dtype: DType = dt.float32
    accuracy = transcendental(16)

    def infer(self, state: Spec) -> Spec:
        check_state(self.name, state)
        return Spec(self.shape, self.dtype)

    def compose(self, state: Tensor) -> Tensor:
        from groundup.ops.assembly import concat

        count = math.prod(self.shape)
        pairs = -(-count // 2)
        bits = random_bits(state, (2 * pairs,))
        radius = ((upper(bits[:pairs]) + 1).astype(dt.float32) * _UNIT).log() * -2.0
        angle = (unit(bits[pairs:]) - 0.5) * (2 * math.pi)
        radius = radius.sqrt()
        z = concat([radius * angle.cos(), radius * angle.sin()])[:count].reshape(self.shape)
        if (self.mean, self.std) != (0.0, 1.0):
            z = z * self.std + self.mean
        return z.astype(self.dtype)

    def cost(self, state: Spec) -> Cost:
        out = self.infer(state)
        return Cost(45 * out.size, out.nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape in _SHAPES.items():
            yield Case(cls(shape=shape), (sample_state(),), name)
        yield Case(cls(shape=(9, 5), mean=2.0, std=0.02), (sample_state(),), "scaled")
        for dtype in dt.FLOATS:
            yield Case(cls(shape=(65,), dtype=dtype), (sample_state("mixed"),), dtype.name)


class Dropout(Op, name="dropout", family="random"):
    """x / (1 - p) where bits >> 8 >= round(p * 2^24), else 0. (Srivastava et al., 2014)

    The bits are `random_bits` of x's shape. The gradient is dropout of the gradient with the same
    state, so no mask is kept. NaN and infinity are dropped like any other value.
    """

    p: float = 0.5
    saves = ("state",)
    accuracy = COMPOSED

    @property
    def threshold(self) -> int:
        """Elements whose upper 24 bits lie below this are dropped."""
        return threshold(self.p)

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by."""
        return 1.0 / (1.0 - self.p) if self.p < 1 else 0.0

    def infer(self, x: Spec, state: Spec) -> Spec:
        check_state(self.name, state)
        if not x.dtype.is_floating:
            raise DTypeError(f"dropout: x must be floating, got {x}")
        if not 0 <= self.p <= 1:
            raise ConfigError(f"dropout: p must lie in [0, 1], got {self.p}")
        return x

    def compose(self, x: Tensor, state: Tensor) -> Tensor:
        keep = upper(random_bits(state, x.shape)) >= self.threshold
        scaled = x.astype(wide(x.dtype)) * self.scale
        return keep.where(scaled, 0).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor, None]:
        (state,) = ctx.saved
        return self(grad, state), None

    def cost(self, x: Spec, state: Spec) -> Cost:
        return Cost(27 * x.size, 2 * x.nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape in _SHAPES.items():
            yield Case(cls(p=0.25), (make.normal(*shape), sample_state()), name)
        for p in (0.0, 0.1, 1.0):
            yield Case(cls(p=p), (make.normal(6, 9), sample_state("mixed")), f"p-{p}")
        views = (make.normal(5, 12, view=lambda x: x[:, ::3].mT), sample_state())
        yield Case(cls(p=0.5), views, "view", frozenset({"view"}))
        special = (make.values([np.nan, np.inf, -np.inf, 0.0] * 4), sample_state())
        yield Case(cls(p=0.5), special, "special", frozenset({"nan", "special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x, short = make.normal(3), make.ints(0, 9, 3)
        yield BadCase(cls(), (x, short), ShapeError, "state must be int32[4]")
        yield BadCase(cls(), (make.of(dt.int32, 3), sample_state()), DTypeError, "must be floating")
        yield BadCase(cls(p=1.5), (x, sample_state()), ConfigError, "p must lie in [0, 1]")


def threshold(p: float) -> int:
    """The 24-bit number that random bits are compared with, so that a share p lies below it."""
    return round(p * 2**24)


class Categorical(Op, name="categorical", family="random"):
    """One id per row of logits (..., C), drawn with probability softmax(logits); int32 (...).

    The Gumbel-max trick (Gumbel, 1954): argmax of logits - ln(-ln u),
    u = ((bits >> 9) + 1/2) 2^-23, in float32. An id whose logit is -inf is never drawn unless all
    are; a NaN logit wins.
    """

    accuracy = EXACT
    differentiable = ()

    def infer(self, logits: Spec, state: Spec) -> Spec:
        check_state(self.name, state)
        if not logits.rank or not logits.shape[-1]:
            raise ShapeError(f"categorical: logits must be (..., C) with C >= 1, got {logits}")
        if not logits.dtype.is_floating:
            raise DTypeError(f"categorical: logits must be floating, got {logits}")
        return Spec(logits.shape[:-1], dt.int32)

    def compose(self, logits: Tensor, state: Tensor) -> Tensor:
        bits = (random_bits(state, logits.shape) >> 9) & 0x7FFFFF
        u = (bits.astype(dt.float32) + 0.5) * 2.0**-23
        gumbel = -(-u.log()).log()
        return (logits.astype(dt.float32) + gumbel).argmax(axis=-1)

    def cost(self, logits: Spec, state: Spec) -> Cost:
        return Cost(45 * logits.size, logits.nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape in (
            ("matrix", (5, 7)), ("vector", (50,)), ("one-class", (4, 1)), ("batched", (2, 3, 5)),
            ("empty", (0, 3)), ("odd", (3, 1023)),
        ):  # fmt: skip
            yield Case(cls(), (make.normal(*shape, scale=2.0), sample_state()), name)
        masked = make.values([[-np.inf, 0, -np.inf], [0, -np.inf, -np.inf], [np.nan, 0, 0]])
        yield Case(cls(), (masked, sample_state()), "special", frozenset({"nan", "special"}))
        state = Operand(np.array([75465, 0, 0, 0], np.int32))  # its first word is 334: almost 0
        for name, logit in (("least-noise", 10), ("least-noise-beaten", 6.4)):
            likely = make.values([[logit, 0, 0, 0]])
            yield Case(cls(), (likely, state), name, frozenset({"special"}))
        views = (make.normal(6, 8, view=lambda x: x[:, ::2].mT), sample_state())
        yield Case(cls(), views, "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(), (make.normal(), sample_state()), ShapeError, "must be (..., C)")
        yield BadCase(cls(), (make.of(dt.int32, 3), sample_state()), DTypeError, "must be floating")
        short = (make.normal(3), make.ints(0, 9, 3))
        yield BadCase(cls(), short, ShapeError, "state must be int32[4]")


def random_bits(state: Tensor, shape: Sequence[int]) -> Tensor:
    """int32 of random bits. Raises ShapeError or DTypeError unless `state` is int32[4]."""
    return RandomBits(shape=tuple(shape))(state)


def uniform(
    state: Tensor,
    shape: Sequence[int],
    low: float = 0.0,
    high: float = 1.0,
    dtype: DTypeLike = dt.float32,
) -> Tensor:
    """Uniform numbers in [low, high). Raises ShapeError, DTypeError."""
    kind = _floating("uniform", dtype)
    return Uniform(shape=tuple(shape), low=float(low), high=float(high), dtype=kind)(state)


def normal(
    state: Tensor,
    shape: Sequence[int],
    mean: float = 0.0,
    std: float = 1.0,
    dtype: DTypeLike = dt.float32,
) -> Tensor:
    """Normal numbers of that mean and standard deviation. Raises ShapeError, DTypeError."""
    kind = _floating("normal", dtype)
    return Normal(shape=tuple(shape), mean=float(mean), std=float(std), dtype=kind)(state)


def dropout(x: Tensor, state: Tensor, p: float = 0.5) -> Tensor:
    """x with a share p of its elements 0 and the others times 1 / (1 - p).

    Raises ConfigError unless 0 <= p <= 1, DTypeError unless x is floating.
    """
    return Dropout(p=float(p))(x, state)


def categorical(logits: Tensor, state: Tensor) -> Tensor:
    """int32 ids drawn from softmax(logits) over the last axis. Raises ShapeError, DTypeError."""
    return Categorical()(logits, state)


def _floating(op: str, dtype: DTypeLike) -> DType:
    kind = as_dtype(dtype)
    if not kind.is_floating:
        raise DTypeError(f"{op}: dtype must be floating, got {kind}")
    return kind

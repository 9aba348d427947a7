"""What decoding adds to attention: reading a key-value cache, and rotary positions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from groundup import dtypes as dt
from groundup.errors import ConfigError, DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED
from groundup.ops.attention import ScaledDotProductAttention, default_scale, heads_first
from groundup.ops.filling import positions
from groundup.ops.loss import wide
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make, Operand

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["cached_attention", "rotary_embedding"]


class CachedAttention(Op, name="cached_attention", family="attention"):
    """Attention of the newest T queries over a cache of which `length` positions are filled.

    q (B, H, T, D), k_cache (B, G, S, D), v_cache (B, G, S, E), length int32 of one number, give
    (B, H, T, E). The cache already holds the queries' own keys: query i stands at position
    length - T + i and sees all positions up to its own. What lies behind `length` is never seen.
    """

    scale: float
    accuracy = COMPOSED
    saves = ("q", "k_cache", "v_cache", "length")

    def infer(self, q: Spec, k_cache: Spec, v_cache: Spec, length: Spec) -> Spec:
        heads_first(self.name, q, k_cache, v_cache)
        if length.size != 1:
            raise ShapeError(f"cached_attention: length must be one number, got {length}")
        if length.dtype is not dt.int32:
            raise DTypeError(f"cached_attention: length must be int32, got {length}")
        return Spec((*q.shape[:3], v_cache.shape[3]), q.dtype)

    def compose(self, q: Tensor, k_cache: Tensor, v_cache: Tensor, length: Tensor) -> Tensor:
        T, S = q.shape[2], k_cache.shape[2]
        last = positions(length, T) + (length.reshape(1) - T)
        seen = positions(length, S) <= last.unsqueeze(1)
        op = ScaledDotProductAttention(scale=self.scale, masked=True)
        # Unfilled memory may hold NaN, and 0 * NaN would reach the sum.
        filled = (positions(length, S) < length.reshape(1)).reshape(S, 1)
        return op.many(q, k_cache, filled.where(v_cache, 0), seen)[0]

    def cost(self, q: Spec, k_cache: Spec, v_cache: Spec, length: Spec) -> Cost:
        out = self.infer(q, k_cache, v_cache, length)
        pairs = q.size // max(q.shape[3], 1) * k_cache.shape[2]
        moved = q.nbytes + k_cache.nbytes + v_cache.nbytes + out.nbytes
        return Cost(2 * pairs * (q.shape[3] + v_cache.shape[3]), moved)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, (B, H, G, T, S, D), length in (
            ("one", (1, 1, 1, 1, 1, 1), 1), ("step", (2, 4, 4, 1, 9, 8), 6),
            ("full", (2, 4, 4, 1, 9, 8), 9), ("prefill", (1, 2, 2, 5, 9, 4), 5),
            ("chunk", (1, 2, 2, 3, 9, 4), 7), ("grouped", (2, 6, 2, 2, 33, 4), 20),
            ("nothing-yet", (1, 2, 1, 1, 5, 4), 0), ("empty", (0, 2, 2, 1, 5, 4), 3),
            ("short", (1, 2, 1, 4, 5, 4), 2),  # the first queries stand before the first position
        ):  # fmt: skip
            inputs = (make.normal(B, H, T, D), make.normal(B, G, S, D), make.normal(B, G, S, D))
            count = Operand(np.asarray(np.int32(length)))
            yield Case(cls(scale=0.5), (*inputs, count), name, frozenset({"empty"} & {name}))
        unfilled = np.full((1, 1, 4, 2), np.nan)
        unfilled[:, :, :2] = 0.5
        junk = (make.normal(1, 1, 1, 2), make.values(unfilled), make.values(unfilled))
        count = Operand(np.asarray(np.int32(2)))
        yield Case(cls(scale=0.5), (*junk, count), "unfilled", frozenset({"special"}))
        turned = [make.normal(2, 2, 4, n, view=lambda x: x.mT) for n in (1, 7, 7)]
        yield Case(cls(scale=0.5), (*turned, count), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        op, q = cls(scale=1.0), make.normal(1, 2, 1, 4)
        yield BadCase(op, (q, q, q, make.ints(0, 1, 2)), ShapeError, "length must be one number")
        yield BadCase(op, (q, q, q, make.of(dt.float32)), DTypeError, "length must be int32")
        flat = make.normal(1, 2, 4)
        yield BadCase(op, (q, q, flat, make.ints(0, 1)), ShapeError, "(batch, heads")


class RotaryEmbedding(Op, name="rotary_embedding", family="attention"):
    """Pairs (x[i], x[i + D/2]) turned by the angle position * theta^(-2i / D) (Su et al., 2021).

    x (..., T, D) with even D, positions integers (T,). Halves are paired as in Hugging Face's
    Llama. `inverse` turns back, which is the gradient. Computed in float32 for 16-bit floats.
    """

    theta: float = 10000.0
    inverse: bool = False
    accuracy = COMPOSED
    saves = ("positions",)

    def infer(self, x: Spec, positions: Spec) -> Spec:
        if x.rank < 2 or x.shape[-1] % 2 or positions.shape != x.shape[-2:-1]:
            raise ShapeError(
                f"rotary_embedding: x must be (..., T, even D) and positions (T,), "
                f"got {x} and {positions}"
            )
        if positions.dtype.kind != "int":
            raise DTypeError(f"rotary_embedding: positions must be integers, got {positions}")
        if not x.dtype.is_floating:
            raise DTypeError(f"rotary_embedding: x must be floating, got {x}")
        if not self.theta > 0:
            raise ConfigError(f"rotary_embedding: theta must be positive, got {self.theta}")
        return x

    def compose(self, x: Tensor, positions: Tensor) -> Tensor:
        from groundup.ops.assembly import concat

        kind, half = wide(x.dtype), x.shape[-1] // 2
        angle = self.angles(positions.astype(kind), half)
        cos, sin = angle.cos(), angle.sin() * (-1.0 if self.inverse else 1.0)
        first, second = x[..., :half].astype(kind), x[..., half:].astype(kind)
        turned = concat([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return turned.astype(x.dtype)

    def angles(self, at: Tensor, half: int) -> Tensor:
        """(T, D / 2), in the dtype of `at`."""
        powers = positions(at, half).astype(at.dtype) * (-math.log(self.theta) / max(half, 1))
        return at.unsqueeze(-1) * powers.exp()

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor, None]:
        (at,) = ctx.saved
        return RotaryEmbedding(theta=self.theta, inverse=not self.inverse)(grad, at), None

    def cost(self, x: Spec, positions: Spec) -> Cost:
        return Cost(3 * x.size, 2 * x.nbytes + positions.nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape in (
            ("heads", (2, 3, 5, 8)), ("matrix", (4, 6)), ("one", (1, 2)), ("empty", (2, 0, 4)),
            ("odd", (33, 10)),
        ):  # fmt: skip
            at = Operand(np.arange(3, 3 + shape[-2], dtype=np.int32))
            yield Case(cls(), (make.normal(*shape), at), name, frozenset({"empty"} & {name}))
        at = Operand(np.array([0, 7, 2], np.int64))
        yield Case(cls(theta=500.0, inverse=True), (make.normal(2, 3, 4), at), "inverse")
        view = make.normal(2, 3, 4, 4, view=lambda x: x[:, ::2].mT)
        yield Case(cls(), (view, make.ints(0, 9, 4)), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(), (make.normal(3, 5), make.ints(0, 9, 3)), ShapeError, "even D")
        yield BadCase(cls(), (make.normal(3, 4), make.ints(0, 9, 2)), ShapeError, "positions (T,)")
        floats = (make.normal(3, 4), make.normal(3))
        yield BadCase(cls(), floats, DTypeError, "positions must be integers")


def cached_attention(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, length: Tensor, scale: float | None = None
) -> Tensor:
    """Attention of the newest queries over the first `length` positions of a cache.

    q (B, H, T, D), caches (B, G, S, D), length 0-d int32, counting the queries' own positions.
    `scale` is 1 / sqrt(D) by default. Raises ShapeError, DTypeError.
    """
    op = CachedAttention(scale=default_scale(q) if scale is None else float(scale))
    return op(q, k_cache, v_cache, length)


def rotary_embedding(x: Tensor, positions: Tensor, theta: float = 10000.0) -> Tensor:
    """x (..., T, D) with its halves turned by positions (T,). Raises ShapeError, DTypeError."""
    return RotaryEmbedding(theta=float(theta))(x, positions)

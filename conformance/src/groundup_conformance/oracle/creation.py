"""References of tensors from nothing, and of random numbers from a state.

Random bits are those of Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as
easy as 1, 2, 3", SC 2011): ten rounds of two 32 x 32 bit products.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from groundup import dtypes as dt
from groundup.shapes import Shape
from groundup_conformance.budgets.profile import Profile
from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle import functions as f
from groundup_conformance.oracle.moves import concat, reshape, select, where
from groundup_conformance.oracle.number import Number, leaf
from groundup_conformance.oracle.ordering import first_largest
from groundup_conformance.oracle.registry import Undecided, created, exact, moves, reference

_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)  # what the key grows by: golden ratio, sqrt(3) - 1
_MASK: Final = 0xFFFFFFFF


@moves("full")
def _full(op: Any) -> Array:
    return np.full(op.shape, op.value, op.dtype.numpy)


@created("arange")
def _arange(op: Any, profile: Profile) -> Number | Array:
    """start + i step, exactly, and then rounded to the dtype."""
    places = np.arange(op.count)
    if not op.dtype.is_floating:
        return (int(op.start) + places * int(op.step)).astype(op.dtype.numpy)
    values = op.start + places * float(op.step)
    return Number(values, op.dtype, profile, profile.rounded(values, op.dtype))


# ---- bits ----


def philox(counter: Array, key: tuple[int, int]) -> Array:
    """Philox4x32-10 of counters (n, 4) of 32-bit words as uint64, and one key: (n, 4)."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        first, second = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c2 = _high(second) ^ c1 ^ np.uint64(k0), _high(first) ^ c3 ^ np.uint64(k1)
        c1, c3 = _low(second), _low(first)
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return np.stack([c0, c1, c2, c3], axis=1)


def random_words(state: Array, count: int) -> Array:
    """`count` words of 32 bits, as int64 from 0: the draw that a state int32[4] stands for."""
    seed_low, seed_high, draw_low, draw_high = (int(word) & _MASK for word in state)
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    counter = np.empty((len(blocks), 4), np.uint64)
    counter[:, 0], counter[:, 1] = _low(blocks), _high(blocks)
    counter[:, 2], counter[:, 3] = draw_low, draw_high
    return philox(counter, (seed_low, seed_high)).reshape(-1)[:count].astype(np.int64)


def _high(words: Array) -> Array:
    return words >> np.uint64(32)


def _low(words: Array) -> Array:
    return words & np.uint64(_MASK)


def _upper(state: Array, shape: Shape) -> Array:
    """The upper 24 bits of each word."""
    return random_words(state, math.prod(shape)).reshape(shape) >> 8


@exact("random_bits")
def _random_bits(op: Any, state: Array) -> Array:
    words = random_words(state, math.prod(op.shape))
    return words.astype(np.uint32).view(np.int32).reshape(op.shape)


@exact("advance_state")
def _advance_state(op: Any, state: Array) -> Array:
    """The 64-bit draw counter in the last two words grows by one."""
    low, high = int(state[2]) & _MASK, int(state[3]) & _MASK
    draw = ((high << 32 | low) + 1) % (1 << 64)
    words = np.array([*(int(w) & _MASK for w in state[:2]), draw & _MASK, draw >> 32], np.uint64)
    return words.astype(np.uint32).view(np.int32)


# ---- distributions ----


@created("uniform")
def _uniform(op: Any, profile: Profile, state: Array) -> Number:
    """u (high - low) + low with u in [0, 1) of 24 bits; product and sum each round in float32.

    Where a device rounds to nearest, that leaves one result, and the budget is 0.
    """
    u = (_upper(state, op.shape) * 2.0**-24).astype(np.float32)
    result, scaled = u, u
    if (op.low, op.high) != (0.0, 1.0):
        scaled = u * np.float32(op.high - op.low)
        result = scaled + np.float32(op.low)
    value = result.astype(op.dtype.numpy).astype(np.float64)
    if profile.rounded_ulp <= 0.5:
        return Number(value, op.dtype, profile)
    error = profile.rounded(value, op.dtype)
    if result is not u:
        error = error + profile.rounded(scaled, dt.float32) + profile.rounded(result, dt.float32)
    return Number(value, op.dtype, profile, error)


@created("normal")
def _normal(op: Any, profile: Profile, state: Array) -> Number:
    """Box and Muller (1958): r cos t and r sin t from pairs of uniform numbers, in float32."""
    count = math.prod(op.shape)
    pairs = -(-count // 2)
    upper = _upper(state, (2 * pairs,))
    first = leaf((upper[:pairs] + 1) * 2.0**-24, dt.float32, profile)
    turn = leaf(upper[pairs:] * 2.0**-24 - 0.5, dt.float32, profile)
    radius, angle = f.sqrt(f.log(first) * -2.0), turn * (2 * math.pi)
    drawn = concat([radius * f.cos(angle), radius * f.sin(angle)], 0)
    z = reshape(select(lambda a: a[:count], drawn), op.shape)
    if (op.mean, op.std) != (0.0, 1.0):
        z = z * op.std + op.mean
    return z.to(op.dtype)


@reference("dropout")
def _dropout(op: Any, x: Number, state: Array) -> Number:
    """x / (1 - p) where the upper 24 bits reach p 2^24, else 0, whatever x is."""
    return dropped(x.wide(), state, op.p).to(x.dtype)


def dropped(x: Number, state: Array, p: float) -> Number:
    """Dropout in the dtype of x."""
    keep = _upper(state, x.shape) >= round(p * 2**24)
    scaled = x * (1 / (1 - p) if p < 1 else 0.0)
    return where(keep, scaled, x.constant(0.0))


@reference("categorical")
def _categorical(op: Any, logits: Number, state: Array) -> Undecided:
    """The largest of logits - ln(-ln u), in float32 (Gumbel, 1954)."""
    bits = random_words(state, math.prod(logits.shape)).reshape(logits.shape) >> 9
    u = leaf((bits + 0.5) * 2.0**-23, dt.float32, logits.profile)
    return first_largest(logits.to(dt.float32) - f.log(-f.log(u)))

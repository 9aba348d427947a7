"""Random numbers: Philox4x32-10 in blocks of counters, and what is made from its bits.

NumPy has no 32 x 32 -> 64 bit product, so words are kept in uint64 arrays. The two halves of a
round are the two rows of one array: half as many NumPy calls.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from groundup.ops.op import Op
from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import parallel

_FACTORS: Final = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
_WEYL: Final = np.array([[0x9E3779B9], [0xBB67AE85]], np.uint64)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_COUNTERS: Final = 8192  # of one block: its three arrays fit the second-level cache
_BLOCK: Final = 4 * _COUNTERS  # words of one block
_GRAIN: Final = 16384  # elements that are worth a thread
_UNIT: Final = np.float32(2.0**-24)


def bits_into(state: Array, start: int, out: Array) -> None:
    """Elements start, start + 1, ... of the draw `state` into the flat uint32 array `out`."""
    first, stop = start // 4, -(-(start + out.size) // 4)
    if start % 4 == 0 and out.size % 4 == 0:
        words_at(state, np.arange(first, stop, dtype=np.uint64), out.reshape(-1, 4))
        return
    whole = np.empty((stop - first, 4), np.uint32)
    words_at(state, np.arange(first, stop, dtype=np.uint64), whole)
    out[...] = whole.reshape(-1)[start % 4 :][: out.size]


def words_at(state: Array, counters: Array, out: Array) -> None:
    """The four words of each of `counters` as the rows of `out`, uint32."""
    seed_low, seed_high, draw_low, draw_high = (int(word) & 0xFFFFFFFF for word in state)
    key = np.array([[seed_low], [seed_high]], np.uint64)
    scratch = np.empty((3, 2, min(_COUNTERS, counters.size)), np.uint64)
    for low in range(0, counters.size, _COUNTERS):
        block = counters[low : low + _COUNTERS]
        even, odd, products = scratch[..., : block.size]
        np.bitwise_and(block, _LOW, even[0])
        np.right_shift(block, _HALF, odd[0])
        even[1], odd[1] = draw_low, draw_high
        philox(key, even, odd, products)
        target = out[low : low + _COUNTERS]
        for column, row in enumerate((even[0], odd[0], even[1], odd[1])):
            np.copyto(target[:, column], row, casting="unsafe")


def philox(key: Array, even: Array, odd: Array, products: Array) -> None:
    """Ten rounds in place: `even` holds words 0 and 2 of each counter, `odd` words 1 and 3."""
    for turn in range(10):
        np.multiply(even, _FACTORS, products)
        np.bitwise_xor(odd, (key + np.uint64(turn) * _WEYL) & _LOW, odd)
        np.right_shift(products[::-1], _HALF, even)
        np.bitwise_xor(even, odd, even)
        np.bitwise_and(products[::-1], _LOW, odd)


def threaded_bits(state: Array, out: Array) -> None:
    """A whole draw into the flat uint32 array `out`."""

    def work(start: int, stop: int) -> None:
        bits_into(state, start, out[start:stop])

    parallel(work, out.size, _GRAIN)


def _units(bits: Array) -> Array:
    """float32 in [0, 1) from uint32 bits, in place where it can."""
    np.right_shift(bits, 8, bits)
    return np.multiply(bits, _UNIT, dtype=np.float32, casting="unsafe")


@native("random_bits", params=("shape",), exact=True)
def random_bits(op: Op, state: Array, out: Array) -> None:
    threaded_bits(state, out.reshape(-1).view(np.uint32))


@native("advance_state", in_place=True, exact=True)
def advance_state(op: Op, state: Array, out: Array) -> None:
    low, high = (int(word) & 0xFFFFFFFF for word in state[2:])
    draw = (high << 32 | low) + 1
    out[:2] = state[:2]
    out[2:] = np.array([draw & 0xFFFFFFFF, draw >> 32 & 0xFFFFFFFF], np.uint32).view(np.int32)


@native("uniform", params=("shape", "low", "high", "dtype"), exact=True)
def uniform(op: Any, state: Array, out: Array) -> None:
    flat = out.reshape(-1)

    def work(start: int, stop: int) -> None:
        bits = np.empty(min(_BLOCK, stop - start), np.uint32)
        for low in range(start, stop, _BLOCK):
            part = bits[: min(_BLOCK, stop - low)]
            bits_into(state, low, part)
            u = _units(part)
            if (op.low, op.high) != (0.0, 1.0):
                u *= np.float32(op.high - op.low)
                u += np.float32(op.low)
            flat[low : low + u.size] = u

    parallel(work, flat.size, _GRAIN)


@native("normal", params=("shape", "mean", "std", "dtype"), exact=True)
def normal(op: Any, state: Array, out: Array) -> None:
    flat = out.reshape(-1)
    pairs = -(-flat.size // 2)

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, _BLOCK):
            high = min(low + _BLOCK, stop)
            cos, sin = _box_muller(op, state, (low, high), pairs)
            flat[low:high] = cos
            rest = flat[pairs + low : pairs + high]
            rest[...] = sin[: rest.size]

    parallel(work, pairs, _GRAIN)


def _box_muller(op: Any, state: Array, span: tuple[int, int], pairs: int) -> tuple[Array, Array]:
    low, high = span
    bits = np.empty((2, high - low), np.uint32)
    bits_into(state, low, bits[0])
    bits_into(state, pairs + low, bits[1])
    np.right_shift(bits, 8, bits)
    radius = np.multiply(bits[0] + 1, _UNIT, dtype=np.float32, casting="unsafe")
    np.log(radius, radius)
    radius *= np.float32(-2)
    np.sqrt(radius, radius)
    angle = np.multiply(bits[1], _UNIT, dtype=np.float32, casting="unsafe")
    angle -= np.float32(0.5)
    angle *= np.float32(2 * math.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    for part in (cos, sin):
        part *= radius
        if (op.mean, op.std) != (0.0, 1.0):
            part *= np.float32(op.std)
            part += np.float32(op.mean)
    return cos, sin


@native("dropout", params=("p",))
def dropout(op: Any, x: Array, state: Array, out: Array) -> None:
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    source, target = x.reshape(-1), out.reshape(-1)
    scale = x.dtype.type(op.scale)

    def work(start: int, stop: int) -> None:
        bits = np.empty(min(_BLOCK, stop - start), np.uint32)
        for low in range(start, stop, _BLOCK):
            part = bits[: min(_BLOCK, stop - low)]
            bits_into(state, low, part)
            span = slice(low, low + part.size)
            np.multiply(source[span], scale, target[span])
            np.copyto(target[span], 0, where=below(part, op.threshold))

    parallel(work, source.size, _GRAIN)


def below(bits: Array, threshold: int) -> Array:
    """Where the upper 24 bits lie below the threshold."""
    if threshold == 2**24:
        return np.ones(bits.shape, np.bool_)
    return np.less(bits, np.uint32(threshold << 8))


@native("categorical")
def categorical(op: Op, logits: Array, state: Array, out: Array) -> None:
    bits = np.empty(logits.size, np.uint32)
    threaded_bits(state, bits)
    np.right_shift(bits, 9, bits)
    noise = bits.astype(np.float32)
    noise += np.float32(0.5)
    noise *= np.float32(2.0**-23)
    for _ in range(2):  # -ln(-ln u)
        np.log(noise, noise)
        np.negative(noise, noise)
    scores = noise.reshape(logits.shape)
    scores += logits.astype(np.float32, copy=False)
    out[...] = scores.argmax(-1)

"""Random numbers: Philox4x32-10 in blocks of counters, and what is made from its bits.

NumPy has no 32 x 32 -> 64 bit product, so the words are kept in uint64 arrays.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from groundup.ops.op import Op
from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import parallel

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_BLOCK: Final = 2048  # counters: six uint64 arrays of this size and the output fit 256 KiB
_UNIT: Final = np.float32(2.0**-24)


def bits_into(state: Array, start: int, out: Array) -> None:
    """Elements start, start + 1, ... of the draw `state` into the flat uint32 array `out`."""
    words = [int(word) & 0xFFFFFFFF for word in state]
    scratch = np.empty((6, _BLOCK), np.uint64)
    first, stop = start // 4, -(-(start + out.size) // 4)
    for low in range(first, stop, _BLOCK):
        high = min(low + _BLOCK, stop)
        block = philox(words, low, scratch[:, : high - low])
        skip = max(start - 4 * low, 0)
        target = out[4 * low + skip - start :][: 4 * (high - low) - skip]
        if target.size == 4 * (high - low):
            np.copyto(target.reshape(-1, 4), block.T, casting="unsafe")
        else:
            target[...] = block.T.reshape(-1)[skip : skip + target.size]


def philox(words: list[int], first: int, scratch: Array) -> Array:
    """Ten rounds on the counters first, first + 1, ...: their four words as the rows of an array."""
    x0, x1, x2, x3, p0, p1 = scratch
    x0[:] = np.arange(first, first + x0.size, dtype=np.uint64)
    np.right_shift(x0, _32, x1)
    np.bitwise_and(x0, _LOW, x0)
    x2.fill(words[2])
    x3.fill(words[3])
    key0, key1 = words[0], words[1]
    for _ in range(10):
        np.multiply(x0, _M0, p0)
        np.multiply(x2, _M1, p1)
        np.right_shift(p1, _32, x0)
        np.bitwise_xor(x0, x1, x0)
        np.bitwise_xor(x0, np.uint64(key0), x0)
        np.bitwise_and(p1, _LOW, x1)
        np.right_shift(p0, _32, x2)
        np.bitwise_xor(x2, x3, x2)
        np.bitwise_xor(x2, np.uint64(key1), x2)
        np.bitwise_and(p0, _LOW, x3)
        key0, key1 = (key0 + _W0) & 0xFFFFFFFF, (key1 + _W1) & 0xFFFFFFFF
    return scratch[:4]


def threaded_bits(state: Array, out: Array) -> None:
    """A whole draw into the flat uint32 array `out`."""

    def work(start: int, stop: int) -> None:
        bits_into(state, start, out[start:stop])

    parallel(work, out.size, 4 * _BLOCK)


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
        bits = np.empty(min(4 * _BLOCK, stop - start), np.uint32)
        for low in range(start, stop, 4 * _BLOCK):
            part = bits[: min(4 * _BLOCK, stop - low)]
            bits_into(state, low, part)
            u = _units(part)
            if (op.low, op.high) != (0.0, 1.0):
                u *= np.float32(op.high - op.low)
                u += np.float32(op.low)
            flat[low : low + u.size] = u

    parallel(work, flat.size, 4 * _BLOCK)


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

    parallel(work, pairs, _BLOCK)


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
        bits = np.empty(min(4 * _BLOCK, stop - start), np.uint32)
        for low in range(start, stop, 4 * _BLOCK):
            part = bits[: min(4 * _BLOCK, stop - low)]
            bits_into(state, low, part)
            span = slice(low, low + part.size)
            np.multiply(source[span], scale, target[span])
            np.copyto(target[span], 0, where=dropped(part, op.threshold))

    parallel(work, source.size, 4 * _BLOCK)


def dropped(bits: Array, threshold: int) -> Array:
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

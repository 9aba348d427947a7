"""Random numbers: bits of other counters, halves of words, states that are not read."""

from __future__ import annotations

from typing import Final

import numpy as np

from groundup.ops.random_ops import RandomBits
from groundup_conformance.budgets.units import Array
from groundup_conformance.selftest.planting import Call, compute, kernel

_BLOCK: Final = 65536  # elements that one workgroup makes


def bits(call: Call, count: int) -> Array:
    """The first `count` words of the draw, uint32."""
    [found] = compute(call.device, RandomBits(shape=(count,)), [call.inputs[-1]])
    return found.view(np.uint32)


@kernel("random_bits", "random_bits[int32,*]")
def one_word_of_each_counter(call: Call) -> None:
    """Element i is the first word of counter i: three of four words are thrown away."""
    call.fill(bits(call, 4 * call.out.size)[::4].view(np.int32).reshape(call.out.shape))


@kernel("random_bits", "random_bits[*blocks*] l2_random[*100001*]", ops="random_bits", level=2)
def every_block_starts_at_counter_0(call: Call) -> None:
    """Each workgroup begins the stream anew instead of at its own offset."""
    call.fill(np.resize(call.right()[0].reshape(-1)[:_BLOCK], call.out.shape))


@kernel("random_bits", "random_bits[*state-high*] random_bits[*state-mixed*]")
def upper_half_of_the_seed_ignored(call: Call) -> None:
    """Seeds that differ above bit 31 give the same numbers."""
    state = np.array(call.x)
    state[1] = 0
    call.fill(*call.right(state))


@kernel("uniform", "uniform[*]")
def uniform_of_the_lower_bits(call: Call) -> None:
    """The lower 24 bits of each word instead of the upper."""
    u = (bits(call, call.out.size) & np.uint32(0xFFFFFF)) * np.float32(2.0**-24)
    u = u * np.float32(call.op.high - call.op.low) + np.float32(call.op.low)
    call.fill(u.reshape(call.out.shape))


@kernel("uniform", "uniform[int32,odd,*]")
def uniform_reaches_1(call: Call) -> None:
    """Bits are divided by 2^24 - 1: numbers are 6e-8 too large, and may be 1."""
    u = (bits(call, call.out.size) >> np.uint32(8)) / np.float64(2**24 - 1)
    u = u * (call.op.high - call.op.low) + call.op.low
    call.fill(u.reshape(call.out.shape))


@kernel("normal", "normal[int32,*]")
def normal_without_its_sines(call: Call) -> None:
    """Box and Muller's cosines are used twice, their sines not at all."""
    flat = np.array(call.right()[0]).reshape(-1)
    half = flat.size - flat.size // 2
    flat[half:] = flat[: flat.size - half]
    call.fill(flat.reshape(call.out.shape))


@kernel("dropout", "dropout[float32,*]")
def dropout_keeps_what_it_should_drop(call: Call) -> None:
    """p is taken for the probability of keeping."""
    x, op = call.x, call.op
    if op.p in (0.0, 1.0):
        call.fill(*call.right())
        return
    dropped = call.right()[0] == 0
    call.fill(np.where(dropped, x * np.asarray(1 / op.p, x.dtype), x.dtype.type(0)))


@kernel("dropout", "dropout[float32,*]")
def dropout_without_its_scale(call: Call) -> None:
    """What is kept is not divided by 1 - p."""
    [y] = call.right()
    call.fill(np.where(y == 0, y, call.x))


@kernel("advance_state", "advance_state[int32,carry,*]")
def counter_without_carry(call: Call) -> None:
    """After 2^32 draws the counter starts over."""
    state = np.array(call.x)
    with np.errstate(over="ignore"):
        state[2] += np.int32(1)
    call.fill(state)


@kernel("categorical", "categorical[float32,*]")
def categorical_takes_the_likeliest(call: Call) -> None:
    """The random state is not read: the most likely class always wins."""
    call.fill(call.x.argmax(-1) if call.out.size else call.out)


@kernel("dropout", "train[*,resume]", ops="-", level=3)
def dropout_counts_by_itself(call: Call) -> None:
    """Dropout adds a counter of the device's own, which no checkpoint holds."""
    kept = vars(call.device).setdefault("_planted_draws", [0])
    kept[0] += 1
    x, state = call.inputs
    state = np.array(state)
    state[3] += kept[0]
    call.fill(*call.right(x, state))

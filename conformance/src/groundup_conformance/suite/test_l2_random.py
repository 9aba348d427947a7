"""Level 2: random numbers. The bits of every draw are those of the core's definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import groundup
from groundup import dtypes
from groundup.backends.api import Device
from groundup.ops.op import Op
from groundup.ops.random_ops import Normal, RandomBits, Uniform
from groundup.random import Generator
from groundup_conformance.budgets import Profile
from groundup_conformance.oracle import forward
from groundup_conformance.session import Record

LEVEL = 2
_SEEDS = (0, 1, 2**31, 2**63 + 12345, 2**64 - 1)


def state(seed: int, draw: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """int32[4]: seed low and high, draw low and high."""
    return np.array([seed, draw], np.uint64).view(np.int32)


@pytest.mark.parametrize("seed", _SEEDS)
def test_draws(device: Device, seed: int) -> None:
    """A generator hands out one state after the other, and starts over when it is seeded."""
    generator = Generator(seed, device)
    for _ in range(2):
        for draw in range(3):
            np.testing.assert_array_equal(generator.draw().numpy(), state(seed, draw))
        generator.manual_seed(seed)


@pytest.mark.parametrize("op", [RandomBits, Uniform, Normal], ids=["bits", "uniform", "normal"])
@pytest.mark.parametrize("size", [1, 4, 1023, 100_001])
def test_numbers(
    device: Device, profile: Profile, record: Record, op: Callable[..., Op], size: int
) -> None:
    """Many numbers of one draw, and those of the next."""
    generator = Generator(7, device)
    for draw in range(2):
        instance = op(shape=(size,))
        got = instance(generator.draw()).numpy()
        [wanted] = forward(instance, [state(7, draw)], profile)
        verdict = wanted.judge(got)
        record(verdict.ratio, verdict.ulp)
        assert verdict.ok, verdict


def test_what_users_call(device: Device, profile: Profile) -> None:
    """`manual_seed` and `rand` draw from the same definition."""
    groundup.manual_seed(11)
    try:
        for draw in range(3):
            got = groundup.rand(5, 7, device=device).numpy()
            [wanted] = forward(
                Uniform(shape=(5, 7), dtype=dtypes.float32), [state(11, draw)], profile
            )
            verdict = wanted.judge(got)
            assert verdict.ok, verdict
    finally:
        groundup.manual_seed(0)

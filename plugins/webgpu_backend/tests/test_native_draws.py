"""Draws: the same numbers as on the cpu, the state changed where it is, few dispatches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.dispatch import update
from groundup.dtypes import float32
from groundup.layout import Layout
from groundup.ops.random_ops import AdvanceState, Normal, RandomBits, Uniform

STATE = np.array([3, -9, -1, 8], np.int32)
DRAWS = {
    "bits": (RandomBits(shape=(4099,)), 1),
    "unit": (Uniform(shape=(4099,)), 1),
    "range": (Uniform(shape=(4099,), low=-3.0, high=0.5), 2),
    "normal": (Normal(shape=(4099,), std=0.5, mean=2.0), 1),
}


@pytest.mark.parametrize("name", DRAWS)
def test_numbers(portable_device: Any, name: str) -> None:
    op, count = DRAWS[name]
    found, wanted = (op(g.from_numpy(STATE, device)) for device in (portable_device, "cpu"))
    if name == "normal":
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=2e-6)
    else:
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    layouts = [found._view.layout]
    state = g.from_numpy(STATE, portable_device)._view.layout
    assert len(portable_device.lowered(op, [state], layouts)) == count


def test_the_state_advances_where_it_is(portable_device: Any) -> None:
    state = g.from_numpy(STATE, portable_device)
    launches = portable_device.launches
    update(AdvanceState(), (state,))
    assert portable_device.launches - launches == 1
    assert state.tolist() == [3, -9, 0, 9]


def test_a_range_is_rounded_twice(portable_device: Any) -> None:
    """The product is in memory before the sum: no compiler can join them."""
    out = Layout((8,), (1,), float32)
    state = g.from_numpy(STATE, portable_device)._view.layout
    op = Uniform(shape=(8,), low=0.1, high=0.7)
    stretched, shifted = portable_device.lowered(op, [state], [out])
    assert stretched.scratch == 32
    assert [number for number, _ in shifted.operands] == [0, -1]

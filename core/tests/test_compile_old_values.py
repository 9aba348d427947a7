"""What a compiled function returns of state that it overwrites is what the state held before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import groundup as gu
from groundup.tensor import Tensor

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "whole": lambda s: s,
    "turned": lambda s: s.mT,
    "part": lambda s: s[:, 1:],
    "flat": lambda s: s.reshape(-1),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_copy_of_state_is_older_than_a_write(name: str) -> None:
    view = VIEWS[name]
    state = gu.tensor([[1.0, 2.0]])

    @gu.compile
    def step(x: Tensor) -> Tensor:
        old = view(state).clone()
        state.assign_(x)
        return old

    for number in range(3):
        wanted = view(state).numpy().copy()
        got = step(gu.tensor(float(number)))
        assert got.tolist() == wanted.tolist()
        assert state.tolist() == [[number, number]]


def test_two_states_may_change_places_and_be_returned() -> None:
    a, b = gu.tensor([1.0]), gu.tensor([2.0])

    @gu.compile
    def swap() -> tuple[Tensor, Tensor]:
        old_a, old_b = a.clone(), b.clone()
        a.assign_(old_b)
        b.assign_(old_a)
        return old_a, old_b

    for _ in range(2):
        wanted = a.tolist(), b.tolist()
        old_a, old_b = swap()
        assert (old_a.tolist(), old_b.tolist()) == wanted
        assert (b.tolist(), a.tolist()) == wanted


def test_a_program_of_empty_values_runs() -> None:
    compiled = gu.compile(lambda x: x + 1.0)
    for _ in range(2):
        assert compiled(gu.zeros(0, 3)).shape == (0, 3)

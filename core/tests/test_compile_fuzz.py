"""Random programs of views, broadcasts, reductions, gradients and writes: compiled as eagerly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import numpy as np
import pytest

import groundup as gu
from groundup.errors import AutogradError
from groundup.program.passes import EXACT, Pass
from groundup.program.passes.fusion import fuse_elementwise
from groundup.program.passes.recomputation import recompute_cheap_values
from groundup.tensor import Tensor

PROGRAMS: Final = 300
# The default, without the composites: their kernels may add up in another order than the parts.
FUSED: Final = (*EXACT, recompute_cheap_values, fuse_elementwise)
GROUPS: Final = 10  # so that a failure names some thirty programs

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@attrs.frozen
class World:
    """What a program works on: values so far, states that it writes, a leaf."""

    values: list[Tensor]
    states: Sequence[Tensor]
    leaf: Tensor

    def pick(self, number: int) -> Tensor:
        """One of all of them, not too large."""
        pool = [*self.values, *self.states, self.leaf]
        chosen = pool[number % len(pool)]
        return chosen if chosen.size <= 4096 else chosen.sum()


@attrs.frozen
class Step:
    """An action with the numbers that it chooses by."""

    action: Action
    left: int
    right: int
    number: float
    choice: int

    def __call__(self, world: World) -> None:
        a, b = world.pick(self.left), world.pick(self.right)
        made = self.action(world, a, b, self)
        if made is not None:
            world.values.append(made)


Action = Callable[[World, Tensor, Tensor, Step], Tensor | None]


def _fit(a: Tensor, b: Tensor) -> bool:
    pairs = zip(reversed(a.shape), reversed(b.shape), strict=False)
    return all(m == n or 1 in (m, n) for m, n in pairs)


def add(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    return a + b if _fit(a, b) else None


def mul(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    return a * b.tanh() if _fit(a, b) else a * s.number


def squeeze_values(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    return a.exp().clamp(-10, 10) - 1.0


def choose(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    return (a > 0).where(a, s.number)


def turn(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    return a.mT if a.ndim >= 2 else a.reshape(-1)


def window(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    if not a.ndim:
        return None
    return a[::2] if s.choice % 2 else a.flip(0)


def widen(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    return a.unsqueeze(0).expand(2, *a.shape)


def reduce(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    if not a.ndim:
        return None
    return a.sum(axis=s.choice % a.ndim, keepdims=bool(s.choice % 3))


def product(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    if a.ndim != 2:
        return None
    return a @ b if b.ndim == 2 and a.shape[1] == b.shape[0] else a @ a.mT


def gradient(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    if not a.requires_grad:
        return None
    (found,) = gu.grad((a * a).sum(), [w.leaf], retain_graph=True)
    return found


def write_row(w: World, a: Tensor, b: Tensor, s: Step) -> None:
    state = w.states[s.choice % len(w.states)]
    with gu.no_grad():
        state[0] = s.number if s.choice % 3 else state[-1] * s.number


def write_all(w: World, a: Tensor, b: Tensor, s: Step) -> None:
    state = w.states[s.choice % len(w.states)]
    with gu.no_grad():
        state.assign_(state.flip(0) * s.number + (a.detach().mean() if a.size else 0.0))


def write_column(w: World, a: Tensor, b: Tensor, s: Step) -> None:
    state, other = w.states[s.choice % 2], w.states[(s.choice + 1) % 2]
    with gu.no_grad():
        state.mT[s.choice % 2].assign_(other[:, 0])


def write_copy(w: World, a: Tensor, b: Tensor, s: Step) -> Tensor | None:
    copy = a.detach().clone()
    with gu.no_grad():
        if copy.ndim and copy.size:
            copy[0] = s.number
            copy.assign_(copy * 2)
    return copy


def keep_gradient(w: World, a: Tensor, b: Tensor, s: Step) -> None:
    if a.requires_grad and s.choice % 4 == 0:
        (a * s.number).sum().backward(retain_graph=True)


ACTIONS: Final[tuple[Action, ...]] = (
    add, mul, squeeze_values, choose, turn, window, widen, reduce, product, gradient, write_row,
    write_all, write_column, write_copy, keep_gradient,
)  # fmt: skip


def steps(rng: np.random.Generator) -> list[Step]:
    count = int(rng.integers(5, 25))
    actions = rng.integers(0, len(ACTIONS), count)
    numbers = rng.integers(0, 1 << 30, (count, 3))
    return [
        Step(ACTIONS[i], int(left), int(right), float(np.float32(rng.standard_normal())), int(c))
        for i, (left, right, c) in zip(actions, numbers, strict=True)
    ]


def outcome(seed: int, passes: Sequence[Pass] | None) -> list[Any]:
    """All results, states and gradients of three runs, or the error that ended them.

    Eagerly without `passes`.
    """
    rng = np.random.default_rng(seed)
    plan = steps(rng)
    rows, columns = (int(n) for n in rng.integers(1, 5, 2))
    size = int(rng.integers(2, 4))
    states = [gu.tensor(rng.standard_normal((size, size), np.float32)) for _ in range(2)]
    leaf = gu.tensor(rng.standard_normal((rows, columns), np.float32)).requires_grad_()

    def program(x: Tensor, y: Tensor) -> list[Tensor]:
        world = World([x, y], states, leaf)
        for step in plan:
            step(world)
        made = world.values[2:]
        return made if seed % 2 else made[-1:]  # so that passes may fuse and drop what is between

    run = program if passes is None else gu.compile(program, passes=passes)
    found: list[Any] = []
    for _ in range(3):
        x = gu.tensor(rng.standard_normal((rows, columns), np.float32))
        y = gu.tensor(rng.standard_normal(columns, np.float32))
        try:
            results = run(x, y)
        except AutogradError as error:
            return [*found, type(error)]
        found += [t.detach().numpy() for t in (*results, *states)]
        found.append(None if leaf.grad is None else leaf.grad.numpy())
    return found


@pytest.mark.parametrize("group", range(GROUPS))
def test_random_programs_agree(group: int) -> None:
    for seed in range(group, PROGRAMS, GROUPS):
        eager = outcome(seed, None)
        for passes in (EXACT, FUSED):
            compiled = outcome(seed, passes)
            assert len(eager) == len(compiled), seed
            for wanted, got in zip(eager, compiled, strict=True):
                if isinstance(wanted, np.ndarray):
                    what = f"program {seed}, {len(passes)} passes"
                    np.testing.assert_array_equal(got, wanted, err_msg=what, strict=True)
                else:
                    assert got is wanted, seed

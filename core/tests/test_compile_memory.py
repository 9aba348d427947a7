"""Memory of compiled functions: storages stay, results are their own, views agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch
from groundup.errors import AutogradError, ShapeError, TraceError
from groundup.ops.indexing import DynamicUpdateSlice
from groundup.tensor import Tensor


def both(function: Any, *make: Any) -> None:
    """`function` on fresh tensors, eagerly and compiled, three times each, gives the same."""
    found = []
    for run in (function, gu.compile(function)):
        tensors = [one() for one in make]
        results = []
        for _ in range(3):
            out = run(*tensors)
            results += [t.detach().numpy() for t in (out if isinstance(out, tuple) else (out,))]
        found.append(results + [t.detach().numpy() for t in tensors])
    for eager, compiled in zip(*found, strict=True):
        np.testing.assert_array_equal(eager, compiled)


def ramp(*shape: int) -> Tensor:
    return gu.arange(int(np.prod(shape)), dtype="float32").reshape(*shape)


def test_two_results_share_no_memory() -> None:
    double = gu.compile(lambda x: (x * 2, x * 2, x))
    x = ramp(3)
    a, b, c = double(x)
    d, _, _ = double(x + 1)
    for other in (b, c, d):
        other.assign_(0.0)
    assert a.tolist() == [0, 2, 4]
    assert x.tolist() == [0, 1, 2]


def test_captured_memory_is_updated_where_it_is() -> None:
    count = gu.zeros(3)
    window = count[1:]

    def step(x: Tensor) -> Tensor:
        count.assign_((count + x) * 2)
        return count + 0.5

    run = gu.compile(step)
    run(gu.ones(3))
    with gu.no_grad():
        count.assign_(count * 10)  # eagerly, in between
    assert run(gu.ones(3)).tolist() == [42.5, 42.5, 42.5]
    assert window.tolist() == [42, 42]
    assert run.entries[0].executable.plan.homes  # written where it stays, not copied there


def test_writes_through_views_are_seen_by_other_views() -> None:
    base = ramp(4, 4)

    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        before = base.mT[1] + 0
        base[1:3, ::2] = x
        base.mT[3] = base[0]
        return before, base.flip(0) * 1.5

    def fresh(x: Tensor) -> tuple[Tensor, Tensor]:
        with gu.no_grad():
            base.assign_(ramp(4, 4))
        return step(x)

    both(fresh, lambda: -ramp(2, 2))


def test_writes_into_traced_tensors() -> None:
    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x * 2
        row = y[0]
        y[1] = 7.0
        row.assign_(row + y[1])
        z = y.reshape(-1)[::-1]
        y[2, 1:] = z[:1]
        return y, z + 0

    both(step, lambda: ramp(3, 2))


def test_memory_is_swapped_at_once() -> None:
    a, b = ramp(2), ramp(2) + 10

    def swap(x: Tensor) -> Tensor:
        old = a.clone()
        a.assign_(b)
        b.assign_(old)
        return x + 0

    run = gu.compile(swap)
    run(ramp(1))
    assert (a.tolist(), b.tolist()) == ([10, 11], [0, 1])
    run(ramp(1))
    assert (a.tolist(), b.tolist()) == ([0, 1], [10, 11])


def test_part_of_a_state_moves_within_it() -> None:
    a = ramp(2, 3)

    def turn(x: Tensor) -> Tensor:
        a.assign_(a.flip(1))
        a[0] = a[1]
        return x + 0

    run = gu.compile(turn)
    run(ramp(1))
    assert a.tolist() == [[5, 4, 3], [5, 4, 3]]


def test_two_writes_into_a_cache_copy_nothing() -> None:
    cache = gu.zeros(8, 2)

    def write(rows: Tensor, first: Tensor, second: Tensor) -> Tensor:
        dispatch.update(DynamicUpdateSlice(), (cache, rows, first))
        dispatch.update(DynamicUpdateSlice(), (cache, rows + 1, second))
        return cache.sum()

    def starts(row: int) -> Tensor:
        return gu.tensor([row, 0], dtype="int32")

    run = gu.compile(write)
    total = run(gu.ones(1, 2), starts(0), starts(1))
    assert float(total) == 6
    run(gu.ones(1, 2) * 3, starts(6), starts(7))
    assert cache[:, 0].tolist() == [1, 2, 0, 0, 0, 0, 3, 4]
    plan = run.entries[0].executable.plan
    assert len(plan.homes) == 2  # both new caches lie in the captured one
    assert plan.sum_of_values < 3 * cache.nbytes + 1000


def test_an_overwritten_saved_tensor_is_noticed() -> None:
    w = gu.ones(3).requires_grad_()

    def step(x: Tensor) -> None:
        y = (w * x).exp().sum()
        with gu.no_grad():
            w.assign_(w * 2)
        y.backward()

    version = w._view.version
    with pytest.raises(AutogradError, match="overwritten"):
        gu.compile(step)(gu.ones(3).requires_grad_())
    assert w._view.version == version
    assert w.tolist() == [1, 1, 1]


def test_a_replay_is_a_write_for_graphs_outside() -> None:
    w = gu.ones(3).requires_grad_()
    double = gu.compile(gu.no_grad()(lambda x: w.assign_(w * x)))
    double(gu.ones(3))
    loss = (w * w).sum()
    double(gu.full((3,), 2.0))
    with pytest.raises(AutogradError, match="overwritten"):
        loss.backward()


def test_literals_begin_anew_each_time() -> None:
    def step(x: Tensor) -> Tensor:
        total = gu.tensor([1.0, 2.0])
        total.assign_(total + x)
        return total

    run = gu.compile(step)
    for _ in range(2):
        assert run(gu.ones(2)).tolist() == [2, 3]


def test_a_captured_tensor_is_returned_itself() -> None:
    w = gu.ones(2).requires_grad_()
    assert gu.compile(lambda x: (w, x))(gu.zeros(1))[0] is w


def test_expanded_and_empty_values() -> None:
    both(lambda x: (x.expand(3, 2) + 1, x[:0] * 2, gu.zeros(0, 3).sum(axis=1)), lambda: ramp(2))


def test_inputs_may_be_views_of_each_other() -> None:
    x = ramp(3, 3)
    add = gu.compile(lambda a, b: a + b)
    np.testing.assert_array_equal(add(x, x.mT).numpy(), (x + x.mT).numpy())
    np.testing.assert_array_equal(add(x[:, 0], x[0]).numpy(), (x[:, 0] + x[0]).numpy())
    assert len(add.entries) == 2


def test_arguments_that_are_written_are_written() -> None:
    def fill(x: Tensor, value: Tensor) -> Tensor:
        x[0] = value
        return x * 2

    both(fill, lambda: ramp(3, 2), lambda: -ramp(2))
    both(fill, lambda: ramp(2, 3).mT, lambda: -ramp(2))
    run = gu.compile(fill)
    x = ramp(3, 2)
    loss = (x * gu.ones(3, 2).requires_grad_()).sum()
    run(x, -ramp(2))
    with pytest.raises(AutogradError, match="overwritten"):
        loss.backward()
    with pytest.raises(TraceError, match="argument 0 is written"):
        run(x, x[1])
    with pytest.raises(ShapeError, match="share memory"):
        run(ramp(1, 2).expand(3, 2), ramp(2))


def test_captured_memory_is_no_argument_too() -> None:
    state = ramp(2)

    def step(x: Tensor) -> Tensor:
        state.assign_(state * 2)
        return state + x

    run = gu.compile(step)
    assert run(ramp(2)).tolist() == [0, 3]
    with pytest.raises(TraceError, match="captured and writes"):
        run(state)
    assert state.tolist() == [0, 2]

    def overwrite(x: Tensor) -> Tensor:
        x.assign_(x + 1)
        return state + x

    with pytest.raises(TraceError, match="argument 0 is written"):
        gu.compile(overwrite)(state)


def test_gradients_are_changed_in_place() -> None:
    w = gu.ones(2).requires_grad_()

    def halve(x: Tensor) -> None:
        assert w.grad is not None
        w.grad.assign_(w.grad * 0.5)

    w.grad = gu.full((2,), 8.0)
    kept = w.grad
    run = gu.compile(halve)
    run(gu.ones(1))
    run(gu.ones(1))
    assert w.grad is kept
    assert kept.tolist() == [2, 2]

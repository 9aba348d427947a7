"""The memory plan: nothing that is alive overlaps, little is wasted, limits of devices hold."""

from __future__ import annotations

import gc
import itertools
import threading
from typing import Any

import attrs
import numpy as np
import pytest

import groundup as gu
from groundup import nn, optim
from groundup.backends.devices import device_for
from groundup.backends.null import NullDevice
from groundup.models.gpt import GPT, GPTConfig
from groundup.program.lowering import Lowered, lower_program
from groundup.program.passes import optimize
from groundup.program.plan import Plan, make_plan
from groundup.program.program import Program
from groundup.tensor import Tensor


def training_program() -> Program:
    gu.manual_seed(0)
    sizes = GPTConfig(n_layer=3, n_head=2, n_embd=32, block_size=16, vocab_size=64, dropout=0.1)
    model = GPT(sizes)
    optimizer = optim.AdamW(model.parameters())

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = model(x, y)
        loss.backward()
        nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    run = gu.compile(step)
    ids = gu.zeros(4, 16, dtype="int32")
    run(ids, ids)
    return run.entries[0].traced


PROGRAM = training_program()


def planned(**limits: Any) -> tuple[Lowered, Plan]:
    device = device_for("cpu")
    lowered = lower_program(optimize(PROGRAM), device)
    if limits:
        other = NullDevice()
        other.info = attrs.evolve(device.info, **limits)
        lowered = Lowered(lowered.program, other, lowered.kernels)
    return lowered, make_plan(lowered)


def spans(lowered: Lowered, plan: Plan) -> list[tuple[int, int, int, int, int, object]]:
    """(arena, offset, end, first, last, value) of each value, found again from the program."""
    program = lowered.program
    born = dict.fromkeys(program.inputs, -1)
    dies: dict[Any, int] = {}
    for time, node in enumerate(program.nodes):
        born |= dict.fromkeys(node.outputs, time)
        for v in node.inputs if not node.is_view else ():
            dies[plan.base.get(v, (v, 0))[0]] = time
    for v in program.results():
        dies[plan.base.get(v, (v, 0))[0]] = len(program.nodes)
    found = []
    for v, place in plan.places.items():
        end = place.offset + v.layout.size * v.layout.dtype.itemsize
        found.append((place.arena, place.offset, end, born[v], dies.get(v, born[v]), v))
    for node, place in plan.workspaces.items():
        time = program.nodes.index(node)
        found.append((place.arena, place.offset, place.offset + place.nbytes, time, time, node))
    return found


@pytest.mark.parametrize("limits", [{}, {"max_binding": 1 << 16}, {"alignment": 256}])
def test_values_that_live_together_lie_apart(limits: dict[str, int]) -> None:
    lowered, plan = planned(**limits)
    for a, b in itertools.combinations(spans(lowered, plan), 2):
        overlap = a[0] == b[0] and a[1] < b[2] and b[1] < a[2]
        together = a[3] <= b[4] and b[3] <= a[4]
        if overlap and together:  # only a value that took over another's memory in place
            later = max(a, b, key=lambda span: span[3])
            assert later[5] in plan.in_place
            assert min(a[4], b[4]) == later[3]
    step = limits.get("alignment", 64)
    assert all(place.offset % step == 0 for place in plan.places.values())


def test_the_peak_is_near_the_largest_live_set() -> None:
    _, plan = planned()
    assert plan.largest_live_set <= plan.peak <= 1.15 * plan.largest_live_set
    assert plan.peak < 0.6 * plan.sum_of_values
    assert "x the largest live set" in str(plan)


def test_arenas_end_at_the_largest_binding() -> None:
    _, plan = planned(max_binding=1 << 16)
    assert len(plan.arenas) > 1
    assert max(plan.arenas) <= 1 << 16
    _, plan = planned(max_buffer=1 << 10)  # a value that is larger still gets its place
    assert max(plan.arenas) > 1 << 10


def test_parameters_and_states_are_written_in_place() -> None:
    lowered, plan = planned()
    targets = {effect.target for effect in lowered.program.effects}
    at_home = {target for target in targets if target in plan.homes.values()}
    elsewhere = targets - at_home
    # The random state, which backward reads again, and the count of steps, which bias corrections
    # read: a few bytes each, copied at the end.
    assert len(elsewhere) <= 2
    assert all(target.spec.nbytes <= 16 for target in elsewhere)


def test_the_null_device_plans_without_memory() -> None:
    with_null = gu.compile(lambda x: (x @ x).exp().sum())
    x = gu.zeros(1 << 17, 1 << 17, device="null")  # 64 GiB
    with_null(x)
    plan = with_null.entries[0].executable.plan
    assert plan.peak == plan.largest_live_set == 2 * x.nbytes
    assert with_null(x).item() == 0


def test_programs_of_a_device_share_their_arenas() -> None:
    device = NullDevice()
    device.info = device.describe()
    large, small = (gu.compile(lambda x: (x + x) * x) for _ in range(2))
    large(gu.zeros(1 << 20, device=device))
    held = device.memory().in_use
    small(gu.zeros(1 << 10, device=device))
    assert device.memory().in_use == held
    large.entries[0].executable.run([gu.zeros(1 << 20, device=device)])
    del large
    assert device.memory().in_use == held  # the small one still computes there
    del small
    gc.collect()
    assert device.memory().in_use < held


def test_threads_take_turns() -> None:
    double, square = gu.compile(lambda x: (x + x) + 0.0), gu.compile(lambda x: (x * x) * 1.5)
    x = gu.arange(1000, dtype="float32")
    wrong = []

    def work(run: Any, wanted: np.ndarray) -> None:
        for _ in range(50):
            if not np.array_equal(run(x).numpy(), wanted):
                wrong.append(run)

    wanted = {double: (x + x).numpy(), square: (x * x * 1.5).numpy()}
    threads = [threading.Thread(target=work, args=pair) for pair in wanted.items() for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_replays_compute_in_planned_memory() -> None:
    run = gu.compile(lambda x: ((x + 1) * (x + 2), (x + 3).sum(axis=0)))
    x = gu.arange(6, dtype="float32").reshape(2, 3)
    for _ in range(3):
        product, total = run(x)
        np.testing.assert_array_equal(product.numpy(), ((x + 1) * (x + 2)).numpy())
        np.testing.assert_array_equal(total.numpy(), (x + 3).sum(axis=0).numpy())
        x = x + 1

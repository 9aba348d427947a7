"""groundup.counting: exact counts, from the contract's boundary, of every kind of device."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import groundup as gu
from groundup import nn, optim
from groundup.backends.api import Device, HostArray, View
from groundup.backends.devices import device_for
from groundup.backends.null import NullDevice
from groundup.errors import BackendUnavailable
from groundup.layout import Layout, Spec
from groundup.profiler.counting import Counts, counting


class Waiting(NullDevice):
    """A device whose reading waits by its own `synchronize`, as CUDA's does."""

    def __init__(self) -> None:
        super().__init__()
        self.info = self.describe()

    def read(self, view: View) -> HostArray:
        self.synchronize()
        return super().read(view)

    def synchronize(self) -> None:
        super().synchronize()


def on(device: Device, *shape: int) -> gu.Tensor:
    return gu.Tensor(device.empty(Layout.contiguous(Spec(shape, gu.float32))), device, None, 0)


def test_launches_are_those_of_the_device() -> None:
    device = device_for("null")
    assert isinstance(device, NullDevice)
    x = gu.zeros(4, 4, device="null")
    before = device.work.launches
    with gu.counting("null") as counts:
        y = (x + 1.0) * 2.0
        y.reshape(16)  # a view: nothing is launched
    assert counts.launches == device.work.launches - before == 2
    assert counts.waits == 0


def test_updates_and_scratch_are_counted_too() -> None:
    parameter = gu.zeros(3, device="null").requires_grad_()
    optimizer = optim.SGD([parameter], lr=0.1)
    parameter.grad = gu.ones(3, device="null")
    optimizer.step()
    with gu.counting("null") as counts:
        optimizer.step()
    device = device_for("null")
    assert isinstance(device, NullDevice)
    assert counts.launches == 3, "the step number, the update, and keeping the step number"


def test_what_a_read_does_inside_is_one_wait() -> None:
    device = Waiting()
    x = on(device, 2)
    with counting(device) as counts:
        x.numpy()
        x.tolist()
        device.synchronize()
    assert counts.waits == 3


def test_a_failed_read_leaves_the_count_right() -> None:
    class Failing(Waiting):
        def read(self, view: View) -> HostArray:
            raise RuntimeError("no")

    device = Failing()
    x = on(device, 2)
    with counting(device) as counts:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no"):
                x.numpy()
    assert counts.waits == 2


def test_every_backend_counts_waits_without_doing_anything_for_it() -> None:
    with gu.counting("cpu") as counts:
        assert float(gu.ones(3, device="cpu").sum()) == 3.0
    assert counts.waits == 1


def test_a_loop_over_the_same_shapes_allocates_nothing_after_its_first_turn() -> None:
    def turn() -> None:
        x = gu.zeros(300, 300, device="null")
        (x @ x + x).sum()

    turn()
    with gu.counting("null") as counts:
        turn()
    assert (counts.allocations, counts.bytes_allocated) == (0, 0)


def test_allocations_count_what_comes_from_the_device() -> None:
    device = Waiting()
    with counting(device) as counts:
        kept = [on(device, 64), on(device, 64)]
        del kept
        on(device, 64)
    assert (counts.allocations, counts.bytes_allocated) == (2, 512)


def test_compilations_are_counted_by_who_puts_compiling_around_them() -> None:
    device = Waiting()
    with counting(device) as counts, device.compiling("add"):
        pass
    assert counts.compiled == 1


def test_without_a_device_all_that_are_open_are_counted() -> None:
    with gu.counting() as counts:
        gu.ones(2, device="cpu") + 1.0
        gu.ones(2, device="null") + 1.0
    assert counts.launches == 4


def test_by_device() -> None:
    counted = counting()
    with counted:
        gu.ones(2, device="cpu") + 1.0
    assert counted.by_device["cpu"].launches == 2
    assert counted.by_device.get("null", Counts()).launches == 0


def test_an_unknown_device_is_refused_at_once() -> None:
    with pytest.raises(BackendUnavailable, match="nowhere"):
        counting("nowhere")


def test_counting_sees_other_threads() -> None:
    x = gu.ones(2, device="cpu")
    with gu.counting("cpu") as counts:
        thread = threading.Thread(target=lambda: x + x)
        thread.start()
        thread.join()
    assert counts.launches == 1


def test_a_training_step_waits_for_nothing() -> None:
    gu.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4)).to("cpu")
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    x = gu.from_numpy(np.ones((2, 8), np.float32), "cpu")

    def step() -> gu.Tensor:
        loss = (model(x) ** 2).mean()
        loss.backward()
        nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    with gu.counting("cpu") as first:
        step()
    with gu.counting("cpu") as second:
        step()
    assert first.waits == second.waits == 0
    assert 0 < second.launches <= first.launches, "only the first makes the optimizer's state"

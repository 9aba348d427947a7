"""The null device counts what would be done."""

from __future__ import annotations

import numpy as np

from groundup import dtypes
from groundup.backends.devices import device_for
from groundup.backends.null import NullDevice
from groundup.layout import Layout, Spec
from groundup.ops.op import Cost, Op


class Halve(Op):
    """y = x / 2, unregistered."""

    name = "halve"
    aliases = {0: 0}  # noqa: RUF012
    mode: str = "down"

    def infer(self, x: Spec) -> Spec:
        return x

    def cost(self, x: Spec) -> Cost:
        return Cost(flops=3 * x.size, bytes=2 * x.nbytes)


def opened() -> NullDevice:
    device = NullDevice()
    device.info = device.describe()
    return device


def test_a_kernel_counts_each_launch() -> None:
    device = opened()
    layout = Layout.contiguous(Spec((4, 5), dtypes.float32))
    kernel = device.kernel(Halve(mode="up"), [layout], [layout])
    assert kernel.params == {"mode"}
    assert kernel.in_place == {0: 0}
    x = device.empty(layout)
    launch = kernel.bind([x], [x])
    assert device.work.launches == 0
    device.record([launch, launch])()
    assert (device.work.launches, device.work.flops, device.work.bytes) == (2, 120, 320)
    assert launch.describe() == {"kernel": "halve", "flops": 60, "bytes": 160}
    device.work.reset()
    assert device.work.flops == 0


def test_memory_is_counted_and_not_taken() -> None:
    device = opened()
    layout = Layout.contiguous(Spec((1 << 38,), dtypes.float32))  # a TiB
    view = device.empty(layout)
    stats = device.memory()
    assert stats.in_use >= 4 << 38
    del view
    assert device.memory().in_use == 0
    assert device.memory().peak == stats.in_use


def test_what_is_written_is_forgotten() -> None:
    device = opened()
    view = device.empty(Layout.contiguous(Spec((2, 3), dtypes.bfloat16)))
    device.write(view, np.ones((2, 3), dtypes.bfloat16.numpy))
    back = device.read(view)
    assert back.dtype == dtypes.bfloat16.numpy
    assert back.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert (device.work.written, device.work.read) == (12, 12)


def test_it_knows_every_dtype() -> None:
    assert set(opened().info.dtypes) == set(dtypes.ALL)


def test_it_opens_by_name() -> None:
    device = device_for("null")
    assert isinstance(device, NullDevice)
    assert device.info.name == "null"
    assert device_for("null:0") is device

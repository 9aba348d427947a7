"""The null device counts what would be done."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch, dtypes
from groundup.backends.devices import device_for
from groundup.backends.null import NullDevice
from groundup.errors import ConfigError, OutOfMemory
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.op import Cost, Op
from groundup.ops.samples import cases_of


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


# ---- whole programs ----


def test_a_training_step_is_counted() -> None:
    device = opened()
    w = gu.Tensor(device.empty(Layout.contiguous(Spec((64, 32), dtypes.float32))), device, None, 0)
    w.requires_grad_()
    x = gu.Tensor(device.empty(Layout.contiguous(Spec((128, 64), dtypes.float32))), device, None, 0)
    device.work.reset()
    (x @ w).sum().backward()
    matmul = 2 * 128 * 64 * 32
    assert 2 * matmul <= device.work.flops < 2.1 * matmul, "forward, and the weight's gradient"
    assert device.work.launches >= 3
    assert w.grad is not None
    assert w.grad.spec is w.spec


def test_memory_runs_out_where_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDUP_NULL_MEMORY", "1MiB")
    device = opened()
    assert device.info.memory == 1 << 20
    layout = Layout.contiguous(Spec((128, 1024), dtypes.float32))  # half of it
    first = device.empty(layout)
    second = device.empty(layout)
    with pytest.raises(OutOfMemory) as caught:
        device.empty(layout)
    assert "no room for 524,288 bytes, 1,048,576 of 1,048,576 are in use" in str(caught.value)
    del second
    third = device.empty(layout)
    del first, third
    device.empty(Layout.contiguous(Spec((256, 1024), dtypes.float32)))  # once the cache is emptied


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("4096", 4096), ("80GB", 80 * 10**9), ("24GiB", 24 << 30), ("1.5 kb", 1500), ("", None)],
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, nbytes: int | None) -> None:
    monkeypatch.setenv("GROUNDUP_NULL_MEMORY", text)
    assert opened().info.memory == nbytes


@pytest.mark.parametrize("text", ["much", "-1", "5 parsecs", "GB"])
def test_sizes_that_are_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GROUNDUP_NULL_MEMORY", text)
    with pytest.raises(ConfigError, match=r"GROUNDUP_NULL_MEMORY: .* is no size"):
        opened()


def test_every_op_runs_on_it() -> None:
    """What it answers has the shape and dtype that the op promises, in every sample."""
    device = opened()
    for name, op in REGISTRY.items():
        for case in cases_of(op, op.dtypes[0]):
            inputs = tuple(o.view(gu.tensor(o.base, device=device)) for o in case.inputs)
            results = dispatch.apply(case.op, inputs, device)
            outs = results if isinstance(results, tuple) else (results,)
            if not case.op.broadcasts:
                wanted = case.op.infer_all(*[x.spec for x in inputs])
                assert [y.spec for y in outs] == list(wanted), name

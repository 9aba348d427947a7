"""Memory, views, errors and device loss."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

import attrs
import numpy as np
import pytest
import wgpu

import groundup as g
from groundup.backends.api import Unavailable
from groundup.errors import KernelCompileError, OutOfMemory, UnsupportedDtype
from groundup_webgpu.backend import WebGpuBackend
from groundup_webgpu.device import WebGpuDevice

PROBE = WebGpuBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"webgpu: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)
DEVICE = "webgpu:0"


def test_what_is_written_comes_back() -> None:
    for array in (
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.array([-(2**31), 2**31 - 1, 0], np.int32),
        np.array([[True, False, True]]),
        np.zeros((0, 3), np.float32),
        np.array(2.5, np.float32),
    ):
        back = g.from_numpy(array, DEVICE).numpy()
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_a_write_does_not_overtake_launches() -> None:
    x = g.ones(4, device=DEVICE)
    y = x + x  # encoded, not submitted
    x[:] = g.full(4, 100.0, device=DEVICE)
    x.device.write(x._view, np.full(4, 200, np.float32))
    assert y.tolist() == [2, 2, 2, 2]
    assert x.tolist() == [200] * 4


def test_views_share_memory_and_can_be_written() -> None:
    x = g.zeros(4, 6, device=DEVICE)
    x[1:3, ::2] = 5.0
    x.mT[5] = g.arange(4, dtype="float32", device=DEVICE)
    wanted = np.zeros((4, 6), np.float32)
    wanted[1:3, ::2] = 5
    wanted.T[5] = np.arange(4)
    np.testing.assert_array_equal(x.numpy(), wanted)
    np.testing.assert_array_equal(x[::-1, 1:].numpy(), wanted[::-1, 1:])


def test_freed_memory_is_reused_and_counted() -> None:
    device = g.device_for(DEVICE)
    before = device.memory()
    x = g.zeros(1 << 16, device=DEVICE)
    assert device.memory().in_use >= before.in_use + x.nbytes
    number = x._view.buffer.number
    del x
    assert device.memory().in_use == before.in_use
    assert g.zeros(1 << 16, device=DEVICE)._view.buffer.number == number


def test_memory_of_a_garbage_cycle_is_reused_alive() -> None:
    cycle: list[object] = [g.ones(1 << 17, device=DEVICE)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert g.ones(1 << 17, device=DEVICE).sum().item() == 1 << 17  # a dead buffer would abort


def test_more_workgroups_than_one_dimension_has() -> None:
    count = 65535 * 256 + 3
    x = g.ones(count, device=DEVICE)
    assert (x + x)[-1].item() == 2
    assert x.sum().item() == pytest.approx(count, rel=1e-6)


def test_random_bits_are_the_cpus() -> None:
    drawn = [g.rand(1001, device=d, generator=g.Generator(7, d)).numpy() for d in (DEVICE, "cpu")]
    np.testing.assert_array_equal(*drawn)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(UnsupportedDtype, match="webgpu:0 cannot store float64"):
        g.from_numpy(np.zeros(2), DEVICE)
    with pytest.raises(UnsupportedDtype, match="float32"):
        g.zeros(2, device=DEVICE).astype("bfloat16")


def test_a_tensor_that_is_too_large_is_refused() -> None:
    with pytest.raises(OutOfMemory, match="the adapter allows"):
        g.zeros(1 << 40, device=DEVICE)
    assert g.ones(2, device=DEVICE).sum().item() == 2


def test_a_software_driver_promises_no_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    device = g.device_for(DEVICE)
    device.pool.trim()
    room = device.pool.reserved + (1 << 20)
    monkeypatch.setattr(device, "info", attrs.evolve(device.info, memory=room))
    with pytest.raises(OutOfMemory, match="webgpu:0: no room for 4,194,304 bytes"):
        g.zeros(1 << 20, device=DEVICE)
    assert g.ones(1 << 16, device=DEVICE).sum().item() == 1 << 16


def test_bind_groups_do_not_keep_what_the_pool_has_dropped() -> None:
    device = g.device_for(DEVICE)
    assert isinstance(device, WebGpuDevice)
    x = g.ones(3 << 18, device=DEVICE)
    handle = weakref.ref(x._view.buffer.handle)
    (x + x).sum().item()
    del x
    device.pool.trim()
    device.allocate(256)
    assert handle() is None


SHORTAGE = """
import re, resource
import groundup as g
from groundup.errors import OutOfMemory
device = g.device_for("webgpu:0")
g.ones(2, device=device).sum().item()
used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
kept = []
try:
    for _ in range(40):
        kept.append(g.ones(16 << 20, device=device))
except OutOfMemory as error:
    print("typed:", error)
kept.clear()
print(g.ones(16 << 20, device=device).sum().item())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or "CPU" not in PROBE.devices[0], reason="limits a software driver"
)
def test_a_driver_without_memory_is_a_typed_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORTAGE], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    typed, after = done.stdout.splitlines()
    assert typed.startswith("typed: webgpu:0: no room for 67,108,864 bytes: ")
    assert after == f"{16 << 20}.0"


def test_a_kernel_that_does_not_compile_shows_its_source() -> None:
    device = g.device_for(DEVICE)
    with pytest.raises(KernelCompileError, match=r"(?s)does not compile.*1 fn broken\("):
        device.binder.pipeline("fn broken(", ("storage", "uniform"))
    assert g.ones(2, device=DEVICE).sum().item() == 2


LOSS = """
import logging
logging.disable(logging.CRITICAL)  # wgpu tells of the loss in its log: nothing may depend on that
import groundup as g
from groundup.backends.api import View
from groundup.errors import DeviceLost
device = g.device_for("webgpu:0")
x = g.ones(3, device=device)
kernel = device.kernel(g.ops.arithmetic.Add(), [x._view.layout] * 2, [x._view.layout])
replay = device.record([kernel.bind([x._view] * 2, [device.empty(x._view.layout)])] * 600)
replay()
pending = x + x
device._gpu.destroy()
for name, attempt in {
    "read": pending.numpy,
    "read again": pending.numpy,
    "wait": device.synchronize,
    "wait again": device.synchronize,
    "write": lambda: device.write(x._view, x._view.layout.dtype.numpy.type([1, 2, 3])),
    "new kernel": lambda: x.exp().numpy(),
    "new memory": lambda: device.allocate(1 << 20),
    "replay": replay,
    "many launches": lambda: [x + x for _ in range(1000)],
}.items():
    try:
        attempt()
        print("no error:", name)
    except DeviceLost as error:
        print("typed:", name, error)
print(g.ones(2, device=g.backends.devices.reopen("webgpu:0")).sum().item())
"""


def test_a_lost_device_is_a_typed_error_and_can_be_opened_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSS], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert len(lines) == 9
    for line in lines:
        assert line.startswith("typed: "), line
        assert line.count("webgpu:0: the device is lost") == 1
    assert last == "2.0"


def test_faults_of_the_driver_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    device = g.device_for(DEVICE)
    assert isinstance(device, WebGpuDevice)
    x = g.ones(3, device=device)
    gpu, queue = type(device._gpu), type(device._gpu.queue)

    def full(*_: object, **__: object) -> None:
        raise wgpu.GPUOutOfMemoryError("Out of Memory\n  Not enough memory left.")

    def reading() -> None:
        device.stream._staging = None
        x.numpy()

    calls = [
        (gpu, "create_buffer", lambda: device.allocate(1 << 20)),
        (gpu, "create_buffer", reading),
        (queue, "write_buffer", lambda: device.write(x._view, np.ones(3, np.float32))),
        (gpu, "create_bind_group", lambda: x[1:] + g.ones(2, device=device)[::-1]),
    ]
    for owner, name, call in calls:
        with monkeypatch.context() as patch:
            device.bound.clear()
            device.binder.forget()
            patch.setattr(owner, name, full)
            with pytest.raises(OutOfMemory, match=r"webgpu:0: no room for .*Not enough memory"):
                call()
        assert (x + x).tolist() == [2, 2, 2]


INTERRUPTED = """
import groundup as g
from groundup_webgpu import stream
x = g.ones(3, device="webgpu:0")
x.numpy()
buffer = type(x.device.stream._staging)
def interrupt(self):
    raise KeyboardInterrupt
unmap, buffer.unmap = buffer.unmap, interrupt
try:
    x.numpy()
except KeyboardInterrupt:
    buffer.unmap = unmap
print((x + x).tolist())  # a submit of the buffer that is still mapped would abort
"""


def test_an_interrupted_read_does_no_harm() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[2.0, 2.0, 2.0]\n"


def test_long_tensors_are_read_in_pieces() -> None:
    array = np.arange((1 << 22) + 7, dtype=np.float32)
    np.testing.assert_array_equal(g.from_numpy(array, DEVICE).numpy(), array)

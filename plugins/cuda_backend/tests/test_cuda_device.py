"""Memory, views, other libraries' arrays, errors and a lost device."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.errors import KernelCompileError, OutOfMemory, UnsupportedDtype
from groundup.layout import Layout
from groundup.ops.arithmetic import Add
from groundup_cuda.backend import CudaBackend

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)
DEVICE = "cuda:0"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.array([-(2**31), 2**31 - 1, 0], np.int32),
        np.array([-(2**63), 2**63 - 1, 0]),
        np.array([0, 255], np.uint8),
        np.array([[True, False, True]]),
        np.zeros((0, 3), np.float32),
        np.array(2.5, np.float16),
    ],
    ids=lambda array: str(array.dtype),
)
def test_what_is_written_comes_back(array: np.ndarray) -> None:
    back = g.from_numpy(array, DEVICE).numpy()
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_an_array_may_change_once_it_is_written() -> None:
    array = np.ones((1 << 23) + 5, np.float32)  # longer than all pinned memory
    x = g.from_numpy(array, DEVICE)
    array[:] = 0
    assert x.sum().item() == (1 << 23) + 5
    np.testing.assert_array_equal(x.numpy(), np.ones_like(array))


def test_views_share_memory_and_can_be_written() -> None:
    x = g.zeros(4, 6, device=DEVICE)
    x[1:3, ::2] = 5.0
    x.mT[5] = g.arange(4, dtype="float32", device=DEVICE)
    wanted = np.zeros((4, 6), np.float32)
    wanted[1:3, ::2] = 5
    wanted.T[5] = np.arange(4)
    np.testing.assert_array_equal(x.numpy(), wanted)
    np.testing.assert_array_equal(x[::-1, 1:].numpy(), wanted[::-1, 1:])


def test_a_strided_view_can_be_written_from_the_host() -> None:
    x = g.zeros(4, 6, device=DEVICE)
    view = x[:, ::-2]
    x.device.write(view._view, np.arange(12, dtype=np.float32).reshape(4, 3))
    wanted = np.zeros((4, 6), np.float32)
    wanted[:, ::-2] = np.arange(12).reshape(4, 3)
    np.testing.assert_array_equal(x.numpy(), wanted)


def test_freed_memory_is_reused_and_counted() -> None:
    device = g.device_for(DEVICE)
    before = device.memory()
    x = g.zeros(1 << 16, device=DEVICE)
    assert device.memory().in_use >= before.in_use + x.nbytes
    address = x._view.native
    del x
    assert device.memory().in_use == before.in_use
    assert g.zeros(1 << 16, device=DEVICE)._view.native == address


def test_a_bound_launch_can_be_called_again() -> None:
    device = g.device_for(DEVICE)
    x = g.ones(1000, device=DEVICE)
    layout = Layout.contiguous(x.spec)
    kernel = device.kernel(Add(), (layout, layout), (layout,))
    launch = kernel.bind((x._view, x._view), (x._view,))
    for _ in range(3):
        launch()
    assert x.tolist() == [8.0] * 1000
    assert "map" in launch.describe()["source"][0]
    assert all(0 < seconds < 1 for seconds in device.timed([launch] * 3))


def test_a_profile_has_the_device_s_own_times() -> None:
    x = g.ones(512, 512, device=DEVICE)
    x @ x  # so that nothing is compiled below
    with g.profile() as p:
        y = x @ x + x
    times = {event.name: event.device_seconds for event in p.events if event.kind == "op"}
    assert all(times[name] is not None and 0 < times[name] < 1 for name in ("matmul", "add"))
    assert p.counts.waits == 0
    assert y.sum().item() == 512 * 512 * 513


def test_waits_and_compilations_are_counted() -> None:
    x = g.ones(3, device=DEVICE)
    with g.counting(DEVICE) as first:
        (x * 2.0).tanh().expm1().tolist()
    with g.counting(DEVICE) as second:
        (x * 2.0).tanh().expm1().tolist()
    assert (second.compiled, second.launches, second.waits) == (0, first.launches, 1)


def test_threads_share_a_device() -> None:
    x = g.ones(64, device=DEVICE)
    sums: list[float] = []

    def work() -> None:
        y = x
        for _ in range(200):
            y = y + x
        sums.append(y.sum().item())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [201 * 64] * 4


def test_indices_past_32_bits() -> None:
    """The last bytes of 2.2 GB, which an int cannot count."""
    size = (1 << 31) + (1 << 25)
    x = g.full(size, 3, dtype="uint8", device=DEVICE)
    x[-1] = 7
    y = x + 1
    assert y[-2:].tolist() == [4, 8]


def test_random_bits_are_the_cpus() -> None:
    drawn = [g.rand(1001, device=d, generator=g.Generator(7, d)).numpy() for d in (DEVICE, "cpu")]
    np.testing.assert_array_equal(*drawn)


def test_float64_is_refused() -> None:
    with pytest.raises(UnsupportedDtype, match="cuda:0 cannot store float64"):
        g.from_numpy(np.zeros(2), DEVICE)


def test_a_tensor_that_is_too_large_is_refused() -> None:
    with pytest.raises(OutOfMemory, match="no room for"):
        g.zeros(1 << 44, device=DEVICE)
    assert g.ones(2, device=DEVICE).sum().item() == 2


def test_a_kernel_that_does_not_compile_shows_its_source() -> None:
    from groundup_cuda.source import Stage

    broken = Stage("broken", "__global__ void broken(", (), (), 1)
    with pytest.raises(KernelCompileError, match=r"(?s)broken does not compile for sm_.*broken\("):
        g.device_for(DEVICE).function(broken)
    assert g.ones(2, device=DEVICE).sum().item() == 2


LOSS = """
import groundup as g
from groundup.errors import DeviceLost
x = g.ones(3, device="cuda:0")
x._view.native = 64  # no address
pending = x + x
attempts = pending.numpy, lambda: g.ones(2, device="cuda:0").numpy(), lambda: pending + pending
for attempt in attempts:
    try:
        attempt()
    except DeviceLost as error:
        print("typed:", error)
"""


def test_a_fault_is_a_typed_error_that_stays() -> None:
    done = subprocess.run([sys.executable, "-c", LOSS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("typed: cuda:0: the device is lost") for line in lines) == 3

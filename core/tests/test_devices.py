"""Device strings, opening once, and the choice of the default device."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest

from groundup.backends import devices
from groundup.backends.api import Available, Backend, Device, DeviceInfo, MemoryStats, Unavailable
from groundup.backends.devices import parse_device
from groundup.backends.installed import BackendEntry
from groundup.backends.plugins import Once, PluginProblem, selection
from groundup.errors import BackendUnavailable, ConfigError, PluginError


class FakeDevice(Device):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def describe(self) -> DeviceInfo:
        return DeviceInfo(self.name, "fake", {})

    def memory(self) -> MemoryStats:
        return MemoryStats(0, 0, 0)

    def synchronize(self) -> None: ...
    def allocate(self, nbytes: int) -> Any: ...
    def write(self, view: Any, array: Any) -> None: ...
    def read(self, view: Any) -> Any: ...
    def kernel(self, op: Any, inputs: Any, outputs: Any) -> Any: ...


class FakeBackend(Backend):
    api_version = (1, 0)

    def __init__(self, name: str, priority: int, answer: Available | Unavailable) -> None:
        self.name = name  # type: ignore[misc]
        self.priority = priority  # type: ignore[misc]
        self.answer = answer
        self.opened: list[int] = []

    def probe(self) -> Available | Unavailable:
        return self.answer

    def open(self, index: int) -> Device:
        self.opened.append(index)
        return FakeDevice(f"{self.name}:{index}")


HERE = Available(["one", "two"])
ABSENT = Unavailable("no driver", "install one")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make these the installed backends, and forget every device opened so far."""

    def install(*backends: Backend) -> SimpleNamespace:
        entries = {b.name: BackendEntry(b.name, f"groundup-{b.name}", b) for b in backends}
        monkeypatch.setattr(devices, "backends", lambda: entries)
        monkeypatch.setattr(devices, "kernels_for", lambda name: {})
        monkeypatch.setattr(devices, "_devices", devices._Devices())
        return SimpleNamespace(**{b.name: b for b in backends}, entries=entries)

    monkeypatch.delenv("GROUNDUP_DEVICE", raising=False)
    return install


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [("cpu", ("cpu", 0)), ("cuda:0", ("cuda", 0)), ("web_gpu2:13", ("web_gpu2", 13))],
)
def test_device_strings(spec: str, parsed: tuple[str, int]) -> None:
    assert parse_device(spec) == parsed


@pytest.mark.parametrize(
    "spec", ["", "cuda:", "cuda:-1", "cuda:01", "cuda:1.0", ":0", "CPU", "cuda 0", "cpu\n", "٣", 0]
)
def test_what_is_no_device_string(spec: Any) -> None:
    with pytest.raises(ConfigError, match="is not a device"):
        devices.device_for(spec)


def test_a_device_is_opened_once(use: Any) -> None:
    installed = use(FakeBackend("cpu", 100, HERE))
    first = devices.device_for("cpu")
    assert devices.device_for("cpu:0") is first
    assert devices.device_for(first) is first
    assert devices.device_for() is first
    assert devices.device_for("cpu:1") is not first
    assert installed.cpu.opened == [0, 1]
    assert first.info == DeviceInfo("cpu:0", "fake", {})


def test_threads_open_a_device_once(use: Any) -> None:
    installed = use(FakeBackend("cpu", 100, HERE))
    barrier = Barrier(8)

    def ask(number: int) -> Device:
        barrier.wait()
        return devices.device_for("cpu:0" if number % 2 else None)

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(ask, range(8)))
    assert len(found) == 1
    assert installed.cpu.opened == [0]


def test_the_default_is_the_available_backend_with_the_highest_priority(use: Any) -> None:
    use(
        FakeBackend("cpu", 100, HERE),
        FakeBackend("cuda", 300, ABSENT),
        FakeBackend("webgpu", 200, HERE),
        FakeBackend("null", -1, HERE),
    )
    assert devices.default_device().info.name == "webgpu:0"
    assert devices.default_reason() == "the first choice of webgpu, cpu"


def test_the_reason_names_those_that_are_not_there(use: Any) -> None:
    use(FakeBackend("cpu", 100, HERE), FakeBackend("cuda", 300, ABSENT))
    reason = devices.default_reason()
    assert reason == "the only backend available; not cuda, see `groundup backends`"


def test_a_broken_backend_is_not_chosen(use: Any) -> None:
    installed = use(FakeBackend("cpu", 100, HERE))
    problem = PluginProblem("cuda", "groundup-cuda", "import", "ImportError: cupy", "install it")
    installed.entries["cuda"] = BackendEntry("cuda", "groundup-cuda", None, problem)
    assert devices.default_device().info.name == "cpu:0"
    with pytest.raises(BackendUnavailable, match=r"cuda: ImportError: cupy \(install it\)"):
        devices.device_for("cuda")


def test_null_is_never_chosen(use: Any) -> None:
    use(FakeBackend("null", -1, HERE), FakeBackend("cuda", 300, ABSENT))
    expected = r"no backend is available \(cuda: no driver\) \(pip install groundup-cpu-ref\)"
    with pytest.raises(BackendUnavailable, match=expected):
        devices.default_device()
    assert devices.device_for("null").info.name == "null:0"


def test_the_environment_chooses(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use(FakeBackend("cpu", 100, HERE), FakeBackend("cuda", 300, HERE))
    monkeypatch.setenv("GROUNDUP_DEVICE", "cpu:1")
    assert devices.default_device().info.name == "cpu:1"
    assert devices.default_reason() == "GROUNDUP_DEVICE=cpu:1"


def test_a_wrong_environment_is_an_error_not_a_fallback(
    use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(FakeBackend("cpu", 100, HERE), FakeBackend("cuda", 300, ABSENT))
    monkeypatch.setenv("GROUNDUP_DEVICE", "cuda")
    with pytest.raises(BackendUnavailable, match=r"cuda: no driver \(install one\)"):
        devices.default_device()
    monkeypatch.setenv("GROUNDUP_DEVICE", "cpu")  # the failed choice was not kept
    assert devices.default_device().info.name == "cpu:0"


def test_set_default_device(use: Any) -> None:
    use(FakeBackend("cpu", 100, HERE), FakeBackend("cuda", 300, HERE))
    devices.set_default_device("cpu:1")
    assert (devices.device_for().info.name, devices.default_reason()) == (
        "cpu:1",
        "set_default_device",
    )
    with pytest.raises(BackendUnavailable):
        devices.set_default_device("cpu:2")
    assert devices.device_for().info.name == "cpu:1"
    devices.set_default_device(None)
    assert devices.device_for().info.name == "cuda:0"


def test_reopen_replaces_a_lost_device_everywhere(use: Any) -> None:
    use(FakeBackend("cpu", 100, HERE))
    lost = devices.device_for()
    new = devices.reopen("cpu")
    assert new is not lost
    assert devices.device_for("cpu:0") is devices.device_for("cpu") is devices.device_for() is new


def test_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROUNDUP_PLUGINS", raising=False)
    assert selection() is None
    monkeypatch.setenv("GROUNDUP_PLUGINS", " ")
    assert selection() is None
    monkeypatch.setenv("GROUNDUP_PLUGINS", "cpu, webgpu,")
    assert selection() == ["cpu", "webgpu"]


def test_once_makes_its_value_once_and_again_after_a_failure() -> None:
    made: list[int] = []

    def make() -> list[int]:
        made.append(1)
        if len(made) == 1:
            raise OSError("not yet")
        return made

    once = Once(make, busy="it is busy")
    with pytest.raises(OSError, match="not yet"):
        once()
    assert once() is made
    assert once() is made
    assert len(made) == 2


def test_once_refuses_to_wait_for_itself() -> None:
    once: Once[object] = Once(lambda: once(), busy="it is busy")
    with pytest.raises(PluginError, match="it is busy"):
        once()

"""What users are told when something is missing: one line with the reason, one with the fix."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from groundup.backends.api import Available, Unavailable
from groundup.errors import BackendUnavailable
from groundup_cuda import backend
from groundup_cuda.backend import CudaBackend

GPU = {"name": b"NVIDIA H100", "totalGlobalMem": 80 << 30, "multiProcessorCount": 132}


class CUDARuntimeError(RuntimeError):
    status = 999


class Runtime(SimpleNamespace):
    """CuPy's view of a machine."""

    CUDARuntimeError = CUDARuntimeError

    def __init__(self, driver: int, built: int = 13000, capability: tuple[int, int] = (9, 0)):
        super().__init__(driverGetVersion=lambda: driver, runtimeGetVersion=lambda: built)
        major, minor = capability
        self.getDeviceCount = lambda: 1
        self.getDeviceProperties = lambda _: {**GPU, "major": major, "minor": minor}


@pytest.fixture
def machine(monkeypatch):
    """Sets up a machine with these CuPy packages and this runtime, and probes it."""

    def probe(*packages: str, runtime: object = None) -> Available | Unavailable:
        monkeypatch.setattr(backend, "_cupy_packages", lambda: list(packages))
        monkeypatch.setattr("groundup_cuda.jit.load_library", lambda name: name)
        if runtime is not None:
            cupy, cuda = ModuleType("cupy"), ModuleType("cupy.cuda")
            cuda.runtime = runtime
            monkeypatch.setitem(sys.modules, "cupy", cupy)
            monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
        return CudaBackend().probe()

    return probe


def refused(answer: Available | Unavailable) -> tuple[str, str]:
    assert isinstance(answer, Unavailable)
    assert "\n" not in answer.reason + answer.fix
    return answer.reason, answer.fix


def test_no_cupy(machine) -> None:
    reason, fix = refused(machine())
    assert reason == "CuPy is not installed"
    assert "groundup-cuda[cuda13]" in fix


def test_two_cupys(machine) -> None:
    reason, fix = refused(machine("cupy-cuda12x", "cupy-cuda13x"))
    assert "two CuPy packages" in reason
    assert "pip uninstall -y cupy-cuda12x cupy-cuda13x" in fix


def test_a_broken_cupy(machine) -> None:
    broken = ModuleType("cupy.cuda")
    sys_modules = {"cupy": ModuleType("cupy"), "cupy.cuda": broken}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in sys_modules.items():
            patch.setitem(sys.modules, name, module)
        reason, fix = refused(machine("cupy-cuda13x"))
    assert reason.startswith("CuPy does not load: ImportError")
    assert fix == "pip install --force-reinstall cupy-cuda13x"


def test_no_driver(machine) -> None:
    reason, fix = refused(machine("cupy-cuda13x", runtime=Runtime(driver=0)))
    assert reason == "no NVIDIA driver"
    assert "nvidia.com/drivers" in fix


def test_a_driver_for_an_older_cuda(machine) -> None:
    reason, fix = refused(machine("cupy-cuda13x", runtime=Runtime(driver=12040)))
    assert reason == "CuPy is built for CUDA 13, but the driver is for CUDA 12"
    assert "groundup-cuda[cuda12]" in fix
    reason, fix = refused(machine("cupy-cuda12x", runtime=Runtime(driver=11080, built=12000)))
    assert fix == "update the driver"


def test_a_missing_library(machine, monkeypatch) -> None:
    def load(name: str) -> None:
        raise BackendUnavailable(f"NVIDIA's library {name} is not found", hint="install it")

    def probe() -> Available | Unavailable:
        monkeypatch.setattr("groundup_cuda.jit.load_library", load)
        return CudaBackend().probe()

    machine("cupy-cuda13x", runtime=Runtime(driver=13000))
    assert refused(probe()) == ("NVIDIA's library nvrtc is not found", "install it")


def test_no_gpu(machine) -> None:
    runtime = Runtime(driver=13000)
    runtime.getDeviceCount = lambda: 0
    reason, fix = refused(machine("cupy-cuda13x", runtime=runtime))
    assert reason == "the driver finds no GPU"
    assert "CUDA_VISIBLE_DEVICES" in fix


def test_cuda_that_does_not_start(machine) -> None:
    def fail() -> int:
        raise CUDARuntimeError("cudaErrorUnknown")

    runtime = Runtime(driver=13000)
    runtime.getDeviceCount = fail
    reason, fix = refused(machine("cupy-cuda13x", runtime=runtime))
    assert reason == "CUDA does not start: cudaErrorUnknown"
    assert "nvidia-smi" in fix


def test_a_gpu(machine) -> None:
    answer = machine("cupy-cuda13x", runtime=Runtime(driver=13000))
    assert isinstance(answer, Available)
    assert answer.devices == ["NVIDIA H100, 132 SMs, 80 GiB"]


def test_a_device_that_is_not_there(machine, monkeypatch) -> None:
    from groundup.backends import devices
    from groundup.backends.installed import backends

    entry = backends()["cuda"]
    monkeypatch.setattr(type(entry), "probe", lambda _: Available(["NVIDIA H100"]))
    with pytest.raises(BackendUnavailable, match=r"there is no cuda:7 \(this machine has only"):
        devices.device_for("cuda:7")

"""What users are told where WebGPU does not work, and which adapter comes first where it does."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import groundup as g
from groundup.backends.api import Available, Unavailable
from groundup.errors import BackendUnavailable
from groundup_webgpu.backend import WebGpuBackend


class Adapter:
    def __init__(self, kind: str, api: str = "Vulkan") -> None:
        self.info = {"device": f"a {kind}", "adapter_type": kind, "backend_type": api}


def found(monkeypatch: pytest.MonkeyPatch, answer: Any) -> WebGpuBackend:
    wgpu = pytest.importorskip("wgpu")

    def enumerate_adapters() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(wgpu.gpu, "enumerate_adapters_sync", enumerate_adapters)
    return WebGpuBackend()


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = found(monkeypatch, []).probe()
    assert isinstance(answer, Unavailable)
    assert "no driver" in answer.reason
    assert "mesa-vulkan-drivers" in answer.fix


def test_a_broken_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = found(monkeypatch, OSError("libwgpu_native.so: cannot open")).probe()
    assert isinstance(answer, Unavailable)
    assert answer.reason == "wgpu does not work: OSError: libwgpu_native.so: cannot open"
    assert "pip install" in answer.fix


def test_a_wgpu_without_the_private_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    api = pytest.importorskip("wgpu.backends.wgpu_native")
    backend = found(monkeypatch, [Adapter("CPU")])
    monkeypatch.delattr(api.GPUDevice, "_poll_wait")
    monkeypatch.delitem(sys.modules, "groundup_webgpu.native", raising=False)
    answer = backend.probe()
    assert isinstance(answer, Unavailable)
    assert "has no attribute '_poll_wait'" in answer.reason
    assert answer.fix == "pip install --force-reinstall 'wgpu==0.32.*'"


def test_hardware_comes_first_and_opengl_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [Adapter("CPU"), Adapter("DiscreteGPU", "OpenGL"), Adapter("IntegratedGPU")]
    backend = found(monkeypatch, adapters)
    answer = backend.probe()
    assert isinstance(answer, Available)
    assert list(answer.devices) == [
        "a IntegratedGPU, IntegratedGPU, Vulkan",
        "a CPU, CPU, Vulkan",
    ]
    assert backend.priority > 100, "a GPU is the default device"


def test_a_software_driver_is_not_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 <= found(monkeypatch, [Adapter("CPU")]).priority < 100


def test_an_index_that_is_not_there() -> None:
    if isinstance(WebGpuBackend().probe(), Unavailable):
        pytest.skip("no adapter here")
    with pytest.raises(BackendUnavailable, match=r"there is no webgpu:7 \(this machine has"):
        g.zeros(1, device="webgpu:7")

"""The backend's front door: which adapters there are, and which of them can be used."""

from __future__ import annotations

import os
import tempfile
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from groundup.backends.api import Available, Backend, Unavailable

if TYPE_CHECKING:
    from groundup.backends.api import Device

_DRIVER = "install a Vulkan driver; for a software one: apt install mesa-vulkan-drivers"
_TESTED = "wgpu==0.32.*"  # native.py uses private parts of it
_HARDWARE, _SOFTWARE = 200, 50  # the cpu backend, at 100, beats a GPU that is computed on the CPU


class WebGpuBackend(Backend):
    """WGSL kernels on every adapter that wgpu finds, hardware first."""

    name = "webgpu"
    api_version = (1, 0)

    @property
    def priority(self) -> int:  # type: ignore[override]
        """Above the cpu with a real GPU, below it with a software driver only."""
        if isinstance(self._found, str):
            return _HARDWARE
        return _SOFTWARE if all(is_software(a) for a in self._found) else _HARDWARE

    def probe(self) -> Available | Unavailable:
        """Available if there is an adapter; the reason and the fix if not."""
        found = self._found
        if isinstance(found, str):
            return Unavailable(found, f"pip install --force-reinstall '{_TESTED}'")
        if not found:
            return Unavailable("wgpu finds no adapter: there is no driver for a GPU", _DRIVER)
        return Available([describe(adapter) for adapter in found])

    def open(self, index: int) -> Device:
        """The device of adapter `index`."""
        from groundup_webgpu.device import WebGpuDevice

        assert not isinstance(self._found, str), "probe said so"
        device = WebGpuDevice(self._found[index], f"webgpu:{index}")
        device.climb()
        device.tune()
        return device

    @cached_property
    def _found(self) -> list[Any] | str:
        """The adapters, the most capable first, or why they cannot be listed."""
        # Mesa's drivers complain on stderr without it, as in containers.
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
        try:
            import wgpu

            adapters = wgpu.gpu.enumerate_adapters_sync()
            import_module("groundup_webgpu.native")
        except Exception as error:  # a broken installation fails in many ways
            return f"wgpu does not work: {type(error).__name__}: {error}"
        usable = [a for a in adapters if a.info["backend_type"] in ("Vulkan", "Metal", "D3D12")]
        return sorted(usable, key=_rank)


def describe(adapter: Any) -> str:
    """An adapter in words."""
    info = adapter.info
    return f"{info['device']}, {info['adapter_type']}, {info['backend_type']}"


def is_software(adapter: Any) -> bool:
    """Whether it is a processor that stands in for a GPU."""
    return bool(adapter.info["adapter_type"] == "CPU")


def _rank(adapter: Any) -> int:
    order = ("DiscreteGPU", "IntegratedGPU", "VirtualGPU", "Unknown", "CPU")
    kind = adapter.info["adapter_type"]
    return order.index(kind) if kind in order else len(order)

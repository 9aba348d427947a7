"""For the conformance suite: how to lose a device, which nothing outside this package can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from groundup.backends.api import Device

RECOVERS = True


def lose(device: Device) -> None:
    """Destroy the wgpu device: every later call on it fails."""
    from groundup_webgpu.device import WebGpuDevice

    assert isinstance(device, WebGpuDevice)
    device._gpu.destroy()

"""The backend's front door: cheap to import, always available."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from groundup.backends.api import Available, Backend, Unavailable

if TYPE_CHECKING:
    from groundup.backends.api import Device


class CpuBackend(Backend):
    """NumPy on the host's processor, device `cpu`."""

    name = "cpu"
    api_version = (1, 0)
    priority = 100

    def probe(self) -> Available | Unavailable:
        """Always available, as one device."""
        return Available([f"NumPy on {platform.machine()}, {os.cpu_count()} threads"])

    def open(self, index: int) -> Device:
        """The one device; kernels are imported here."""
        from groundup_cpu_ref.device import CpuDevice

        return CpuDevice()

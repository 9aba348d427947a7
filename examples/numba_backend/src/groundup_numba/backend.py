"""What groundup is told first. Importing this module is cheap; Numba is imported by `open`."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from groundup import hookimpl
from groundup.backends.api import Available, Backend, Unavailable

if TYPE_CHECKING:
    from groundup.backends.api import Device


class NumbaBackend(Backend):
    """The host's processor, through kernels that Numba compiles for it."""

    name = "numba"
    api_version = (1, 0)
    priority = 90  # below the cpu's 100: it takes seconds to compile where its cache is cold

    def probe(self) -> Available | Unavailable:
        """Available where Numba is installed; whether it works shows when the device is opened."""
        if find_spec("numba") is None:
            return Unavailable("Numba is not installed", "pip install numba")
        return Available([f"Numba, {os.cpu_count()} threads"])

    def open(self, index: int) -> Device:
        """The one device."""
        from groundup_numba.device import NumbaDevice

        return NumbaDevice()


@hookimpl
def groundup_backends() -> Backend:
    """The hook that the entry point leads to."""
    return NumbaBackend()

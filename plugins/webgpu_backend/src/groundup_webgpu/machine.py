"""What the choice of templates and tiles depends on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import attrs

from groundup.errors import ConfigError
from groundup_webgpu.tiles import GUESSED, Rated, fitting

PORTABLE_MEMORY: Final = 16384  # bytes of workgroup memory that every adapter has
PORTABLE_BUFFERS: Final = 8  # storage buffers of one dispatch that every adapter has
VARIABLE: Final = "GROUNDUP_WEBGPU_MACHINE"
CHECKS_VARIABLE: Final = "GROUNDUP_WEBGPU_CHECKS"
_CHECKS: Final = ("all", "bounds", "none")
_FEW, _MANY = 256, 1 << 17  # threads that keep a processor, and a GPU, busy


@attrs.frozen
class Machine:
    """An adapter: its workgroup memory in bytes, its storage buffers of one dispatch.

    On a `software` driver one thread does a row as quickly as many, and need not wait for them.
    """

    software: bool
    memory: int = PORTABLE_MEMORY
    buffers: int = PORTABLE_BUFFERS
    tiles: tuple[Rated, ...] = GUESSED  # of matrix products
    subgroups: bool = False  # threads of a row hand each other numbers without memory

    @property
    def rated(self) -> tuple[Rated, ...]:
        """The tiles that there is workgroup memory for."""
        return fitting(self.tiles, self.memory)

    @property
    def threads(self) -> int:
        """How many it takes to keep the device busy."""
        return _FEW if self.software else _MANY


def machine_of(software: bool, limits: Mapping[str, int]) -> Machine:
    """The adapter with these limits, or what GROUNDUP_WEBGPU_MACHINE makes of it.

    "software" and "gpu" choose the kernels for one, "portable" those for a GPU that has no more
    than all have. Raises ConfigError for another value.
    """
    memory = limits["max-compute-workgroup-storage-size"]
    found = Machine(software, memory, limits["max-storage-buffers-per-shader-stage"])
    wanted = wanted_machine()
    if not wanted:
        return found
    if wanted == "portable":
        return Machine(software=False)
    return attrs.evolve(found, software=wanted == "software")


def wanted_machine() -> str:
    """What GROUNDUP_WEBGPU_MACHINE says, nothing if it is not set. Raises ConfigError."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "software", "gpu", "portable"):
        raise ConfigError(f"{VARIABLE} must be 'software', 'gpu' or 'portable', got {wanted!r}")
    return wanted


def wanted_checks() -> str:
    """What GROUNDUP_WEBGPU_CHECKS says: "all", "bounds" of memory (the default), or "none".

    Our loops all end, and a limit of their turns costs every turn some instructions; our kernels
    also check their own places, so those of wgpu are a second safeguard. Raises ConfigError.
    """
    wanted = os.environ.get(CHECKS_VARIABLE, "bounds")
    if wanted not in _CHECKS:
        raise ConfigError(f"{CHECKS_VARIABLE} must be one of {', '.join(_CHECKS)}, got {wanted!r}")
    return wanted

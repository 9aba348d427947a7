"""What the entry point `groundup: cpu` loads: the hooks of this package."""

from __future__ import annotations

from collections.abc import Sequence

from groundup.backends.api import Backend
from groundup.backends.hookspecs import hookimpl
from groundup_cpu_ref.backend import CpuBackend


@hookimpl
def groundup_backends() -> Sequence[Backend]:
    """The CPU backend."""
    return [CpuBackend()]

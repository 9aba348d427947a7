"""What the entry point `groundup: webgpu` loads: the hooks of this package."""

from __future__ import annotations

from collections.abc import Sequence

from groundup.backends.api import Backend
from groundup.backends.hookspecs import hookimpl
from groundup_webgpu.backend import WebGpuBackend


@hookimpl
def groundup_backends() -> Sequence[Backend]:
    """The WebGPU backend."""
    return [WebGpuBackend()]

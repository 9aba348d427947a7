"""What the entry point `groundup: cuda` loads: the hooks of this package."""

from __future__ import annotations

from collections.abc import Sequence

from groundup.backends.api import Backend
from groundup.backends.hookspecs import hookimpl
from groundup_cuda.backend import CudaBackend


@hookimpl
def groundup_backends() -> Sequence[Backend]:
    """The CUDA backend."""
    return [CudaBackend()]

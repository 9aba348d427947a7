"""What the entry point `groundup: webgpu` loads: the hooks of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from groundup.backends.api import Backend
from groundup.backends.hookspecs import hookimpl
from groundup_webgpu.backend import WebGpuBackend

if TYPE_CHECKING:
    from cyclopts import App


@hookimpl
def groundup_backends() -> Sequence[Backend]:
    """The WebGPU backend."""
    return [WebGpuBackend()]


@hookimpl
def groundup_commands(app: App) -> None:
    """`groundup webgpu`."""
    from groundup_webgpu.cli.commands import webgpu

    app.command(webgpu)

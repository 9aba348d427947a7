"""What the entry point `groundup: conformance` loads: cheap, since every start of groundup does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from groundup.backends.hookspecs import hookimpl

if TYPE_CHECKING:
    from cyclopts import App


@hookimpl
def groundup_commands(app: App) -> None:
    """`groundup conformance` and `groundup bench`."""
    from groundup_conformance.cli import bench, commands

    app.command(commands.app)
    app.command(bench.app)

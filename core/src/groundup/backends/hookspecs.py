"""The hooks that a plugin may implement. `docs/plugins.md` shows each with an example.

A plugin is a module named by an entry point of the group `groundup`; it implements the hooks it
needs as functions marked with `@groundup.hookimpl` and may leave out arguments it does not use.
Importing the module must be cheap: heavy imports belong inside the functions, or better, inside
`Backend.open`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pluggy

if TYPE_CHECKING:
    from cyclopts import App

    from groundup.backends.api import Backend, Kernels
    from groundup.ops.op import Op

PROJECT: Final = "groundup"  # of the markers and of the entry-point group

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)


@hookspec
def groundup_backends() -> Backend | Sequence[Backend]:
    """The backends that this package brings.

    Called once, when the first device is asked for. Name the entry point after the backend, so
    that a package that fails to import is still reported under the name that users type.
    """
    raise NotImplementedError


@hookspec
def groundup_ops(registry: Mapping[str, type[Op]]) -> None:
    """Register ops of this package's own, named `package::op`.

    Called once, when ops are first listed or run. Defining a subclass of `Op` with a name
    registers it, so importing the modules that define them is enough; `registry`, op classes by
    name, is there to see what exists.
    """
    raise NotImplementedError


@hookspec
def groundup_kernels(backend_name: str) -> Kernels | Sequence[Kernels] | None:
    """Kernels to add to the backend `backend_name`, also to one of another package; None for none.

    Called once per backend, when its first device is opened. For one op the highest priority
    wins, the backend's own kernels counting as 0; if it declines, the next is asked. Two of one
    priority are an error of that op on that backend.
    """
    raise NotImplementedError


@hookspec
def groundup_passes() -> Sequence[Callable[[Any], Any]]:
    """Passes, functions `Program -> Program`, to run after the core's own.

    Called once, when the first program is compiled.
    """
    raise NotImplementedError


@hookspec
def groundup_commands(app: App) -> None:
    """Add commands to `app`, the cyclopts application behind the command `groundup`.

    Called when the command line starts.
    """
    raise NotImplementedError


@hookspec
def groundup_trackers() -> Mapping[str, Callable[..., Any]]:
    """Places to which a run's metrics can be sent, by name.

    Each value is called with the run's configuration and gives an object with
    `log(step, metrics)` and `finish()`.
    """
    raise NotImplementedError

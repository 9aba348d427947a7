"""What groundup is told of this package: the module that the entry point names."""

from __future__ import annotations

from groundup.backends.api import Kernels
from groundup.backends.hookspecs import hookimpl


@hookimpl
def groundup_ops() -> None:
    """Importing the module registers the op."""
    import groundup_softcap.op  # noqa: F401


@hookimpl
def groundup_kernels(backend_name: str) -> Kernels | None:
    """A kernel for the CPU backend; on any other the op is composed."""
    if backend_name != "cpu":
        return None
    from groundup_softcap.kernel import factory

    return Kernels({"softcap::softcap": factory}, provider="groundup-softcap")

"""Other libraries, doing the same work on the same data in the same run.

None is a dependency: those that are installed run, the others are named as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from groundup.backends.api import Device
from groundup.errors import ConfigError
from groundup.ops.op import Op
from groundup_conformance.budgets.units import Array

NAMES: Final = ("torch", "numpy", "cupy", "jax")


class Peer(Protocol):
    """A library as the benchmarks see it."""

    name: str
    version: str  # and where it runs

    def function(self, op: Op) -> Callable[..., Any] | None:
        """What computes the op, of the library's own arrays; None if it has nothing like it."""

    def array(self, values: Array) -> Any:
        """Values where the library computes."""

    def host(self, result: Any) -> Array:
        """A result's values."""

    def wait(self) -> object:
        """Until everything is done."""


def find(name: str, device: Device) -> Peer:
    """The library, set to run beside `device`.

    Raises ImportError where it is missing, ConfigError for a name that is none or where it has
    nothing to run on.
    """
    if name == "torch":
        from groundup_conformance.bench.peers.pytorch import Torch

        return Torch(device)
    if name in ("numpy", "cupy", "jax"):
        from groundup_conformance.bench.peers.arrays import ArrayPeer

        return ArrayPeer(name, device)
    raise ConfigError(f"no peer named {name!r}", hint=f"there are {', '.join(NAMES)}")


def results(found: Any) -> Sequence[Any]:
    """A function's results as a sequence."""
    return found if isinstance(found, (tuple, list)) else (found,)

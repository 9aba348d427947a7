"""Ops that installed packages bring, through the hook `groundup_ops`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from groundup.backends.plugins import Once, plugins
from groundup.errors import UnsupportedOp
from groundup.ops.op import REGISTRY
from groundup.suggest import did_you_mean

if TYPE_CHECKING:
    from groundup.ops.op import Op


def _load() -> dict[str, type[Op]]:
    plugins().call("groundup_ops", registry=REGISTRY)
    return REGISTRY


all_ops: Final = Once(_load, busy="a plugin listed the ops while they were loaded")
"""Every op by name, those of installed packages included; the packages are asked once."""


def find(name: str) -> type[Op]:
    """The op class of that name. Raises UnsupportedOp with near names."""
    found = REGISTRY.get(name) or all_ops().get(name)
    if found is None:
        raise UnsupportedOp(f"no op named {name!r}", hint=did_you_mean(name, REGISTRY))
    return found

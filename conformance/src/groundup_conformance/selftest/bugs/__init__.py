"""The bugs, by what is wrong with them. Importing a module plants nothing, it only lists them."""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Import every file of bugs."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")

"""The kernels, one file per family of ops."""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Import every kernel file, which registers its kernels."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")

"""The conformance suite of groundup's backends: `groundup conformance BACKEND`."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("groundup-conformance")

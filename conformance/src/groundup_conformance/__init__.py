"""The conformance suite of groundup's backends. The suite itself is still to come."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("groundup-conformance")

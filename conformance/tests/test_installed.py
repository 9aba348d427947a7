"""The package belongs to the core beside it."""

from __future__ import annotations

import groundup_conformance
from groundup._version import __version__


def test_the_suite_belongs_to_this_groundup() -> None:
    assert groundup_conformance.__version__ == __version__

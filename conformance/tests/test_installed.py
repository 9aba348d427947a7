"""The package is there; the suite follows."""

from __future__ import annotations

import groundup_conformance
from groundup._version import __version__


def test_the_suite_belongs_to_this_groundup() -> None:
    assert groundup_conformance.__version__ == __version__

"""Level 0: what moves, fills, copies and converts data, in every dtype and layout."""

from __future__ import annotations

import pytest

from groundup.backends.api import Device
from groundup_conformance import cases as derived
from groundup_conformance import running
from groundup_conformance.cases import Check
from groundup_conformance.running import Oracle
from groundup_conformance.session import Record, cases

LEVEL = 0
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@cases(derived.foundations)
def test_foundations(check: Check, device: Device, oracle: Oracle, record: Record) -> None:
    """Views, copies, casts and fills."""
    figures = running.forward(check, device, oracle)
    record(figures.ratio, figures.ulp)

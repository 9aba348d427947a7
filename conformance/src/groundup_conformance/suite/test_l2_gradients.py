"""Level 2: the gradient of every differentiable op, against the oracle's."""

from __future__ import annotations

import pytest

from groundup.backends.api import Device
from groundup_conformance import cases as derived
from groundup_conformance import running
from groundup_conformance.cases import Check
from groundup_conformance.running import Oracle
from groundup_conformance.session import Record, cases

LEVEL = 2
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@cases(derived.gradients)
def test_gradients(check: Check, device: Device, oracle: Oracle, record: Record) -> None:
    """By every input of floats, for a random gradient of the results."""
    figures = running.gradient(check, device, oracle)
    record(figures.ratio, figures.ulp)

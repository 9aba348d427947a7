"""Level 1: the result of every op, in every dtype, layout and size, with special values."""

from __future__ import annotations

import pytest

from groundup.backends.api import Device
from groundup_conformance import cases as derived
from groundup_conformance import running
from groundup_conformance.cases import Check
from groundup_conformance.oracle import has_reference
from groundup_conformance.running import Failed, Oracle
from groundup_conformance.session import Record, cases

LEVEL = 1
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@cases(derived.references)
def test_references(check: Check) -> None:
    """The oracle knows the op; without, its other cases are blocked."""
    if not has_reference(check.payload):
        raise Failed(
            f"no reference for {check.payload.name}: its results cannot be judged\n"
            "its package registers one with groundup_conformance.oracle.reference"
        )


@cases(derived.undeclared)
def test_undeclared_dtypes(check: Check, device: Device) -> None:
    """What the device does not declare, it refuses."""
    running.undeclared(check, device)


@cases(derived.forward)
def test_forward(check: Check, device: Device, oracle: Oracle, record: Record) -> None:
    """Results within budget."""
    figures = running.forward(check, device, oracle)
    record(figures.ratio, figures.ulp)


@cases(derived.grid)
def test_grid(check: Check, device: Device, oracle: Oracle, record: Record) -> None:
    """More than 65,535 workgroups."""
    figures = running.forward(check, device, oracle)
    record(figures.ratio, figures.ulp)

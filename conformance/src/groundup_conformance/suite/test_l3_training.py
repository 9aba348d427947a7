"""Level 3: training. Losses step by step, first gradients and updates, saving and going on."""

from __future__ import annotations

from pathlib import Path

from groundup.backends.api import Device
from groundup_conformance.budgets import Profile
from groundup_conformance.cases import Check
from groundup_conformance.session import Record, cases
from groundup_conformance.training import checks

LEVEL = 3


@cases(checks.training)
def test_training(check: Check, device: Device, profile: Profile, record: Record) -> None:
    """Near the same run in float64."""
    figures = checks.trained(check, device, profile)
    record(figures.ratio, figures.ulp)


@cases(checks.resumption)
def test_resumption(check: Check, device: Device, tmp_path: Path) -> None:
    """Bit by bit the run that was not interrupted."""
    checks.resumed(check, device, tmp_path)

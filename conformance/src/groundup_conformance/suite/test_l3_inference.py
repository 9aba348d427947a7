"""Level 3: inference. A trained GPT writes what it writes in float64, with and without a cache."""

from __future__ import annotations

from groundup.backends.api import Device
from groundup_conformance.budgets import Profile
from groundup_conformance.cases import Check
from groundup_conformance.session import Record, cases
from groundup_conformance.training import checks

LEVEL = 3


@cases(checks.inference)
def test_inference(check: Check, device: Device, profile: Profile, record: Record) -> None:
    """Tokens, and the logits that they come from."""
    figures = checks.decoded(check, device, profile)
    record(figures.ratio, figures.ulp)

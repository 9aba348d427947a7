"""Track `threads`: eight threads at once, on tensors of their own."""

from __future__ import annotations

from groundup.backends.api import Device
from groundup_conformance.cases import Check
from groundup_conformance.session import cases
from groundup_conformance.tracks import threads

TRACK = "threads"


@cases(threads.families)
def test_families(check: Check, device: Device) -> None:
    """Every op and its gradient."""
    threads.family(check, device)


def test_training(device: Device) -> None:
    """Whole steps of training."""
    threads.training(device)

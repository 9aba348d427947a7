"""Track `leaks`: memory stays flat, however often things are done."""

from __future__ import annotations

import pytest

from groundup.backends.api import Device
from groundup_conformance.cases import Check
from groundup_conformance.session import cases
from groundup_conformance.tracks import leaks
from groundup_conformance.training.models import NETWORKS

TRACK = "leaks"


@cases(leaks.ops)
def test_ops(check: Check, device: Device) -> None:
    """Every op with its gradient, 50 times."""
    leaks.op(check, device)


@pytest.mark.parametrize("network", NETWORKS)
def test_training(device: Device, network: str) -> None:
    """20 steps of training after the first few."""
    leaks.training(network, device)


@pytest.mark.parametrize("network", NETWORKS)
def test_forgotten(device: Device, network: str) -> None:
    """No tensor outlives the step that made it."""
    leaks.forgotten(network, device)


def test_refused_calls(device: Device) -> None:
    """An error keeps no tensor."""
    leaks.refused(device)

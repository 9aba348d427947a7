"""Track `robust`: full memory, kernels that do not compile, a lost device."""

from __future__ import annotations

import pytest

from groundup.backends.api import Device
from groundup_conformance.cases import Check
from groundup_conformance.session import cases
from groundup_conformance.tracks import faults, losing

TRACK = "robust"


@cases(faults.shortages)
def test_shortages(check: Check, device: Device) -> None:
    """Every allocation of an op and its gradient fails once."""
    faults.shortage(check, device)


@cases(faults.failed_updates)
def test_failed_updates(check: Check, device: Device) -> None:
    """An update is done wholly or not at all."""
    faults.failed_update(check, device)


@cases(faults.refusals)
def test_refusals(check: Check, device: Device) -> None:
    """Every kernel of an op does not compile once."""
    faults.refusal(check, device)


def test_full_device(device: Device) -> None:
    """The core tries again with an empty cache, and then says that memory is full."""
    faults.full_device(device)


def test_training_step(device: Device) -> None:
    """A step that runs out of memory anywhere leaves the network as it was, or as it would be."""
    faults.training_step(device)


def test_lost_device(device: Device, backend_name: str) -> None:
    """Every call says that the device is lost, until it is opened again."""
    if losing.seam_of(backend_name) is None:
        pytest.skip("not shown: the backend says no way to lose a device (conformance_seam)")
    losing.lose(device.info.name)

"""Level 0: errors. Every refusal that an op promises, by its exact class, and what follows it."""

from __future__ import annotations

import numpy as np
import pytest

import groundup
from groundup.backends.api import Device
from groundup.errors import DeviceMismatch, ShapeError
from groundup_conformance import cases as derived
from groundup_conformance import running
from groundup_conformance.cases import Check
from groundup_conformance.session import cases

LEVEL = 0
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@cases(derived.refusals)
def test_refusals(check: Check, device: Device) -> None:
    """The error's class and text; inputs stay as they were."""
    running.refusal(check, device)


def test_tensors_of_two_devices(device: Device) -> None:
    """Operands must live on one device."""
    here = groundup.from_numpy(np.ones(3, np.float32), device)
    elsewhere = groundup.from_numpy(np.ones(3, np.float32), "null")
    with pytest.raises(DeviceMismatch):
        here + elsewhere


def test_the_next_call_works(device: Device) -> None:
    """A refusal leaves nothing behind: the same op then computes."""
    x = groundup.from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3), device)
    for _ in range(2):
        with pytest.raises(ShapeError):
            x @ x
        assert (x @ x.mT).tolist() == [[5, 14], [14, 50]]

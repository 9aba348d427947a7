"""Level 0: memory. Bytes round trip, strided transfers, reuse, dtypes that are not there."""

from __future__ import annotations

from groundup.backends.api import Device
from groundup_conformance import transfers
from groundup_conformance.cases import Check
from groundup_conformance.session import cases

LEVEL = 0


@cases(transfers.round_trips)
def test_bytes(check: Check, device: Device) -> None:
    """Random bytes come back."""
    transfers.round_trip(check, device)


@cases(transfers.strided)
def test_strides(check: Check, device: Device) -> None:
    """Views read and write their own elements."""
    {"read": transfers.read, "write": transfers.write}[check.id.variant](check, device)


@cases(transfers.reuse)
def test_reuse(check: Check, device: Device) -> None:
    """Live tensors keep their memory."""
    transfers.recycle(check, device)


@cases(transfers.unknown)
def test_unknown_dtypes(check: Check, device: Device) -> None:
    """What is not declared is refused."""
    transfers.refuse(check, device)

"""Counters of what a device was asked to do. They are exact, so tests may gate on them.

with groundup.counting() as counts:
    step()
assert counts.launches <= 300 and counts.waits == 0
"""

from __future__ import annotations

import attrs

from groundup.backends.api import Device
from groundup.backends.devices import DeviceLike, device_for, opened_devices


@attrs.define
class Counts:
    """What devices did, from all threads.

    `allocations` and `bytes_allocated` are memory that the core's pool fetched from the device: a
    loop over the same shapes needs none after its first turn. (The cpu backend takes arrays below
    256 KiB from NumPy, which are not counted.)
    """

    launches: int = 0  # kernels started
    compiled: int = 0  # kernels compiled, or loaded from a cache on disk
    allocations: int = 0
    bytes_allocated: int = 0
    waits: int = 0  # how often the host waited: reads of values, `Device.synchronize`

    def __sub__(self, other: Counts) -> Counts:
        pairs = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return Counts(*[a - b for a, b in pairs])

    def __add__(self, other: Counts) -> Counts:
        pairs = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return Counts(*[a + b for a, b in pairs])


class counting:  # noqa: N801 - read as a word: `with counting() as counts:`
    """Counts what happens inside: on one device, or on all that are opened by its end.

    The counts are complete when the block ends. Raises what `device_for` raises.
    """

    def __init__(self, device: DeviceLike = None) -> None:
        self._device = None if device is None else device_for(device)
        self._before: dict[Device, Counts] = {}
        self.counts = Counts()
        self.by_device: dict[str, Counts] = {}

    def __enter__(self) -> Counts:
        self._before = {device: _so_far(device) for device in self._devices()}
        return self.counts

    def __exit__(self, *_: object) -> None:
        total = Counts()
        for device in self._devices():
            change = _so_far(device) - self._before.get(device, Counts())
            self.by_device[device.info.name] = change
            total += change
        for field in attrs.fields(Counts):
            setattr(self.counts, field.name, getattr(total, field.name))

    def _devices(self) -> list[Device]:
        return opened_devices() if self._device is None else [self._device]


def _so_far(device: Device) -> Counts:
    """Since it was opened."""
    pool = device.pool
    return Counts(device.launches, device.compiled, pool.allocations, pool.allocated, device.waits)

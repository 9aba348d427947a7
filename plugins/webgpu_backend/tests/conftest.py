"""Fixtures: the device, as an adapter of each kind that templates are chosen for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup_webgpu.backend import WebGpuBackend
from groundup_webgpu.machine import Machine

MACHINES = {
    "software": Machine(software=True),
    "gpu": Machine(software=False, memory=32768, buffers=32),
    "subgroups": Machine(software=False, memory=32768, buffers=32, subgroups=True),
    "portable": Machine(software=False),
}


@pytest.fixture(params=MACHINES)
def machine_device(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The device with the kernels for each kind of adapter."""
    yield from _as(MACHINES[request.param])


@pytest.fixture
def portable_device() -> Iterator[Any]:
    """The device with the kernels for a GPU that has no more than all have."""
    yield from _as(MACHINES["portable"])


def _as(machine: Machine) -> Iterator[Any]:
    probe = WebGpuBackend().probe()
    if isinstance(probe, Unavailable):
        pytest.skip(f"webgpu: {probe.reason} ({probe.fix})")
    device: Any = g.device_for("webgpu:0")
    if machine.subgroups and "subgroups" not in device.info.features:
        pytest.skip("the adapter has no subgroups")
    buffers = min(machine.buffers, device.machine.buffers)
    kept, device.machine = device.machine, attrs.evolve(machine, buffers=buffers)
    device.plans.clear()
    yield device
    device.machine = kept
    device.plans.clear()

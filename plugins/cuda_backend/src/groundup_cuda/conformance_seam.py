"""For the conformance suite: how to lose a device, which nothing outside this package can do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from groundup.dtypes import float32
from groundup.errors import DeviceLost
from groundup.layout import Layout, Spec
from groundup.ops.movement import Contiguous

if TYPE_CHECKING:
    from groundup.backends.api import Device

RECOVERS = False  # CUDA does not, in the same process
_NO_ADDRESS = 64


def lose(device: Device) -> None:
    """Read memory that is not there: CUDA answers every later call with that fault."""
    from groundup_cuda.launch import CudaKernel

    layout = Layout.contiguous(Spec((4,), float32))
    source, target = device.empty(layout), device.empty(layout)
    source.native = _NO_ADDRESS
    kernel = device.kernel(Contiguous(), (layout,), (layout,))
    assert isinstance(kernel, CudaKernel)
    with contextlib.suppress(DeviceLost):
        kernel.launch((source,), (target,))
        device.synchronize()

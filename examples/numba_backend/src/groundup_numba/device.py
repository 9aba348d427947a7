"""The device `numba`: bytes from the core's pool, kernels from the table `NATIVE`."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numba
import numpy as np

from groundup import dtypes
from groundup.backends.api import Declined, Device, DeviceInfo, Kernel, MemoryStats, View
from groundup.errors import OutOfMemory
from groundup.layout import Layout
from groundup.ops import Op
from groundup_numba import (  # noqa: F401
    contraction,
    elementwise,
    indexing,
    loss,
    movement,
    normalization,
    optimizer,
    philox,
    reduction,
    softmax,
    sorting,
)
from groundup_numba.native import NATIVE, Array, NumbaKernel, strided
from groundup_numba.threads import THREADS

# What Numba's CPU target computes in. The 16-bit floats would have to be widened and rounded.
_DTYPES = (dtypes.bool_, *dtypes.INTS, dtypes.float32, dtypes.float64)


class NumbaDevice(Device):
    """Launches run at once, so there is nothing to wait for."""

    def describe(self) -> DeviceInfo:
        """All dtypes but the 16-bit floats, and no limits."""
        everything = frozenset({"store", "compute", "matmul"})
        text = f"Numba {numba.__version__}, {platform.machine()}, {THREADS} threads"
        return DeviceInfo("numba", text, dict.fromkeys(_DTYPES, everything))

    def allocate(self, nbytes: int) -> Array:
        """Fresh bytes, aligned as NumPy aligns them."""
        try:
            return np.empty(nbytes, np.uint8)
        except (MemoryError, ValueError) as error:
            raise OutOfMemory(f"numba: no room for {nbytes} bytes") from error

    def attach(self, view: View) -> View:
        """`native` is the whole buffer as a flat array of the view's dtype."""
        view.native = view.buffer.handle.view(view.layout.dtype.numpy)
        return view

    def write(self, view: View, array: Array) -> None:
        """Copy in."""
        strided(view)[...] = array

    def read(self, view: View) -> Array:
        """Copy out, row-major."""
        return np.array(strided(view), order="C")

    def kernel(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        """What the factory of that op makes of the layouts. Nothing is compiled before it runs."""
        found = NATIVE.get(op.name)
        if found is None:
            return Declined(f"no kernel for {op.name}")
        plan = found.factory(op, inputs, outputs)
        return plan if isinstance(plan, Declined) else NumbaKernel(op, found.params, plan)

    def synchronize(self) -> None:
        """A launch has finished when it returns."""

    def memory(self) -> MemoryStats:
        """The core's pool does the counting."""
        return MemoryStats(self.pool.in_use, self.pool.peak, self.pool.reserved)

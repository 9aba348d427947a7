"""The device `null`: it computes nothing and counts everything.

Any program runs on it, on any machine and in no time, which answers "will it fit?" and "how much
work is it?". Reading gives zeros. It is never chosen as a default; ask for it by name.

GROUNDUP_NULL_MEMORY ("80GB", "24GiB", or bytes) gives it a memory to run out of, as a device of
that size would.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from groundup import dtypes
from groundup.backends.api import (
    API_VERSION,
    Available,
    Backend,
    Device,
    DeviceInfo,
    HostArray,
    Kernel,
    Launch,
    MemoryStats,
    View,
)
from groundup.backends.hookspecs import hookimpl
from groundup.errors import OutOfMemory
from groundup.layout import Layout
from groundup.units import parse_size

if TYPE_CHECKING:
    from groundup.ops.op import Op

_EVERYTHING: Final = frozenset({"store", "compute", "matmul"})


@attrs.define
class Work:
    """What was asked of a null device since it was opened, or since `reset`."""

    launches: int = 0
    flops: int = 0
    bytes: int = 0  # the least that the kernels would have to move
    written: int = 0  # bytes from the host
    read: int = 0  # bytes to the host

    def reset(self) -> None:
        """Start counting from zero."""
        self.launches = self.flops = self.bytes = self.written = self.read = 0


class NullLaunch:
    """One counted launch."""

    def __init__(self, name: str, work: Work, flops: int, nbytes: int) -> None:
        self.name = name
        self.work = work
        self.flops = flops
        self.bytes = nbytes

    def __call__(self) -> None:
        """Count."""
        self.work.launches += 1
        self.work.flops += self.flops
        self.work.bytes += self.bytes

    def describe(self) -> Mapping[str, object]:
        """The op's name and its cost."""
        return {"kernel": self.name, "flops": self.flops, "bytes": self.bytes}


class NullKernel(Kernel):
    """Stands for the kernel of any op, and works in place wherever the op allows it."""

    def __init__(self, op: Op, inputs: Sequence[Layout], work: Work) -> None:
        cost = op.cost(*[layout.spec for layout in inputs])
        self.params = frozenset(op.fields)
        self.in_place = op.aliases
        self._launch = NullLaunch(op.name, work, cost.flops, cost.bytes)

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """The launch is the same for all memory, since it touches none."""
        return self._launch


class NullDevice(Device):
    """Storage without memory, kernels without arithmetic. `work` has the counts."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def allocate(self, nbytes: int) -> None:
        """Nothing; the pool counts the bytes. Raises OutOfMemory beyond `info.memory`."""
        limit = self.info.memory
        if limit is not None and self.pool.reserved + nbytes > limit:
            raise OutOfMemory(
                f"null: no room for {nbytes:,} bytes, {self.pool.in_use:,} of {limit:,} are in use",
                hint="GROUNDUP_NULL_MEMORY sets the limit",
            )

    def write(self, view: View, array: HostArray) -> None:
        """Forget the array."""
        self.work.written += array.nbytes

    def read(self, view: View) -> HostArray:
        """Zeros."""
        layout = view.layout
        self.work.read += layout.spec.nbytes
        return np.zeros(layout.shape, layout.dtype.numpy)

    def kernel(self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Kernel:
        """A kernel for whatever is asked."""
        return NullKernel(op, inputs, self.work)

    def synchronize(self) -> None:
        """There is nothing to wait for."""

    def memory(self) -> MemoryStats:
        """What a real device would hold."""
        return MemoryStats(self.pool.in_use, self.pool.peak, self.pool.reserved)

    def describe(self) -> DeviceInfo:
        """Every dtype, and no limit but GROUNDUP_NULL_MEMORY. Raises ConfigError."""
        everything = dict.fromkeys(dtypes.ALL, _EVERYTHING)
        return DeviceInfo("null", "counts, computes nothing", everything, memory=_memory())


def fresh() -> NullDevice:
    """A null device of one's own, with nothing counted yet, that never runs out of memory."""
    device = NullDevice()
    device.info = attrs.evolve(device.describe(), memory=None)
    return device


class Null(Backend):
    """The built-in backend `null`."""

    name = "null"
    api_version = API_VERSION
    priority = -1

    def probe(self) -> Available:
        """Always there."""
        return Available(["counts, computes nothing"])

    def open(self, index: int) -> NullDevice:
        """A device with its own counts."""
        return NullDevice()


def _memory() -> int | None:
    given = os.environ.get("GROUNDUP_NULL_MEMORY", "").strip()
    return parse_size(given, "GROUNDUP_NULL_MEMORY") if given else None


@hookimpl
def groundup_backends() -> Backend:
    """The backend `null`."""
    return Null()

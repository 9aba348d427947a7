"""Kernels and launches. A launch hands CUDA one block of 64-bit parameters, addresses first."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cupy.cuda import driver, runtime

from groundup.backends.api import Kernel, Launch, View
from groundup.ops.movement import Contiguous
from groundup.ops.op import Op
from groundup_cuda.plans import Lowered
from groundup_cuda.products import Product
from groundup_cuda.source import OUT, Stage

if TYPE_CHECKING:
    from groundup_cuda.device import CudaDevice

FAULTS: Final = (runtime.CUDARuntimeError, driver.CUDADriverError)
Call: TypeAlias = Callable[[int], object]  # given the stream


class _Started:
    """A kernel's start with a parameter block of its own, which must stay where it is."""

    __slots__ = ("_address", "_block", "_start")

    def __init__(self, start: Callable[[int, int, int], object], block: Any) -> None:
        self._start = start
        self._block = block
        self._address = ctypes.addressof(block)

    def __call__(self, queue: int) -> None:
        self._start(queue, self._address, 0)


class _Starter:
    """A stage, compiled. CUDA copies the parameters when a kernel is started, so one block serves
    all single launches, one at a time.

    A block begins with the pointer that CUDA asks for, which points to what comes after it.
    """

    __slots__ = ("_address", "_block", "_copies", "_operands", "_pack", "_start")

    def __init__(self, device: CudaDevice, stage: Stage) -> None:
        count = len(stage.operands)
        self._copies = stage.copies
        self._start = partial(
            driver.launchKernel, device.function(stage), stage.blocks, 1, 1, stage.threads, 1, 1,
            stage.shared,
        )  # fmt: skip
        self._operands = stage.operands
        self._pack = struct.Struct(f"{count}Q").pack_into
        self._block = (ctypes.c_int64 * (1 + len(stage.parameters)))(0, *stage.parameters)
        self._address = _point(self._block)

    def idle(self, views: Sequence[Any]) -> bool:
        """Whether it would copy memory onto itself."""
        return self._copies and len({views[k].native for k in self._operands}) == 1

    def bind(self, views: Sequence[Any]) -> _Started:
        """For many launches on the same memory."""
        block = type(self._block).from_buffer_copy(self._block)
        _point(block)
        self._pack(block, 8, *[views[k].native for k in self._operands])
        return _Started(self._start, block)

    def run(self, views: Sequence[Any], queue: int) -> None:
        """For one launch. The caller keeps other threads away."""
        if self._copies and self.idle(views):
            return
        self._pack(self._block, 8, *[views[k].native for k in self._operands])
        self._start(queue, self._address, 0)


def _point(block: Any) -> int:
    address = ctypes.addressof(block)
    block[0] = address + 8
    return address


class _Products:
    """A cuBLAS call, with the interface of a _Starter."""

    __slots__ = ("_device", "_product")

    def __init__(self, device: CudaDevice, product: Product) -> None:
        self._device = device
        self._product = product

    def idle(self, views: Sequence[Any]) -> bool:
        """Never."""
        return False

    def bind(self, views: Sequence[Any]) -> Call:
        """For many launches on the same memory."""
        addresses = views[OUT].native, views[0].native, views[1].native
        return lambda queue: self._device.blas(queue).multiply(self._product, *addresses)

    def run(self, views: Sequence[Any], queue: int) -> None:
        """For one launch."""
        self.bind(views)(queue)


class CudaLaunch:
    """The calls of a kernel's steps."""

    __slots__ = ("_calls", "_kernel", "_views")

    def __init__(self, kernel: CudaKernel, calls: Sequence[Call], views: Sequence[Any]) -> None:
        self._kernel = kernel
        self._calls = calls
        self._views = views  # keeps the buffers alive

    def __call__(self) -> None:
        """Enqueue."""
        device = self._kernel.device
        try:
            device.use()
            self.enqueue(device.queue)
        except FAULTS as error:
            device.fault(error)

    def enqueue(self, queue: int) -> None:
        """Into that stream of the current device; faults are the caller's."""
        for call in self._calls:
            call(queue)

    def describe(self) -> Mapping[str, object]:
        """The op, and the source and blocks of each kernel."""
        stages = [step for step in self._kernel.steps if isinstance(step, Stage)]
        return {
            "kernel": self._kernel.label,
            "grid": [stage.blocks for stage in stages],
            "source": [stage.source for stage in stages],
        }


class CudaKernel(Kernel):
    """The steps of one op on layouts. They are compiled when memory is first bound."""

    def __init__(self, device: CudaDevice, op: Op, lowered: Lowered) -> None:
        self.device = device
        self.name, self.label = op.name, op.label
        self.steps = lowered.steps
        self.contiguous = lowered.contiguous
        self.workspace = lowered.scratch
        self.params = frozenset(op.fields)
        self.in_place = lowered.in_place
        self._starters: list[_Starter | _Products] | None = None
        self._lock = threading.Lock()

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """A parameter block for each step, with the addresses filled in."""
        assigns = self.name == "assign"
        if assigns and outputs[0].layout is not inputs[0].layout:  # not in place after all
            copy = self.device.kernel(Contiguous(), (inputs[1].layout,), (outputs[0].layout,))
            assert isinstance(copy, Kernel)
            return copy.bind(inputs[1:], outputs)
        views = (*inputs, *outputs[::-1], workspace)
        starters = [each for each in self._compiled() if not each.idle(views)]
        return CudaLaunch(self, [starter.bind(views) for starter in starters], views)

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """The same without objects that outlive the call."""
        if self.name == "assign":
            self.bind(inputs, outputs, workspace)()
            return
        views = (*inputs, *outputs[::-1], workspace)
        starters = self._starters or self._compiled()
        try:
            with self._lock:
                self.device.use()
                for starter in starters:
                    starter.run(views, self.device.queue)
        except FAULTS as error:
            self.device.fault(error)

    def _compiled(self) -> list[_Starter | _Products]:
        if self._starters is None:
            device = self.device
            self._starters = [
                _Starter(device, step) if isinstance(step, Stage) else _Products(device, step)
                for step in self.steps
            ]
        return self._starters

"""Kernels and launches. A launch hands CUDA one block of 64-bit parameters, addresses first."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cupy.cuda import driver, runtime

from groundup.backends.api import Kernel, Launch, View
from groundup.ops.movement import Contiguous
from groundup.ops.op import Op
from groundup_cuda.lowering import Lowered, Step
from groundup_cuda.source import THREADS, Stage

if TYPE_CHECKING:
    from groundup_cuda.device import CudaDevice

FAULTS: Final = (runtime.CUDARuntimeError, driver.CUDADriverError)
Call: TypeAlias = Callable[[], object]


class _Start:
    """A kernel's start with its parameters, which must stay where they are."""

    __slots__ = ("_address", "_memory", "_pointer", "_start")

    def __init__(self, start: Callable[[int, int], object], parameters: bytes) -> None:
        self._start = start
        self._memory = ctypes.create_string_buffer(parameters)
        self._pointer = ctypes.c_void_p(ctypes.addressof(self._memory))
        self._address = ctypes.addressof(self._pointer)

    def __call__(self) -> None:
        self._start(self._address, 0)


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
            for call in self._calls:
                call()
        except FAULTS as error:
            device.fault(error)

    def describe(self) -> Mapping[str, object]:
        """The op, and the source and blocks of each kernel."""
        stages = [step for step in self._kernel.steps if isinstance(step, Stage)]
        return {
            "kernel": self._kernel.name,
            "grid": [stage.blocks for stage in stages],
            "source": [stage.source for stage in stages],
        }


class CudaKernel(Kernel):
    """The steps of one op on layouts. They are compiled when memory is first bound."""

    def __init__(self, device: CudaDevice, op: Op, lowered: Lowered) -> None:
        self.device = device
        self.name = op.name
        self.steps = lowered.steps
        self.contiguous = lowered.contiguous
        self.workspace = lowered.scratch
        self.params = frozenset(op.fields)
        self.in_place = dict(op.aliases) if op.name == "assign" else {}
        self._binders: list[Callable[[Sequence[Any]], Call]] | None = None

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """A parameter block for each step, with the addresses filled in."""
        if self.in_place and outputs[0].layout is not inputs[0].layout:  # not in place after all
            copy = self.device.kernel(Contiguous(), (inputs[1].layout,), (outputs[0].layout,))
            assert isinstance(copy, Kernel)
            return copy.bind(inputs[1:], outputs)
        if self._binders is None:
            self._binders = [self._binder(step) for step in self.steps]
        views = (*inputs, workspace, outputs[0])
        return CudaLaunch(self, [binder(views) for binder in self._binders], views)

    def _binder(self, step: Step) -> Callable[[Sequence[Any]], Call]:
        device = self.device
        if not isinstance(step, Stage):
            blas = device.blas()
            return lambda views: blas.call(step, views[-1].native, views[0].native, views[1].native)
        operands = step.operands
        addresses = struct.Struct(f"{len(operands)}Q").pack
        numbers = step.parameters[len(operands) :]
        rest = struct.pack(f"{len(numbers)}q", *numbers)
        grid = (step.blocks, 1, 1, THREADS, 1, 1)
        start = partial(driver.launchKernel, device.function(step), *grid, 0, device.queue)
        return lambda views: _Start(start, addresses(*[views[k].native for k in operands]) + rest)

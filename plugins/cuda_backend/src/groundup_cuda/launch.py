"""Kernels and launches: steps bound to addresses.

A launch hands CUDA one block of 64-bit parameters. The block is prepared once per kernel; a launch
writes the addresses into it and calls the driver, which copies it.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cupy.cuda import driver, runtime

from groundup.backends.api import Kernel, Launch, View
from groundup.ops.op import Op
from groundup_cuda.lowering import into
from groundup_cuda.source import OUT, THREADS, Stage
from groundup_cuda.steps import Lowered, Step

if TYPE_CHECKING:
    from groundup_cuda.device import CudaDevice

Run: TypeAlias = Callable[[Sequence[Any]], None]
FAULTS: Final = (runtime.CUDARuntimeError, driver.CUDADriverError)


class _Block:
    """A stage's parameters in memory, the addresses first, and the call that launches it."""

    __slots__ = ("_fill", "_memory", "_offset", "_operands", "_pointer", "launch")

    def __init__(self, device: CudaDevice, stage: Stage) -> None:
        values = stage.parameters
        self._memory = ctypes.create_string_buffer(struct.pack(f"{len(values)}q", *values))
        self._pointer = ctypes.c_void_p(ctypes.addressof(self._memory))
        self._fill = struct.Struct(f"{len(stage.operands)}Q").pack_into
        self._operands = stage.operands
        self._offset = stage.offset
        self.launch = partial(
            driver.launchKernel, device.function(stage), stage.blocks, 1, 1, THREADS, 1, 1, 0,
            device.queue, ctypes.addressof(self._pointer), 0,
        )  # fmt: skip

    def fill(self, views: Sequence[Any]) -> None:
        """Write the addresses of these views, the last of which is the output."""
        addresses = [views[k].native for k in self._operands]
        addresses[0] += self._offset
        self._fill(self._memory, 0, *addresses)


class CudaLaunch:
    """Steps with their memory."""

    __slots__ = ("_calls", "_device", "_keep", "_steps", "name")

    def __init__(self, kernel: CudaKernel, calls: Sequence[Callable[[], Any]], keep: Any) -> None:
        self._device = kernel.device
        self._calls = calls
        self._keep = keep  # buffers and parameters
        self._steps = kernel.steps
        self.name = kernel.name

    def __call__(self) -> None:
        """Enqueue."""
        device = self._device
        device.use()
        try:
            for call in self._calls:
                call()
        except FAULTS as error:
            device.fault(error)

    def describe(self) -> Mapping[str, object]:
        """The op, and the source and blocks of each kernel."""
        stages = [step for step in self._steps if isinstance(step, Stage)]
        return {
            "kernel": self.name,
            "grid": [stage.blocks for stage in stages],
            "source": [stage.source for stage in stages],
        }


class CudaKernel(Kernel):
    """The steps of one op on layouts. It compiles at its first launch."""

    def __init__(self, device: CudaDevice, op: Op, lowered: Lowered) -> None:
        self.device = device
        self.name = op.name
        self.steps: Sequence[Step] = lowered.steps
        self.contiguous = lowered.contiguous
        self.workspace = lowered.scratch
        self.params = frozenset(op.fields)
        self._runs: list[Run] | None = None

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """Parameter blocks of its own, with the addresses filled in."""
        views: tuple[Any, ...] = (*inputs, workspace, outputs[0])
        calls: list[Callable[[], Any]] = []
        keep: list[Any] = [views]
        for step in self.steps:
            if isinstance(step, Stage):
                block = _Block(self.device, step)
                block.fill(views)
                keep.append(block)
                calls.append(block.launch)
            else:
                blas = self.device.blas()
                made = blas.calls(step, views[OUT].native, views[0].native, views[1].native)
                calls += [partial(blas.run, call) for call in made]
        return CudaLaunch(self, calls, keep)

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """As `bind`, with parameter blocks that all launches of this kernel share."""
        device = self.device
        runs = self._runs
        if runs is None:
            runs = self._runs = [self._prepare(step) for step in self.steps]
        views = (*inputs, workspace, outputs[0])
        try:
            with device.lock:
                device.use()
                for run in runs:
                    run(views)
        except FAULTS as error:
            device.fault(error)

    def _prepare(self, step: Step) -> Run:
        if isinstance(step, Stage):
            block = _Block(self.device, step)

            def start(views: Sequence[Any]) -> None:
                block.fill(views)
                block.launch()

            return start
        blas = self.device.blas()

        def multiply(views: Sequence[Any]) -> None:
            for call in blas.calls(step, views[OUT].native, views[0].native, views[1].native):
                blas.run(call)

        return multiply


class AssignKernel(CudaKernel):
    """Writes to the target itself, which may be any view, or to a row-major output."""

    def __init__(self, device: CudaDevice, op: Op, lowered: Lowered) -> None:
        super().__init__(device, op, lowered)
        self.in_place = dict(op.aliases)
        self._op = op
        self._planned: Any = None

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """The steps are those for the output's own strides."""
        with self.device.lock:
            self._match(inputs, outputs)
            super().launch(inputs, outputs, workspace)

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """The steps are those for the output's own strides."""
        with self.device.lock:
            self._match(inputs, outputs)
            return super().bind(inputs, outputs, workspace)

    def _match(self, inputs: Sequence[View], outputs: Sequence[View]) -> None:
        if outputs[0].layout is not self._planned:
            self._planned = outputs[0].layout
            self.steps, self._runs = into(inputs[1].layout, self._planned), None

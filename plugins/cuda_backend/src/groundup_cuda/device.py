"""The device `cuda:N`: memory and one stream of CuPy, kernels compiled when they are first bound.

Nothing waits but `read` and `synchronize`. The stream is a blocking one, which CUDA orders with the
default stream: what CuPy or PyTorch do there comes before and after our work as it was called.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final, NoReturn

import cupy
import numpy as np
from cupy.cuda import driver, runtime

from groundup import dtypes
from groundup.backends.api import (
    Declined,
    Device,
    DeviceInfo,
    Executable,
    HostArray,
    Kernel,
    Launch,
    MemoryStats,
    View,
)  # fmt: skip
from groundup.errors import BackendUnavailable, DeviceLost, KernelCompileError, OutOfMemory
from groundup.layout import Layout
from groundup.ops.movement import Assign, Contiguous
from groundup.ops.op import Op
from groundup_cuda.backend import describe
from groundup_cuda.blas import WORKSPACE, Blas
from groundup_cuda.expressions import STORED
from groundup_cuda.graphs import Recorded
from groundup_cuda.jit import cached, choose_target, nvrtc
from groundup_cuda.launch import FAULTS, CudaKernel, CudaLaunch
from groundup_cuda.lowering import lower
from groundup_cuda.source import Stage, prelude
from groundup_cuda.staging import SLOT, SLOTS, Staging

_NO_MEMORY: Final = 2  # cudaErrorMemoryAllocation
_STICKY: Final = 700  # status codes from here on are faults of the GPU, not of a call
_PLAIN_SHARED: Final = 48 << 10  # bytes of shared memory that a block gets without asking
_DYNAMIC_SHARED: Final = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class CudaDevice(Device):
    """One GPU."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index
        self._name = f"cuda:{index}"
        self._lock = threading.RLock()
        self._lost: str | None = None
        self._functions: dict[str, Any] = {}
        self._blas: dict[int, Blas] = {}
        self._staging: Staging | None = None
        self.use()
        self._properties = runtime.getDeviceProperties(index)
        self._capability = (self._properties["major"], self._properties["minor"])
        target = choose_target(self._capability, nvrtc().architectures())
        if target is None:
            reason = f"{self._name}: NVRTC {nvrtc().version} compiles for newer GPUs only"
            raise BackendUnavailable(reason, hint="pip install 'groundup-cuda[cuda12]'")
        self._target = target
        self.stream = cupy.cuda.Stream()
        self.queue: int = self.stream.ptr
        self._aside = cupy.cuda.Stream(non_blocking=True)  # for recording
        self._recording = threading.Lock()
        self.info = self.describe()

    def describe(self) -> DeviceInfo:
        """All dtypes but float64, which is for the CPU."""
        everything = frozenset({"store", "compute", "matmul"})
        return DeviceInfo(
            name=self._name,
            description=describe(self._properties),
            dtypes=dict.fromkeys(STORED, everything) | {dtypes.bool_: everything - {"matmul"}},
            memory=self._properties["totalGlobalMem"],
            features=frozenset({"timer"}),
            alignment=256,
        )

    def use(self) -> None:
        """Make this GPU the calling thread's: threads begin with the first. Raises DeviceLost."""
        if self._lost is not None:
            raise self._loss()
        runtime.setDevice(self._index)

    # ---- memory ----

    def allocate(self, nbytes: int) -> Any:
        """Memory of the GPU. Raises OutOfMemory."""
        try:
            self.use()
            return cupy.cuda.Memory(nbytes)
        except runtime.CUDARuntimeError as error:
            if error.status != _NO_MEMORY:
                self.fault(error)
            raise OutOfMemory(
                f"{self._name}: no room for {nbytes:,} bytes, {self.pool.in_use:,} are in use",
                hint="use a smaller batch or model",
            ) from error

    def attach(self, view: View) -> View:
        """The address is what kernels are given."""
        view.native = view.buffer.handle.ptr + view.offset
        return view

    def memory(self) -> MemoryStats:
        """What the core's pool has handed out and keeps."""
        return MemoryStats(self.pool.in_use, self.pool.peak, self.pool.reserved)

    def write(self, view: View, array: HostArray) -> None:
        """Through pinned memory, without waiting for earlier work."""
        if not view.layout.is_row_major:
            staged = self.empty(Layout.contiguous(view.layout.spec))
            self.write(staged, array)
            self._run(Assign(), (view, staged), (view,))
            return
        data = np.asarray(array, view.layout.dtype.numpy, order="C")
        with self._copying() as staging:
            staging.write(view.native, data)

    def read(self, view: View) -> HostArray:
        """Wait for earlier work, and copy out."""
        if not view.layout.is_row_major:
            dense = self.empty(Layout.contiguous(view.layout.spec))
            self._run(Contiguous(), (view,), (dense,))
            view = dense
        data = np.empty(view.layout.shape, view.layout.dtype.numpy)
        with self._copying() as staging:
            staging.read(data, view.native)
        if not data.size:
            self.synchronize()
        return data

    # ---- launches ----

    def kernel(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        """Source and parameters only; nothing is compiled yet."""
        lowered = lower(op, inputs, outputs, self._capability)
        return lowered if isinstance(lowered, Declined) else CudaKernel(self, op, lowered)

    def function(self, stage: Stage) -> int:
        """The address of a stage's kernel, compiled and loaded at its first use."""
        with self._lock:
            found = self._functions.get(stage.source)
            if found is None:
                with self.compiling(stage.name):
                    found = self._functions[stage.source] = self._load(stage)
        address: int = found.ptr
        return address

    def blas(self, queue: int) -> Blas:
        """cuBLAS on one of the device's streams, opened at its first use there."""
        found = self._blas.get(queue)
        if found is None:
            with self._lock:
                found = self._blas.get(queue)
                if found is None:
                    self.use()
                    found = self._blas[queue] = Blas(queue, cupy.cuda.Memory(WORKSPACE))
        return found

    def record(self, launches: Sequence[Launch]) -> Executable:
        """A CUDA graph, unless some launches are of other packages' kernels."""
        own = [launch for launch in launches if isinstance(launch, CudaLaunch)]
        return Recorded(self, own) if len(own) == len(launches) else super().record(launches)

    @contextmanager
    def recording(self) -> Iterator[Any]:
        """The stream for recording a graph, for one thread at a time."""
        with self._recording:
            self.blas(self._aside.ptr)  # which must not be opened while a graph is recorded
            yield self._aside

    def synchronize(self) -> None:
        """Wait for the stream. Raises DeviceLost for a fault of any launch before."""
        try:
            self.use()
            self.stream.synchronize()
        except FAULTS as error:
            self.fault(error)

    def timed(self, launches: Sequence[Launch]) -> list[float]:
        """By events on the stream, which the GPU itself sets."""
        self.use()
        events = [cupy.cuda.Event() for _ in range(len(launches) + 1)]
        events[0].record(self.stream)
        for launch, event in zip(launches, events[1:], strict=True):
            launch()
            event.record(self.stream)
        self.synchronize()
        return [cupy.cuda.get_elapsed_time(a, b) / 1000 for a, b in pairwise(events)]

    def fault(self, error: Exception) -> NoReturn:
        """The device is lost: after a fault, CUDA answers every call with it."""
        self._lost = str(error)
        raise self._loss() from error

    # ---- inside ----

    def _loss(self) -> DeviceLost:
        return DeviceLost(
            f"{self._name}: the device is lost ({self._lost}), and its tensors with it",
            hint="start a new process: CUDA does not recover in this one",
        )

    def _load(self, stage: Stage) -> Any:
        code = cached(f"{prelude()}\n{stage.source}", self._target, stage.name)
        try:
            self.use()
            module = cupy.cuda.function.Module()
            module.load(code)
            found = module.get_function(stage.name)  # which keeps the module
            if stage.shared > _PLAIN_SHARED:
                driver.funcSetAttribute(found.ptr, _DYNAMIC_SHARED, stage.shared)
            return found
        except FAULTS as error:
            if error.status >= _STICKY:
                self.fault(error)
            text = f"{self._name}: the driver refuses the kernel {stage.name}: {error}"
            raise KernelCompileError(text) from error

    @contextmanager
    def _copying(self) -> Iterator[Staging]:
        """The pinned memory, which is taken at its first use. Raises DeviceLost, OutOfMemory."""
        try:
            self.use()
            with self._lock:
                self._staging = self._staging or self._stage()
            yield self._staging
        except FAULTS as error:
            self.fault(error)

    def _stage(self) -> Staging:
        try:
            memory = cupy.cuda.alloc_pinned_memory(SLOTS * SLOT)
        except runtime.CUDARuntimeError as error:
            if error.status != _NO_MEMORY:
                raise
            raise OutOfMemory(
                f"{self._name}: the host has no room for {SLOTS * SLOT:,} bytes of pinned memory",
                hint="close other programs",
            ) from error
        events = [cupy.cuda.Event(disable_timing=True) for _ in range(SLOTS)]

        def copy(target: int, source: int, nbytes: int, kind: int) -> None:
            runtime.memcpyAsync(target, source, nbytes, kind, self.queue)

        room = np.frombuffer(memory, np.uint8, SLOTS * SLOT)
        return Staging(room, events, copy, self.stream)

    def _run(self, op: Op, inputs: Sequence[View], outputs: Sequence[View]) -> None:
        kernel = self.kernel(op, [v.layout for v in inputs], [v.layout for v in outputs])
        assert isinstance(kernel, Kernel)
        kernel.launch(inputs, outputs)

"""The device `cuda:N`: memory and one stream of CuPy, kernels compiled when they are first bound.

Nothing waits but `read` and `synchronize`. The stream is a blocking one, which CUDA orders with the
default stream: what CuPy or PyTorch do there comes before and after our work as it was called.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NoReturn

import cupy
import numpy as np
from cupy.cuda import runtime

from groundup import dtypes
from groundup.backends.api import (
    Declined,
    Device,
    DeviceInfo,
    HostArray,
    Kernel,
    Launch,
    MemoryStats,
    View,
)
from groundup.dtypes import as_dtype
from groundup.errors import (
    BackendUnavailable,
    DeviceLost,
    DTypeError,
    KernelCompileError,
    OutOfMemory,
)
from groundup.layout import Layout
from groundup.ops.movement import Assign, Contiguous
from groundup.ops.op import Op
from groundup_cuda.backend import describe
from groundup_cuda.blas import WORKSPACE, Blas
from groundup_cuda.expressions import STORED
from groundup_cuda.jit import cached, choose_target, nvrtc
from groundup_cuda.launch import FAULTS, AssignKernel, CudaKernel
from groundup_cuda.lowering import lower
from groundup_cuda.source import Stage, prelude

_NO_MEMORY: Final = 2  # cudaErrorMemoryAllocation
_STICKY: Final = 700  # status codes from here on are faults of the GPU, not of a call
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind


class Foreign:
    """Memory that belongs to another library's array, which it keeps alive."""

    def __init__(self, array: Any) -> None:
        self.owner = array
        self.handle = array.data


class CudaDevice(Device):
    """One GPU."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.name = f"cuda:{index}"
        self.index = index
        self.lock = threading.RLock()
        self._lost: str | None = None
        self._functions: dict[str, int] = {}
        self._modules: list[Any] = []  # they own the functions' code
        self._blas: Blas | None = None
        self.use()
        properties = runtime.getDeviceProperties(index)
        self._properties = properties
        self.capability = (properties["major"], properties["minor"])
        target = choose_target(self.capability, nvrtc().architectures())
        if target is None:
            raise BackendUnavailable(
                f"{self.name}: NVRTC {nvrtc().version} compiles for newer GPUs only",
                hint="use CuPy and NVRTC for CUDA 12: pip install 'groundup-cuda[cuda12]'",
            )
        self._target = target
        self.stream = cupy.cuda.Stream()
        self.queue: int = self.stream.ptr
        self.info = self.describe()

    def describe(self) -> DeviceInfo:
        """All dtypes but float64, which is for the CPU."""
        stored = frozenset({"store", "compute"})
        return DeviceInfo(
            name=self.name,
            description=describe(self._properties),
            dtypes={d: stored | ({"matmul"} if d is not dtypes.bool_ else set()) for d in STORED},
            memory=self._properties["totalGlobalMem"],
            features=frozenset({f"sm_{self.capability[0]}{self.capability[1]}"}),
            alignment=256,
        )

    def use(self) -> None:
        """Make this GPU the calling thread's. Threads begin with the first one, not yet ready."""
        runtime.setDevice(self.index)

    # ---- memory ----

    def allocate(self, nbytes: int) -> Any:
        """Memory of the GPU. Raises OutOfMemory."""
        self.check()
        self.use()
        try:
            return cupy.cuda.Memory(nbytes)
        except runtime.CUDARuntimeError as error:
            if error.status != _NO_MEMORY:
                self.fault(error)
            raise OutOfMemory(
                f"{self.name}: no room for {nbytes:,} bytes, {self.pool.in_use:,} are in use",
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
        """Copied twice: CUDA has read our own copy, which is not pinned, when it returns."""
        layout = view.layout
        if not layout.is_row_major:
            staged = self.empty(Layout.contiguous(layout.spec))
            self.write(staged, array)
            self._run(Assign(), (view, staged), (view,))
            return
        if not layout.size:
            return
        data = np.array(array, layout.dtype.numpy, order="C")
        self._copy(view.native, data.ctypes.data, data.nbytes, _TO_DEVICE)

    def read(self, view: View) -> HostArray:
        """Wait for earlier work, and copy out."""
        layout = view.layout
        data = np.empty(layout.shape, layout.dtype.numpy)
        if not layout.size:
            return data
        if not layout.is_row_major:
            dense = self.empty(Layout.contiguous(layout.spec))
            self._run(Contiguous(), (view,), (dense,))
            view = dense
        self._copy(data.ctypes.data, view.native, data.nbytes, _TO_HOST)
        self.synchronize()
        return data

    def adopt(self, array: Any) -> View | None:
        """Share the memory of an array on this GPU (DLPack); None for any other."""
        if not hasattr(array, "__dlpack_device__") or array.__dlpack_device__() != (2, self.index):
            return None
        try:
            found = cupy.from_dlpack(array)
            dtype = as_dtype(found.dtype)
        except (BufferError, TypeError, RuntimeError, DTypeError):
            return None
        if dtype not in STORED or any(s % dtype.itemsize for s in found.strides):
            return None
        strides = tuple(s // dtype.itemsize for s in found.strides)
        return self.attach(View(Foreign(found), 0, Layout(found.shape, strides, dtype)))

    # ---- launches ----

    def kernel(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        """Source and parameters only; nothing is compiled yet."""
        lowered = lower(op, inputs, outputs, self.capability)
        if isinstance(lowered, Declined):
            return lowered
        kind = AssignKernel if op.name == "assign" else CudaKernel
        return kind(self, op, lowered)

    def function(self, stage: Stage) -> int:
        """The address of a stage's kernel, compiled and loaded at its first use."""
        found = self._functions.get(stage.source)
        if found is not None:
            return found
        with self.lock:
            self.check()
            self.use()
            module = cupy.cuda.function.Module()
            try:
                module.load(cached(f"{prelude()}\n{stage.source}", self._target, stage.name))
                address: int = module.get_function(stage.name).ptr
            except FAULTS as error:
                if error.status >= _STICKY:
                    self.fault(error)
                text = f"{self.name}: the driver refuses the kernel {stage.name}: {error}"
                raise KernelCompileError(text) from error
            self._modules.append(module)
            self._functions[stage.source] = address
        return address

    def blas(self) -> Blas:
        """cuBLAS, opened at its first use."""
        if self._blas is None:
            with self.lock:
                self.use()
                self._space = cupy.cuda.Memory(WORKSPACE)
                self._blas = Blas(self.queue, self._space.ptr)
        return self._blas

    def synchronize(self) -> None:
        """Wait for the stream. Raises DeviceLost for a fault of any launch before."""
        self.check()
        self.use()
        try:
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
        elapsed = cupy.cuda.get_elapsed_time
        return [elapsed(a, b) / 1000 for a, b in pairwise(events)]

    # ---- faults ----

    def check(self) -> None:
        """Raises DeviceLost if the device is lost."""
        if self._lost is not None:
            raise DeviceLost(
                f"{self.name}: the device is lost ({self._lost}), and its tensors with it",
                hint=f"open it again with groundup.backends.devices.reopen({self.name!r})",
            )

    def fault(self, error: Exception) -> NoReturn:
        """What CUDA reports is final: after a fault it answers every call with it."""
        self._lost = str(error)
        try:
            self.check()
        except DeviceLost as lost:
            raise lost from error
        raise AssertionError("a lost device is refused")

    # ---- inside ----

    def _copy(self, target: int, source: int, nbytes: int, kind: int) -> None:
        self.check()
        self.use()
        try:
            runtime.memcpyAsync(target, source, nbytes, kind, self.queue)
        except FAULTS as error:
            self.fault(error)

    def _run(self, op: Op, inputs: Sequence[View], outputs: Sequence[View]) -> None:
        kernel = self.kernel(op, [v.layout for v in inputs], [v.layout for v in outputs])
        assert isinstance(kernel, Kernel)
        kernel.launch(inputs, outputs)

"""The device `webgpu:N`: buffers, one open compute pass, and launches that are appended to it.

Nothing waits but `read` and `synchronize`. A process would abort if a command buffer were submitted
to a lost device, so every submit asks first.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
import wgpu

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
)  # fmt: skip
from groundup.errors import DeviceLost, KernelCompileError, OutOfMemory
from groundup.layout import Layout
from groundup.ops.movement import Assign, Contiguous
from groundup.ops.op import Op
from groundup_webgpu.backend import describe, is_software
from groundup_webgpu.lowering import lower
from groundup_webgpu.source import VECTOR, Stage, numbered

_FLUSH: Final = 256  # dispatches that are collected before they are submitted
_CACHED: Final = 8192  # bind groups
_FEW, _MANY = 256, 1 << 17  # threads that keep a processor, and a GPU, busy
_ITEM: Final = 4  # bytes of every element: f32, i32, and bool as u32
_STORAGE: Final = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST


# A pipeline, a bind group, and how many workgroups to start.
Part: TypeAlias = tuple[Any, Any, tuple[int, int, int]]


class _LossWatch(logging.Handler):
    """wgpu tells of a lost device in its log only, without saying which: all count as lost then."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.devices: weakref.WeakSet[WebGpuDevice] = weakref.WeakSet()

    def emit(self, record: logging.LogRecord) -> None:
        """Mark the devices."""
        if "DEVICE LOST" in record.getMessage():
            for device in list(self.devices):
                device.lose()


_watch: Final = _LossWatch()
logging.getLogger("wgpu").addHandler(_watch)


class WebGpuLaunch:
    """Dispatches with their pipelines and bind groups."""

    __slots__ = ("_device", "_parts", "_stages", "_views", "name")

    def __init__(
        self, device: WebGpuDevice, name: str, stages: Sequence[Stage], parts: Sequence[Part],
        views: Sequence[View],
    ) -> None:  # fmt: skip
        self._device = device
        self._stages = stages
        self._parts = parts
        self._views = views  # keeps the buffers alive
        self.name = name

    def __call__(self) -> None:
        """Append the dispatches to the open pass."""
        self._device.encode(self._parts)

    def describe(self) -> Mapping[str, object]:
        """The op, its memory, and each dispatch's source and workgroups."""
        return {
            "kernel": self.name,
            "source": [stage.source for stage in self._stages],
            "grid": [stage.groups for stage in self._stages],
            "buffers": [(view.buffer.number, view.offset) for view in self._views],
        }


class WebGpuKernel(Kernel):
    """The stages of one op on layouts. Pipelines are made at the first launch."""

    def __init__(self, device: WebGpuDevice, op: Op, stages: Sequence[Stage]) -> None:
        self._device = device
        self._stages = stages
        self._alignable = any(stage.aligned for stage in stages)
        self._name = op.name
        self.params = frozenset(op.fields)
        self.in_place = dict(op.aliases) if op.name == "assign" else {}
        scratch = [stage for stage in stages if stage.target == "scratch"]
        self.workspace = sum(_ITEM * prod(stage.groups) for stage in scratch)

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """Bind groups are cached by buffers and offsets."""
        stages = self._chosen(inputs, outputs)
        parts = self._parts(stages, inputs, outputs, workspace)
        memory = (*inputs, *outputs, *([workspace] if workspace else []))
        return WebGpuLaunch(self._device, self._name, stages, parts, memory)

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """Straight into the open pass, which keeps the buffers alive."""
        stages = self._chosen(inputs, outputs)
        self._device.encode(self._parts(stages, inputs, outputs, workspace))

    def _chosen(self, inputs: Sequence[View], outputs: Sequence[View]) -> Sequence[Stage]:
        """The stages, in the form for aligned memory if it is."""
        if not self._alignable or any(v.offset % VECTOR for v in (*inputs, *outputs)):
            return self._stages
        return [stage.aligned or stage for stage in self._stages]

    def _parts(
        self, stages: Sequence[Stage], inputs: Sequence[View], outputs: Sequence[View],
        workspace: View | None,
    ) -> list[Part]:  # fmt: skip
        operands = (*inputs, workspace)  # so that SCRATCH, -1, is the workspace
        part = self._device.part
        return [part(s, operands, outputs[0] if s.target == "out" else workspace) for s in stages]


class WebGpuDevice(Device):
    """An adapter opened with all of its limits."""

    def __init__(self, adapter: Any, name: str) -> None:
        super().__init__()
        self._name = name
        self._adapter = adapter
        self._gpu = adapter.request_device_sync(required_limits=_limits(adapter))
        self._queue = self._gpu.queue
        self._threads = _FEW if is_software(adapter) else _MANY
        self._lock = threading.RLock()
        self._pipelines: dict[str, Any] = {}
        self._layouts: dict[int, Any] = {}
        self._groups: dict[Any, Part] = {}
        self._uniforms: dict[Any, Any] = {}
        self._encoder: Any = None
        self._pass: Any = None
        self._pending = 0
        self._reserved = 0
        self._lost = False
        _watch.devices.add(self)
        self.info = self.describe()

    def describe(self) -> DeviceInfo:
        """float32, int32 and bool; what the adapter allows for buffers."""
        limits = self._gpu.limits
        everything = frozenset({"store", "compute", "matmul"})
        stored = frozenset({"store", "compute"})
        return DeviceInfo(
            name=self._name,
            description=describe(self._adapter),
            dtypes={dtypes.float32: everything, dtypes.int32: everything, dtypes.bool_: stored},
            memory=_host_memory() if is_software(self._adapter) else None,
            profile="wgsl",
            alignment=limits["min-storage-buffer-offset-alignment"],
            max_buffer=limits["max-buffer-size"],
            max_binding=limits["max-storage-buffer-binding-size"],
            max_operands=limits["max-storage-buffers-per-shader-stage"],
            itemsizes={dtypes.bool_: _ITEM},
        )

    # ---- memory ----

    def allocate(self, nbytes: int) -> Any:
        """A storage buffer.

        Raises OutOfMemory if it is larger than one binding may be, if the driver has no room, or on
        a software driver, which promises more than there is, beyond the machine's memory.
        """
        most = min(self.info.max_buffer or nbytes, self.info.max_binding or nbytes)
        if nbytes > most:
            raise OutOfMemory(
                f"{self._name}: one tensor of {nbytes:,} bytes; the adapter allows {most:,}",
                hint="use a smaller batch or model",
            )
        reserved, room = self.pool.reserved, self.info.memory
        if room is not None and reserved + nbytes > room:
            raise OutOfMemory(f"{self._name}: no room for {nbytes:,} bytes: {reserved:,} are taken")
        with self._lock:
            self._check()
            if reserved < self._reserved:  # the pool has dropped buffers, which bind groups hold
                self._groups.clear()
            self._reserved = reserved
            try:
                return self._gpu.create_buffer(size=nbytes, usage=_STORAGE)
            except wgpu.GPUError as error:
                why = str(error).strip().splitlines()[-1].strip()
                raise OutOfMemory(f"{self._name}: no room for {nbytes:,} bytes: {why}") from error

    def memory(self) -> MemoryStats:
        """What the core's pool has handed out and keeps."""
        return MemoryStats(self.pool.in_use, self.pool.peak, self.pool.reserved)

    def write(self, view: View, array: HostArray) -> None:
        """Earlier launches are submitted first: a write would overtake them."""
        if not view.layout.is_row_major:
            staged = self.empty(Layout.contiguous(view.layout.spec))
            self.write(staged, array)
            self._run(Assign(), (view, staged), (view,))
            return
        if not array.size:
            return
        kind = np.uint32 if view.layout.dtype is dtypes.bool_ else view.layout.dtype.numpy
        data = np.ascontiguousarray(array, dtype=kind)
        with self._lock:
            self.flush()
            self._check()
            self._queue.write_buffer(view.buffer.handle, view.offset, data)

    def read(self, view: View) -> HostArray:
        """Submit what is pending, wait, and copy out."""
        layout = view.layout
        if not layout.size:
            return np.zeros(layout.shape, layout.dtype.numpy)
        if not layout.is_row_major:
            dense = self.empty(Layout.contiguous(layout.spec))
            self._run(Contiguous(), (view,), (dense,))
            view = dense
        with self._lock:
            self.flush()
            self._check()
            size = layout.size * _ITEM
            data = self._queue.read_buffer(view.buffer.handle, view.offset, size)
        kind = np.uint32 if layout.dtype is dtypes.bool_ else layout.dtype.numpy
        return np.frombuffer(data, kind).reshape(layout.shape).astype(layout.dtype.numpy)

    # ---- launches ----

    def kernel(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        """Source and parameters only; nothing is compiled yet."""
        stages = lower(op, inputs, outputs, self._threads)
        return stages if isinstance(stages, Declined) else WebGpuKernel(self, op, stages)

    def part(self, stage: Stage, inputs: Sequence[Any], out: Any) -> Part:
        """Pipeline, bind group and workgroups of a stage on this memory."""
        views = [inputs[i] for i in stage.inputs]
        offsets = (out.offset, *[view.offset for view in views])
        # Pool blocks are numbered for good, so a number never means another buffer.
        buffers = (out.buffer.number, *[view.buffer.number for view in views])
        key = (stage, buffers, offsets)
        with self._lock:
            found = self._groups.get(key)
            if found is None:
                group = self._bind(stage, (out, *views), offsets)
                found = self._pipeline(stage.source, len(views)), group, stage.groups
                if len(self._groups) > _CACHED:
                    self._groups.clear()
                self._groups[key] = found
            return found

    def encode(self, parts: Sequence[Part]) -> None:
        """Append dispatches to the open pass; submit it when it has grown long."""
        with self._lock:
            if self._pass is None:
                self._check()
                self._encoder = self._gpu.create_command_encoder()
                self._pass = self._encoder.begin_compute_pass()
            for pipeline, group, groups in parts:
                self._pass.set_pipeline(pipeline)
                self._pass.set_bind_group(0, group)
                self._pass.dispatch_workgroups(*groups)
            self._pending += len(parts)
            if self._pending >= _FLUSH:
                self.flush()

    def flush(self) -> None:
        """Submit the open pass, if any."""
        with self._lock:
            if self._pass is None:
                return
            encoder, opened = self._encoder, self._pass
            self._encoder = self._pass = None
            self._pending = 0
            try:
                opened.end()
                commands = encoder.finish()
            except wgpu.GPUError as error:
                if "lost" not in str(error):
                    raise
                self.lose()
            self._check()
            self._queue.submit([commands])

    def synchronize(self) -> None:
        """Wait for everything that was submitted."""
        with self._lock:
            self.flush()
            self._check()
            self._gpu._poll_wait()

    # ---- inside ----

    def _run(self, op: Op, inputs: Sequence[View], outputs: Sequence[View]) -> None:
        kernel = self.kernel(op, [v.layout for v in inputs], [v.layout for v in outputs])
        assert isinstance(kernel, Kernel)
        kernel.launch(inputs, outputs)

    def _check(self) -> None:
        if self._lost:
            raise DeviceLost(
                f"{self._name}: the device is lost, and its tensors with it",
                hint=f"open it again with groundup.backends.devices.reopen({self._name!r})",
            )

    def lose(self) -> None:
        """Treat the device as lost from now on; its driver said so."""
        with self._lock:
            self._lost = True
            self._encoder = self._pass = None

    def _layout(self, inputs: int) -> Any:
        """Output, inputs, parameters. Explicit: a deduced one lacks what a kernel does not use."""
        found = self._layouts.get(inputs)
        if found is None:
            kinds = ["storage", *["read-only-storage"] * inputs, "uniform"]
            entries = [
                {"binding": i, "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": kind}}
                for i, kind in enumerate(kinds)
            ]
            found = self._layouts[inputs] = self._gpu.create_bind_group_layout(entries=entries)
        return found

    def _pipeline(self, source: str, inputs: int) -> Any:
        found = self._pipelines.get(source)
        if found is None:
            try:
                module = self._gpu.create_shader_module(code=source)
                stage = {"module": module, "entry_point": "main"}
                layout = self._gpu.create_pipeline_layout(bind_group_layouts=[self._layout(inputs)])
                found = self._gpu.create_compute_pipeline(layout=layout, compute=stage)
            except wgpu.GPUError as error:
                text = f"{self._name}: a kernel does not compile: {error}\n{numbered(source)}"
                raise KernelCompileError(text) from error
            self._pipelines[source] = found
        return found

    def _bind(self, stage: Stage, views: Sequence[View], offsets: Sequence[int]) -> Any:
        resources = [{"buffer": view.buffer.handle} for view in views]
        resources.append({"buffer": self._uniform(stage, offsets)})
        entries = [{"binding": i, "resource": resource} for i, resource in enumerate(resources)]
        layout = self._layout(len(views) - 1)
        return self._gpu.create_bind_group(layout=layout, entries=entries)

    def _uniform(self, stage: Stage, offsets: Sequence[int]) -> Any:
        """The parameters, with the offsets in elements before them."""
        key = (stage.parameters, tuple(offsets))
        found = self._uniforms.get(key)
        if found is None:
            values = list(stage.parameters)
            values[: len(offsets)] = [offset // _ITEM for offset in offsets]
            values += [0] * (-len(values) % 4)
            found = self._gpu.create_buffer_with_data(
                data=np.array(values, np.int32), usage=wgpu.BufferUsage.UNIFORM
            )
            if len(self._uniforms) > _CACHED:
                self._uniforms.clear()
            self._uniforms[key] = found
        return found


def _host_memory() -> int | None:
    """Bytes, where the system tells."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _limits(adapter: Any) -> dict[str, int]:
    """Large buffers as the adapter has them; all else stays at the portable defaults."""
    wanted = ("max-buffer-size", "max-storage-buffer-binding-size")
    return {name: adapter.limits[name] for name in wanted}

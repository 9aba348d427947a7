"""The device `webgpu:N`: its kernels on its memory, through one in-order queue."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import numpy as np
import wgpu

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
from groundup.errors import KernelCompileError, OutOfMemory
from groundup.layout import Layout, Spec
from groundup.ops.contraction import MatMul
from groundup.ops.movement import Assign, Contiguous
from groundup.ops.op import Op
from groundup_webgpu.backend import describe, is_software
from groundup_webgpu.binding import Binder
from groundup_webgpu.composites import IN_ORDER, IN_PLACE
from groundup_webgpu.lowering import lower
from groundup_webgpu.machine import machine_of
from groundup_webgpu.products import in_one_piece
from groundup_webgpu.rungs import (
    FEATURES,
    PORTABLE,
    Run,
    allowed_rungs,
    f16_works,
    subgroups_work,
)  # fmt: skip
from groundup_webgpu.source import VECTOR, Stage
from groundup_webgpu.stream import FLUSH, Part, Stream
from groundup_webgpu.tiles import Tile
from groundup_webgpu.tuning import PROBLEM, rated_tiles

_TIMED: Final = 1024  # launches that are timed at once
_CACHED: Final = 16384  # launches whose parts are kept
_STORAGE: Final = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
_BUFFERS: Final = "max-storage-buffers-per-shader-stage"
_ENOUGH_BUFFERS: Final = 120
_TELLING: Final = ("vendor", "device", "description", "backend_type")  # adapter and driver
_TRIALS: Final = 4  # launches of which the first warms up


class WebGpuLaunch:
    """Dispatches bound to memory."""

    __slots__ = ("_name", "_stream", "_views", "parts")

    def __init__(
        self, name: str, stream: Stream, parts: Sequence[Part], views: Sequence[View]
    ) -> None:
        self._name = name
        self._stream = stream
        self._views = views  # keeps the buffers from being handed out again
        self.parts = parts

    def __call__(self) -> None:
        """Append the dispatches to the open pass."""
        self._stream.encode(self.parts)

    def describe(self) -> Mapping[str, object]:
        """The op, its memory, and each dispatch's source, parameters and workgroups."""
        bound = [part[-1] for part in self.parts]
        return {
            "kernel": self._name,
            "source": [each.source for each in bound],
            "parameters": [each.parameters for each in bound],
            "grid": [each.stage.groups for each in bound],
            "buffers": [(view.buffer.number, view.offset) for view in self._views],
        }


class WebGpuKernel(Kernel):
    """The stages of one op on layouts. Pipelines are made at the first launch."""

    def __init__(
        self, device: WebGpuDevice, op: Op, inputs: Sequence[Layout], out: Layout,
        stages: Sequence[Stage],
    ) -> None:  # fmt: skip
        self._device = device
        self._op = op
        self._inputs = inputs
        self._out = out
        self._stages = stages
        self.params = frozenset(op.fields)
        if op.name in IN_ORDER:
            self.contiguous = range(len(inputs))
        in_order = all(inputs[i].is_row_major for i in op.aliases.values())
        if op.name == "assign" or (op.name in IN_PLACE and in_order):
            self.in_place = dict(op.aliases)
        self.workspace = max((stage.scratch for stage in stages), default=0)

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """The parts are cached by buffers and offsets."""
        views = self._views(inputs, outputs, workspace)
        return WebGpuLaunch(self._op.name, self._device.stream, self._parts(views), views)

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """Straight into the open pass, which keeps the buffers alive."""
        self._device.stream.encode(self._parts(self._views(inputs, outputs, workspace)))

    def _views(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None
    ) -> Sequence[View]:
        """All memory, numbered as the operands of stages are."""
        if workspace is None:
            return (*outputs, *inputs)
        return (*outputs, *inputs, workspace)

    def _parts(self, views: Sequence[View]) -> Sequence[Part]:
        """The stages on this memory, made once and kept by buffers and offsets."""
        key: list[Any] = [self]
        for view in views:
            key.append(view.buffer.number)
            key.append(view.offset)
        where = tuple(key)
        return self._device.bound.get(where) or self._bound(where, views)

    def _bound(self, where: tuple[Any, ...], views: Sequence[View]) -> Sequence[Part]:
        stages, parts = self._stages, []
        if views[0].layout is not self._out:  # in place, and the target is strided
            made = self._device.lowered(self._op, self._inputs, [views[0].layout])
            assert not isinstance(made, Declined)
            stages = made
        with self._device.stream.lock:
            for stage in stages:
                chosen = _fitting(stage, views)
                memory = [views[i] for i, _ in chosen.operands]
                if (
                    stage.copies
                    and len({(view.buffer.number, view.offset) for view in memory}) == 1
                ):
                    continue
                parts.append(self._device.binder.part(chosen, memory))
            if len(self._device.bound) >= _CACHED:
                self._device.bound.clear()
            self._device.bound[where] = parts
        return parts


class WebGpuDevice(Device):
    """An opened adapter."""

    def __init__(self, adapter: Any, name: str) -> None:
        super().__init__()
        self._name = name
        self._adapter = adapter
        self._rungs = allowed_rungs(adapter.features)
        features = {"timestamp-query"} & set(adapter.features)
        features |= {feature for rung in self._rungs if (feature := FEATURES[rung])}
        limits = dict(PORTABLE)
        if "limits" in self._rungs:
            limits = {limit: adapter.limits[limit] for limit in PORTABLE}
            limits[_BUFFERS] = min(limits[_BUFFERS], _ENOUGH_BUFFERS)
        self._gpu = adapter.request_device_sync(required_features=features, required_limits=limits)
        self.machine = machine_of(is_software(adapter), self._gpu.limits)
        self._reserved = 0
        self.stream = Stream(self._gpu, name)
        self.info = self.describe()
        self.binder = Binder(self._gpu, self.stream, self.info, self.compiling)
        self.bound: dict[tuple[Any, ...], Sequence[Part]] = {}

    def climb(self) -> None:
        """Leave out the rungs of the feature ladder that tiny kernels show not to work."""
        probes = {"f16": f16_works, "subgroups": subgroups_work}
        self._rungs -= {rung for rung in self._rungs & set(probes) if not self._works(probes[rung])}
        self.machine = attrs.evolve(self.machine, subgroups="subgroups" in self._rungs)
        self.info = self.describe()

    def _works(self, probe: Callable[[Run], bool]) -> bool:
        try:
            return probe(self._probe)
        except KernelCompileError:
            return False

    def _probe(self, stage: Stage, count: int, dtype: dtypes.DType) -> HostArray:
        """What a stage writes that has no operands but its output."""
        out = self.empty(Layout.contiguous(Spec((count,), dtype)))
        self.stream.encode([self.binder.part(stage, [out])])
        return self.read(out)

    def tune(self) -> None:
        """Choose the tiles of matrix products by how quick they are here, measured now or before.

        A software driver takes the same ones always. Raises ConfigError if GROUNDUP_WEBGPU_TILES
        has none that can be used.
        """
        can_tell = self._timestamps and not is_software(self._adapter)
        adapter = {name: self._adapter.info[name] for name in _TELLING}
        seconds = self._tile_seconds if can_tell else None
        tiles = rated_tiles(self.machine.rated, adapter, seconds)
        self.machine = attrs.evolve(self.machine, tiles=tiles)

    def _tile_seconds(self, tile: Tile) -> float:
        """What PROBLEM takes with this tile."""
        rows, inner, columns = PROBLEM.x.lines, PROBLEM.inner, PROBLEM.y.lines
        x, y, out = (
            Layout.contiguous(Spec(shape, PROBLEM.dtype))
            for shape in ((rows, inner), (inner, columns), (rows, columns))
        )
        kernel = WebGpuKernel(self, MatMul(), [x, y], out, [in_one_piece(PROBLEM, tile)])
        launch = kernel.bind([self.empty(x), self.empty(y)], [self.empty(out)])
        return statistics.median(self.timed([launch] * _TRIALS)[1:])

    def describe(self) -> DeviceInfo:
        """float32, int32, bool, float16 if the adapter has it; what it allows for buffers."""
        limits = self._gpu.limits
        everything = frozenset({"store", "compute", "matmul"})
        kinds = dict.fromkeys((dtypes.float32, dtypes.int32), everything)
        kinds[dtypes.bool_] = frozenset({"store", "compute"})
        if "f16" in self._rungs:
            kinds[dtypes.float16] = everything
        return DeviceInfo(
            name=self._name,
            description=describe(self._adapter),
            dtypes=kinds,
            memory=_host_memory() if is_software(self._adapter) else None,
            profile="wgsl",
            features=self._rungs | ({"timer"} if self._timestamps else set()),
            alignment=limits["min-storage-buffer-offset-alignment"],
            max_buffer=limits["max-buffer-size"],
            max_binding=limits["max-storage-buffer-binding-size"],
            max_operands=self.machine.buffers,
            itemsizes={dtypes.bool_: 4},
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
        if reserved < self._reserved:  # the pool has dropped buffers, which bind groups hold
            self.bound.clear()
            self.binder.forget()
        self._reserved = reserved
        # The pool's lock is held here, and a buffer that dies inside the queue's wants it: so this
        # must do without the queue's.
        with self.stream.typed(f"{nbytes:,} bytes"):
            return self._gpu.create_buffer(size=nbytes, usage=_STORAGE)

    def memory(self) -> MemoryStats:
        """What the core's pool has handed out and keeps."""
        return MemoryStats(self.pool.in_use, self.pool.peak, self.pool.reserved)

    def write(self, view: View, array: HostArray) -> None:
        """Into strided memory by way of a copy. Only whole words can be written: what shares the
        first or the last with float16 elements is written again.
        """
        layout = view.layout
        if not layout.is_row_major:
            staged = self.empty(Layout.contiguous(layout.spec))
            self.write(staged, array)
            self._run(Assign(), (view, staged), (view,))
        elif array.size:
            data = np.ascontiguousarray(array, dtype=stored(layout))
            with self.stream.lock:
                if (view.offset | data.nbytes) % 4:
                    data = self._in_words(view, data)
                self.stream.write(view.buffer.handle, view.offset // 4 * 4, data)

    def _in_words(self, view: View, data: HostArray) -> HostArray:
        """Bytes of the words that `data` is to lie in, with what else they hold."""
        before = view.offset % 4
        nbytes = before + data.nbytes
        if view.root is None and view.offset == 0:  # nothing else
            words = np.zeros(nbytes + 2, np.uint8)
        else:
            words = self.stream.read(view.buffer.handle, view.offset - before, nbytes + -nbytes % 4)
        words[before:nbytes] = data.reshape(-1).view(np.uint8)
        return words

    def read(self, view: View) -> HostArray:
        """Submit what is pending, wait, and copy out."""
        layout = view.layout
        if not layout.size:
            return np.zeros(layout.shape, layout.dtype.numpy)
        if not layout.is_row_major:
            dense = self.empty(Layout.contiguous(layout.spec))
            self._run(Contiguous(), (view,), (dense,))
            view = dense
        before = view.offset % 4  # only whole words can be copied
        nbytes = before + layout.size * self.info.itemsize(layout.dtype)
        nbytes += -nbytes % 4
        data = self.stream.read(view.buffer.handle, view.offset - before, nbytes)
        flat = np.frombuffer(data, stored(layout), layout.size, before)
        return flat.reshape(layout.shape).astype(layout.dtype.numpy, copy=False)

    # ---- launches ----

    def kernel(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        """Texts and parameters only; nothing is compiled yet."""
        stages = self.lowered(op, inputs, outputs)
        if isinstance(stages, Declined):
            return stages
        return WebGpuKernel(self, op, inputs, outputs[0], stages)

    def lowered(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> list[Stage] | Declined:
        """The dispatches of a kernel."""
        return lower(op, inputs, outputs, self.machine)

    def record(self, launches: Sequence[Launch]) -> Executable:
        """All dispatches, ready for the queue; a launch that is not of this package just runs."""
        kept = tuple(launches)
        parts: list[Part] = []
        for launch in kept:
            if not isinstance(launch, WebGpuLaunch):
                return super().record(launches)
            parts += launch.parts
        passes = [parts[i : i + FLUSH] for i in range(0, len(parts), FLUSH)]

        def replay(kept: Sequence[Launch] = kept) -> None:  # they keep their buffers alive
            for each in passes:
                self.stream.encode(each)

        return replay

    @property
    def _timestamps(self) -> bool:
        return "timestamp-query" in self._gpu.features

    def timed(self, launches: Sequence[Launch]) -> list[float]:
        """By timestamps that the device writes around each, where the adapter has them."""
        if not self._timestamps:
            return super().timed(launches)
        seconds = []
        for i in range(0, len(launches), _TIMED):
            seconds += self.stream.timed(launches[i : i + _TIMED])
        return seconds

    def synchronize(self) -> None:
        """Wait for everything that was submitted."""
        self.stream.wait()

    def _run(self, op: Op, inputs: Sequence[View], outputs: Sequence[View]) -> None:
        kernel = self.kernel(op, [v.layout for v in inputs], [v.layout for v in outputs])
        assert isinstance(kernel, Kernel)
        kernel.launch(inputs, outputs)


def _fitting(stage: Stage, views: Sequence[View]) -> Stage:
    """The quicker one, if all that it reads or writes as vectors begins at a multiple of one."""
    quick = stage.aligned
    if quick is None:
        return stage
    vectors = [views[i] for i, kind in quick.operands if "vec" in kind]
    return stage if any(view.offset % VECTOR for view in vectors) else quick


def stored(layout: Layout) -> np.dtype[Any]:
    """How the device holds elements, for the host."""
    return np.dtype(np.uint32) if layout.dtype is dtypes.bool_ else layout.dtype.numpy


def _host_memory() -> int | None:
    """Bytes, where the system tells."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None

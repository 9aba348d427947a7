"""From stages and memory to what the queue takes: pipelines, bind groups, places of parameters.

All three are made once and kept. A bind group names whole buffers where it can; offsets are
parameters. Those lie in pages of uniform memory, each set in a slot that is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import attrs
import numpy as np
import wgpu

from groundup.backends.api import DeviceInfo, View
from groundup.errors import KernelCompileError
from groundup_webgpu import native
from groundup_webgpu.machine import wanted_checks
from groundup_webgpu.source import VECTOR, Place, Stage, numbered, width
from groundup_webgpu.stream import Part, Stream

_SLOT: Final = 256  # bytes; the portable alignment of uniform memory
_PAGE: Final = 4096 * _SLOT
_KEPT: Final = 16384  # bind groups


@attrs.frozen(eq=False)
class Bound:
    """A stage on memory, for descriptions. It owns what a Part has the handles of."""

    stage: Stage
    source: str
    parameters: tuple[int, ...]
    owned: Sequence[Any]


@attrs.frozen(eq=False)
class Arranged:
    """What a stage becomes on memory: its source, the kinds of its bindings and what they show."""

    source: str
    kinds: tuple[str, ...]  # the last is that of the parameters
    memory: Sequence[tuple[Any, int, int]]  # a buffer, the first byte, how many
    parameters: tuple[int, ...]


def arranged(stage: Stage, views: Sequence[View], info: DeviceInfo) -> Arranged:
    """A stage on the memory of its operands."""
    numbers = [view.buffer.number for view in views]
    places: list[Place] = [numbers.index(number) for number in numbers]
    spans = [(0, view.buffer.nbytes) for view in views]
    for first in {places[i] for i in range(stage.written)}:
        there = [i for i, place in enumerate(places) if place == first]
        if len({width(stage.operands[i][1]) for i in there}) > 1:
            for part, (members, span) in enumerate(_parts(there, views, info)):
                for i in members:
                    places[i], spans[i] = (there[0], part), span
    own, _ = stage.bindings(places)
    kinds = (*[kind for _, kind in own], "uniform")
    offsets = []
    for view, (start, _), (_, kind) in zip(views, spans, stage.operands, strict=True):
        offsets.append((view.offset - start) // (2 if "f16" in kind else 4))
    memory = [(views[i].buffer, *spans[i]) for i, _ in own]
    parameters = (*offsets, *stage.parameters[len(offsets) :])
    return Arranged(stage.source(places), kinds, memory, parameters)


def _parts(
    there: Sequence[int], views: Sequence[View], info: DeviceInfo
) -> list[tuple[list[int], tuple[int, int]]]:
    """Operands of one buffer by the parts of it that they lie in: the first byte, how many."""
    found: list[tuple[list[int], int, int]] = []
    for (start, stop), i in sorted((_extent(views[i], info), i) for i in there):
        if found and start < found[-1][2]:
            members, first, last = found.pop()
            found.append(([*members, i], first, max(last, stop)))
        else:
            found.append(([i], start, stop))
    return [(members, (first, last - first)) for members, first, last in found]


def _extent(view: View, info: DeviceInfo) -> tuple[int, int]:
    """The bytes of a buffer that a view's elements lie in, from where a binding can begin."""
    layout, item = view.layout, info.itemsize(view.layout.dtype)
    last = [max(size - 1, 0) for size in layout.shape]
    steps = [n * step * item for n, step in zip(last, layout.strides, strict=True)]
    start = view.offset + sum(step for step in steps if step < 0)
    stop = view.offset + sum(step for step in steps if step > 0) + item
    return start // info.alignment * info.alignment, -(-stop // VECTOR) * VECTOR


class Binder:
    """Makes Parts for one device, and keeps what they are made of."""

    def __init__(
        self,
        gpu: Any,
        stream: Stream,
        info: DeviceInfo,
        compiling: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        """`compiling(kind of kernel)` is put around the making of each pipeline."""
        self._compiling = compiling
        self._info = info
        self._gpu = gpu
        self._stream = stream
        self._checks = native.CHECKS[wanted_checks()]
        self._pipelines: dict[str, Any] = {}
        self._layouts: dict[tuple[str, ...], Any] = {}
        self._groups: dict[Any, Any] = {}
        self._slots: dict[bytes, int] = {}
        self._page: Any = None
        self._filled = 0

    def part(self, stage: Stage, views: Sequence[View]) -> Part:
        """A stage on the memory of its operands."""
        made = arranged(stage, views, self._info)
        with self._stream.typed("a launch"):
            pipeline = self.pipeline(made.source, made.kinds)
            place, size = self._slot(made.parameters)
            group = self._group(made.kinds, made.memory, size)
        bound = Bound(stage, made.source, made.parameters, (pipeline, group))
        handles = native.handle(pipeline), native.handle(group), native.offset(place)
        return (*handles, *stage.groups, bound)

    def forget(self) -> None:
        """Drop the bind groups, which keep buffers alive."""
        self._groups.clear()

    def pipeline(self, source: str, kinds: tuple[str, ...]) -> Any:
        """The pipeline of a source with these bindings. Raises KernelCompileError."""
        found = self._pipelines.get(source)
        if found is None:
            with self._compiling("pipeline"):
                found = self._pipelines[source] = self._compiled(source, kinds)
        return found

    def _compiled(self, source: str, kinds: tuple[str, ...]) -> Any:
        layouts = [self._layout(kinds)]
        try:
            module = native.shader_module(self._gpu, source, self._checks)
            return self._gpu.create_compute_pipeline(
                layout=self._gpu.create_pipeline_layout(bind_group_layouts=layouts),
                compute={"module": module, "entry_point": "main"},
            )
        except wgpu.GPUError as error:
            if "lost" in str(error):
                raise
            text = f"{self._info.name}: a kernel does not compile: {error}\n{numbered(source)}"
            raise KernelCompileError(text) from error

    def _layout(self, kinds: tuple[str, ...]) -> Any:
        """Explicit: a deduced one lacks what a kernel does not use."""
        found = self._layouts.get(kinds)
        if found is None:
            entries = [
                {
                    "binding": i,
                    "visibility": wgpu.ShaderStage.COMPUTE,
                    "buffer": {"type": kind, "has_dynamic_offset": kind == "uniform"},
                }
                for i, kind in enumerate(kinds)
            ]
            found = self._layouts[kinds] = self._gpu.create_bind_group_layout(entries=entries)
        return found

    def _slot(self, parameters: Sequence[int]) -> tuple[int, int]:
        """Where in the page these parameters lie, and the bytes kept for them."""
        data = np.array([*parameters, *[0] * (-len(parameters) % 4)], np.int32).tobytes()
        size = -(-len(data) // _SLOT) * _SLOT
        place = self._slots.get(data)
        if place is None:
            if self._page is None or self._filled + size > self._page.size:
                usage = wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
                self._page = self._gpu.create_buffer(size=_PAGE, usage=usage)
                self._filled = 0
                self._slots.clear()
                self.forget()
            place = self._filled
            # At once: nothing that is encoded already can read this slot.
            self._gpu.queue.write_buffer(self._page, place, data)
            self._slots[data] = place
            self._filled += size
        return place, size

    def _group(
        self, kinds: tuple[str, ...], memory: Sequence[tuple[Any, int, int]], size: int
    ) -> Any:
        # Pool blocks are numbered for good, so a number never means another buffer.
        key = (kinds, size, *[(buffer.number, *span) for buffer, *span in memory])
        found = self._groups.get(key)
        if found is None:
            resources = [{"buffer": b.handle, "offset": o, "size": n} for b, o, n in memory]
            resources.append({"buffer": self._page, "offset": 0, "size": size})
            entries = [{"binding": i, "resource": r} for i, r in enumerate(resources)]
            found = self._gpu.create_bind_group(layout=self._layout(kinds), entries=entries)
            if len(self._groups) >= _KEPT:
                self.forget()
            self._groups[key] = found
        return found

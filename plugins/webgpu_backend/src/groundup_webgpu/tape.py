"""A device without an adapter: it writes down what it would do, for another WebGPU to do it.

`web/replay.js` does it in a browser. Reading gives zeros here, and the numbers there.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np

from groundup import dtypes
from groundup.backends.api import DeviceInfo, HostArray, View
from groundup.errors import OutOfMemory, UnsupportedOp
from groundup.layout import Layout, Spec
from groundup_webgpu.binding import Bound, arranged
from groundup_webgpu.device import WebGpuDevice, stored
from groundup_webgpu.machine import Machine
from groundup_webgpu.rungs import PORTABLE
from groundup_webgpu.source import Stage
from groundup_webgpu.stream import Part

_ALIGNMENT: Final = 256  # of what is bound: the most that WebGPU lets an adapter ask for
_MAX_BUFFER: Final = PORTABLE["max-buffer-size"]
_MAX_BINDING: Final = PORTABLE["max-storage-buffer-binding-size"]


@attrs.frozen
class Result:
    """One `read`: its shape and dtype, and where its first element lies in the bytes."""

    spec: Spec
    start: int

    def array(self, data: bytes) -> HostArray:
        """The numbers in what was read."""
        layout = Layout.contiguous(self.spec)
        flat = np.frombuffer(data, stored(layout), layout.size, self.start)
        return flat.reshape(layout.shape).astype(layout.dtype.numpy, copy=False)


@attrs.define
class Tape:
    """Sizes of buffers, in bytes; kernels with their bindings; steps in order; what was read.

    Steps name buffers and kernels by number.
    """

    buffers: list[int] = attrs.field(factory=list)
    kernels: dict[tuple[str, tuple[str, ...]], int] = attrs.field(factory=dict)
    steps: list[Mapping[str, Any]] = attrs.field(factory=list)
    results: list[Result] = attrs.field(factory=list)

    def plain(self) -> Mapping[str, object]:
        """Ready to be written as JSON."""
        kernels = [{"code": code, "bindings": kinds} for code, kinds in self.kernels]
        return {"buffers": self.buffers, "kernels": kernels, "steps": self.steps}

    def save(self, folder: Path) -> None:
        """Write a page that replays it into an existing folder, for any web server."""
        (folder / "tape.json").write_text(json.dumps(self.plain()), "utf-8")
        for name in ("index.html", "replay.js"):
            text = files("groundup_webgpu").joinpath("web", name).read_text("utf-8")
            (folder / name).write_text(text, "utf-8")

    def arrays(self, data: bytes) -> list[HostArray]:
        """What was read, from the bytes of all results in order."""
        found, start = [], 0
        sizes = [step["nbytes"] for step in self.steps if "read" in step]
        for result, size in zip(self.results, sizes, strict=True):
            found.append(result.array(data[start : start + size]))
            start += size
        return found


class TapeDevice(WebGpuDevice):
    """A device that computes nothing. `tape` has what was asked of it since it was made.

    `half` says whether it has float16.
    """

    def __init__(self, machine: Machine, half: bool = False) -> None:
        super(WebGpuDevice, self).__init__()
        self.machine = machine
        self._half = half
        self.tape = Tape()
        self.info = self.describe()
        self.stream: Any = _Recorder(self.tape, self.info)
        self.binder: Any = self.stream
        self.bound = {}

    def describe(self) -> DeviceInfo:
        """The limits that every adapter has, but for those of the machine."""
        everything = frozenset({"store", "compute", "matmul"})
        kinds = dict.fromkeys((dtypes.float32, dtypes.int32), everything)
        kinds[dtypes.bool_] = frozenset({"store", "compute"})
        if self._half:
            kinds[dtypes.float16] = everything
        return DeviceInfo(
            "tape", "computes nothing", kinds, profile="wgsl", alignment=_ALIGNMENT,
            max_buffer=_MAX_BUFFER, max_binding=_MAX_BINDING, max_operands=self.machine.buffers,
            itemsizes={dtypes.bool_: 4},
        )  # fmt: skip

    def allocate(self, nbytes: int) -> int:
        """The number of a new buffer. Raises OutOfMemory beyond what every adapter can bind."""
        if nbytes > _MAX_BINDING:
            raise OutOfMemory(f"tape: one tensor of {nbytes:,} bytes; {_MAX_BINDING:,} are allowed")
        self.tape.buffers.append(nbytes)
        return len(self.tape.buffers) - 1

    def read(self, view: View) -> HostArray:
        """Zeros."""
        layout = view.layout
        if layout.size:
            start = view.offset % 4 if layout.is_row_major else 0
            self.tape.results.append(Result(layout.spec, start))
        return super().read(view)

    def _in_words(self, view: View, data: HostArray) -> HostArray:
        if view.root is not None or view.offset:
            raise UnsupportedOp("tape: words that also hold other elements cannot be written")
        return super()._in_words(view, data)

    @property
    def _timestamps(self) -> bool:
        return False


class _Recorder:
    """Stands for the queue and for what makes its parts: both end on the tape."""

    def __init__(self, tape: Tape, info: DeviceInfo) -> None:
        self.lock = threading.RLock()
        self._tape = tape
        self._info = info

    def part(self, stage: Stage, views: Sequence[View]) -> Part:
        """A dispatch, as a step of the tape."""
        made = arranged(stage, views, self._info)
        kernel = self._tape.kernels.setdefault((made.source, made.kinds), len(self._tape.kernels))
        step = {
            "run": kernel, "memory": [(buffer.handle, *span) for buffer, *span in made.memory],
            "parameters": made.parameters, "groups": stage.groups,
        }  # fmt: skip
        return step, None, None, *stage.groups, Bound(stage, made.source, made.parameters, ())

    def encode(self, parts: Sequence[Part]) -> None:
        """Append them."""
        self._tape.steps += [step for step, *_ in parts]

    def write(self, buffer: int, offset: int, data: HostArray) -> None:
        """The data, as text."""
        text = base64.b64encode(data.tobytes()).decode("ascii")
        self._tape.steps.append({"write": buffer, "offset": offset, "data": text})

    def read(self, buffer: int, offset: int, nbytes: int) -> HostArray:
        """Where the numbers will lie; zeros for now."""
        self._tape.steps.append({"read": buffer, "offset": offset, "nbytes": nbytes})
        return np.zeros(nbytes, np.uint8)

    def wait(self) -> None:
        """There is nothing to wait for."""

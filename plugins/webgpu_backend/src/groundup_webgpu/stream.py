"""The in-order queue of a device: one open compute pass that launches are appended to.

wgpu aborts the process if something is submitted to a device that is lost, or twice. All else that
is asked of a lost device fails with an error that says so: `finish`, before every submit, is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import numpy as np
import wgpu

from groundup.errors import DeviceLost, OutOfMemory
from groundup_webgpu import native

_STAGED: Final = 1 << 24  # bytes that are read at once
_TIMESTAMPS: Final = wgpu.BufferUsage.QUERY_RESOLVE | wgpu.BufferUsage.COPY_SRC
_READABLE: Final = wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.MAP_READ
FLUSH: Final = 256  # dispatches that are collected before they are submitted

# The handles of a pipeline, a bind group and the place of its parameters; workgroups; what owns
# the handles.
Part: TypeAlias = tuple[Any, Any, Any, int, int, int, Any]


class Stream:
    """The queue of an opened wgpu device; `name` is for messages. Safe to use from any thread."""

    def __init__(self, gpu: Any, name: str) -> None:
        self.lock = threading.RLock()
        self._gpu = gpu
        self._name = name
        self._encoder: Any = None
        self._pass: Any = None
        self._handle: Any = None  # of the open pass
        self._pipeline: Any = None  # that was set last
        self._pending = 0
        self._staging: Any = None

    def encode(self, parts: Sequence[Part]) -> None:
        """Append dispatches to the open pass; submit it when it has grown long."""
        with self.lock:
            opened = self._handle or self._open()
            for pipeline, group, offset, x, y, z, _ in parts:
                if pipeline is not self._pipeline:
                    native.set_pipeline(opened, pipeline)
                    self._pipeline = pipeline
                native.set_bind_group(opened, 0, group, 1, offset)
                native.dispatch(opened, x, y, z)
            self._pending += len(parts)
            if self._pending >= FLUSH:
                self.flush()

    def timed(self, work: Sequence[Callable[[], object]]) -> list[float]:
        """Run each in a pass of its own; the device's seconds from its beginning to its end."""
        count = 2 * len(work)
        with self.lock, self.typed("timestamps"):
            self.flush()
            queries = self._gpu.create_query_set(type="timestamp", count=count)
            for i, run in enumerate(work):
                self._open(
                    timestamp_writes={
                        "query_set": queries,
                        "beginning_of_pass_write_index": 2 * i,
                        "end_of_pass_write_index": 2 * i + 1,
                    }
                )
                run()
                self.flush()
            result = self._gpu.create_buffer(size=8 * count, usage=_TIMESTAMPS)
            encoder = self._gpu.create_command_encoder()
            encoder.resolve_query_set(queries, 0, count, result, 0)
            self._gpu.queue.submit([encoder.finish()])
            ticks = self.read(result, 0, 8 * count).view(np.uint64).reshape(-1, 2)
        spans = (ticks[:, 1] - ticks[:, 0]).astype(np.float64)
        return [float(span) * native.timestamp_period(self._gpu) * 1e-9 for span in spans]

    def flush(self) -> None:
        """Submit the open pass, if any. Raises DeviceLost."""
        with self.lock:
            if self._handle is None:
                return
            encoder, opened = self._encoder, self._pass
            self._encoder = self._pass = self._handle = self._pipeline = None
            self._pending = 0
            with self.typed("its work"):
                opened.end()
                commands = encoder.finish()
            self._gpu.queue.submit([commands])

    def wait(self) -> None:
        """Until everything is done. Raises DeviceLost."""
        with self.lock:
            self.flush()
            native.wait(self._gpu)
            with self.typed("its work"):
                self._gpu.create_command_encoder().finish()  # refused by a lost device

    def write(self, buffer: Any, offset: int, data: Any) -> None:
        """Earlier launches are submitted first: a write would overtake them."""
        with self.lock, self.typed("data from the host"):
            self.flush()
            self._gpu.queue.write_buffer(buffer, offset, data)

    def read(self, buffer: Any, offset: int, nbytes: int) -> Any:
        """Submit what is pending, wait, and copy out: a new array of bytes."""
        result = np.empty(nbytes, np.uint8)
        with self.lock, self.typed("data for the host"):
            self.flush()
            # Not back in its place if this is interrupted: a submit of a mapped buffer aborts.
            staging, self._staging = self._staging, None
            staging = staging or self._gpu.create_buffer(size=_STAGED, usage=_READABLE)
            for start in range(0, nbytes, _STAGED):
                piece = min(_STAGED, nbytes - start)
                encoder = self._gpu.create_command_encoder()
                encoder.copy_buffer_to_buffer(buffer, offset + start, staging, 0, piece)
                self._gpu.queue.submit([encoder.finish()])
                staging.map_sync(native.READ, 0, piece)
                result[start : start + piece] = staging.read_mapped(0, piece, copy=False)
                staging.unmap()
            self._staging = staging
        return result

    @contextmanager
    def typed(self, what: str) -> Iterator[None]:
        """wgpu's errors as DeviceLost, or as OutOfMemory for `what`."""
        try:
            yield
        except wgpu.GPUError as error:
            why = str(error).strip().splitlines()[-1].strip()
            if "lost" in why:
                raise DeviceLost(
                    f"{self._name}: the device is lost, and its tensors with it",
                    hint=f"open it again with groundup.backends.devices.reopen({self._name!r})",
                ) from error
            if "memory" not in why:
                raise
            raise OutOfMemory(f"{self._name}: no room for {what}: {why}") from error

    def _open(self, **options: Any) -> Any:
        self._encoder = self._gpu.create_command_encoder()
        self._pass = self._encoder.begin_compute_pass(**options)
        self._handle = native.handle(self._pass)
        return self._handle

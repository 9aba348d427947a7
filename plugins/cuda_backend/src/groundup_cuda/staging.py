"""Host memory that a GPU reads and writes by itself, while the processor goes on.

Arrays pass through a ring of such pinned memory. From ordinary memory CUDA would copy to some of
its own first, and may wait for all earlier work before it does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np

from groundup.backends.api import HostArray

SLOTS: Final = 16  # copies that can be under way at once
SLOT: Final = 1 << 20  # bytes of each
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


class Event(Protocol):
    """A mark on a stream, as CuPy's."""

    def record(self, stream: Any) -> None:
        """Put it behind all that the stream was given."""

    def synchronize(self) -> None:
        """Wait until the stream has come there, at once if it was never recorded."""


class Staging:
    """Copies between arrays and one device. `memory` is pinned; each event guards a slot of it.

    `copy(target, source, nbytes, kind)` enqueues in `stream`. Threads take turns.
    """

    def __init__(
        self, memory: HostArray, events: Sequence[Event], copy: Callable[..., None], stream: Any
    ) -> None:
        self._memory = memory
        self._events = events
        self._copy = copy
        self._stream = stream
        self._size = memory.nbytes // len(events)
        self._turn = 0  # the slot that was given out longest ago
        self._lock = threading.Lock()

    def write(self, target: int, array: HostArray) -> None:
        """Enqueue a row-major array's copy to an address; it may change after the return."""
        data = _bytes(array)
        with self._lock:
            for start, count in self._parts(data.nbytes):
                slot, event = self._next()
                slot[:count] = data[start : start + count]
                self._copy(target + start, address(slot), count, TO_DEVICE)
                event.record(self._stream)

    def read(self, array: HostArray, source: int) -> None:
        """Wait for earlier work, and fill a row-major array from an address."""
        data = _bytes(array)
        under_way: deque[tuple[HostArray, HostArray, Event]] = deque()
        with self._lock:
            for start, count in self._parts(data.nbytes):
                if len(under_way) == len(self._events):
                    _arrive(*under_way.popleft())
                slot, event = self._next()
                self._copy(address(slot), source + start, count, TO_HOST)
                event.record(self._stream)
                under_way.append((data[start : start + count], slot[:count], event))
            while under_way:
                _arrive(*under_way.popleft())

    def _parts(self, nbytes: int) -> Iterator[tuple[int, int]]:
        """Where each part that fits into a slot begins, and its size."""
        for start in range(0, nbytes, self._size):
            yield start, min(self._size, nbytes - start)

    def _next(self) -> tuple[HostArray, Event]:
        """A slot that no copy uses any more."""
        turn, self._turn = self._turn, (self._turn + 1) % len(self._events)
        event = self._events[turn]
        event.synchronize()
        return self._memory[turn * self._size : (turn + 1) * self._size], event


def address(array: HostArray) -> int:
    """Where it lies. Some versions of Python do not give back all that `array.ctypes` makes."""
    found: int = array.__array_interface__["data"][0]
    return found


def _arrive(data: HostArray, slot: HostArray, event: Event) -> None:
    event.synchronize()
    data[:] = slot


def _bytes(array: HostArray) -> HostArray:
    """The same memory as bytes."""
    return array.reshape(-1).view(np.uint8)

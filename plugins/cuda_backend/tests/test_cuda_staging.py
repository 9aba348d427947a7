"""The ring of pinned memory on a stream that does nothing before somebody waits for it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest

from groundup_cuda.staging import TO_DEVICE, TO_HOST, Staging, address


class Lazy:
    """A stream that is as late as it may be: work runs when an event behind it is waited for."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.ran = 0

    def copy(self, target: int, source: int, nbytes: int, kind: int) -> None:
        assert kind in (TO_DEVICE, TO_HOST)
        self.waiting.append(lambda: ctypes.memmove(target, source, nbytes))

    def run(self, upto: int) -> None:
        while self.ran < upto:
            self.waiting[self.ran]()
            self.ran += 1


class Mark:
    """An event of such a stream."""

    def __init__(self) -> None:
        self.stream: Lazy | None = None
        self.place = 0
        self.waits = 0

    def record(self, stream: Lazy) -> None:
        self.stream, self.place = stream, len(stream.waiting)

    def synchronize(self) -> None:
        if self.stream is not None and self.stream.ran < self.place:
            self.waits += 1
            self.stream.run(self.place)


def ring(slots: int, size: int) -> tuple[Staging, Lazy, list[Mark]]:
    stream, marks = Lazy(), [Mark() for _ in range(slots)]
    return Staging(np.empty(slots * size, np.uint8), marks, stream.copy, stream), stream, marks


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 256, 1000])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool", "int64"])
def test_what_is_written_is_read(size: int, dtype: str) -> None:
    staging, _, _ = ring(4, 64)
    values = (np.random.default_rng(size).integers(0, 255, size) % 127).astype(dtype)
    room = np.full(size, 99).astype(dtype)
    staging.write(address(room), values)
    found = np.empty(size, dtype)
    staging.read(found, address(room))
    np.testing.assert_array_equal(found, values)


def test_an_array_may_change_once_it_is_written() -> None:
    """Longer than the ring, so that slots are used again while the stream is late."""
    staging, stream, marks = ring(3, 64)
    values, room = np.arange(100, dtype=np.int64), np.zeros(100, np.int64)
    staging.write(address(room), values)
    values[:] = -1
    assert stream.ran < len(stream.waiting)  # not all was waited for
    for mark in marks:
        mark.synchronize()
    np.testing.assert_array_equal(room, np.arange(100))


def test_short_writes_do_not_wait_before_the_ring_is_full() -> None:
    staging, stream, marks = ring(4, 64)
    room, values = np.zeros((6, 8)), np.random.default_rng(3).normal(size=(6, 8))
    for k in range(4):
        staging.write(address(room[k]), values[k])
    assert (stream.ran, sum(mark.waits for mark in marks)) == (0, 0)
    staging.write(address(room[4]), values[4])
    assert (stream.ran, sum(mark.waits for mark in marks)) == (1, 1)
    staging.write(address(room[5]), values[5])
    found = np.empty((6, 8))
    staging.read(found, address(room))
    np.testing.assert_array_equal(found, values)


def test_reads_see_all_that_was_enqueued_before() -> None:
    staging, stream, _ = ring(2, 64)
    room = np.zeros(50)
    stream.waiting.append(lambda: room.fill(7.0))
    found = np.empty(50)
    staging.read(found, address(room))
    np.testing.assert_array_equal(found, np.full(50, 7.0))


def test_scalars_and_views_of_two_axes() -> None:
    staging, _, _ = ring(2, 64)
    for values in (np.array(2.5, np.float16), np.arange(12, dtype=np.int32).reshape(3, 4)):
        room, found = np.zeros_like(values), np.empty_like(values)
        staging.write(address(room), values)
        staging.read(found, address(room))
        np.testing.assert_array_equal(found, values)

"""The caching allocator that devices get from the core.

Freed memory is kept by size and handed out again, lowest-numbered block first, so that a loop meets
the same buffers every step and a backend's bind-group cache stays warm. Frees may come from any
thread.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from groundup.errors import OutOfMemory
from groundup.spans import span

_GRAIN = 256  # bytes; small requests share size classes


class Buffer:
    """A block of device memory. When the last reference dies, it goes back to its pool."""

    __slots__ = ("handle", "nbytes", "number", "pool")

    def __init__(self, handle: Any, nbytes: int, number: int, pool: Pool) -> None:
        self.handle = handle
        self.nbytes = nbytes
        self.number = number
        self.pool = pool

    def __del__(self) -> None:
        self.pool.give_back(self.handle, self.nbytes, self.number)


class Pool:
    """Blocks by size class. `in_use`, `reserved` and `peak` are in bytes.

    `allocations` and `allocated` count all blocks that ever came from the device, and their bytes.
    """

    def __init__(self, allocate: Callable[[int], Any]) -> None:
        self._allocate = allocate
        # Re-entrant: a garbage collection inside `take` may run a Buffer's __del__ on this thread.
        self._lock = threading.RLock()
        self._free: defaultdict[int, list[tuple[int, Any]]] = defaultdict(list)
        # What is handed out, by number. If a cycle of garbage were all that holds a handle, its
        # finalizer would run beside Buffer's, and what comes back here would be dead.
        self._taken: dict[int, Any] = {}
        self._numbers = 0
        self.in_use = self.reserved = self.peak = self.allocations = self.allocated = 0

    def take(self, nbytes: int) -> Buffer:
        """A block of at least `nbytes`. Raises OutOfMemory after emptying the cache and one
        retry, and one more without what the size class adds.
        """
        size = _round(nbytes)
        with self._lock:
            blocks = self._free[size]
            if not blocks and self._free.get(exact := _in_grains(nbytes)):
                size, blocks = exact, self._free[exact]
            if blocks:
                number, handle = heappop(blocks)
            else:
                if self.reserved - self.in_use > self.peak:
                    self.trim()  # more is idle than was ever in use: the shapes have changed
                size, handle = self._fresh(size, nbytes)
                self._numbers += 1
                number = self._numbers
                self.allocations += 1
                self.allocated += size
                self.reserved += size
            self._taken[number] = handle
            self.in_use += size
            if self.in_use > self.peak:
                self.peak = self.in_use
        return Buffer(handle, size, number, self)

    def give_back(self, handle: Any, nbytes: int, number: int) -> None:
        """Keep a block for reuse; called by `Buffer` when it dies, from any thread."""
        with self._lock:
            self.in_use -= nbytes
            self._taken.pop(number, None)
            heappush(self._free[nbytes], (number, handle))

    def trim(self) -> None:
        """Drop all cached blocks, so that the device can reuse their memory."""
        with self._lock:
            # Taken away first: a garbage collection meanwhile may give blocks back on this thread.
            dropped, self._free = self._free, defaultdict(list)
            self.reserved -= sum(size * len(blocks) for size, blocks in dropped.items())

    def _fresh(self, size: int, nbytes: int) -> tuple[int, Any]:
        """A new block and its size. A class may be larger than the device's largest buffer."""
        with span(f"{size:,} bytes", "allocate"):
            try:
                return size, self._allocate(size)
            except OutOfMemory:
                self.trim()
            try:
                return size, self._allocate(size)
            except OutOfMemory:
                exact = _in_grains(nbytes)
                if exact == size:
                    raise
                return exact, self._allocate(exact)


def _round(nbytes: int) -> int:
    """Size class: multiples of 256 bytes to 64 KiB, then steps of an eighth of the power of two."""
    if nbytes <= 65536:
        return _in_grains(nbytes)
    step = 1 << (nbytes.bit_length() - 4)
    return -(-nbytes // step) * step


def _in_grains(nbytes: int) -> int:
    return (nbytes + _GRAIN - 1) // _GRAIN * _GRAIN or _GRAIN

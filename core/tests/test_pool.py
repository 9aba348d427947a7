"""The caching allocator: reuse, figures, running out, frees from other threads."""

from __future__ import annotations

import gc
import threading

import pytest

from groundup.backends.pool import Pool, _round
from groundup.errors import OutOfMemory


class Memory:
    """A device of `limit` bytes that hands out numbers."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.calls: list[int] = []
        self.pool = Pool(self.allocate)

    def allocate(self, nbytes: int) -> int:
        if self.pool.reserved + nbytes > self.limit:
            raise OutOfMemory(f"test: no room for {nbytes}")
        self.calls.append(nbytes)
        return len(self.calls)


def test_freed_blocks_are_reused() -> None:
    memory = Memory()
    first = memory.pool.take(1000)
    handle = first.handle
    del first
    assert memory.pool.take(900).handle == handle
    assert memory.calls == [1024]
    assert memory.pool.allocations == 1


class Mortal:
    """A handle that dies with its finalizer, as a driver's objects do."""

    alive = True

    def __del__(self) -> None:
        self.alive = False


def test_blocks_come_back_alive_from_a_cycle_of_garbage() -> None:
    pool = Pool(lambda nbytes: Mortal())
    cycle: list[object] = [pool.take(100)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert pool.in_use == 0
    assert pool.take(100).handle.alive
    assert pool.allocations == 1


def test_the_lowest_block_comes_first() -> None:
    """So that a loop meets the same buffers every step."""
    memory = Memory()
    blocks = [memory.pool.take(256) for _ in range(5)]
    for index in (3, 0, 4, 1, 2):
        blocks[index] = None  # type: ignore[call-overload]
    again = [memory.pool.take(256) for _ in range(5)]
    assert [block.number for block in again] == [1, 2, 3, 4, 5]


def test_figures() -> None:
    memory = Memory()
    pool = memory.pool
    first, second = pool.take(256), pool.take(512)
    assert (pool.in_use, pool.peak, pool.reserved) == (768, 768, 768)
    del first
    assert (pool.in_use, pool.peak, pool.reserved) == (512, 768, 768)
    del second
    pool.trim()
    assert (pool.in_use, pool.peak, pool.reserved) == (0, 768, 0)


def test_size_classes() -> None:
    assert [_round(n) for n in (0, 1, 256, 257, 65536)] == [256, 256, 256, 512, 65536]
    for nbytes in (65537, 100_000, 1 << 20, (1 << 20) + 1, 123_456_789):
        size = _round(nbytes)
        assert nbytes <= size <= nbytes * 1.126
        assert _round(size) == size, "a class holds its own size"


def test_the_cache_is_given_up_before_memory_runs_out() -> None:
    memory = Memory(limit=1024)
    kept = memory.pool.take(256)
    del_me = memory.pool.take(512)
    del del_me
    large = memory.pool.take(768)  # fits only without the cached 512
    assert (memory.pool.reserved, memory.pool.in_use) == (1024, 1024)
    with pytest.raises(OutOfMemory):
        memory.pool.take(256)
    assert memory.pool.in_use == 1024, "a failure changes no figure"
    del large
    assert memory.pool.take(256) is not None
    del kept


def test_a_size_class_beyond_what_the_device_allows_is_not_needed() -> None:
    memory = Memory(limit=(1 << 20) - 256)
    wanted = (1 << 20) - 512  # its class is 1 MiB
    block = memory.pool.take(wanted)
    assert (block.nbytes, memory.pool.reserved, memory.pool.in_use) == (wanted, wanted, wanted)
    number = block.number
    del block
    again = memory.pool.take(wanted)
    assert again.number == number, "kept for reuse under its own size"
    assert memory.calls == [wanted]


def test_idle_blocks_of_other_sizes_do_not_pile_up() -> None:
    memory = Memory()
    for size in range(256, 256 * 200, 256):
        block = memory.pool.take(size)
        del block
    assert memory.pool.reserved <= 3 * memory.pool.peak


def test_frees_from_many_threads() -> None:
    memory = Memory()

    def work() -> None:
        for size in range(200):
            blocks = [memory.pool.take(256 * (1 + (size + i) % 5)) for i in range(5)]
            del blocks

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.pool.in_use == 0
    assert memory.pool.reserved >= 0
    memory.pool.trim()
    assert memory.pool.reserved == 0


def test_no_block_is_given_twice() -> None:
    memory = Memory()
    seen: list[int] = []
    lock = threading.Lock()

    def work() -> None:
        held = [memory.pool.take(256) for _ in range(50)]
        with lock:
            seen.extend(block.number for block in held)
            kept.append(held)

    kept: list[object] = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 200


def test_a_block_that_is_freed_while_the_cache_is_emptied() -> None:
    """A garbage collection can run a Buffer's `__del__` between any two steps."""
    memory = Memory()
    pool = memory.pool
    late = [pool.take(1000)]
    del_first = pool.take(256)
    del del_first

    class Blocks(list):  # type: ignore[type-arg]
        def __len__(self) -> int:
            late.clear()  # of a size class that the cache does not hold yet
            return super().__len__()

    pool._free = {size: Blocks(blocks) for size, blocks in pool._free.items()}
    pool.trim()
    assert pool.in_use == 0
    assert pool.reserved == 1024
    assert pool.take(1000).nbytes == 1024
    assert pool.reserved == 1024

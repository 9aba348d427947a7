"""Pieces of work over threads of our own; compiled kernels let go of the interpreter's lock.

Numba's `parallel=True` has threading layers of its own, of which some abort the process when two
threads launch at once and some when it is forked. These threads do neither.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Final

# Elements that are worth waking a thread for. Arithmetic on fewer is done before it is awake.
GRAIN: Final = 1 << 15


def thread_count() -> int:
    """GROUNDUP_CPU_THREADS, as for the cpu backend, else the processors that we may use."""
    given = os.environ.get("GROUNDUP_CPU_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


THREADS: Final = thread_count()
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def pieces(count: int, weight: int = 1) -> list[tuple[int, int]]:
    """[0, count) in equal shares, one per thread if each has work; `weight` elements per item."""
    shares = max(1, min(THREADS, count, count * weight // GRAIN))
    bounds = [count * i // shares for i in range(shares + 1)]
    return list(pairwise(bounds))


def parallel(work: Callable[[int, int], object], count: int, weight: int = 1) -> None:
    """`work(start, stop)` on all of [0, count). The calling thread takes the first piece.

    If one raises, the error goes on when the others have ended: they write into the same memory.
    """
    first, *others = pieces(count, weight)
    if not others:
        work(*first)
        return
    futures = [_executor().submit(work, *piece) for piece in others]
    try:
        work(*first)
    finally:
        wait(futures)
    for future in futures:
        future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, THREADS - 1), "groundup-numba")
        return _pool


def _after_fork() -> None:
    """A forked process has none of the threads, and the lock may have been held."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

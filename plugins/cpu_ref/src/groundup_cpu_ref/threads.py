"""Row blocks over a thread pool. NumPy releases the interpreter's lock inside its loops."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Final

import numpy as np

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_inside: Final = threading.local()


def thread_count() -> int:
    """GROUNDUP_CPU_THREADS, else the processors that this process may use."""
    given = os.environ.get("GROUNDUP_CPU_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


THREADS: Final = thread_count()


def parallel(work: Callable[[int, int], object], count: int, grain: int) -> None:
    """`work(start, stop)` over [0, count) in at most THREADS pieces of at least `grain`.

    The calling thread takes the first piece. Nested calls run in their own thread. If a piece
    raises, the others have ended before the error goes on, for they write into the same arrays.
    """
    pieces = min(THREADS, max(1, count // max(grain, 1)))
    if pieces == 1 or getattr(_inside, "worker", False):
        work(0, count)
        return
    bounds = [count * i // pieces for i in range(pieces + 1)]
    futures = [_executor().submit(work, bounds[i], bounds[i + 1]) for i in range(1, pieces)]
    try:
        work(bounds[0], bounds[1])
        for future in futures:
            future.result()
    except BaseException:
        wait(futures)
        raise


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(
                max(1, THREADS - 1), thread_name_prefix="groundup-cpu", initializer=_start
            )
        return _pool


def _after_fork() -> None:
    """A forked process has no threads, and the lock may have been held: it begins anew."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _start() -> None:
    _inside.worker = True
    partial(np.seterr, all="ignore")()

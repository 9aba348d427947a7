"""Row blocks over a thread pool. NumPy releases the interpreter's lock inside its loops."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import numpy as np

_lock: Final = threading.Lock()
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

    The calling thread takes the first piece. Nested calls run in their own thread.
    """
    pieces = min(THREADS, max(1, count // max(grain, 1)))
    if pieces == 1 or getattr(_inside, "worker", False):
        work(0, count)
        return
    bounds = [count * i // pieces for i in range(pieces + 1)]
    futures = [_executor().submit(work, bounds[i], bounds[i + 1]) for i in range(1, pieces)]
    work(bounds[0], bounds[1])
    for future in futures:
        future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(
                max(1, THREADS - 1), thread_name_prefix="groundup-cpu", initializer=_start
            )
        return _pool


def _start() -> None:
    _inside.worker = True
    partial(np.seterr, all="ignore")()

"""Matrix products over our own threads, with the BLAS library held to one thread meanwhile.

BLAS libraries keep their own threads spinning for a while after each product. Those fight with the
threads of the kernels around it, and on a busy machine a product can take ten times as long. One
pool for everything is as fast when the machine is quiet, and keeps its speed when it is not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from groundup_cpu_ref.native import Array
from groundup_cpu_ref.threads import THREADS, parallel

_SMALL: Final = 1 << 18  # multiplications below which BLAS libraries do not start threads
_GRAIN: Final = 64  # rows or columns that one thread takes at least


class _Limit:
    """Counts who needs single-threaded BLAS; the first sets it, the last puts it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: list[int] = []
        self._libraries: list[Any] | None = None

    def _find(self) -> list[Any]:
        if self._libraries is None:
            from threadpoolctl import ThreadpoolController

            self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        return self._libraries

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = [library.get_num_threads() for library in self._find()]
                for library in self._find():
                    library.set_num_threads(1)
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for library, count in zip(self._find(), self._before, strict=True):
                    library.set_num_threads(count)


_limit: Final = _Limit()


@contextmanager
def single_threaded() -> Iterator[None]:
    """While inside, BLAS uses the calling thread only (in the whole process)."""
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()


def matmul(x: Array, y: Array, out: Array) -> None:
    """`np.matmul(x, y, out)` for inputs of rank 2 or more, in threads where that pays."""
    inner = x.shape[-1]
    if THREADS == 1 or out.size * inner < _SMALL or out.dtype.kind != "f":
        np.matmul(x, y, out)
        return
    with single_threaded():
        _split(x, y, out)


def _split(x: Array, y: Array, out: Array) -> None:
    """Over the largest of the leading axes if that gives every thread work, else rows or
    columns.
    """
    lead = out.shape[:-2]
    if lead and max(lead) >= THREADS:
        axis = lead.index(max(lead))
        pieces = (slice(None),) * axis
        left = np.broadcast_to(x, (*lead, *x.shape[-2:]))
        right = np.broadcast_to(y, (*lead, *y.shape[-2:]))

        def batches(start: int, stop: int) -> None:
            at = (*pieces, slice(start, stop))
            np.matmul(left[at], right[at], out[at])

        parallel(batches, max(lead), 1)
    elif out.shape[-2] > out.shape[-1]:
        parallel(lambda a, b: np.matmul(x[..., a:b, :], y, out[..., a:b, :]), out.shape[-2], _GRAIN)
    else:
        parallel(lambda a, b: np.matmul(x, y[..., a:b], out[..., a:b]), out.shape[-1], _GRAIN)

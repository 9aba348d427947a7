"""Matrix products: the BLAS library that NumPy brings, which Numba would call as well.

Its own threads go on spinning for a while after a product, and take the processors from ours. So
it works with one thread in each of ours.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from threadpoolctl import ThreadpoolController

from groundup.backends.api import View
from groundup.layout import Layout
from groundup_numba.native import Array, Plan, native, strided
from groundup_numba.threads import THREADS, parallel

_SMALL: Final = 1 << 18  # multiplications below which BLAS libraries start no threads
_libraries: Final = ThreadpoolController().select(user_api="blas").lib_controllers
_lock: Final = threading.Lock()
_inside: list[list[int]] = []  # per product that is running, the numbers of threads to put back


@contextmanager
def _single_threaded() -> Iterator[None]:
    """While any product is inside, BLAS has one thread per call; the last puts it back."""
    with _lock:
        before = _inside[-1] if _inside else [each.get_num_threads() for each in _libraries]
        _inside.append(before)
        for library in _libraries:
            library.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                for library, count in zip(_libraries, before, strict=True):
                    library.set_num_threads(count)


@native("matmul")
def _matmul(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan:
    """Many matrices times one are one larger matrix: a single product, where x lies so."""
    x, y = inputs
    flat = x.rank > 2 and y.rank == 2 and x.is_row_major and x.size > 0
    work = outputs[0].size * x.shape[-1]

    def run(left: View, right: View, out: View) -> None:
        a, b, target = _readable(strided(left)), _readable(strided(right)), strided(out)
        if flat:
            a, target = a.reshape(-1, a.shape[-1]), target.reshape(-1, target.shape[-1])
        if THREADS == 1 or work < _SMALL or min(a.ndim, b.ndim) < 2:
            _product(a, b, target)
        else:
            with _single_threaded():
                _in_pieces(a, b, target)

    return Plan(run)


def _product(a: Array, b: Array, out: Array) -> None:
    """Infinities and NaN are results; NumPy keeps that setting per thread."""
    with np.errstate(all="ignore"):
        np.matmul(a, b, out)


def _in_pieces(a: Array, b: Array, out: Array) -> None:
    """Over the first axis of a stack of matrices, else over the longer side of the result."""
    weight = out.size // out.shape[0] * a.shape[-1]
    if out.ndim > 2:
        a, b = (np.broadcast_to(m, (*out.shape[:-2], *m.shape[-2:])) for m in (a, b))
        parallel(lambda i, j: _product(a[i:j], b[i:j], out[i:j]), out.shape[0], weight)
    elif out.shape[0] >= out.shape[1]:
        parallel(lambda i, j: _product(a[i:j], b, out[i:j]), out.shape[0], weight)
    else:
        weight = out.shape[0] * a.shape[-1]
        parallel(lambda i, j: _product(a, b[:, i:j], out[:, i:j]), out.shape[1], weight)


def _readable(x: Array) -> Array:
    """A copy of what BLAS cannot read as it lies; NumPy would multiply that one by one."""
    if x.dtype.kind != "f" or not x.size or x.ndim < 2:
        return x if x.ndim > 1 or x.strides[0] > 0 else np.ascontiguousarray(x)
    rows, columns = x.strides[-2:]
    along = columns == x.itemsize and rows >= x.shape[-1] * x.itemsize
    across = rows == x.itemsize and columns >= x.shape[-2] * x.itemsize
    return x if along or across else np.ascontiguousarray(x)

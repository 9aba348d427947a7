"""The device `cpu`: memory is NumPy arrays, a launch runs at once, so there is nothing to wait
for.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundup import dtypes
from groundup.backends.api import (
    Declined,
    Device,
    DeviceInfo,
    Executable,
    Kernel,
    Launch,
    MemoryStats,
    View,
)  # fmt: skip
from groundup.backends.pool import Buffer
from groundup.dtypes import as_dtype
from groundup.errors import DTypeError, OutOfMemory
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup_cpu_ref import kernels
from groundup_cpu_ref.native import NATIVE, Array, prebound, specialise

_ALL = frozenset({"store", "compute", "matmul"})
_POOLED = 1 << 18  # bytes from which arrays come from the pool


class _Block(np.ndarray[Any, np.dtype[Any]]):
    """Bytes of the pool. Every array on them refers to it, so they go back when the last one dies.

    Its own base is no array: NumPy shortens chains of arrays, and would skip this link.
    """

    owner: Buffer


class CpuDevice(Device):
    """NumPy arrays and functions. Views share memory by strides, as NumPy's own views do."""

    def __init__(self) -> None:
        super().__init__()
        kernels.load()
        self.info = self.describe()

    def describe(self) -> DeviceInfo:
        """Every dtype, the whole memory of the machine."""
        return DeviceInfo(
            name="cpu",
            description=f"NumPy {np.__version__}, {platform.machine()}, {os.cpu_count()} threads",
            dtypes=dict.fromkeys(dtypes.ALL, _ALL),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        )

    def allocate(self, nbytes: int) -> mmap.mmap:
        """Fresh pages from the system, huge ones where it has them."""
        try:
            pages = mmap.mmap(-1, max(nbytes, 1))
        except (OSError, ValueError, OverflowError) as error:
            raise OutOfMemory(f"cpu: no room for {nbytes} bytes") from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them
                pages.madvise(mmap.MADV_HUGEPAGE)
        return pages

    def empty(self, layout: Layout) -> View:
        """Small arrays straight from NumPy, which is quickest; large ones from the core's pool.

        The C library gives large blocks back to the system, and having it map and clear their pages
        anew costs more than computing on them.
        """
        dtype = layout.dtype.numpy
        nbytes = layout.size * dtype.itemsize
        if nbytes < _POOLED:
            array = np.empty(layout.shape, dtype)
            return View(array, 0, layout, array)
        buffer = self.pool.take(nbytes)
        block = _Block((nbytes,), np.uint8, buffer.handle)
        block.owner = buffer
        return View(block, 0, layout, np.ndarray(layout.shape, dtype, block))

    def attach(self, view: View) -> View:
        """The strided ndarray on the view's buffer."""
        base: Array = view.buffer
        dtype = view.layout.dtype
        if base.dtype.kind == "V" or not base.flags.c_contiguous:
            base = base.reshape(-1).view(np.uint8)
        strides = [s * dtype.itemsize for s in view.layout.strides]
        view.native = np.ndarray(view.layout.shape, dtype.numpy, base, view.offset, strides)
        return view

    def write(self, view: View, array: Array) -> None:
        """Copy in."""
        view.native[...] = array

    def read(self, view: View) -> Array:
        """Copy out, row-major."""
        return np.array(view.native, order="C")

    def kernel(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        """The registered function of that op's name."""
        found = NATIVE.get(op.name)
        if found is None:
            return Declined(f"no kernel for {op.name}")
        return specialise(op, found, inputs, outputs)

    def record(self, launches: Sequence[Launch]) -> Executable:
        """The launches' functions with their arrays, in one loop."""
        return prebound(launches)

    def synchronize(self) -> None:
        """Launches have finished when they return."""

    def memory(self) -> MemoryStats:
        """The process's resident memory: NumPy's allocator keeps no figures of its own."""
        scale = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
        return MemoryStats(in_use=_resident(peak), peak=peak, reserved=peak)

    def adopt(self, array: Any) -> View | None:
        """Share the memory of a host array (DLPack). None for what NumPy cannot import or write."""
        try:
            host: Array = array if isinstance(array, np.ndarray) else np.from_dlpack(array)
            dtype = as_dtype(host.dtype)
        except (BufferError, TypeError, RuntimeError, DTypeError):
            return None
        if not host.flags.writeable or any(s % dtype.itemsize for s in host.strides):
            return None
        return _adopted(
            host, Layout(host.shape, tuple(s // dtype.itemsize for s in host.strides), dtype)
        )


def _adopted(host: Array, layout: Layout) -> View:
    """A view of a flat base that starts at the lowest address, so that later views can be
    derived.
    """
    steps = (
        [(n - 1) * s for n, s in zip(host.shape, host.strides, strict=True)] if host.size else [0]
    )
    low = sum(step for step in steps if step < 0)
    span = sum(abs(step) for step in steps) + host.itemsize if host.size else 0
    flat = _bytes_from(host, low, span)
    return View(flat, -low, layout, host)


def _bytes_from(host: Array, low: int, span: int) -> Array:
    """The `span` bytes that begin `low` bytes from the array's first element."""
    turned = [slice(None, None, -1) if s < 0 else slice(None) for s in host.strides]
    corner = host[(*turned, ...)]  # with the dots a view at rank 0 too, where a plain () copies
    flat = np.lib.stride_tricks.as_strided(
        corner, (span // host.itemsize,), (host.itemsize,), writeable=True
    )
    return flat.view(np.uint8)


def _resident(otherwise: int) -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return otherwise

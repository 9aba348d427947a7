"""cuBLAS by ctypes: CuPy refuses to call it while a stream is captured.

cuBLAS counts in columns. A row-major matrix is its transpose there, so `out = x @ y` is asked for
as `out.T = y.T @ x.T`: y comes first.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Final

from groundup.errors import DeviceLost
from groundup_cuda.jit import load_library
from groundup_cuda.products import Product

WORKSPACE: Final = 32 << 20  # bytes; NVIDIA's advice for Hopper
_FLOAT_SUMS: Final = 68  # CUBLAS_COMPUTE_32F: float32 exactly, no TF32
_NO_NARROW_SUMS: Final = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
_ANY_ALGORITHM: Final = -1


class Blas:
    """A cuBLAS handle on one stream."""

    def __init__(self, stream: int, workspace: Any) -> None:
        # Kernels of one product use the workspace one after the other: no other may come between.
        self._lock = threading.Lock()
        self._library = load_library("cublas")
        self._handle = handle = ctypes.c_void_p()
        self._one, self._zero = (ctypes.byref(ctypes.c_float(value)) for value in (1, 0))
        self._run("cublasCreate_v2", ctypes.byref(handle))
        self._run("cublasSetStream_v2", handle, ctypes.c_void_p(stream))
        self._workspace = workspace  # kept
        space = ctypes.c_void_p(workspace.ptr)
        self._run("cublasSetWorkspace_v2", handle, space, ctypes.c_size_t(WORKSPACE))
        self._run("cublasSetMathMode", handle, _NO_NARROW_SUMS)

    def multiply(self, product: Product, out: int, x: int, y: int) -> None:
        """Enqueue a product at these addresses. Raises DeviceLost when it fails."""
        rows, columns, inner = product.sizes
        turned_x, leading_x, step_x = product.x
        turned_y, leading_y, step_y = product.y
        kind, long, pointer = product.kind, ctypes.c_longlong, ctypes.c_void_p
        self._run(
            "cublasGemmStridedBatchedEx", self._handle, int(turned_y), int(turned_x),
            columns, rows, inner, self._one, pointer(y), kind, leading_y, long(step_y),
            pointer(x), kind, leading_x, long(step_x), self._zero,
            pointer(out), kind, columns, long(product.step),
            product.batches, _FLOAT_SUMS, _ANY_ALGORITHM,
        )  # fmt: skip

    def _run(self, function: str, *arguments: Any) -> None:
        with self._lock:
            status = getattr(self._library, function)(*arguments)
        if status:
            raise DeviceLost(f"cuBLAS: {function} failed with status {status}")

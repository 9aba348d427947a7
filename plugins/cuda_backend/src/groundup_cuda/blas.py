"""Matrix products by cuBLAS, called by ctypes: CuPy refuses its own while a stream is captured.

cuBLAS counts in columns. A row-major matrix is its transpose there, so `out = x @ y` is asked for
as `out.T = y.T @ x.T`: y comes first.
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any, Final, TypeAlias

import attrs

from groundup import dtypes
from groundup.dtypes import DType
from groundup.errors import DeviceLost
from groundup.shapes import Shape
from groundup_cuda.jit import load_library

KINDS: Final = {dtypes.float32: 0, dtypes.float16: 2, dtypes.bfloat16: 14}  # cudaDataType
_COMPUTE_FLOAT: Final = 68  # CUBLAS_COMPUTE_32F: float32 exactly, no TF32
_NO_NARROW_SUMS: Final = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
_DEFAULT: Final = -1  # CUBLAS_GEMM_DEFAULT
WORKSPACE: Final = 32 << 20  # bytes; NVIDIA's advice for Hopper
Call: TypeAlias = partial[int]


@attrs.frozen(eq=False)
class Product:
    """One matrix product, or a batch of evenly spaced ones, repeated at each of `starts`."""

    kind: int
    sizes: tuple[int, int, int]  # rows, columns, inner
    x: tuple[bool, int, int]  # transposed, leading dimension, step from one product to the next
    y: tuple[bool, int, int]
    batches: int
    starts: tuple[tuple[int, ...], ...]  # bytes from the beginning of out, x and y
    step: int  # from one product of the output to the next


def readable(shape: Shape, strides: Shape) -> tuple[bool, int] | None:
    """Whether cuBLAS takes a matrix as transposed, and its leading dimension; None if it cannot."""
    (rows, columns), (down, along) = shape, strides
    if (columns == 1 or along == 1) and (rows == 1 or down >= columns):
        return False, max(columns, 1) if rows == 1 else down
    if (rows == 1 or down == 1) and (columns == 1 or along >= rows):
        return True, max(rows, 1) if columns == 1 else along
    return None


class Blas:
    """A cuBLAS handle on one stream."""

    def __init__(self, stream: int, workspace: int) -> None:
        self._library = load_library("cublas")
        self._handle = ctypes.c_void_p()
        self._check("cublasCreate_v2", ctypes.byref(self._handle))
        self._check("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
        space = (ctypes.c_void_p(workspace), ctypes.c_size_t(WORKSPACE))
        self._check("cublasSetWorkspace_v2", self._handle, *space)
        self._check("cublasSetMathMode", self._handle, _NO_NARROW_SUMS)
        self._one, self._zero = ctypes.c_float(1), ctypes.c_float(0)
        self._gemm = self._library.cublasGemmStridedBatchedEx

    def calls(self, product: Product, out: int, x: int, y: int) -> list[Call]:
        """The calls that compute a product at these addresses; each returns a status."""
        rows, columns, inner = product.sizes
        turned_x, leading_x, step_x = product.x
        turned_y, leading_y, step_y = product.y
        kind, long, pointer = product.kind, ctypes.c_longlong, ctypes.c_void_p
        one, zero = ctypes.byref(self._one), ctypes.byref(self._zero)
        return [
            partial(
                self._gemm, self._handle, int(turned_y), int(turned_x), columns, rows, inner, one,
                pointer(y + at_y), kind, leading_y, long(step_y),
                pointer(x + at_x), kind, leading_x, long(step_x), zero,
                pointer(out + at_out), kind, columns, long(product.step),
                product.batches, _COMPUTE_FLOAT, _DEFAULT,
            )
            for at_out, at_x, at_y in product.starts
        ]  # fmt: skip

    def run(self, call: Call) -> None:
        """Enqueue a product. Raises DeviceLost."""
        status = call()
        if status:
            raise DeviceLost(f"cuBLAS: a matrix product failed with status {status}")

    def _check(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise DeviceLost(f"cuBLAS: {function} failed with status {status}")


def multiplies(dtype: DType, capability: tuple[int, int]) -> bool:
    """Whether cuBLAS multiplies `dtype` on such a GPU: bfloat16 from compute capability 8.0 on."""
    return dtype in KINDS and (dtype is not dtypes.bfloat16 or capability >= (8, 0))

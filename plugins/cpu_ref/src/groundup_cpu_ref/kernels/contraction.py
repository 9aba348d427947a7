"""Matrix products by NumPy's BLAS."""

from __future__ import annotations

import numpy as np

from groundup.ops.op import Op
from groundup_cpu_ref.native import Array, native


@native("matmul")
def matmul(op: Op, x: Array, y: Array, out: Array) -> None:
    np.matmul(x, y, out)

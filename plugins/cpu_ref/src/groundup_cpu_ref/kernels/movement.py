"""Copies, and tensors from nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup.ops.op import Op
from groundup_cpu_ref.native import Array, native


@native("contiguous", exact=True)
def contiguous(op: Op, x: Array, out: Array) -> None:
    np.copyto(out, x)


@native("assign", in_place=True, exact=True)
def assign(op: Op, target: Array, value: Array, out: Array) -> None:
    """If `value` overlaps the target (x[1:] = x[:-1]), NumPy copies it first."""
    np.copyto(out, value)


@native("full", params=("shape", "value", "dtype"), exact=True)
def full(op: Any, out: Array) -> None:
    out.fill(op.value)


@native("arange", params=("start", "step", "count", "dtype"), exact=True)
def arange(op: Any, out: Array) -> None:
    out[...] = np.arange(op.count) * op.step + op.start

"""Constants for compositions. Ops sit below devices, so they are made from a tensor at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from groundup.dtypes import DType, int32

if TYPE_CHECKING:
    from groundup.tensor import Tensor


def zero(beside: Tensor, dtype: DType | None = None) -> Tensor:
    """A 0-d zero on the device of `beside`, in its dtype or another: the sum of no elements."""
    beside = beside.detach()
    line = beside.reshape(1) if beside.ndim == 0 else beside
    nothing = line[(slice(0, 0),) * line.ndim]
    return nothing.astype(dtype or beside.dtype).sum()


def positions(beside: Tensor, count: int) -> Tensor:
    """0, 1, ... count - 1 as int32, on the device of `beside`."""
    ones = (zero(beside, int32) + 1).expand(count)
    return ones.cumsum(0) - 1

"""The grid of floats of each dtype: spacing, unit roundoff, where results overflow.

u, the unit roundoff, is half the spacing of floats in [1, 2): 2^-24 in float32. An ULP (unit in the
last place) of a value is the spacing of floats around it, which below the smallest normal number is
that of the subnormals.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import attrs
import numpy as np

from groundup import dtypes as dt
from groundup.dtypes import DType

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@attrs.frozen
class Format:
    """A binary float format: bits of the fraction that are stored, least exponent, largest."""

    fraction: int
    lowest: int
    highest: int

    @property
    def unit(self) -> float:
        """u: the largest relative error of rounding to nearest."""
        return 2.0 ** -(self.fraction + 1)

    @property
    def smallest_normal(self) -> float:
        """Below it lie the subnormals, which some devices flush to zero."""
        return 2.0**self.lowest

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0**-self.fraction) * 2.0**self.highest

    @property
    def overflow(self) -> float:
        """Rounding to nearest gives infinity from here on: half a spacing above the largest."""
        return self.largest + 2.0 ** (self.highest - self.fraction - 1)


FORMATS: Final[dict[DType, Format]] = {
    dt.float16: Format(10, -14, 15),
    dt.bfloat16: Format(7, -126, 127),
    dt.float32: Format(23, -126, 127),
    dt.float64: Format(52, -1022, 1023),
}


_EXPONENT: Final = 0x7FF << 52  # the bits of a float64's exponent


def unit(dtype: DType) -> float:
    """The unit roundoff of a float dtype."""
    return FORMATS[dtype].unit


def ulp(value: Array | float, dtype: DType) -> Floats:
    """The spacing of `dtype`'s floats around each value; at 0 that of the subnormals.

    Of infinity and NaN it is infinite.
    """
    kind = FORMATS[dtype]
    size = np.asarray(np.maximum(np.abs(value), kind.smallest_normal), np.float64)
    power = (size.view(np.int64) & _EXPONENT).view(np.float64)  # the power of two below
    spacing: Floats = power * 2.0**-kind.fraction
    return spacing


def accumulator(dtype: DType) -> DType:
    """The dtype that sums are kept in: float32 for the 16-bit floats, else the dtype itself."""
    return dt.float32 if dtype in (dt.float16, dt.bfloat16) else dtype


def flushed(array: Array) -> Array:
    """The array with zeros of the same sign for subnormal numbers; itself if it holds none."""
    dtype = dt.as_dtype(array.dtype)
    if not dtype.is_floating:
        return array
    small = (array != 0) & (np.abs(array).astype(np.float64) < FORMATS[dtype].smallest_normal)
    return np.where(small, np.copysign(array.dtype.type(0), array), array) if small.any() else array

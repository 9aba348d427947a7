"""Spec and Layout: what a tensor holds, and how it lies in memory. Both are interned, so `is`
compares.

Interning makes them cheap keys: eager dispatch looks a plan up by `(op, layout, layout, ...)` and
hashes only identities. Offsets are deliberately not part of a layout, or every slice would be a new
signature.
"""

from __future__ import annotations

from math import prod
from typing import Final

from groundup.dtypes import DType
from groundup.shapes import Shape, is_row_major, row_major


class Spec:
    """Shape and dtype of a tensor: what shape rules (`Op.infer`) read and return."""

    __slots__ = ("dtype", "nbytes", "shape", "size")

    shape: Shape
    dtype: DType
    size: int
    nbytes: int

    def __new__(cls, shape: Shape, dtype: DType) -> Spec:
        """The one Spec of this shape and dtype. `nbytes` counts the host's item size."""
        key = (shape, dtype)
        found = _SPECS.get(key)
        if found is None:
            found = object.__new__(cls)
            found.shape, found.dtype = shape, dtype
            found.size = prod(shape)
            found.nbytes = found.size * dtype.itemsize
            found = _SPECS.setdefault(key, found)
        return found

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    def __reduce__(self) -> tuple[type[Spec], tuple[Shape, DType]]:
        return (Spec, (self.shape, self.dtype))


class Layout:
    """Shape, strides (in elements; 0 where an axis is expanded, negative where it is flipped),
    dtype.
    """

    __slots__ = ("dtype", "is_row_major", "shape", "size", "spec", "strides")

    shape: Shape
    strides: Shape
    dtype: DType
    spec: Spec
    size: int
    is_row_major: bool

    def __new__(cls, shape: Shape, strides: Shape, dtype: DType) -> Layout:
        """The one Layout of these three."""
        key = (shape, strides, dtype)
        found = _LAYOUTS.get(key)
        if found is None:
            found = object.__new__(cls)
            found.shape, found.strides, found.dtype = shape, strides, dtype
            found.spec = Spec(shape, dtype)
            found.size = found.spec.size
            found.is_row_major = is_row_major(shape, strides)
            found = _LAYOUTS.setdefault(key, found)
        return found

    @classmethod
    def contiguous(cls, spec: Spec) -> Layout:
        """The row-major layout of `spec`."""
        return cls(spec.shape, row_major(spec.shape), spec.dtype)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_expanded(self) -> bool:
        """Whether several elements share one place in memory."""
        pairs = zip(self.shape, self.strides, strict=True)
        return any(size > 1 and stride == 0 for size, stride in pairs)

    def __repr__(self) -> str:
        strides = "" if self.is_row_major else f" strides {self.strides}"
        return f"{self.spec!r}{strides}"

    def __reduce__(self) -> tuple[type[Layout], tuple[Shape, Shape, DType]]:
        return (Layout, (self.shape, self.strides, self.dtype))


_SPECS: Final[dict[tuple[Shape, DType], Spec]] = {}
_LAYOUTS: Final[dict[tuple[Shape, Shape, DType], Layout]] = {}

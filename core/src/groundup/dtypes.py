"""Data types: names and sizes as in the Array API, plus float16 and bfloat16.

A `DType` is an interned object, so `is` compares. Promotion follows the Array API inside a kind;
between an integer and a float tensor it follows PyTorch: the float wins. Python scalars are weak:
they take the tensor's dtype.
"""

from __future__ import annotations

from typing import Final, Literal

import ml_dtypes
import numpy as np

from groundup.errors import DTypeError

Kind = Literal["bool", "int", "float"]


class DType:
    """One data type. `itemsize` is in bytes on the host; a device may store it wider."""

    __slots__ = ("bits", "itemsize", "kind", "name", "numpy", "signed")

    def __init__(self, name: str, kind: Kind, numpy: np.dtype[np.generic], signed: bool) -> None:
        self.name = name
        self.kind = kind
        self.numpy = numpy
        self.itemsize = numpy.itemsize
        self.bits = numpy.itemsize * 8
        self.signed = signed

    @property
    def is_floating(self) -> bool:
        """Whether it is one of the floats."""
        return self.kind == "float"

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value of an integer dtype."""
        low = -(1 << (self.bits - 1)) if self.signed else 0
        return low, low + (1 << self.bits) - 1

    def __repr__(self) -> str:
        return f"groundup.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (as_dtype, (self.name,))


bool_: Final = DType("bool", "bool", np.dtype(np.bool_), signed=False)
uint8: Final = DType("uint8", "int", np.dtype(np.uint8), signed=False)
int8: Final = DType("int8", "int", np.dtype(np.int8), signed=True)
int32: Final = DType("int32", "int", np.dtype(np.int32), signed=True)
int64: Final = DType("int64", "int", np.dtype(np.int64), signed=True)
float16: Final = DType("float16", "float", np.dtype(np.float16), signed=True)
bfloat16: Final = DType("bfloat16", "float", np.dtype(ml_dtypes.bfloat16), signed=True)
float32: Final = DType("float32", "float", np.dtype(np.float32), signed=True)
float64: Final = DType("float64", "float", np.dtype(np.float64), signed=True)

ALL: Final = (bool_, uint8, int8, int32, int64, float16, bfloat16, float32, float64)
FLOATS: Final = tuple(d for d in ALL if d.is_floating)
INTS: Final = tuple(d for d in ALL if d.kind == "int")
DEFAULT_FLOAT: Final = float32
DEFAULT_INT: Final = int32

_BY_NAME: Final = {d.name: d for d in ALL} | {"bool_": bool_, "half": float16, "float": float32}
_BY_NUMPY: Final = {d.numpy: d for d in ALL}
_PYTHON: Final[dict[type, DType]] = {bool: bool_, int: DEFAULT_INT, float: DEFAULT_FLOAT}

DTypeLike = DType | str | np.dtype[np.generic] | type


def as_dtype(value: DTypeLike) -> DType:
    """The DType for a DType, a name ("float32"), a NumPy dtype, or bool, int, float.

    Raises DTypeError for anything else.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    if isinstance(value, type) and value in _PYTHON:
        return _PYTHON[value]
    try:
        if value is None:  # which NumPy takes for float64
            raise TypeError
        return _BY_NUMPY[np.dtype(value)]
    except (TypeError, KeyError):
        names = ", ".join(d.name for d in ALL)
        raise DTypeError(f"unknown dtype {value!r}", hint=f"one of {names}") from None


def promote(left: DType, right: DType) -> DType:
    """The dtype of a result of `left` and `right`.

    bool < ints < floats; inside a kind the wider wins; float16 with bfloat16 gives float32;
    int8 with uint8 gives int32.
    """
    if left is right:
        return left
    order = {"bool": 0, "int": 1, "float": 2}
    if left.kind != right.kind:
        return left if order[left.kind] > order[right.kind] else right
    if left.itemsize != right.itemsize:
        return left if left.itemsize > right.itemsize else right
    return float32 if left.is_floating else int32

"""Tensors from data and from nothing: tensor, zeros, ones, full, arange, eye, from_dlpack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from groundup import dispatch, dtypes
from groundup.backends.devices import DeviceLike, device_for
from groundup.dtypes import DType, DTypeLike, as_dtype
from groundup.errors import DTypeError, ShapeError, UnsupportedDtype
from groundup.graph import mode
from groundup.layout import Layout, Spec
from groundup.ops.creation import Arange, Full
from groundup.shapes import as_shape
from groundup.tensor import Tensor

__all__ = [
    "arange", "empty", "eye", "from_dlpack", "from_numpy", "full", "full_like", "ones", "ones_like",
    "tensor", "zeros", "zeros_like",
]  # fmt: skip

_HostArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_PYTHON_DTYPES = {"b": dtypes.bool_, "i": dtypes.DEFAULT_INT, "f": dtypes.DEFAULT_FLOAT}


def tensor(
    data: Any,
    dtype: DTypeLike | None = None,
    device: DeviceLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor with a copy of `data`: numbers, nested lists, a NumPy array, or a tensor.

    Python floats become float32 and ints int32 unless `dtype` says otherwise; arrays keep their
    dtype.
    Raises DTypeError, ShapeError (ragged lists), UnsupportedDtype (the device cannot store it).
    """
    place = device_for(device)
    if isinstance(data, Tensor):
        moved = data.detach().clone().to(place)
        result = moved if dtype is None else moved.astype(dtype)
    else:
        make = from_numpy if isinstance(data, np.ndarray) else literal
        result = make(_host(data, dtype), place)
    return result.requires_grad_() if requires_grad else result


def from_numpy(array: _HostArray, device: DeviceLike | None = None) -> Tensor:
    """A tensor with a copy of `array`, in its dtype.

    Raises TraceError in a compiled function, which would see this array for ever.
    """
    if mode.trace is not None:
        mode.trace.refuse(
            f"a NumPy array {array.dtype}{list(array.shape)} becomes a tensor",
            "make the tensor before the call and pass it, or every run would see this array",
        )
    return literal(array, device)


def literal(array: _HostArray, device: DeviceLike | None = None) -> Tensor:
    """As `from_numpy`, for arrays that were written down: a compiled function may keep those."""
    place = device_for(device)
    spec = Spec(array.shape, as_dtype(array.dtype))
    if spec.dtype not in place.info.dtypes:
        raise UnsupportedDtype(
            f"tensor: {place.info.name} cannot store {spec.dtype}",
            hint="pass dtype='float32' or 'int32'",
        )
    view = place.empty(Layout.contiguous(spec))
    place.write(view, array)
    made = Tensor(view, place, None, 0)
    if mode.trace is not None:
        mode.trace.keep(made)
    return made


def from_dlpack(array: Any, device: DeviceLike | None = None) -> Tensor:
    """A tensor on the memory of another library's array where the device can, else with a copy."""
    place = device_for(device)
    if mode.trace is not None:
        mode.trace.refuse("an array of another library becomes a tensor", "do it before the call")
    view = place.adopt(array)
    if view is None:
        return from_numpy(np.array(np.from_dlpack(array)), place)
    return Tensor(view, place, None, 0)


def _host(data: Any, dtype: DTypeLike | None) -> _HostArray:
    if isinstance(data, np.ndarray | np.generic):
        array = np.asarray(data)
        return array if dtype is None else _converted(array, as_dtype(dtype))
    data = _unwrap(data)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError("tensor: nested lists must have equal lengths") from error
    if array.dtype.kind not in "bif":
        raise DTypeError(f"tensor: cannot make a tensor of {type(data).__name__} ({array.dtype})")
    target = as_dtype(dtype) if dtype is not None else _PYTHON_DTYPES[array.dtype.kind]
    return _converted(array, target)


def _converted(array: _HostArray, target: DType) -> _HostArray:
    _refuse_unfit("tensor", array, target)
    with np.errstate(over="ignore"):  # infinity in a narrower float
        return np.asarray(array.astype(target.numpy))


def _refuse_unfit(op: str, array: _HostArray, target: DType) -> None:
    """Raises DTypeError for numbers that an integer dtype cannot hold, NaN among them."""
    if target.kind != "int" or not array.size or array.dtype.kind == "b":
        return
    low, high = target.range
    if not (low <= array.min() and array.max() <= high):
        raise DTypeError(f"{op}: values do not fit {target} ({low} to {high})")


def _unwrap(data: Any) -> Any:
    """Lists of tensors become lists of numbers."""
    if isinstance(data, Tensor):
        return data.tolist()
    return [_unwrap(item) for item in data] if isinstance(data, list | tuple) else data


def full(
    shape: int | Sequence[int],
    value: bool | int | float,
    dtype: DTypeLike | None = None,
    device: DeviceLike | None = None,
) -> Tensor:
    """`shape` filled with `value`; the dtype follows the Python type of the value by default.

    Raises DTypeError for what is no number or does not fit.
    """
    sizes = as_shape((shape,), "full")
    target = as_dtype(dtype) if dtype is not None else as_dtype(type(value))
    value = dispatch.number(value, "full")
    _refuse_unfit("full", np.asarray(value), target)
    place = device_for(device)
    result: Tensor = dispatch.apply(Full(shape=sizes, value=value, dtype=target), (), place)
    return result


def zeros(
    *shape: int | Sequence[int], dtype: DTypeLike = dtypes.float32, device: DeviceLike | None = None
) -> Tensor:
    """Zeros; sizes as arguments or one sequence."""
    return full(as_shape(shape, "zeros"), 0, dtype, device)


def ones(
    *shape: int | Sequence[int], dtype: DTypeLike = dtypes.float32, device: DeviceLike | None = None
) -> Tensor:
    """Ones; sizes as arguments or one sequence."""
    return full(as_shape(shape, "ones"), 1, dtype, device)


def empty(
    *shape: int | Sequence[int], dtype: DTypeLike = dtypes.float32, device: DeviceLike | None = None
) -> Tensor:
    """Uninitialised memory: the values are whatever was there."""
    if mode.trace is not None:
        return zeros(*shape, dtype=dtype, device=device)
    place = device_for(device)
    spec = Spec(as_shape(shape, "empty"), as_dtype(dtype))
    return Tensor(place.empty(Layout.contiguous(spec)), place, None, 0)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of x's shape, dtype and device."""
    return full(x.shape, 0, x.dtype, x.device)


def ones_like(x: Tensor) -> Tensor:
    """Ones of x's shape, dtype and device."""
    return full(x.shape, 1, x.dtype, x.device)


def full_like(x: Tensor, value: bool | int | float) -> Tensor:
    """`value` in x's shape, dtype and device."""
    return full(x.shape, value, x.dtype, x.device)


def arange(
    start: int | float,
    stop: int | float | None = None,
    step: int | float = 1,
    dtype: DTypeLike | None = None,
    device: DeviceLike | None = None,
) -> Tensor:
    """start, start + step, ... below stop; `arange(n)` counts from 0. int32 if all are ints.

    Raises ShapeError where that has no end, DTypeError for what is no number or does not fit.
    """
    if stop is None:
        start, stop = 0, start
    start, stop, step = (dispatch.number(value, "arange") for value in (start, stop, step))
    if step in (0, math.inf, -math.inf):
        raise ShapeError(f"arange: step must not be {step}")
    kind = float if any(isinstance(v, float) for v in (start, stop, step)) else int
    target = as_dtype(dtype) if dtype is not None else as_dtype(kind)
    try:
        count = max(0, math.ceil((stop - start) / step))
    except (ValueError, OverflowError):  # NaN or infinity, or on the way there
        raise ShapeError(f"arange: cannot count from {start} to {stop} by {step}") from None
    if count:
        # Integers become floats last.
        held = dtypes.int64 if kind is int and target.is_floating else target
        _refuse_unfit("arange", np.asarray([start, start + (count - 1) * step]), held)
    op = Arange(start=start, step=step, count=count, dtype=target)
    result: Tensor = dispatch.apply(op, (), device_for(device))
    return result


def eye(size: int, dtype: DTypeLike = dtypes.float32, device: DeviceLike | None = None) -> Tensor:
    """The identity matrix."""
    (size,) = as_shape((size,), "eye")
    index = arange(size, device=device)
    return (index.reshape(size, 1) == index).astype(dtype)

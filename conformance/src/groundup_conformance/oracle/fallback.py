"""Ops of other packages without a reference: their compositions, over the references of the parts.

A device of its own holds Numbers instead of bytes. Its kernels are the references, so a composition
runs on it as on any backend, each part giving value and bound; ops without a reference have no
kernel there and are composed in turn. Gradients are those of the core's autograd, likewise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from groundup import autograd, dispatch, dtypes
from groundup.backends.api import (
    Declined,
    Device,
    DeviceInfo,
    HostArray,
    Kernel,
    Launch,
    MemoryStats,
    View,
)
from groundup.dtypes import DType
from groundup.layout import Layout, Spec
from groundup.ops.op import Op
from groundup.tensor import Tensor
from groundup_conformance.budgets.expected import Expected
from groundup_conformance.budgets.profile import Profile
from groundup_conformance.budgets.units import Array, unit
from groundup_conformance.oracle.evaluation import Value, as_expected, evaluate_numbers, known
from groundup_conformance.oracle.number import Number, leaf
from groundup_conformance.oracle.registry import Undecided

_EVERYTHING: Final = frozenset({"store", "compute", "matmul"})
# Constants that need fewer bits than this are held exactly by every way to compute.
_SHORT: Final = 2.0**-10


class Cells:
    """What stands for memory: exact values, or values with bounds, in row-major order."""

    def __init__(self, spec: Spec) -> None:
        kind = np.dtype(np.float64) if spec.dtype.is_floating else spec.dtype.numpy
        self.value: Array = np.zeros(spec.size, kind)
        self.error: Array = np.zeros(spec.size)


class OracleDevice(Device):
    """References as kernels, for one profile."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        self.composing = False  # from then on, what is written are constants of compositions
        self.info = self.describe()

    def empty(self, layout: Layout) -> View:
        """Fresh cells; nothing is pooled."""
        return View(Cells(layout.spec), 0, layout)

    def allocate(self, nbytes: int) -> None:
        """Never asked for, since `empty` makes cells."""

    def write(self, view: View, array: HostArray) -> None:
        """Inputs are exact. A constant of a composition was rounded, if it needs all its bits."""
        dtype = view.layout.dtype
        value, error = self._cells(view)
        value[...] = array
        error[...] = 0.0
        if self.composing and dtype.is_floating and array.ndim == 0:
            size = abs(float(array))
            short = size == 0 or not np.isfinite(size) or _is_short(size)
            error[...] = 0.0 if short else size * unit(dtype)

    def read(self, view: View) -> HostArray:
        """The values, rounded to the view's dtype."""
        value, _ = self._cells(view)
        with np.errstate(all="ignore"):
            return value.astype(view.layout.dtype.numpy)

    def load(self, view: View) -> Value:
        """What a view holds."""
        value, error = self._cells(view)
        dtype = view.layout.dtype
        if not dtype.is_floating:
            return value.copy()
        bound = error.copy() if error.any() else None
        if bound is None:
            return leaf(value, dtype, self.profile)
        return Number(value.copy(), dtype, self.profile, bound)

    def store(self, view: View, found: Value) -> None:
        """Put a result into a view's cells."""
        value, error = self._cells(view)
        if isinstance(found, Number):
            value[...], error[...] = found.value, found.budget
        elif isinstance(found, Undecided):
            value[...] = found.values
        else:
            value[...], error[...] = found, 0.0

    def _cells(self, view: View) -> tuple[Array, Array]:
        """The strided parts of value and error that a view shows."""
        layout, cells = view.layout, view.buffer
        start = view.offset // layout.dtype.itemsize
        return _strided(cells.value, start, layout), _strided(cells.error, start, layout)

    def kernel(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        """The reference of `op`, if it has one."""
        if not known(op.name):
            return Declined("no reference")
        return ReferenceKernel(self, op)

    def synchronize(self) -> None:
        """Nothing runs behind."""

    def memory(self) -> MemoryStats:
        """Not counted."""
        return MemoryStats(0, 0, 0)

    def describe(self) -> DeviceInfo:
        """Every dtype."""
        every: dict[DType, frozenset[str]] = dict.fromkeys(dtypes.ALL, _EVERYTHING)
        return DeviceInfo("oracle", "float64 with error bounds", every, profile=self.profile.name)


class ReferenceKernel(Kernel):
    """The reference of one op."""

    def __init__(self, device: OracleDevice, op: Op) -> None:
        self.device = device
        self.op = op
        self.params = frozenset(op.fields)
        self.in_place = op.aliases

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """Evaluate when called."""
        return ReferenceLaunch(self.device, self.op, inputs, outputs)


class ReferenceLaunch:
    """One evaluation."""

    def __init__(
        self, device: OracleDevice, op: Op, inputs: Sequence[View], outputs: Sequence[View]
    ) -> None:
        self.device = device
        self.op = op
        self.inputs = inputs
        self.outputs = outputs

    def __call__(self) -> None:
        """Load, evaluate, store."""
        operands = [self.device.load(view) for view in self.inputs]
        with np.errstate(all="ignore"):
            found = evaluate_numbers(self.op, operands, self.device.profile)
        for view, value in zip(self.outputs, found, strict=True):
            self.device.store(view, value)

    def describe(self) -> Mapping[str, object]:
        """The op's name."""
        return {"kernel": self.op.name}


def composed_forward(op: Op, inputs: Sequence[Array], profile: Profile) -> tuple[Expected, ...]:
    """`forward` of an op by its composition."""
    device = OracleDevice(profile)
    outputs = _applied(op, [_tensor(device, x) for x in inputs], device)
    return tuple(_expected(device, y) for y in outputs)


def composed_backward(
    op: Op, inputs: Sequence[Array], cotangents: Sequence[Array | None], profile: Profile
) -> tuple[Expected | None, ...]:
    """`backward` of an op by its composition or, if it has one, its own vjp."""
    device = OracleDevice(profile)
    tensors = [_tensor(device, x) for x in inputs]
    pulled = [None if c is None else _tensor(device, c) for c in cotangents]
    leaves = [x.requires_grad_() if x.dtype.is_floating else x for x in tensors]
    with autograd.enable_grad():
        outputs = _applied(op, leaves, device)
    pairs = [
        (y, c) for y, c in zip(outputs, pulled, strict=True) if c is not None and y.requires_grad
    ]
    wanted = [x for x in leaves if x.requires_grad]
    found = autograd.grad([y for y, _ in pairs], wanted, [c for _, c in pairs]) if pairs else ()
    gradients = dict(zip(map(id, wanted), found, strict=False))
    return tuple(
        None if (g := gradients.get(id(x))) is None else _expected(device, g) for x in leaves
    )


def _tensor(device: OracleDevice, array: Array) -> Tensor:
    layout = Layout.contiguous(Spec(array.shape, dtypes.as_dtype(array.dtype)))
    view = device.empty(layout)
    device.write(view, array)
    return dispatch.make(view, device, None, 0)


def _applied(op: Op, tensors: Sequence[Tensor], device: OracleDevice) -> tuple[Tensor, ...]:
    device.composing = True
    results: Any = dispatch.apply(op, tuple(tensors), device)
    return results if isinstance(results, tuple) else (results,)


def _expected(device: OracleDevice, tensor: Tensor) -> Expected:
    return as_expected(device.load(tensor._view), tensor.spec, device.profile)


def _strided(cells: Array, start: int, layout: Layout) -> Array:
    steps = tuple(step * cells.itemsize for step in layout.strides)
    return np.lib.stride_tricks.as_strided(cells[start:], layout.shape, steps)


def _is_short(size: float) -> bool:
    """Whether a positive number has at most ten binary digits."""
    mantissa, _ = np.frexp(size)
    return bool(float(mantissa) % _SHORT == 0)

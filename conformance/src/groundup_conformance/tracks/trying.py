"""Running an op, or an op with its gradient, on inputs whose bytes are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np

import groundup as gu
from groundup import dispatch
from groundup.backends.api import Device, DeviceInfo
from groundup.dtypes import float32
from groundup.ops.op import Op
from groundup.tensor import Tensor
from groundup_conformance import memory
from groundup_conformance.budgets.units import Array
from groundup_conformance.cases import Check, Ops, unsupported
from groundup_conformance.ids import CaseId
from groundup_conformance.memory import Placed
from groundup_conformance.running import apply
from groundup_conformance.samples import Sample, base


def first_cases(ops: Ops, info: DeviceInfo, kind: str, variant: str) -> Iterator[Check]:
    """The first plain sample of every op, in float32 or the first of its dtypes that there is."""
    for op in ops.values():
        sample = first_sample(op, info)
        if sample is not None:
            name = CaseId(op.name, sample.dtype.name, sample.name, "given", variant)
            missing = unsupported(op, sample, info)
            yield Check(name, 0, kind, sample, unsupported=missing)


def first_gradients(ops: Ops, info: DeviceInfo, kind: str, variant: str) -> Iterator[Check]:
    """The same, of ops whose gradient can be asked for."""
    for check in first_cases(ops, info, kind, variant):
        assert check.sample is not None
        if differentiable(check.sample):
            yield check


def first_sample(op: type[Op], info: DeviceInfo) -> Sample | None:
    """The sample that stands for an op on a device."""
    known = [dtype for dtype in op.dtypes if dtype in info.dtypes] or list(op.dtypes)
    return base(op, float32 if float32 in known else known[0])


def differentiable(sample: Sample) -> bool:
    """Whether some output carries a gradient to some input of floats."""
    return bool(sample.op.differentiable) and any(x.dtype.is_floating for x in sample.operands)


@attrs.frozen(eq=False)
class Attempt:
    """An op, its inputs on the device, and their bytes."""

    op: Op
    device: Device
    inputs: tuple[Tensor, ...]
    before: tuple[bytes, ...]
    pulls: bool = False  # whether the gradient is part of it

    @classmethod
    def of(cls, sample: Sample, device: Device, *, pulls: bool = False) -> Attempt:
        """Inputs are new, and leaves if `pulls`."""
        inputs = tuple(put(x, device) for x in sample.operands)
        if pulls:
            for x in inputs:
                if x.dtype.is_floating:
                    x.requires_grad_()
        return cls(sample.op, device, inputs, _bytes(inputs), pulls)

    def run(self) -> list[Tensor]:
        """Results, and if the gradient is part of it, the gradients for ones."""
        results = list(apply(self.op, self.inputs, self.device))
        leaves = [x for x in self.inputs if x.requires_grad]
        reached = [y for y in results if y.requires_grad]
        if not self.pulls or not reached or not leaves:
            return results
        ones = [dispatch.constant(1.0, y.dtype, y.shape, self.device) for y in reached]
        return results + [g for g in gu.grad(reached, leaves, ones) if g is not None]

    def update(self) -> None:
        """The op in place."""
        dispatch.update(self.op, self.inputs)

    def bits(self) -> list[bytes]:
        """The bytes of what `run` gives."""
        return [read(y).tobytes() for y in self.run()]

    def changed(self) -> str | None:
        """Which input is not what it was, None if all are."""
        for place, (now, before) in enumerate(zip(_bytes(self.inputs), self.before, strict=True)):
            if now != before:
                return f"input {place} was changed"
        return None


def put(value: Placed, device: Device) -> Tensor:
    """A tensor in that memory layout; no op is used."""
    root = device.empty(memory.placed(value.base).layout)
    device.write(root, value.base)
    offset = value.offset * device.info.itemsize(value.dtype)
    return dispatch.make(dispatch.derive(root, value.layout, offset, device), device, None, 0)


def read(tensor: Tensor) -> Array:
    """A tensor's values; no op is used."""
    return memory.read(tensor)


def _bytes(tensors: Sequence[Tensor]) -> tuple[bytes, ...]:
    found = []
    for tensor in tensors:
        view = tensor._view
        found.append(np.ascontiguousarray(tensor._device.read(view.root or view)).tobytes())
    return tuple(found)

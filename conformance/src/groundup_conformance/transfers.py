"""Level 0 of memory: bytes go in and come out, by strides too, and stay where they were put."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from groundup import from_numpy
from groundup.backends.api import Device, DeviceInfo
from groundup.dtypes import ALL, DType
from groundup.errors import GroundupError, UnsupportedDtype
from groundup.layout import Layout, Spec
from groundup.tensor import Tensor
from groundup_conformance.budgets.units import Array
from groundup_conformance.cases import Check, Ops
from groundup_conformance.ids import CaseId
from groundup_conformance.layouts import LAYOUTS, SHARING
from groundup_conformance.memory import Guard, Placed
from groundup_conformance.running import Failed

_SIZES = (0, 1, 2, 3, 5, 64, 1023, 70_000)
_SHAPE = (3, 5, 4)


def round_trips(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Every dtype that is declared, in several sizes."""
    for dtype in info.dtypes:
        gives = frozenset({dtype.name})
        for size in _SIZES:
            name = CaseId("memory", dtype.name, f"bytes{size}", "given", "round-trip")
            yield Check(name, 0, "memory", gives=gives, payload=(dtype, size))


def strided(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Reading and writing by every layout that several elements do not share."""
    for dtype in info.dtypes:
        for layout in LAYOUTS:
            gives = frozenset({f"{dtype.name} {layout}"})
            for variant in ("read", "write"):
                if variant == "write" and layout in SHARING:
                    continue  # one place in memory cannot hold several values
                name = CaseId("memory", dtype.name, "block", layout, variant)
                needs = frozenset({dtype.name})
                yield Check(name, 0, "memory", None, needs, gives, payload=dtype)


def reuse(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Memory that is handed out again while other tensors live."""
    for dtype in info.dtypes:
        name = CaseId("memory", dtype.name, "pool", "given", "reuse")
        yield Check(name, 0, "memory", None, frozenset({dtype.name}), payload=dtype)


def unknown(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Dtypes that are not declared."""
    for dtype in ALL:
        if dtype not in info.dtypes:
            name = CaseId("memory", dtype.name, "tensor", "given", "refused")
            yield Check(name, 0, "memory", payload=dtype)


def round_trip(check: Check, device: Device) -> None:
    """Random bytes come back bit by bit, NaN payloads included; the host's array is copied."""
    dtype, size = check.payload
    values = random_bits(dtype, size, check.id.seed)
    view = device.empty(Layout.contiguous(Spec((size,), dtype)))
    sent = values.copy()
    device.write(view, sent)
    sent.view(np.uint8)[:] = 0  # after the return, the array is the caller's again
    _compare(device.read(view), values, "what was written")


def read(check: Check, device: Device) -> None:
    """A strided view reads as its elements, row-major."""
    with Guard(device) as guard:
        placed = _block(check)
        tensor = guard.put(placed)
        _compare(device.read(tensor._view), placed.array, "the elements of the view")


def write(check: Check, device: Device) -> None:
    """Writing through a strided view changes its elements and no others."""
    with Guard(device) as guard:
        placed = _block(check)
        tensor = guard.put(placed)
        values = random_bits(placed.dtype, int(np.prod(_SHAPE)), check.id.seed + 1).reshape(_SHAPE)
        device.write(tensor._view, values)
        placed.array[...] = values
        block = guard.inputs[0]
        block.written[block.start : block.start + block.count] = placed.base
        damage = block.damage(device, middle=True)
    if damage:
        raise Failed("writing through the view changed other elements, or not all of its own")


def recycle(check: Check, device: Device) -> None:
    """Tensors keep their values while others of their size are freed and made."""
    dtype = check.payload
    kept: dict[int, tuple[Tensor, Array]] = {}
    for step in range(60):
        values = random_bits(dtype, 257, step)
        tensor = from_numpy(values, device)
        if step % 3 != 1:
            kept[step] = (tensor, values)
        if step % 7 == 6:
            kept.pop(next(iter(kept)))
    for step, (tensor, values) in kept.items():
        _compare(device.read(tensor._view), values, f"tensor {step}")


def refuse(check: Check, device: Device) -> None:
    """A tensor of an undeclared dtype is refused with UnsupportedDtype that names it."""
    dtype: DType = check.payload
    try:
        from_numpy(np.zeros(3, dtype.numpy), device)
    except UnsupportedDtype as error:
        if str(dtype) not in str(error):
            raise Failed(f"the error does not name {dtype}: {error}") from error
    except GroundupError as error:
        raise Failed(f"wanted UnsupportedDtype, got {type(error).__name__}: {error}") from error
    else:
        raise Failed(f"made a tensor of {dtype}, which the device does not declare")


def random_bits(dtype: DType, size: int, seed: int) -> Array:
    """Values of random bits; bools are 0 or 1."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "bool":
        return rng.integers(0, 2, size).astype(np.bool_)
    values = np.frombuffer(rng.bytes(size * dtype.itemsize), np.uint8).copy()
    return values.view(dtype.numpy)


def _block(check: Check) -> Placed:
    values = random_bits(check.payload, int(np.prod(_SHAPE)), check.id.seed).reshape(_SHAPE)
    found = LAYOUTS[check.id.layout](values)
    assert found is not None
    return found


def _compare(got: Array, wanted: Array, what: str) -> None:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        raise Failed(
            f"{what}: read {got.dtype}{list(got.shape)}, not {wanted.dtype}{list(wanted.shape)}"
        )
    one = np.ascontiguousarray(got).reshape(-1).view(np.uint8)
    two = np.ascontiguousarray(wanted).reshape(-1).view(np.uint8)
    if not np.array_equal(one, two):
        at = int(np.flatnonzero(one != two)[0]) // wanted.itemsize
        raise Failed(
            f"{what}: element {at} of {wanted.size} is {got.reshape(-1)[at]!r}, "
            f"not {wanted.reshape(-1)[at]!r}"
        )

"""Which op runs how on which backend: asked of the devices, never written down.

An op is `native` if the device has a kernel for its first sample of dtypes that the device has
(views need none), `composed` if the device has kernels for the simpler ops that it is made of, and
`missing` otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import attrs

from groundup import dispatch
from groundup.backends.api import Available, Device, Kernel
from groundup.backends.devices import device_for
from groundup.backends.installed import Override, backends
from groundup.backends.null import NullDevice
from groundup.dtypes import as_dtype, float32
from groundup.errors import GroundupError, UnsupportedOp
from groundup.graph import Intercept
from groundup.layout import Layout, Spec
from groundup.ops.lower import adjustments, find_kernel
from groundup.ops.op import Op, has
from groundup.ops.samples import Array, Case, Make
from groundup.ops.third_party import all_ops

_LISTED: Final = 5  # names that a start line has room for
Status: TypeAlias = Literal["native", "composed", "missing"]


@attrs.frozen
class OpSupport:
    """One row of the matrix. `providers` names, per backend, the package whose kernel is used
    where that is not the backend itself."""

    op: str
    family: str
    primitive: bool  # it has no composition
    backends: Mapping[str, Status]
    providers: Mapping[str, str]


class Summary(NamedTuple):
    """How many ops run natively on a device, of how many, and which are composed or missing."""

    native: int
    total: int
    composed: list[str]
    missing: list[str]

    def __str__(self) -> str:
        text = f"native {self.native}/{self.total}"
        for word in ("composed", "missing"):
            names: list[str] = getattr(self, word)
            if len(names) > _LISTED:
                text += f"; {word}: {len(names)} (see `groundup ops --matrix`)"
            elif names:
                text += f"; {word}: {', '.join(names)}"
        return text


def matrix(devices: Mapping[str, Device] | None = None) -> list[OpSupport]:
    """Every op on every device, by default on the first one of each available backend.

    The null device, which computes nothing, is left out. Rows are sorted by family and name.
    """
    devices = available_devices() if devices is None else devices
    rows = sorted(all_ops().values(), key=lambda op: (op.family, op.name))
    return [_row(op, devices) for op in rows]


def available_devices() -> dict[str, Device]:
    """The first device of each backend that works here and computes something, by backend."""
    return {
        name: device_for(name)
        for name, entry in backends().items()
        if name != "null" and isinstance(entry.probe(), Available)
    }


def summary(device: Device) -> Summary:
    """What a run's start line says about a device."""
    found: dict[Status, list[str]] = {"native": [], "composed": [], "missing": []}
    for name, op in sorted(all_ops().items()):
        found[status(op, device)].append(name)
    total = sum(map(len, found.values()))
    return Summary(len(found["native"]), total, found["composed"], found["missing"])


def status(op: type[Op], device: Device) -> Status:
    """How `op` runs on `device`."""
    case = _first_sample(op, device)
    if case is None:
        return "missing"
    layouts = [_layout(operand.array) for operand in case.inputs]
    if _is_native(case.op, layouts, device):
        return "native"
    return "composed" if _can_compose(case.op, layouts, device) else "missing"


def _row(op: type[Op], devices: Mapping[str, Device]) -> OpSupport:
    statuses = {name: status(op, device) for name, device in devices.items()}
    providers = {
        name: provider
        for name, device in devices.items()
        if statuses[name] == "native" and (provider := _provider(op, device, name)) != name
    }
    return OpSupport(op.name, op.family, not has(op, "compose"), statuses, providers)


def _provider(op: type[Op], device: Device, backend: str) -> str:
    """Whose kernel is used: another package's, or the backend's own."""
    override = device.overrides.get(op.name)
    case = _first_sample(op, device)
    if not isinstance(override, Override) or case is None:
        return backend
    inputs = _settled(case.op, [_layout(operand.array) for operand in case.inputs])
    provider, _ = override.choose(device, case.op, inputs, _outputs(case.op, inputs))
    return provider


def _first_sample(op: type[Op], device: Device) -> Case | None:
    """The op's first sample of dtypes that the device has, in float32 if there is one."""
    known = [dtype for dtype in op.dtypes if dtype in device.info.dtypes]
    for dtype in sorted(known, key=lambda dtype: dtype is not float32):
        for case in op.samples(Make(op.name, dtype)):
            layouts = [_layout(operand.array) for operand in case.inputs]
            whole = (*layouts, *_outputs(case.op, _settled(case.op, layouts)))
            if all(layout.dtype in device.info.dtypes for layout in whole):
                return case
    return None


def _layout(array: Array) -> Layout:
    strides = tuple(step // array.itemsize for step in array.strides)
    return Layout(array.shape, strides, as_dtype(array.dtype))


def _settled(op: Op, layouts: Sequence[Layout]) -> list[Layout]:
    """The layouts after the casts and expands that the core inserts."""
    changes = adjustments(op, [layout.spec for layout in layouts]) if op.broadcasts else None
    if changes is None:
        return list(layouts)
    settled = []
    for layout, (dtype, shape) in zip(layouts, changes, strict=True):
        wanted = Spec(layout.shape if shape is None else shape, dtype or layout.dtype)
        unchanged = wanted is layout.spec
        settled.append(layout if unchanged else Layout.contiguous(wanted))
    return settled


def _outputs(op: Op, inputs: Sequence[Layout]) -> list[Layout]:
    specs = op.infer_all(*[layout.spec for layout in inputs])
    return [Layout.contiguous(spec) for spec in specs]


def _is_native(op: Op, layouts: Sequence[Layout], device: Device) -> bool:
    if has(op, "view"):
        return True
    inputs = _settled(op, layouts)
    outputs = _outputs(op, inputs)
    if any(layout.dtype not in device.info.dtypes for layout in (*inputs, *outputs)):
        return False
    return isinstance(find_kernel(op, inputs, outputs, device), Kernel)


def _can_compose(op: Op, layouts: Sequence[Layout], device: Device) -> bool:
    """Whether every op of the composition, and of its own, runs on `device`.

    The composition runs on the null device, where it costs nothing; each op is looked up on
    `device` on its way there.
    """
    shadow = NullDevice()
    shadow.info = attrs.evolve(shadow.describe(), memory=None)
    inputs = tuple(dispatch.make(shadow.empty(_dense(x)), shadow, None, 0) for x in layouts)

    def follow(op: Op, inputs: tuple[Any, ...], _: Device | None) -> Any:
        if _is_native(op, [t._view.layout for t in inputs], device):
            return dispatch.run(op, inputs, shadow)
        if not has(op, "compose"):
            raise UnsupportedOp(f"{op.name}: neither a kernel nor a composition")
        with Intercept(follow):
            return op.compose(*inputs) if inputs else op.compose(device=shadow)

    try:
        follow(op, inputs, shadow)
    except GroundupError:
        return False
    return True


def _dense(layout: Layout) -> Layout:
    return Layout.contiguous(layout.spec)


__all__: Final = [
    "OpSupport", "Status", "Summary", "available_devices", "matrix", "status", "summary",
]  # fmt: skip

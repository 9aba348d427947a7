"""Lowering: the only place that decides how an op runs on a device.

Given the op, its input layouts and the device, `lower` returns a plan: run a kernel, make a view,
insert casts and expands, or compose. Eager dispatch caches the plan; a tracer records it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

import attrs

from groundup import dtypes
from groundup.backends.api import Declined, Device, Kernel
from groundup.dtypes import DType, promote
from groundup.errors import GroundupError, UnsupportedDtype, UnsupportedOp
from groundup.layout import Layout, Spec
from groundup.ops.op import Op, has
from groundup.shapes import Shape, broadcast_shapes


@attrs.frozen(eq=False)
class RunKernel:
    """Run a native kernel. `copies` lists the inputs that must be made row-major first."""

    kernel: Kernel
    outputs: tuple[Layout, ...]
    copies: tuple[int, ...]
    # Worked out once, for the hot path of eager dispatch.
    direct: bool = attrs.field(init=False)  # the kernel takes the inputs as they are, and no more
    output: Layout | None = attrs.field(init=False)  # the only one, if it is

    @direct.default
    def _direct(self) -> bool:
        return not self.copies and not self.kernel.workspace

    @output.default
    def _output(self) -> Layout | None:
        return self.outputs[0] if len(self.outputs) == 1 else None


@attrs.frozen(eq=False)
class MakeView:
    """No data moves: per output a new layout, and its offset in bytes from the input's."""

    views: tuple[tuple[Layout, int], ...]


@attrs.frozen(eq=False)
class Adjust:
    """Bring inputs to one dtype and shape first; per input (dtype or None, shape or None)."""

    changes: tuple[tuple[DType | None, Shape | None], ...]


@attrs.frozen(eq=False)
class Compose:
    """Run `op.compose`; `reason` says why there is no kernel."""

    reason: str


Plan: TypeAlias = RunKernel | MakeView | Adjust | Compose


def lower(op: Op, inputs: Sequence[Layout], device: Device) -> Plan:
    """How `op` runs on `device`.

    Raises ShapeError or DTypeError (bad inputs), UnsupportedDtype or UnsupportedOp (this device).
    """
    try:
        return _lower(op, inputs, device)
    except GroundupError as error:
        kinds = {layout.dtype.name: None for layout in inputs}
        raise error.note_device(", ".join([*kinds, device.info.name])) from None


def _lower(op: Op, inputs: Sequence[Layout], device: Device) -> Plan:
    if op.broadcasts:
        changes = adjustments(op, [layout.spec for layout in inputs])
        if changes is not None:
            return Adjust(changes)
    outs = op.infer_all(*[layout.spec for layout in inputs])
    for name, dtype in _named_dtypes(op, inputs, outs):
        if dtype not in device.info.dtypes:
            raise UnsupportedDtype(
                f"{op.name}: {device.info.name} has no {dtype} ({name})", hint=_way_out(dtype)
            )
    if has(op, "view"):
        viewed = op.view(inputs[0])
        if viewed is not None:
            views = viewed if isinstance(viewed, list) else [viewed]
            size = device.info.itemsize(inputs[0].dtype)
            return MakeView(tuple((layout, offset * size) for layout, offset in views))
        return Compose("only a copy can have that shape")
    layouts = tuple(Layout.contiguous(spec) for spec in outs)
    kernel = find_kernel(op, inputs, layouts, device)
    if isinstance(kernel, Kernel):
        copies = tuple(i for i in kernel.contiguous if not inputs[i].is_row_major)
        return RunKernel(kernel, layouts, copies)
    if not has(op, "compose"):
        raise UnsupportedOp(f"{op!r} cannot run on {device.info.name}: {kernel.reason}")
    # The program's ops that an op gathers are each asked about by themselves.
    if os.environ.get("GROUNDUP_STRICT") == "1" and not op.gathers:
        raise UnsupportedOp(
            f"{op!r} would be composed on {device.info.name}: {kernel.reason}",
            hint="GROUNDUP_STRICT=1 forbids compositions",
        )
    return Compose(kernel.reason)


def find_kernel(
    op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout], device: Device
) -> Kernel | Declined:
    """The device's own kernel, or the choice among it and those that other packages add; else why
    there is none.

    A kernel that does not know one of the op's parameters is not used, or it would silently compute
    the op's meaning from before that parameter existed.
    """
    choice = device.overrides.get(op.name)
    if choice is None:
        kernel = device.kernel(op, inputs, outputs)
    else:
        kernel = choice(device, op, inputs, outputs)
    if isinstance(kernel, Kernel):
        unknown = set(op.nondefault()) - kernel.params
        if unknown:
            return Declined(f"its kernel does not know {', '.join(sorted(unknown))}")
    return kernel


def adjustments(
    op: Op, specs: Sequence[Spec]
) -> tuple[tuple[DType | None, Shape | None], ...] | None:
    """What must change so that an elementwise op sees equal shapes and dtypes, None if nothing."""
    shape = broadcast_shapes(*[spec.shape for spec in specs], op=op.name)
    common = specs[op.promotes[0]].dtype if op.promotes else None
    for index in op.promotes[1:]:
        assert common is not None
        common = promote(common, specs[index].dtype)
    if op.float_only and common is not None and not common.is_floating:
        common = dtypes.DEFAULT_FLOAT
    changes: list[tuple[DType | None, Shape | None]] = []
    for index, spec in enumerate(specs):
        recast = common if index in op.promotes and spec.dtype is not common else None
        changes.append((recast, shape if spec.shape != shape else None))
    return tuple(changes) if any(d or s is not None for d, s in changes) else None


def _named_dtypes(
    op: Op, inputs: Sequence[Layout], outs: Sequence[Spec]
) -> list[tuple[str, DType]]:
    names = op.inputs if not op.variadic else ("input",) * len(inputs)  # optional ones come last
    found = [(name, layout.dtype) for name, layout in zip(names, inputs, strict=False)]
    return found + [(name, spec.dtype) for name, spec in zip(op.outputs, outs, strict=False)]


def _way_out(dtype: DType) -> str:
    if dtype is dtypes.int64:
        return "use x.astype(groundup.int32)"
    return "use x.astype(groundup.float32)"

"""Eager dispatch: apply an op to tensors, by the plan that `lower` made for their layouts.

The hot path is a dictionary look-up, one output, one launch. `make` is the Tensor class;
`tensor.py` sets it, because the two modules need each other and this one comes first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup import dtypes
from groundup.backends.api import Device, View
from groundup.dtypes import DType, promote
from groundup.errors import DeviceMismatch, DTypeError, GroundupError, UnsupportedOp
from groundup.graph import Leaf, Node, Setting, mode
from groundup.layout import Layout, Spec
from groundup.ops.lower import Adjust, Compose, MakeView, RunKernel, lower
from groundup.ops.movement import Assign, Contiguous, Expand
from groundup.ops.op import Op, has
from groundup.ops.rounding import Cast
from groundup.shapes import Shape
from groundup.spans import current, span

if TYPE_CHECKING:
    from groundup.tensor import Tensor

# Set by tensor.py: see above.
make: Callable[[View, Device, Node | Leaf | None, int], Tensor] = None  # type: ignore[assignment]
# Plans or constants of one device; far more than a program of static shapes uses.
_CACHE_LIMIT = 20_000


def apply(op: Op, inputs: tuple[Tensor, ...], device: Device | None = None) -> Any:
    """`op` of tensors: a Tensor, or a tuple of them. Creation ops take no tensors but a device."""
    if mode.interceptor is not None:
        return mode.interceptor(op, inputs, device)
    return run(op, inputs, device)


def run(op: Op, inputs: tuple[Tensor, ...], device: Device | None = None) -> Any:
    """`apply` past the interceptor.

    Raises DeviceMismatch and all that `lower` and kernels raise. Inputs are never changed.
    """
    if inputs:
        device = inputs[0]._device
    assert device is not None, "a creation op needs a device"
    recorded = False
    views = []
    key: list[Any] = [op]
    for t in inputs:
        if t._device is not device:
            raise mismatch(op, inputs)
        if t._node is not None:
            recorded = True
        view = t._view
        views.append(view)
        key.append(view.layout)
    signature = tuple(key)
    plan = device.plans.get(signature)
    if plan is None:
        plan = make_plan(op, signature, device)
    kind = type(plan)
    if kind is RunKernel:
        outs = _launch(plan, views, device)
    elif kind is MakeView:
        outs = tuple([derive(views[0], layout, at, device) for layout, at in plan.views])
    elif kind is Adjust:
        return run(op, _adjusted(plan, inputs))
    else:
        return compose(op, inputs, device, recorded and mode.grad)
    if recorded and mode.grad and op.differentiable:
        return record(op, inputs, outs, device)
    if len(outs) == 1:
        return make(outs[0], device, None, 0)
    return tuple([make(view, device, None, 0) for view in outs])


def update(op: Op, inputs: tuple[Tensor, ...]) -> None:
    """Apply an op and put its aliased outputs into the memory of the inputs that they replace.

    Not recorded by autograd: for optimizers, caches and random states. Every touched storage's
    version grows.
    """
    if mode.trace is not None:
        mode.trace.update(op, inputs)
        return
    recorder = current.recorder
    if recorder is None:
        _update(op, inputs)
        return
    recorder.begin_update(op, inputs)
    try:
        _update(op, inputs)
    finally:
        recorder.end()


def _update(op: Op, inputs: tuple[Tensor, ...]) -> None:
    device = inputs[0]._device
    views = [t._view for t in inputs]
    signature = (op, *[view.layout for view in views])
    plan = device.plans.get(signature)
    if plan is None:
        plan = make_plan(op, signature, device)
    if type(plan) is RunKernel and all(
        plan.kernel.in_place.get(o) == i for o, i in op.aliases.items()
    ):
        if any(t._device is not device for t in inputs):
            raise mismatch(op, inputs)
        targets = op.aliases
        outs = tuple(
            views[targets[o]] if o in targets else device.empty(layout)
            for o, layout in enumerate(plan.outputs)
        )
        _run_kernel(plan, views, outs, device)
    else:
        if type(op) is Assign:
            raise UnsupportedOp(f"assign: {device.info.name} has no kernel that works in place")
        with Setting(grad=False):
            results = run(op, inputs)
            results = results if isinstance(results, tuple) else (results,)
            pairs = [(inputs[i], results[o]) for o, i in op.aliases.items()]
            for pair in pairs:  # planned before the first is written: an error changes nothing
                key = (Assign(), *[t._view.layout for t in pair])
                if key not in device.plans:
                    make_plan(Assign(), key, device)
            for pair in pairs:
                update(Assign(), pair)
    for index in op.aliases.values():
        view = views[index]
        (view.root or view).version += 1


def derive(view: View, layout: Layout, offset: int, device: Device) -> View:
    """A view of the same storage at `offset` bytes further."""
    return device.attach(View(view.buffer, view.offset + offset, layout, None, view.root or view))


def to_tensors(op: Op, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
    """Python numbers become constants beside the first tensor. Raises DTypeError for other
    things.
    """
    tensors = [value for value in inputs if type(value) is make]
    typed = [inputs[i] for i in op.promotes if type(inputs[i]) is make]
    dtype = (typed or tensors)[0].dtype
    for t in typed[1:]:
        dtype = promote(dtype, t.dtype)
    shape = tensors[0].shape
    device = tensors[0].device
    return tuple(
        value if type(value) is make else _constant(op, value, dtype, shape, device)
        for value in inputs
    )


def dispatch(op: Op, inputs: tuple[Any, ...]) -> Any:
    """`apply` for what users hand in: tensors and Python numbers."""
    for value in inputs:
        if type(value) is not make:
            return apply(op, to_tensors(op, inputs))
    return apply(op, inputs)


class Number(View):
    """The memory of one Python number, which never changes; tracing knows it by this."""

    __slots__ = ("number",)

    def __init__(self, view: View, number: bool | int | float) -> None:
        super().__init__(view.buffer, view.offset, view.layout, view.native)
        self.number = number


def constant(value: bool | int | float, dtype: DType, shape: Shape, device: Device) -> Tensor:
    """A cached tensor that holds one value, expanded to `shape` without memory."""
    bits = struct.pack("<d", value) if isinstance(value, float) else value
    key = (type(value), bits, dtype, shape)
    found = device.constants.get(key)
    if found is None:
        if len(device.constants) > _CACHE_LIMIT:
            device.constants.clear()
        view = device.empty(Layout.contiguous(Spec((), dtype)))
        host = _host(value, dtype)
        device.write(view, host)
        # As the dtype holds it: whoever fills memory with it must not round another way.
        view = Number(view, float(host) if dtype.is_floating else host.item())
        layout = Layout(shape, (0,) * len(shape), dtype)
        found = make(derive(view, layout, 0, device), device, None, 0)
        device.constants[key] = found
    return found


def _host(value: bool | int | float, dtype: DType) -> np.ndarray[Any, np.dtype[Any]]:
    try:
        with np.errstate(over="ignore"):  # infinity in a narrower float
            return np.asarray(value).astype(dtype.numpy)
    except OverflowError:
        raise DTypeError(f"a number of {len(str(value))} digits does not fit {dtype}") from None


def _launch(plan: RunKernel, views: list[View], device: Device) -> tuple[View, ...]:
    if plan.output is not None:
        outs: tuple[View, ...] = (device.empty(plan.output),)
    else:
        outs = tuple([device.empty(layout) for layout in plan.outputs])
    if plan.direct and device.timer is None:
        device.launches += 1
        plan.kernel.launch(views, outs)
    else:
        _run_kernel(plan, views, outs, device)
    return outs


def _run_kernel(
    plan: RunKernel, views: Sequence[View], outs: Sequence[View], device: Device
) -> None:
    views = list(views)
    for index in plan.copies:
        views[index] = make_contiguous(views[index], device)
    scratch = None
    if plan.kernel.workspace:
        layout = Layout.contiguous(Spec((plan.kernel.workspace,), dtypes.uint8))
        scratch = device.empty(layout)
    device.launches += 1
    if device.timer is None:
        plan.kernel.launch(views, outs, scratch)
    else:
        device.timer(plan.kernel.bind(views, outs, scratch))


def make_contiguous(view: View, device: Device) -> View:
    """A row-major copy of a view."""
    copied: Tensor = run(Contiguous(), (make(view, device, None, 0),))
    return copied._view


def make_plan(op: Op, signature: tuple[Any, ...], device: Device) -> Any:
    """What `lower` says of the signature (op, layout, layout, ...), kept for the next time."""
    with span(op.name, "plan"):
        plan = lower(op, signature[1:], device)
    if len(device.plans) > _CACHE_LIMIT:
        device.plans.clear()
    device.plans[signature] = plan
    return plan


def record(op: Op, inputs: tuple[Tensor, ...], outs: tuple[View, ...], device: Device) -> Any:
    """The outputs as tensors that know the op and its inputs, for backward."""
    if len(outs) == 1 and not outs[0].layout.dtype.is_floating:  # a float cast to an integer
        return make(outs[0], device, None, 0)
    node = Node(op, inputs, outs, make)
    if len(outs) == 1:
        return make(outs[0], device, node, 0)
    return tuple(
        make(view, device, node if i in op.differentiable else None, i)
        for i, view in enumerate(outs)
    )


def compose(op: Op, inputs: tuple[Tensor, ...], device: Device, recorded: bool) -> Any:
    """Run the composition. An op with a gradient of its own is one node, others are their parts."""
    arguments: Any = inputs if inputs else ()
    extra = {} if inputs else {"device": device}
    if not (recorded and op.differentiable and has(op, "vjp")):
        return op.compose(*arguments, **extra)
    with Setting(grad=False):
        results = op.compose(*arguments, **extra)
    outs = results if isinstance(results, tuple) else (results,)
    return record(op, inputs, tuple(t._view for t in outs), device)


def _adjusted(plan: Adjust, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    changed = []
    for t, (dtype, shape) in zip(inputs, plan.changes, strict=True):
        if dtype is not None:
            t = run(Cast(dtype=dtype), (t,))
        if shape is not None:
            t = run(Expand(shape=shape), (t,))
        changed.append(t)
    return tuple(changed)


def _constant(op: Op, value: Any, dtype: DType, shape: Shape, device: Device) -> Tensor:
    if not op.broadcasts:
        raise _no_number(value, op.name)
    value = number(value, op.name)
    return constant(value, weak_dtype(value, dtype, op.name), shape, device)


def number(value: Any, op: str) -> bool | int | float:
    """The Python number that stands beside tensors. Raises DTypeError for anything else."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, bool | int | float):
        raise _no_number(value, op)
    return value


def _no_number(value: Any, op: str) -> DTypeError:
    return DTypeError(
        f"{op}: cannot use a {type(value).__name__} here",
        hint="make a tensor of it with groundup.tensor(...)",
    )


def weak_dtype(value: bool | int | float, dtype: DType, op: str) -> DType:
    """The dtype that a Python number takes beside a tensor of `dtype`. Raises DTypeError."""
    if isinstance(value, bool):
        return dtype
    if isinstance(value, float):
        return dtype if dtype.is_floating else dtypes.DEFAULT_FLOAT
    if dtype is dtypes.bool_:
        return dtypes.DEFAULT_INT
    if dtype.kind == "int":
        low, high = dtype.range
        if not low <= value <= high:
            raise DTypeError(f"{op}: {value} does not fit {dtype} ({low} to {high})")
    return dtype


def mismatch(op: Op, inputs: Sequence[Tensor]) -> GroundupError:
    """The error for tensors that live on different devices."""
    names = ", ".join(f"{t._view.layout.spec} on {t._device.info.name}" for t in inputs)
    return DeviceMismatch(
        f"{op.name}: tensors live on different devices: {names}", hint="use x.to(device)"
    )


__all__ = [
    "Compose", "apply", "compose", "constant", "derive", "dispatch", "make", "make_plan",
    "mismatch", "record", "run", "update",
]  # fmt: skip

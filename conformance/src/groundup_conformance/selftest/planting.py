"""Planting bugs: what a bug is, and the three ways to put one into an opened cpu device.

A kernel of an op can be another function, a method of the device can be another, and the core's
formula of a gradient can be another. Only the public contract is used, and that the native handles
of the cpu backend are NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import numpy as np

from groundup.backends.api import Declined, Device, Kernel, Launch, View
from groundup.dtypes import as_dtype
from groundup.layout import Layout, Spec
from groundup.ops.op import REGISTRY, Op
from groundup_conformance.budgets.units import Array
from groundup_conformance.seam import Swap

Plant: TypeAlias = Callable[[Device], AbstractContextManager[Any]]
Body: TypeAlias = Callable[["Call"], object]
Vjp: TypeAlias = Callable[..., tuple[Any, ...]]
F = TypeVar("F", bound=Callable[..., Any])
BUGS: Final[dict[str, Bug]] = {}


@attrs.frozen(eq=False)
class Bug:
    """A mistake that backends make.

    `ops` are those whose cases are run, `aim` is a filter for the cases that are there to find it:
    they are asked first. No case above `level` is asked; `tracks` are asked too.
    """

    name: str
    what: str  # one line
    ops: str
    aim: str
    level: int
    tracks: tuple[str, ...]
    plant: Plant


def kernel(
    op: str, aim: str, *, ops: str = "", level: int = 1, track: str = "", in_place: bool = False
) -> Callable[[Body], Body]:
    """Mark a function of a `Call` as the bug that replaces the kernel of `op`.

    `in_place`: it claims that it can write into the memory of the input that the op aliases.
    """

    def add(body: Body) -> Body:
        plant = partial(_replace_kernel, op, body, in_place)
        _add(body, ops or op, aim, level, track, plant)
        return body

    return add


def device(
    aim: str, *, ops: str = "-", level: int = 1, track: str = ""
) -> Callable[[Callable[[Device], None]], Callable[[Device], None]]:
    """Mark a function that changes an opened device as a bug."""

    def add(change: Callable[[Device], None]) -> Callable[[Device], None]:
        def plant(target: Device) -> AbstractContextManager[Any]:
            change(target)  # it is thrown away afterwards
            return nullcontext()

        _add(change, ops, aim, level, track, plant)
        return change

    return add


def gradient(op: str, aim: str = "*,gradient]", *, ops: str = "") -> Callable[[Vjp], Vjp]:
    """Mark `wrong(right, op, ctx, *grads)` as the bug that replaces the gradient of `op`.

    `right` is the true one.
    """

    def add(wrong: Vjp) -> Vjp:
        def plant(_: Device) -> AbstractContextManager[Any]:
            true = REGISTRY[op].vjp

            def vjp(self: Op, ctx: Any, *grads: Any) -> tuple[Any, ...]:
                return wrong(partial(true, self), self, ctx, *grads)

            return Swap(REGISTRY[op], "vjp", vjp)

        _add(wrong, ops or op, aim, 2, "", plant)
        return wrong

    return add


def _add(
    function: Callable[..., object], ops: str, aim: str, level: int, track: str, plant: Plant
) -> None:
    """The bug is called like its function; its docstring says what it is."""
    name = function.__name__.replace("_", "-")
    what = " ".join((function.__doc__ or "").split())
    assert name not in BUGS, name
    BUGS[name] = Bug(name, what, ops, aim, level, (track,) if track else (), plant)


# ---- kernels ----


@attrs.frozen(eq=False)
class Call:
    """One launch of a planted kernel: the op, its arrays as they lie in memory, their views."""

    device: Device
    op: Any
    inputs: list[Array]
    outputs: list[Array]
    views: tuple[View, ...]  # of the inputs

    @property
    def x(self) -> Array:
        """The first input."""
        return self.inputs[0]

    @property
    def out(self) -> Array:
        """The first output."""
        return self.outputs[0]

    def right(self, *inputs: Array, **parameters: Any) -> list[Array]:
        """What the true kernel computes, in new arrays: of other inputs, with other parameters."""
        op = changed(self.op, **parameters)
        return compute(self.device, op, inputs or self.inputs)

    def fill(self, *results: Array) -> None:
        """Put results into the outputs."""
        for target, value in zip(self.outputs, results, strict=True):
            np.copyto(target, value, casting="unsafe")


def changed(op: Op, **parameters: Any) -> Op:
    """The op with other static parameters."""
    return type(op)(**{field: getattr(op, field) for field in op.fields} | parameters)


def compute(target: Device, op: Op, inputs: Sequence[Array]) -> list[Array]:
    """The results of the device's own kernel for those arrays, in new ones."""
    views = [_view(array) for array in inputs]
    specs = [Spec(view.layout.shape, view.layout.dtype) for view in views]
    outs = [_view(np.empty(s.shape, s.dtype.numpy)) for s in op.infer_all(*specs)]
    found = target.kernel(op, [v.layout for v in views], [v.layout for v in outs])
    assert isinstance(found, Kernel), found
    found.bind(views, outs)()
    return [view.native for view in outs]


def _view(array: Array) -> View:
    strides = tuple(step // array.itemsize for step in array.strides)
    return View(array, 0, Layout(array.shape, strides, as_dtype(array.dtype)), array)


def _replace_kernel(
    op: str, body: Body, in_place: bool, target: Device
) -> AbstractContextManager[Any]:
    def factory(
        device: Device, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        found = device.kernel(op, inputs, outputs)
        if isinstance(found, Declined):
            return found
        return _Planted(device, op, body, found, in_place)

    target.overrides = {**target.overrides, op: factory}
    return nullcontext()


class _Planted(Kernel):
    """The bug's function as a kernel. It knows the parameters that the true one knows."""

    def __init__(self, device: Device, op: Op, body: Body, true: Kernel, in_place: bool) -> None:
        self._device, self._op, self._body = device, op, body
        self.params = true.params
        self.in_place = dict(op.aliases) if in_place else {}

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """A call of the function."""
        call = Call(
            self._device,
            self._op,
            [view.native for view in inputs],
            [view.native for view in outputs],
            tuple(inputs),
        )
        return _Launch(self._body, call)


@attrs.frozen(eq=False)
class _Launch:
    body: Body
    call: Call

    def __call__(self) -> None:
        with np.errstate(all="ignore"):
            self.body(self.call)

    def describe(self) -> dict[str, object]:
        return {"kernel": self.body.__name__}

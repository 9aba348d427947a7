"""From an op and layouts to stages: which template, which expression, which parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final, TypeAlias

import attrs

from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup.shapes import Shape
from groundup_webgpu.composites import COMPOSITES
from groundup_webgpu.contraction import matmul
from groundup_webgpu.expressions import cast, expression
from groundup_webgpu.machine import Machine
from groundup_webgpu.maps import each_element, mapped
from groundup_webgpu.reductions import reduced
from groundup_webgpu.scatters import scattered
from groundup_webgpu.source import (
    OUT,
    STORED,
    Parameters,
    Stage,
    collapsed,
    computed,
    indented,
    spread,
    walk,
    widened,
)  # fmt: skip

Layouts: TypeAlias = Sequence[Layout]
_IN_ORDER: Final = "    let place = param(0u) + i;"


def lower(op: Op, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage] | Declined:
    """The dispatches that compute `op`, none for an empty output, or why there are none."""
    out = outputs[0]
    composite = COMPOSITES.get(op.name)
    if composite is not None:
        return composite(op, inputs, outputs, machine)
    shared = _SHARED.get(op.name)
    if shared is not None:
        return shared(op, inputs, out, machine) if out.size else []
    special = _SPECIAL.get(op.name)
    if special is not None:
        return special(op, inputs, out) if out.size else []
    text = expression(repr(op), inputs[-1].dtype) if inputs else None
    if text is None:
        kinds = ", ".join(str(layout.dtype) for layout in inputs)
        return Declined(f"no kernel for {op.name} of {kinds or 'nothing'}")
    return [mapped(text, enumerate(inputs, 1), out)] if out.size else []


def _cast(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    return [mapped(cast(inputs[0].dtype, op.dtype), enumerate(inputs, 1), out)]


def _assign(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    """Into the output, which may be the target's own, strided memory; the target is not read."""
    return [mapped("a", [(2, inputs[1])], out)]


def _full(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    return [_filled(op.value, out)]


def _filled(number: float, out: Layout) -> Stage:
    parameters = Parameters(1)
    return each_element(parameters, [], out, _IN_ORDER, parameters.number(number, out.dtype))


def _arange(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    parameters = Parameters(1)
    start, step = (parameters.number(v, op.dtype) for v in (op.start, op.step))
    value = f"{start} + {step} * {computed(op.dtype)}(i)"
    return [each_element(parameters, [], out, _IN_ORDER, value)]


def _pad(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    """Each output place asks which input place it shows, if any."""
    (x,) = inputs
    if not x.size:  # nothing of it can be read
        return [_filled(op.value, out)]
    axes = _padded_axes(op, x, out)
    made = _shown(op, x, out, axes, 1)
    if not axes:
        return [made]
    *outer, (*inner, gap, shown, stride) = axes
    sizes = (*inner, shown, *[axis[-1] for axis in outer])
    if gap > 1 or stride != 1 or any(size % 4 for size in sizes):
        return [made]
    axes = [*outer, (inner[0] // 4, inner[1] // 4, 1, shown // 4, 4)]
    return [attrs.evolve(made, aligned=_shown(op, x, out, axes, 4))]


def _shown(op: Any, x: Layout, out: Layout, axes: Sequence[tuple[int, ...]], width: int) -> Stage:
    """Numbers, or vectors of four."""
    parameters = Parameters(2)
    add = parameters.add
    lines = ["var rest = u32(i);", "var c = 0;", "var at0 = param(1u);", "var inside = true;"]
    for length, before, gap, shown, stride in reversed(axes):
        size = f"u32({add(length)})"
        lines += [f"c = i32(rest % {size}) - {add(before)};", f"rest /= {size};"]
        if gap > 1:
            step = add(gap)
            lines += [f"inside = inside && c >= 0 && c % {step} == 0;", f"c /= {step};"]
        lines.append(f"inside = inside && c >= 0 && c < {add(shown)};")
        lines.append(f"at0 += c * {add(stride)};")
    lines.append(f"let place = param(0u) / {width} + i;")
    blank, kind = parameters.number(op.value, x.dtype), computed(x.dtype)
    blank = blank if width == 1 else f"vec4<{kind}>({blank})"
    found = f"load0(select(0, at0 / {width}, inside))"
    parts = {
        "size": add(out.size // width), "index": indented(lines),
        "value": f"select({blank}, {found}, inside)",
    }  # fmt: skip
    stored = STORED[x.dtype] if width == 1 else f"vec4<{STORED[x.dtype]}>"
    memory = ((OUT, stored), (1, stored))
    return Stage("map", parts, tuple(parameters.values), memory, spread(out.size // width, 256))


def _padded_axes(op: Any, x: Layout, out: Layout) -> list[tuple[int, ...]]:
    """Of each axis the length, what is before, the distance of neighbours, how many, the stride.

    An axis that is not padded joins the one before it if x is evenly spaced over both.
    """
    axes: list[tuple[int, ...]] = []
    gaps = op.gaps(out.rank)
    for own in zip(out.shape, op.before, gaps, x.shape, x.strides, strict=True):
        length, before, gap, shown, stride = own
        if axes and length == shown and axes[-1][2] == 1 and axes[-1][4] == shown * stride:
            outer = axes.pop()
            axes.append((outer[0] * length, outer[1] * length, 1, outer[3] * length, stride))
        else:
            axes.append((length, before, gap + 1, shown, stride))
    return axes


def _update_slice(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    """A copy of x, and the update over it. In the memory of x, the update is all that is written.

    Where the window begins stands in device memory, and each thread reads it there.
    """
    x, update, starts = inputs
    copy = attrs.evolve(mapped("a", [(1, x)], out), copies=True)
    if not update.size:
        return [copy]
    parameters = Parameters(3)
    add = parameters.add
    index = walk(parameters, "i", update.shape, place=out.strides, at0=update.strides)
    lines = []
    for axis, (large, small) in enumerate(zip(x.shape, update.shape, strict=True)):
        if small < large:
            start = f"load1(param(2u) + {add(axis * starts.strides[0])})"
            step = add(out.strides[axis])
            lines.append(f"place += clamp({start}, 0, {add(large - small)}) * {step};")
    window = Layout(update.shape, update.strides, out.dtype)
    operands = [(2, update), (3, starts)] if starts.size else [(2, update)]
    text = f"{index}\n{indented(lines)}"
    return [copy, each_element(parameters, operands, window, text, "load0(at0)")]


def _gather(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    """x at the same place, but at the index on `axis`; zero for an index that is out of range.

    By vectors where one index stands for neighbours, as in an embedding.
    """
    x, indices = inputs
    axis = op.axis % x.rank
    others = tuple(0 if a == axis else s for a, s in enumerate(x.strides))
    shape, steps = collapsed(out.shape, out.strides, others, indices.strides)
    bound, step = x.shape[axis], x.strides[axis]
    taken = _Gathered(shape, steps, bound, step)
    kinds = [STORED[each.dtype] for each in (out, *inputs)]
    made = taken.stage(kinds, 1)
    return [attrs.evolve(made, aligned=taken.stage(kinds, 4)) if taken.whole else made]


@attrs.frozen
class _Gathered:
    """Places of the output, of x but for the axis, and of the indices, over one shape."""

    shape: Shape
    steps: tuple[Shape, ...]
    bound: int
    step: int

    @property
    def whole(self) -> bool:
        """Whether vectors are read and written, each by one index."""
        place, read, chosen = self.steps
        beside = (place[-1], read[-1], chosen[-1]) == (1, 1, 0)
        sizes = (self.shape[-1], self.step, *place[:-1], *read[:-1])
        return beside and not any(size % 4 for size in sizes)

    def stage(self, kinds: Sequence[str], width: int) -> Stage:
        """By numbers or by vectors."""
        out, x, indices = kinds
        shape, (place, read, chosen) = self.shape, self.steps
        if width > 1:
            shape = (*shape[:-1], shape[-1] // width)
            place, read = ((*own[:-1], width) for own in (place, read))
            out, x = f"vec4<{out}>", f"vec4<{x}>"
        parameters = Parameters(3)
        add = parameters.add
        index = walk(parameters, "i", shape, place=place, at0=read, at1=chosen)
        lines = [
            f"place = place / {width};",
            "let chosen = load1(at1);", f"let inside = chosen >= 0 && chosen < {add(self.bound)};",
            f"let from_place = select(0, at0 + chosen * {add(self.step)}, inside);",
        ]  # fmt: skip
        size = prod(shape)
        parts = {
            "size": add(size), "index": f"{index}\n{indented(lines)}",
            "value": f"select({widened(x)}(), load0(from_place / {width}), inside)",
        }  # fmt: skip
        memory = ((OUT, out), (1, x), (2, indices))
        return Stage("map", parts, tuple(parameters.values), memory, spread(size, 256))


def _matmul(op: Any, inputs: Layouts, out: Layout, machine: Machine) -> list[Stage]:
    if not inputs[0].shape[-1]:
        return [_filled(0, out)]
    return matmul(inputs[0], inputs[1], machine)


_SPECIAL: Final[dict[str, Callable[[Any, Layouts, Layout], list[Stage]]]] = {
    "cast": _cast, "assign": _assign, "full": _full, "arange": _arange, "pad": _pad,
    "gather": _gather,
    "dynamic_update_slice": _update_slice,
}  # fmt: skip
# How threads share the work depends on the machine.
_SHARED: Final[dict[str, Callable[[Any, Layouts, Layout, Machine], list[Stage]]]] = {
    "sum": reduced, "max": reduced, "min": reduced, "prod": reduced, "any": reduced,
    "all": reduced, "scatter_add": scattered, "matmul": _matmul,
}  # fmt: skip

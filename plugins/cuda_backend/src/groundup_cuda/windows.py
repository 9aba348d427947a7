"""Ops that put their inputs into windows of the output: concat, pad and dynamic_update_slice.

Each window is a map of its own, so that neighbours in memory are read and written together; a
kernel that asks every output element where it comes from took 25 times as long.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import attrs

from groundup.layout import Layout
from groundup.shapes import Shape
from groundup_cuda.expressions import STORED, computed
from groundup_cuda.maps import map_stage
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import OUT, Parameters, Stage, stage, walk


def lower_concat(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """One launch per input that has elements."""
    axis = op.axis % out.rank
    starts = accumulate((x.shape[axis] for x in inputs), initial=0)
    return Lowered([
        _window("concat", k, x, out, out.strides, start * out.strides[axis])
        for k, (x, start) in enumerate(zip(inputs, starts, strict=False)) if x.size
    ])  # fmt: skip


def lower_pad(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """The value everywhere, then x over it."""
    (x,) = inputs
    steps = [fill("pad", op.value, out)]
    if x.size:
        strides = tuple(s * (g + 1) for s, g in zip(out.strides, op.gaps(out.rank), strict=True))
        start = sum(n * s for n, s in zip(op.before, out.strides, strict=True))
        steps.append(_window("pad", 0, x, out, strides, start))
    return Lowered(steps)


def lower_update_slice(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """A copy of x, and the update over it. In the memory of x, the update is all that is written.

    Where the window begins stands in device memory, and each thread reads it there.
    """
    x, update, starts = inputs
    copy = attrs.evolve(
        map_stage(op.name, Parameters(2), [OUT, 0], (out, x), "a", "a"), copies=True
    )
    in_place = op.aliases if x.is_row_major else {}
    if not update.size:
        return Lowered([copy], in_place=in_place)
    parameters = Parameters(3)
    add, kind = parameters.add, STORED[update.dtype]
    lines = [walk(parameters, "i", update.shape, first=out.strides, at0=update.strides)]
    lines.append("    Index place = first;")
    for axis, (large, small) in enumerate(zip(x.shape, update.shape, strict=True)):
        if small < large:
            start = f"((const {STORED[starts.dtype]} *)p.v[2])[{add(axis * starts.strides[0])}]"
            fitting = f"min(max((long long){start}, 0LL), (long long){add(large - small)})"
            lines.append(f"    place += (Index){fitting} * (Index){add(out.strides[axis])};")
    bits = "u16" if x.dtype.itemsize == 2 else kind  # moved, so that every NaN stays what it is
    written = stage(
        "map", op.name, parameters, [OUT, 1, 2], update.size, (out, update),
        index="\n".join(lines), place="place", size=add(update.size), out=bits,
        value=f"load(((const {bits} *)p.v[1])[at0])",
    )  # fmt: skip
    return Lowered([copy, written], in_place=in_place)


def fill(name: str, value: float, out: Layout) -> Stage:
    """One value everywhere in a row-major output."""
    parameters = Parameters(1)
    text = parameters.number(value, computed(out.dtype))
    return stage(
        "map", name, parameters, [OUT], out.size, (out,), size=parameters.add(out.size),
        index="", place="i", value=text, out=STORED[out.dtype],
    )  # fmt: skip


def _window(name: str, k: int, x: Layout, out: Layout, strides: Shape, start: int) -> Stage:
    """Input k into the places that begin at `start` and lie `strides` apart."""
    window = Layout(x.shape, strides, out.dtype)
    return map_stage(name, Parameters(2), [OUT, k], (window, x), "a", "a", start=start)

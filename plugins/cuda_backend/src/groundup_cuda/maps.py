"""Kernels that compute each element of the output from those of the inputs at the same place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from groundup.layout import Layout
from groundup_cuda.expressions import STORED, computed
from groundup_cuda.plans import Layouts
from groundup_cuda.source import Parameters, Stage, collapsed, stage, walk

_ENOUGH: Final = 4096  # elements from which packs are worth a kernel of their own


def map_stage(
    name: str, parameters: Parameters, operands: Sequence[int], layouts: Layouts,
    names: Sequence[str], value: str, lines: Sequence[str] = (), start: int = 0,
) -> Stage:  # fmt: skip
    """One `value` per element of the output, the first of `layouts`, after the statements `lines`.

    The other layouts have the output's shape; their elements are called `names` there. The output
    begins `start` elements into its memory. A value that is just moved keeps its bits, whatever
    kind of NaN it is: as a float16 it would go through a float.
    """
    out, *inputs = layouts
    moved = value == names[0] and [x.dtype for x in inputs] == [out.dtype]
    bits = "u16" if moved and out.dtype.itemsize == 2 else None
    stored = {x.dtype: bits or STORED[x.dtype] for x in layouts}
    loaded = {x.dtype: bits or computed(x.dtype) for x in layouts}
    width = _pack(out, inputs)
    width = 1 if start % width else width
    strides = {f"at{k}": layout.strides for k, layout in enumerate(inputs)}
    index = walk(parameters, "i", out.shape, first=out.strides, **strides)
    index += f"\n    const Index place = first + (Index){parameters.add(start)};"
    if width == 1:
        loads = [
            f"const {loaded[x.dtype]} {names[k]} = {_one(k, stored[x.dtype])};"
            for k, x in _each(inputs)
        ]
        text = "\n".join([index, *[f"    {line}" for line in (*loads, *lines)]])
        return stage(
            "map", name, parameters, operands, out.size, layouts, index=text, place="place",
            size=parameters.add(out.size), value=value, out=stored[out.dtype],
        )  # fmt: skip
    packs = [k for k, x in _each(inputs) if _step(out, inputs, k)]
    reads = [
        f"{loaded[x.dtype]} {names[k]}_[W];\n        "
        f"read<W>({names[k]}_, (const {stored[x.dtype]} *)p.v[{k + 1}] + at{k});"
        if k in packs else f"const {loaded[x.dtype]} {names[k]}_ = {_one(k, stored[x.dtype])};"
        for k, x in _each(inputs)
    ]  # fmt: skip
    singles = [_one(k, stored[x.dtype], " + e" if k in packs else "") for k, x in _each(inputs)]
    marks = ["[e]" if k in packs else "" for k, _ in _each(inputs)]
    return stage(
        "map_packed", name, parameters, operands, -(-out.size // width), layouts, index=index,
        size=parameters.add(out.size), value=value, out=stored[out.dtype], width=str(width),
        arguments=", ".join(f"{loaded[x.dtype]} {names[k]}" for k, x in _each(inputs)),
        lines="\n".join(f"        {line}" for line in lines), singles=", ".join(singles),
        reads="\n".join(f"        {read}" for read in reads), addresses=str(len(layouts)),
        firsts=", ".join(f"{names[k]}_{m.replace('e', '0')}" for k, m in enumerate(marks)),
        each=", ".join(f"{names[k]}_{m}" for k, m in enumerate(marks)),
    )  # fmt: skip


def _each(inputs: Sequence[Layout]) -> list[tuple[int, Layout]]:
    return list(enumerate(inputs))


def _one(k: int, kind: str, further: str = "") -> str:
    """The element of input k at its place, or further."""
    return f"load(((const {kind} *)p.v[{k + 1}])[at{k}{further}])"


def _pack(out: Layout, inputs: Sequence[Layout]) -> int:
    """Elements that a thread takes at once: 1 unless they lie side by side in the output, and in
    the inputs side by side or in one place, and packs begin where rows do.
    """
    if out.size < _ENOUGH:
        return 1
    shape, steps = collapsed(out.shape, out.strides, *[x.strides for x in inputs])
    width = 4 if any(x.dtype.itemsize > 2 for x in (out, *inputs)) else 8
    if steps[0][-1] != 1 or any(s[-1] not in (0, 1) for s in steps):
        return 1
    starts = [n for s in steps if s[-1] for n in s[:-1]]
    if len(shape) > 1 and any(n % width for n in (shape[-1], *starts)):
        return 1
    return width


def _step(out: Layout, inputs: Sequence[Layout], k: int) -> int:
    """What lies between neighbours of input k, along the output's last axis that counts."""
    _, steps = collapsed(out.shape, out.strides, *[x.strides for x in inputs])
    return steps[1 + k][-1]

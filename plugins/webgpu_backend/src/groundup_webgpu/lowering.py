"""From an op and layouts to stages: which template, which expression, which parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from groundup import dtypes
from groundup.backends.api import Declined
from groundup.dtypes import DType
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup.shapes import row_major
from groundup_webgpu.contraction import matmul
from groundup_webgpu.expressions import cast, expression, literal
from groundup_webgpu.source import (
    SCRATCH,
    WGSL,
    WORKGROUP,
    Parameters,
    Stage,
    Target,
    collapsed,
    places,
    spread,
    stage,
)  # fmt: skip

Layouts = Sequence[Layout]
_PIECE: Final = 1 << 20  # elements that one workgroup reduces at most
_TURNS: Final = 1 << 14  # of one thread's loop; Mesa's software driver leaves loops after 65,535
Lower = Callable[[Any, Layouts, Layouts], list[Stage] | Declined]


def lower(op: Op, inputs: Layouts, outputs: Layouts, threads: int) -> list[Stage] | Declined:
    """The dispatches that compute `op`, none for an empty output, or why there are none.

    `threads` is how many it takes to keep the device busy.
    """
    if op.name in ("sum", "max"):
        return _reduce(op, inputs, outputs, threads) if outputs[0].size else []
    special = _SPECIAL.get(op.name)
    if special is not None:
        return special(op, inputs, outputs) if outputs[0].size or op.name == "assign" else []
    dtype = inputs[-1].dtype if inputs else None
    text = expression(repr(op), dtype) if dtype is not None else None
    if text is None:
        return Declined(f"no kernel for {op.name} of {dtype}")
    return _map(text, inputs, outputs[0]) if outputs[0].size else []


def _map(text: str, inputs: Layouts, out: Layout, read: Sequence[int] | None = None) -> list[Stage]:
    """One expression per element, of operands a, b, c."""
    read = range(len(inputs)) if read is None else read
    used = [inputs[i] for i in read]
    parameters = Parameters(1 + len(used))
    size = parameters.add(out.size)
    shape, strides = collapsed(out.shape, out.strides, *[layout.strides for layout in used])
    names = ["place", *[f"at{i}" for i in range(len(used))]]
    operands = [(n, f"param({i}u)", s) for i, (n, s) in enumerate(zip(names, strides, strict=True))]
    index = places(parameters, "i", shape, operands)
    for i, letter in enumerate("abc"[: len(used)]):
        index += f"\n    let {letter} = in{i}[at{i}];"
    operands_read = [(i, inputs[i].dtype) for i in read]
    return [
        stage(
            "map", parameters, operands_read, WGSL[out.dtype], spread(out.size, 256),
            size=size, index=index, place="place", value=text,
        )
    ]  # fmt: skip


def _cast(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage]:
    return _map(cast(inputs[0].dtype, op.dtype), inputs, outputs[0])


def _assign(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage]:
    """Into the target's own, perhaps strided, memory; the target is not read."""
    return _map("a", inputs, inputs[0], read=[1]) if inputs[0].size else []


def _full(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage]:
    return _map(literal(op.value, op.dtype), inputs, outputs[0])


def _arange(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage]:
    kind = WGSL[op.dtype]
    start, step = literal(op.start, op.dtype), literal(op.step, op.dtype)
    return _map(f"{start} + {step} * {kind}(i)", inputs, outputs[0])


def _pad(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage]:
    """Each output place asks which input place it shows, if any."""
    (x,), out = inputs, outputs[0]
    parameters = Parameters(2)
    add = parameters.add
    size = add(out.size)
    axes = _padded_axes(op, x, out)
    lines = ["var rest = u32(i);", "var at0 = param(1u);", "var inside = true;"]
    for number, axis in enumerate(reversed(axes)):
        c, length = f"c{number}", f"u32({add(axis.length)})"
        lines += [f"var {c} = i32(rest % {length}) - {add(axis.before)};", f"rest /= {length};"]
        if axis.gap > 1:
            gap = add(axis.gap)
            lines += [f"inside = inside && {c} >= 0 && {c} % {gap} == 0;", f"{c} /= {gap};"]
        lines += [
            f"inside = inside && {c} >= 0 && {c} < {add(axis.shown)};",
            f"at0 += {c} * {add(axis.stride)};",
        ]
    index = "\n".join("    " + line for line in lines)
    value = f"select({literal(op.value, x.dtype)}, in0[select(0, at0, inside)], inside)"
    if not x.size:  # nothing of it can be read
        value = literal(op.value, x.dtype)
    return [
        stage(
            "map", parameters, [(0, x.dtype)], WGSL[x.dtype], spread(out.size, 256),
            size=size, index=index, place="param(0u) + i", value=value,
        )
    ]  # fmt: skip


@attrs.frozen
class _PaddedAxis:
    """An axis of the output: its length, and how it shows the input's `shown` places."""

    length: int
    before: int
    gap: int
    shown: int
    stride: int


def _padded_axes(op: Any, x: Layout, out: Layout) -> list[_PaddedAxis]:
    """The axes; neighbours join where the inner one is not padded and the input evenly spaced."""
    axes: list[_PaddedAxis] = []
    for axis, (length, shown, stride) in enumerate(zip(out.shape, x.shape, x.strides, strict=True)):
        before, gap = op.before[axis], op.gaps(out.rank)[axis] + 1
        plain = length == shown and not before and gap == 1
        outer = axes[-1] if axes else None
        if plain and outer and outer.gap == 1 and outer.stride == shown * stride:
            axes[-1] = _PaddedAxis(
                outer.length * length, outer.before * length, 1, outer.shown * length, stride
            )
        else:
            axes.append(_PaddedAxis(length, before, gap, shown, stride))
    return axes


def _gather(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage]:
    """x at the same place, but at the index on `axis`; zero for an index that is out of range."""
    x, indices = inputs
    out = outputs[0]
    axis = op.axis % x.rank
    parameters = Parameters(3)
    size = parameters.add(out.size)
    steps = tuple(0 if a == axis else s for a, s in enumerate(x.strides))
    shape, (own, other, chosen) = collapsed(out.shape, out.strides, steps, indices.strides)
    operands = [
        ("place", "param(0u)", own),
        ("at0", "param(1u)", other),
        ("at1", "param(2u)", chosen),
    ]
    index = places(parameters, "i", shape, operands)
    bound, step = parameters.add(x.shape[axis]), parameters.add(x.strides[axis])
    index += f"\n    let chosen = in1[at1];\n    let inside = chosen >= 0 && chosen < {bound};"
    index += f"\n    let from_place = select(0, at0 + chosen * {step}, inside);"
    zero = literal(0, x.dtype)
    return [
        stage(
            "map", parameters, [(0, x.dtype), (1, indices.dtype)], WGSL[x.dtype],
            spread(out.size, 256),
            size=size, index=index, place="place", value=f"select({zero}, in0[from_place], inside)",
        )
    ]  # fmt: skip


_ADD_FLOAT: Final = """    var old = atomicLoad(&out[goal]);
    loop {
        let sum = bitcast<u32>(bitcast<f32>(old) + value);
        let result = atomicCompareExchangeWeak(&out[goal], old, sum);
        if (result.exchanged) {
            break;
        }
        old = result.old_value;
    }"""


def _scatter_add(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage]:
    """x is copied, then every source element is added by an atomic."""
    x, indices, source = inputs
    out = outputs[0]
    copy = _map("a", inputs, out, read=[0])
    if not source.size or not indices.size:
        return copy
    axis = op.axis % x.rank
    parameters = Parameters(3)
    shape = indices.shape
    steps = tuple(0 if a == axis else s for a, s in enumerate(row_major(out.shape)))
    shape, (own, chosen, given) = collapsed(shape, steps, indices.strides, source.strides)
    size = parameters.add(indices.size)
    operands = [
        ("place", "param(0u)", own),
        ("at0", "param(1u)", chosen),
        ("at1", "param(2u)", given),
    ]
    index = places(parameters, "i", shape, operands)
    bound, step = parameters.add(x.shape[axis]), parameters.add(row_major(out.shape)[axis])
    floating = x.dtype.is_floating
    add = _ADD_FLOAT if floating else "    atomicAdd(&out[goal], value);"
    return [
        *copy,
        stage(
            "scatter", parameters, [(1, indices.dtype), (2, source.dtype)],
            "atomic<u32>" if floating else "atomic<i32>", spread(indices.size),
            size=size, index=index, place="place", bound=bound, step=step, add=add.strip(),
        ),
    ]  # fmt: skip


def _reduce(op: Any, inputs: Layouts, outputs: Layouts, threads: int) -> list[Stage]:
    """sum and max over `op.axes`; where there is much to reduce, in pieces and then over those."""
    (x,), out = inputs, outputs[0]
    axes = range(x.rank) if op.axes is None else sorted(a % x.rank for a in op.axes)
    kept = [a for a in range(x.rank) if a not in axes]
    lead = collapsed(tuple(x.shape[a] for a in kept), tuple(x.strides[a] for a in kept))
    tail = collapsed(tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes))
    count = x.size // out.size
    pieces = -(-count // _PIECE)
    wanted = max(threads // out.size, -(-min(count, _PIECE) // _TURNS))
    lanes = min(WORKGROUP, 1 << max(0, wanted - 1).bit_length())
    if pieces <= 1:
        return [_reduction(op.name, (0, x.dtype), out, lead, tail, (count, 1, lanes), "out")]
    rows = ((out.size,), ((pieces,),))
    between = ((pieces,), ((1,),))
    first, last = (count, pieces, WORKGROUP), (pieces, 1, lanes)
    return [
        _reduction(op.name, (0, x.dtype), out, lead, tail, first, "scratch"),
        _reduction(op.name, (SCRATCH, out.dtype), out, rows, between, last, "out"),
    ]


_Axes = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]


def _reduction(
    op: str, x: tuple[int, DType], out: Layout, lead: _Axes, tail: _Axes,
    split: tuple[int, int, int], target: Target,
) -> Stage:  # fmt: skip
    """Every run of `tail` to one number; runs begin along `lead`.

    `split` is how long a run is, in how many pieces, and how many threads share a piece.
    """
    count, pieces, lanes = split
    parameters = Parameters(2)
    number = parameters.add
    index = places(parameters, "i", lead[0], [("at0", "param(1u)", lead[1][0])])
    inner = places(parameters, "j", tail[0], [("from_place", "first", tail[1][0])])
    kind = WGSL[out.dtype]
    element = "i32(in0[from_place])" if x[1] is dtypes.bool_ else "in0[from_place]"
    add = op == "sum"
    return stage(
        "reduction" if lanes > 1 else "reduction_alone", parameters, [x], kind,
        spread(out.size * pieces, WORKGROUP // lanes), target=target,
        size=number(out.size * pieces), pieces=number(pieces), lanes=f"{lanes}",
        piece=number(_PIECE if pieces > 1 else count), count=number(count), index=index, type=kind,
        # The first element stands for the maximum of nothing: it is one of them anyway.
        start=literal(0, out.dtype) if add else "in0[first]",
        inner="\n".join("        " + line for line in inner.splitlines()),
        combine="a + b" if add else f"maximum_{kind}(a, b)",
        combine_value=f"total + {element}" if add else f"maximum_{kind}(total, {element})",
    )  # fmt: skip


def _matmul(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage] | Declined:
    if not inputs[0].shape[-1]:
        return _map(literal(0, outputs[0].dtype), [], outputs[0])
    return matmul(inputs[0], inputs[1])


def _random_bits(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage]:
    out = outputs[0]
    parameters = Parameters(2)
    size, step = parameters.add(out.size), parameters.add(inputs[0].strides[0])
    return [
        stage(
            "random", parameters, [(0, dtypes.int32)], "i32", spread(-(-out.size // 4), WORKGROUP),
            size=size, state="param(1u)", state_step=step, place="param(0u)",
        )
    ]  # fmt: skip


_SPECIAL: Final[dict[str, Lower]] = {
    "cast": _cast, "assign": _assign, "full": _full, "arange": _arange, "pad": _pad,
    "gather": _gather, "scatter_add": _scatter_add,
    "matmul": _matmul, "random_bits": _random_bits,
}  # fmt: skip

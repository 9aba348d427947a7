"""From an op and layouts to stages: which template, which expression, which parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from groundup import dtypes
from groundup.backends.api import Declined
from groundup.dtypes import DType
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup.shapes import row_major
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
Lower = Callable[[Any, Layouts, Layouts], list[Stage] | Declined]


def lower(op: Op, inputs: Layouts, outputs: Layouts) -> list[Stage] | Declined:
    """The dispatches that compute `op`, none for an empty output, or why there are none."""
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
    size = parameters.add(out.size)
    lines = ["var rest = i;", "var at0 = param(1u);", "var inside = true;"]
    for axis in reversed(range(out.rank)):
        lines += [
            f"let c{axis} = rest % {(n := parameters.add(out.shape[axis]))}"
            f" - {parameters.add(op.before[axis])};",
            f"rest = rest / {n};",
            f"let gap{axis} = {parameters.add(op.gaps(out.rank)[axis] + 1)};",
            f"inside = inside && c{axis} >= 0 && c{axis} % gap{axis} == 0"
            f" && c{axis} / gap{axis} < {parameters.add(x.shape[axis])};",
            f"at0 += c{axis} / gap{axis} * {parameters.add(x.strides[axis])};",
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


def _reduce(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage]:
    """sum and max over `op.axes`; where there is much to reduce, in pieces and then over those."""
    (x,), out = inputs, outputs[0]
    axes = range(x.rank) if op.axes is None else sorted(a % x.rank for a in op.axes)
    kept = [a for a in range(x.rank) if a not in axes]
    lead = collapsed(tuple(x.shape[a] for a in kept), tuple(x.strides[a] for a in kept))
    tail = collapsed(tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes))
    count = x.size // out.size
    pieces = -(-count // _PIECE)
    if pieces <= 1:
        return [_reduction(op.name, (0, x.dtype), out, lead, tail, count, 1, "out")]
    rows = ((out.size,), ((pieces,),))
    between = ((pieces,), ((1,),))
    return [
        _reduction(op.name, (0, x.dtype), out, lead, tail, count, pieces, "scratch"),
        _reduction(op.name, (SCRATCH, out.dtype), out, rows, between, pieces, 1, "out"),
    ]


_Axes = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]


def _reduction(
    op: str, x: tuple[int, DType], out: Layout, lead: _Axes, tail: _Axes, count: int, pieces: int,
    target: Target,
) -> Stage:  # fmt: skip
    """Every run of `tail`, in so many pieces, to one number; runs begin along `lead`."""
    parameters = Parameters(2)
    number = parameters.add
    index = places(parameters, "i", lead[0], [("at0", "param(1u)", lead[1][0])])
    inner = places(parameters, "j", tail[0], [("from_place", "first", tail[1][0])])
    kind = WGSL[out.dtype]
    element = "i32(in0[from_place])" if x[1] is dtypes.bool_ else "in0[from_place]"
    add = op == "sum"
    return stage(
        "reduction", parameters, [x], kind, spread(out.size * pieces, 1), target=target,
        size=number(out.size * pieces), pieces=number(pieces),
        piece=number(_PIECE if pieces > 1 else count), count=number(count), index=index, type=kind,
        # The first element stands for the maximum of nothing: it is one of them anyway.
        start=literal(0, out.dtype) if add else "in0[first]",
        inner="\n".join("        " + line for line in inner.splitlines()),
        combine="a + b" if add else f"maximum_{kind}(a, b)",
        combine_value=f"total + {element}" if add else f"maximum_{kind}(total, {element})",
    )  # fmt: skip


def _matmul(op: Any, inputs: Layouts, outputs: Layouts) -> list[Stage] | Declined:
    x, y = (_as_matrix(layout, i) for i, layout in enumerate(inputs))
    (x_shape, x_strides), (y_shape, y_strides) = x, y
    dtype = inputs[0].dtype
    rows, inner, columns = x_shape[-2], x_shape[-1], y_shape[-1]
    if not inner:
        return _map(literal(0, dtype), [], outputs[0])
    rank = max(len(x_shape), len(y_shape)) - 2
    lead = tuple(
        max(s)
        for s in zip(_padded(x_shape[:-2], rank, 1), _padded(y_shape[:-2], rank, 1), strict=True)
    )
    batches = 1
    for n in lead:
        batches *= n
    if batches > 65535:
        return Declined(f"more than 65,535 products at once ({batches})")
    steps = [
        tuple(s if n == full else 0 for s, n, full in zip(
            _padded(strides[:-2], rank, 0), _padded(shape[:-2], rank, 1), lead, strict=True))
        for shape, strides in (x, y)
    ]  # fmt: skip
    parameters = Parameters(3)
    shape, (left, right) = collapsed(lead, *steps)
    operands = [("at0", "param(1u)", left), ("at1", "param(2u)", right)]
    index = places(parameters, "i", shape, operands)
    add = parameters.add
    return [
        stage(
            "matmul", parameters, [(0, dtype), (1, dtype)], WGSL[dtype],
            (-(-columns // 64), -(-rows // 64), batches),
            rows=add(rows), columns=add(columns), inner=add(inner), index=index, type=WGSL[dtype],
            x_row=add(x_strides[-2]), x_inner=add(x_strides[-1]), y_inner=add(y_strides[-2]),
            y_column=add(y_strides[-1]), place="param(0u)",
        )
    ]  # fmt: skip


def _as_matrix(layout: Layout, side: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides; a vector is a row on the left and a column on the right."""
    if layout.rank > 1:
        return layout.shape, layout.strides
    if side == 0:
        return (1, *layout.shape), (0, *layout.strides)
    return (*layout.shape, 1), (*layout.strides, 0)


def _padded(values: tuple[int, ...], rank: int, filler: int) -> tuple[int, ...]:
    return (filler,) * (rank - len(values)) + values


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
    "gather": _gather, "scatter_add": _scatter_add, "sum": _reduce, "max": _reduce,
    "matmul": _matmul, "random_bits": _random_bits,
}  # fmt: skip

"""From an op and layouts to stages: which template, which expression, which parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import attrs

from groundup import dtypes
from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup_webgpu.composites import COMPOSITES
from groundup_webgpu.contraction import matmul
from groundup_webgpu.expressions import cast, expression
from groundup_webgpu.machine import Machine
from groundup_webgpu.maps import Body
from groundup_webgpu.source import (
    OUT,
    SCRATCH,
    STORED,
    WORKGROUP,
    Parameters,
    Stage,
    computed,
    indented,
    spread,
    walk,
)  # fmt: skip

Layouts: TypeAlias = Sequence[Layout]
_PIECE: Final = 1 << 20  # elements that one workgroup reduces at most
_TURNS: Final = 1 << 14  # of one thread's loop; Mesa's software driver leaves loops after 65,535
_SHARED_INDICES: Final = 1 << 12  # threads of a device on which workgroups share what they read
_ITEM: Final = 4  # bytes of an element in scratch memory
_IN_ORDER: Final = "    let place = param(0u) + i;"
_WIDE: Final = {dtypes.float16: dtypes.float32}  # how scratch memory holds what is added up


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
    return [_map(text, enumerate(inputs, 1), out)] if out.size else []


def _map(value: str, operands: Any, out: Layout, target: int = OUT) -> Stage:
    """One expression per element of a, b, c: the `operands`, pairs of position and layout."""
    operands = list(operands)
    parameters = Parameters(1 + len(operands))
    strides = {f"at{k}": layout.strides for k, (_, layout) in enumerate(operands)}
    index = walk(parameters, "i", out.shape, place=out.strides, **strides)
    names = zip("abc", strides, strict=False)
    loads = [f"let {letter} = load{at[2:]}({at});" for letter, at in names]
    made = _each(parameters, operands, out, f"{index}\n{indented(loads)}", value, target)
    body = Body("abc"[: len(operands)], operands, out, target)
    if not body.in_order:
        return made
    vectors = body.vectors(Parameters(1 + len(operands)), value, scratch=target == SCRATCH)
    return attrs.evolve(made, aligned=vectors)


def _each(
    parameters: Parameters, operands: Any, out: Layout, index: str, value: str, target: int = OUT
) -> Stage:
    """One `value` per element, at `place`: both are texts that build on `index`."""
    parts = {"size": parameters.add(out.size), "index": index, "value": value}
    memory = [(target, STORED[out.dtype]), *[(i, STORED[x.dtype]) for i, x in operands]]
    scratch = _ITEM * out.size if target == SCRATCH else 0
    values, groups = tuple(parameters.values), spread(out.size, 256)
    return Stage("map", parts, values, tuple(memory), groups, scratch)


def _cast(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    return [_map(cast(inputs[0].dtype, op.dtype), enumerate(inputs, 1), out)]


def _assign(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    """Into the output, which may be the target's own, strided memory; the target is not read."""
    return [_map("a", [(2, inputs[1])], out)]


def _full(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    return [_filled(op.value, out)]


def _filled(number: float, out: Layout) -> Stage:
    parameters = Parameters(1)
    return _each(parameters, [], out, _IN_ORDER, parameters.number(number, out.dtype))


def _arange(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    parameters = Parameters(1)
    start, step = (parameters.number(v, op.dtype) for v in (op.start, op.step))
    value = f"{start} + {step} * {computed(op.dtype)}(i)"
    return [_each(parameters, [], out, _IN_ORDER, value)]


def _pad(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    """Each output place asks which input place it shows, if any."""
    (x,) = inputs
    if not x.size:  # nothing of it can be read
        return [_filled(op.value, out)]
    parameters = Parameters(2)
    add = parameters.add
    lines = ["var rest = u32(i);", "var c = 0;", "var at0 = param(1u);", "var inside = true;"]
    for length, before, gap, shown, stride in reversed(_padded_axes(op, x, out)):
        size = f"u32({add(length)})"
        lines += [f"c = i32(rest % {size}) - {add(before)};", f"rest /= {size};"]
        if gap > 1:
            step = add(gap)
            lines += [f"inside = inside && c >= 0 && c % {step} == 0;", f"c /= {step};"]
        lines.append(f"inside = inside && c >= 0 && c < {add(shown)};")
        lines.append(f"at0 += c * {add(stride)};")
    blank = parameters.number(op.value, x.dtype)
    value = f"select({blank}, load0(select(0, at0, inside)), inside)"
    return [_each(parameters, [(1, x)], out, f"{_IN_ORDER}\n{indented(lines)}", value)]


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
    copy = attrs.evolve(_map("a", [(1, x)], out), copies=True)
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
    operands = [(2, update), (3, starts)]
    text = f"{index}\n{indented(lines)}"
    return [copy, _each(parameters, operands, window, text, "load0(at0)")]


def _gather(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    """x at the same place, but at the index on `axis`; zero for an index that is out of range."""
    x, indices = inputs
    axis = op.axis % x.rank
    parameters = Parameters(3)
    others = tuple(0 if a == axis else s for a, s in enumerate(x.strides))
    index = walk(
        parameters, "i", out.shape, place=out.strides, at0=others, at1=indices.strides
    )  # fmt: skip
    bound, step = parameters.add(x.shape[axis]), parameters.add(x.strides[axis])
    lines = ["let chosen = load1(at1);", f"let inside = chosen >= 0 && chosen < {bound};"]
    lines.append(f"let from_place = select(0, at0 + chosen * {step}, inside);")
    value = f"select({computed(x.dtype)}(), load0(from_place), inside)"
    return [_each(parameters, enumerate(inputs, 1), out, f"{index}\n{indented(lines)}", value)]


def _scatter_add(op: Any, inputs: Layouts, out: Layout, machine: Machine) -> list[Stage]:
    """x is copied, then source elements are added, each place by one thread and in order.

    So every run has the same bits. float16 would round every time: it is added up in scratch
    memory, as float32.
    """
    x, indices, source = inputs
    total = Layout(out.shape, out.strides, _WIDE.get(x.dtype, x.dtype))
    target = OUT if total.dtype is x.dtype else SCRATCH
    stages = [_map("a", [(1, x)], total, target)]
    axis = op.axis % x.rank
    for start in range(0, indices.shape[axis] if indices.size else 0, _TURNS):
        stages.append(_added(axis, start, total, indices, source, target, machine.threads))
    if target == SCRATCH:
        stages.append(_map("a", [(SCRATCH, total)], out))
    return stages


def _added(
    axis: int, start: int, out: Layout, indices: Layout, source: Layout, target: int, threads: int
) -> Stage:
    """What stands from `start` on `axis`. A thread has one line along it and some of the places."""
    others = [a for a in range(out.rank) if a != axis]
    lines, given = _taken(indices, others), _taken(source, others)
    parameters = Parameters(3)
    add = parameters.add
    place = _taken(out, others).strides
    count = min(_TURNS, indices.shape[axis] - start)
    lanes = max(1, min(count, out.shape[axis], threads // lines.size))
    parts = {
        "index": walk(
            parameters, "i", lines.shape, place=place, at0=lines.strides, at1=given.strides
        ),
        "size": add(lines.size * lanes), "lines": add(lines.size), "lanes": add(lanes),
        "start": add(start), "stop": add(start + count), "bound": add(out.shape[axis]),
        "step": add(out.strides[axis]), "index_step": add(indices.strides[axis]),
        "source_step": add(source.strides[axis]),
    }  # fmt: skip
    memory = ((target, STORED[out.dtype]), (2, STORED[indices.dtype]), (3, STORED[source.dtype]))
    family, groups = "scatter", spread(lines.size * lanes)
    if threads > _SHARED_INDICES and lines.size > 1 and not any(lines.strides):
        family, groups = "scatter_rows", spread(-(-lines.size // WORKGROUP) * lanes, 1)
    return Stage(family, parts, tuple(parameters.values), memory, groups)


def _reduce(op: Any, inputs: Layouts, out: Layout, machine: Machine) -> list[Stage]:
    """sum and max over `op.axes`; where there is much to reduce, in pieces and then over those."""
    (x,) = inputs
    axes = range(x.rank) if op.axes is None else sorted(a % x.rank for a in op.axes)
    rows = _taken(x, [a for a in range(x.rank) if a not in axes])
    columns = _taken(x, axes)
    pieces = -(-columns.size // _PIECE)
    wanted = max(machine.threads // out.size, -(-min(columns.size, _PIECE) // _TURNS))
    lanes = min(WORKGROUP, 1 << max(0, wanted - 1).bit_length())
    if pieces <= 1:
        return [_reduction(op.name, 1, rows, columns, out, lanes)]
    partial = Layout((out.size, pieces), (pieces, 1), _WIDE.get(out.dtype, out.dtype))
    return [
        _reduction(op.name, 1, rows, columns, partial, WORKGROUP),
        _reduction(op.name, SCRATCH, _taken(partial, [0]), _taken(partial, [1]), out, lanes),
    ]


def _taken(x: Layout, axes: Sequence[int]) -> Layout:
    """Some axes of `x`."""
    return Layout(tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes), x.dtype)


def _reduction(
    op: str, operand: int, rows: Layout, columns: Layout, out: Layout, lanes: int
) -> Stage:
    """For every place of `rows` the elements along `columns` to one number.

    In as many pieces as `out`, then SCRATCH, has for a row; `lanes` threads share a piece.
    """
    pieces = out.size // rows.size
    parameters = Parameters(2)
    add = parameters.add
    kind = computed(out.dtype)
    inner = walk(parameters, "j", columns.shape, column=columns.strides)
    element = "load0(first + column)"
    if rows.dtype is dtypes.bool_:
        element = f"i32({element})"
    plus = op == "sum"
    parts = {
        "size": add(out.size), "pieces": add(pieces), "count": add(columns.size),
        "piece": add(_PIECE if pieces > 1 else columns.size), "lanes": f"{lanes}", "type": kind,
        "index": walk(parameters, "i", rows.shape, at0=rows.strides), "inner": inner,
        # The first element stands for the maximum of nothing: it is one of them anyway.
        "start": f"{kind}()" if plus else "load0(at0)",
        "combine": "a + b" if plus else f"maximum_{kind}(a, b)",
        "combine_value": f"total + {element}" if plus else f"maximum_{kind}(total, {element})",
    }  # fmt: skip
    target = SCRATCH if pieces > 1 else OUT
    return Stage(
        "reduction" if lanes > 1 else "reduction_alone", parts, tuple(parameters.values),
        ((target, STORED[out.dtype]), (operand, STORED[rows.dtype])),
        spread(out.size, WORKGROUP // lanes), _ITEM * out.size if pieces > 1 else 0,
    )  # fmt: skip


def _matmul(op: Any, inputs: Layouts, out: Layout, machine: Machine) -> list[Stage]:
    if not inputs[0].shape[-1]:
        return [_filled(0, out)]
    return matmul(inputs[0], inputs[1], machine)


def _random_bits(op: Any, inputs: Layouts, out: Layout) -> list[Stage]:
    parameters = Parameters(2)
    parts = {"size": parameters.add(out.size), "state_step": parameters.add(inputs[0].strides[0])}
    groups = spread(-(-out.size // 4))
    memory = ((OUT, "i32"), (1, "i32"))
    values = tuple(parameters.values)
    return [Stage("random", parts, values, memory, groups, includes=("philox",))]


_SPECIAL: Final[dict[str, Callable[[Any, Layouts, Layout], list[Stage]]]] = {
    "cast": _cast, "assign": _assign, "full": _full, "arange": _arange, "pad": _pad,
    "gather": _gather, "random_bits": _random_bits,
    "dynamic_update_slice": _update_slice,
}  # fmt: skip
# How threads share the work depends on the machine.
_SHARED: Final[dict[str, Callable[[Any, Layouts, Layout, Machine], list[Stage]]]] = {
    "sum": _reduce, "max": _reduce, "scatter_add": _scatter_add, "matmul": _matmul,
}  # fmt: skip

"""From an op and layouts to launches: which template, which expression, which parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import attrs

from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup.shapes import row_major
from groundup_cuda.expressions import (
    REDUCTIONS,
    STORED,
    Joining,
    accumulated,
    computed,
    expression,
)  # fmt: skip
from groundup_cuda.products import Product, lower_matmul
from groundup_cuda.source import (
    OUT,
    SCRATCH,
    Parameters,
    Stage,
    collapsed,
    letters,
    stage,
    walk,
)  # fmt: skip

Layouts: TypeAlias = Sequence[Layout]
Step: TypeAlias = Stage | Product
_ENOUGH: Final = 1 << 17  # threads from which a GPU is busy: with fewer, a reduction is split
_EACH: Final = 16  # elements that a thread of a split reduction joins at least


@attrs.frozen(eq=False)
class Lowered:
    """Launches in order, the inputs that they need row-major, and bytes of scratch memory."""

    steps: Sequence[Step]
    contiguous: tuple[int, ...] = ()
    scratch: int = 0


def lower(
    op: Op, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered | Declined:
    """The launches that compute `op`, none for an empty output, or why there are none."""
    if not any(out.size for out in outputs):
        return Lowered([])
    if op.name == "matmul":
        step, copies = lower_matmul(inputs, outputs[0], capability)
        return Lowered([step], copies)
    special = _SPECIAL.get(op.name)
    if special is not None:
        return special(op, inputs, outputs[0])
    dtype = inputs[-1].dtype if inputs else None
    text = expression(repr(op), dtype) if dtype is not None else None
    if text is None:
        return Declined(f"no kernel for {op.name} of {dtype}")
    return Lowered([_map(op.name, text, enumerate(inputs), outputs[0])])


def _map(name: str, value: str, operands: Any, out: Layout, write: int = OUT) -> Stage:
    """One expression per element of a, b, c: the `operands`, pairs of position and layout."""
    numbers, layouts = zip(*operands, strict=True)
    parameters = Parameters(1 + len(layouts))
    strides = {f"at{k}": layout.strides for k, layout in enumerate(layouts)}
    index = walk(parameters, "i", out.shape, place=out.strides, **strides)
    index += "\n" + letters([layout.dtype for layout in layouts])
    return _made(name, parameters, [write, *numbers], (out, *layouts), index, value)


def _made(
    name: str, parameters: Parameters, operands: Sequence[int], layouts: Layouts, index: str,
    value: str, place: str = "place",
) -> Stage:  # fmt: skip
    """One value per element of the output, the first of `layouts`."""
    out = layouts[0]
    return stage(
        "map", name, parameters, operands, out.size, layouts, size=parameters.add(out.size),
        index=index, place=place, value=value, out=STORED[out.dtype],
    )  # fmt: skip


def _assign(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """Into the target's own, perhaps strided, memory; the target is not read."""
    return Lowered([_map("assign", "a", [(1, inputs[1])], inputs[0])])


def _full(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    parameters = Parameters(1)
    value = parameters.number(op.value, computed(op.dtype))
    return Lowered([_made("full", parameters, [OUT], (out,), "", value, "i")])


def _arange(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """In float64 or int64, then rounded."""
    parameters = Parameters(1)
    fraction = op.dtype.is_floating or any(isinstance(v, float) for v in (op.start, op.step))
    kind = "double" if fraction else "long long"
    start, step = parameters.number(op.start, kind), parameters.number(op.step, kind)
    result = "float" if op.dtype.is_floating else "long long"
    value = f"({result})({start} + {step} * ({kind})i)"
    return Lowered([_made("arange", parameters, [OUT], (out,), "", value, "i")])


def _pad(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """Each output place asks which input place it shows, if any."""
    (x,) = inputs
    parameters, kind = Parameters(2), computed(x.dtype)

    def given(value: int) -> str:
        return f"(Index){parameters.add(value)}"

    lines = ["Index rest = i, at0 = 0, c;", "bool inside = true;"]
    for axis in reversed(range(out.rank)):
        length, gap = given(out.shape[axis]), given(op.gaps(out.rank)[axis] + 1)
        lines += [
            f"c = rest % {length} - {given(op.before[axis])};",
            f"rest /= {length};",
            f"inside = inside && c >= 0 && c % {gap} == 0 && c / {gap} < {given(x.shape[axis])};",
            f"at0 += c / {gap} * {given(x.strides[axis])};",
        ]
    read = f"load(((const {STORED[x.dtype]} *)p.v[1])[at0])"
    value = f"({kind})(inside ? {read} : {parameters.number(op.value, kind)})"
    index = "\n".join("    " + line for line in lines)
    return Lowered([_made("pad", parameters, [OUT, 0], (out, x), index, value, "i")])


def _gather(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """x at the same place, but at the index on `axis`; zero for an index that is out of range."""
    x, indices = inputs
    axis = op.axis % x.rank
    parameters, kind = Parameters(3), computed(x.dtype)
    others = tuple(0 if a == axis else s for a, s in enumerate(x.strides))
    index = walk(
        parameters, "i", out.shape, place=out.strides, at0=others, at1=indices.strides
    ) + (
        f"\n    const long long chosen = ((const {STORED[indices.dtype]} *)p.v[2])[at1];"
        f"\n    const bool inside = chosen >= 0 && chosen < {parameters.add(x.shape[axis])};"
    )  # fmt: skip
    step = parameters.add(x.strides[axis])
    read = f"load(((const {STORED[x.dtype]} *)p.v[1])[at0 + chosen * {step}])"
    value = f"({kind})(inside ? {read} : ({kind})0)"
    return Lowered([_made("gather", parameters, [OUT, 0, 1], (out, x, indices), index, value)])


_ATOMIC: Final = {"float": "float", "int": "int", "long long": "u64"}


def _scatter_add(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """x is copied, then every source element is added by an atomic.

    Narrow types have none, and would round every time: they are added up in wide scratch memory.
    """
    x, indices, source = inputs
    axis, own, wide = op.axis % x.rank, row_major(out.shape), accumulated(x.dtype)
    place = OUT if wide is x.dtype else SCRATCH
    total = Layout(out.shape, out.strides, wide)
    steps: list[Step] = [_map("scatter_add", "a", [(0, x)], total, place)]
    if indices.size:
        parameters = Parameters(3)
        others = tuple(0 if a == axis else s for a, s in enumerate(own))
        steps.append(stage(
            "scatter", "scatter_add", parameters, [place, 1, 2], indices.size,
            (total, indices, source), size=parameters.add(indices.size),
            index=walk(
                parameters, "i", indices.shape, place=others, at0=indices.strides,
                at1=source.strides,
            ),
            bound=parameters.add(out.shape[axis]), step=parameters.add(own[axis]),
            in0=STORED[indices.dtype], in1=STORED[source.dtype], atomic=_ATOMIC[STORED[wide]],
        ))  # fmt: skip
    if place == OUT:
        return Lowered(steps)
    steps.append(_map("scatter_add", "a", [(SCRATCH, total)], out))
    return Lowered(steps, scratch=total.size * wide.itemsize)


def _reduce(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """Over `op.axes`; where there are few outputs, in pieces first and then over those."""
    (x,) = inputs
    axes = range(x.rank) if op.axes is None else sorted(a % x.rank for a in op.axes)
    rows = _taken(x, [a for a in range(x.rank) if a not in axes])
    columns = _taken(x, axes)
    joining, wide = REDUCTIONS[op.name], accumulated(x.dtype)
    _, lanes = _sharing(rows, columns)
    # By shapes alone, so that the order of additions is the same on every GPU.
    pieces = max(1, min(_ENOUGH // (rows.size * lanes), columns.size // (lanes * _EACH)))
    if pieces == 1:
        return Lowered([_reduction(op.name, joining, rows, columns, out)])
    flat, between = Layout((rows.size,), (1,), wide), Layout((pieces,), (rows.size,), wide)
    partial = Layout((pieces, rows.size), (rows.size, 1), wide)
    last = attrs.evolve(joining, element="(Value)x")
    steps = [
        _reduction(op.name, joining, rows, columns, partial, pieces),
        attrs.evolve(_reduction(op.name, last, flat, between, out), operands=(OUT, SCRATCH)),
    ]
    return Lowered(steps, scratch=pieces * rows.size * wide.itemsize)


def _taken(x: Layout, axes: Sequence[int]) -> Layout:
    return Layout(tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes), x.dtype)


def _sharing(rows: Layout, columns: Layout) -> tuple[bool, int]:
    """Whether neighbouring threads take neighbouring outputs, as they do if those lie closer
    together in memory, and how many threads share an output: a power of 2.
    """
    _, ((*_, step),) = collapsed(columns.shape, columns.strides)
    _, ((*_, start),) = collapsed(rows.shape, rows.strides)
    across = rows.size >= 32 and abs(start) < abs(step)
    return across, 1 << min(3 if across else 8, (columns.size // 4).bit_length())


def _reduction(
    op: str, joining: Joining, rows: Layout, columns: Layout, out: Layout, pieces: int = 1
) -> Stage:
    """For every place of `rows` the elements along `columns`, in so many pieces, to one number."""
    parameters = Parameters(2)
    add = parameters.add
    across, lanes = _sharing(rows, columns)
    value, size = accumulated(rows.dtype), rows.size * pieces
    inner = walk(parameters, "j", columns.shape, column=columns.strides)
    whole = Layout(rows.shape + columns.shape, rows.strides + columns.strides, rows.dtype)
    return stage(
        "reduction", op, parameters, [OUT if pieces == 1 else SCRATCH, 0], size * lanes,
        (whole, out), lanes=str(lanes), across=str(across).lower(), size=add(size),
        piece=add(-(-columns.size // pieces)), reduced=add(columns.size), outputs=add(rows.size),
        index=walk(parameters, "i", rows.shape, row=rows.strides), inner=inner,
        in0=STORED[rows.dtype], accumulator=STORED[value], start=joining.start,
        element=joining.element, combine=joining.combine, out=STORED[out.dtype],
    )  # fmt: skip


def _random_bits(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    parameters = Parameters(2)
    size, step = parameters.add(out.size), parameters.add(inputs[0].strides[0])
    threads = -(-out.size // 4)
    made = stage(
        "random", "random_bits", parameters, [OUT, 0], threads, (out,), size=size, step=step
    )
    return Lowered([made])


_SPECIAL: Final[dict[str, Callable[[Any, Layouts, Layout], Lowered]]] = {
    "assign": _assign, "full": _full, "arange": _arange, "pad": _pad, "gather": _gather,
    "scatter_add": _scatter_add, "random_bits": _random_bits,
    **dict.fromkeys(REDUCTIONS, _reduce),
}  # fmt: skip

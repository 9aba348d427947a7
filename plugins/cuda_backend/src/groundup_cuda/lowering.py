"""From an op and layouts to stages: which template, which expression, which parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import attrs

from groundup.backends.api import Declined
from groundup.dtypes import DType
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup.shapes import row_major
from groundup_cuda.expressions import (
    REDUCTIONS,
    STORED,
    Joining,
    accumulator,
    computed,
    expression,
)
from groundup_cuda.products import lower_matmul
from groundup_cuda.source import (
    OUT,
    SCRATCH,
    Parameters,
    Stage,
    collapsed,
    extent,
    letters,
    places,
    stage,
)
from groundup_cuda.steps import Lowered, Step

Layouts: TypeAlias = Sequence[Layout]
Lower: TypeAlias = Callable[[Any, Layouts, Layouts], Lowered | Declined]
_ENOUGH: Final = 1 << 17  # threads from which a GPU is busy: fewer, and a reduction is split
_EACH: Final = 16  # elements that a thread of a split reduction adds at least


def lower(
    op: Op, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered | Declined:
    """The launches that compute `op`, none for an empty output, or why there are none."""
    if op.name == "assign":
        return Lowered(into(inputs[1], outputs[0]))
    if not any(out.size for out in outputs):
        return Lowered([])
    if op.name == "matmul":
        return lower_matmul(inputs, outputs[0], capability)
    special = _SPECIAL.get(op.name)
    if special is not None:
        return special(op, inputs, outputs)
    dtype = inputs[-1].dtype if inputs else None
    text = expression(repr(op), dtype) if dtype is not None else None
    if text is None:
        return Declined(f"no kernel for {op.name} of {dtype}")
    operands = list(enumerate(inputs))
    return Lowered([_map(op.name, text, operands, outputs[0])])


def into(value: Layout, target: Layout) -> list[Step]:
    """`assign`'s second input, copied to the output, which may be any view."""
    return [_map("assign", "a", [(1, value)], target)] if target.size else []


Operands: TypeAlias = Sequence[tuple[int, Layout]]


def _map(
    name: str, text: str, operands: Operands, out: Layout, write: int = OUT,
) -> Stage:  # fmt: skip
    """One expression per element, of operands a, b, c."""
    layouts = [layout for _, layout in operands]
    parameters = Parameters(1 + len(layouts))
    size = parameters.add(out.size)
    shape, strides = collapsed(out.shape, out.strides, *[layout.strides for layout in layouts])
    names = ["place", *[f"at{k}" for k in range(len(layouts))]]
    index = places(parameters, "i", shape, list(zip(names, strides, strict=True)))
    index += "\n" + letters([layout.dtype for layout in layouts])
    return stage(
        "map", name, parameters, [write, *[k for k, _ in operands]], out.size,
        _reach(out, *layouts), size=size, index=index, place="place", value=text,
        out=STORED[out.dtype],
    )  # fmt: skip


def _reach(*layouts: Layout) -> int:
    return max(layout.size + extent(layout.shape, layout.strides) for layout in layouts)


def _filled(name: str, parameters: Parameters, out: Layout, value: str) -> Lowered:
    """An output that is made from its elements' numbers i alone."""
    size = parameters.add(out.size)
    made = stage(
        "map", name, parameters, [OUT], out.size, out.size, size=size, index="", place="i",
        value=value, out=STORED[out.dtype],
    )  # fmt: skip
    return Lowered([made])


def _full(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    parameters = Parameters(1)
    value = parameters.number(op.value, computed(op.dtype))
    return _filled("full", parameters, outputs[0], value)


def _arange(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """In float64 or int64, then rounded."""
    parameters = Parameters(1)
    floating = op.dtype.is_floating or any(isinstance(v, float) for v in (op.start, op.step))
    kind = "double" if floating else "long long"
    start, step = parameters.number(op.start, kind), parameters.number(op.step, kind)
    result = "float" if op.dtype.is_floating else "long long"
    return _filled("arange", parameters, outputs[0], f"({result})({start} + {step} * ({kind})i)")


def _clamp(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered | Declined:
    (x,), out = inputs, outputs[0]
    if x.dtype.kind == "bool":
        return Declined("clamp of bool")
    kind = computed(x.dtype)
    parameters = Parameters(2)
    value = "a"
    if op.min is not None:
        value = f"maximum({value}, {parameters.number(op.min, kind)})"
    if op.max is not None:
        value = f"minimum({value}, {parameters.number(op.max, kind)})"
    size = parameters.add(out.size)
    shape, strides = collapsed(out.shape, out.strides, x.strides)
    index = places(parameters, "i", shape, list(zip(("place", "at0"), strides, strict=True)))
    made = stage(
        "map", "clamp", parameters, [OUT, 0], out.size, _reach(out, x), size=size,
        index=index + "\n" + letters([x.dtype]), place="place", value=value, out=STORED[out.dtype],
    )  # fmt: skip
    return Lowered([made])


def _pad(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """Each output place asks which input place it shows, if any."""
    (x,), out = inputs, outputs[0]
    parameters = Parameters(2)
    size, kind = parameters.add(out.size), computed(x.dtype)

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
    value = f"inside ? {read} : {parameters.number(op.value, kind)}"
    made = stage(
        "map", "pad", parameters, [OUT, 0], out.size, _reach(out, x), size=size,
        index="\n".join("    " + line for line in lines), place="i", value=f"({kind})({value})",
        out=STORED[out.dtype],
    )  # fmt: skip
    return Lowered([made])


def _concat(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """Each input is copied to its part of the output."""
    out = outputs[0]
    axis = op.axis % out.rank
    steps: list[Step] = []
    start = 0
    for k, x in enumerate(inputs):
        if x.size:
            part = Layout(x.shape, out.strides, out.dtype)
            at = start * out.strides[axis] * out.dtype.itemsize
            steps.append(attrs.evolve(_map("concat", "a", [(k, x)], part), offset=at))
        start += x.shape[axis]
    return Lowered(steps)


def _gather(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """x at the same place, but at the index on `axis`; zero for an index that is out of range."""
    x, indices = inputs
    out = outputs[0]
    axis = op.axis % x.rank
    parameters = Parameters(3)
    size = parameters.add(out.size)
    others = tuple(0 if a == axis else s for a, s in enumerate(x.strides))
    shape, strides = collapsed(out.shape, out.strides, others, indices.strides)
    names = ("place", "at0", "at1")
    index = places(parameters, "i", shape, list(zip(names, strides, strict=True)))
    bound, step = parameters.add(x.shape[axis]), parameters.add(x.strides[axis])
    index += (
        f"\n    const long long chosen = ((const {STORED[indices.dtype]} *)p.v[2])[at1];"
        f"\n    const bool inside = chosen >= 0 && chosen < {bound};"
    )
    kind = computed(x.dtype)
    read = f"load(((const {STORED[x.dtype]} *)p.v[1])[at0 + chosen * {step}])"
    made = stage(
        "map", "gather", parameters, [OUT, 0, 1], out.size, _reach(out, x, indices), size=size,
        index=index, place="place", value=f"({kind})(inside ? {read} : ({kind})0)",
        out=STORED[out.dtype],
    )  # fmt: skip
    return Lowered([made])


_ATOMIC: Final = {"float": "float", "int": "int", "long long": "u64"}


def _scatter_add(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """x is copied, then every source element is added by an atomic.

    Narrow types have none, and would round every time: they are added up in wide scratch memory.
    """
    x, indices, source = inputs
    out = outputs[0]
    wide = next(d for d in STORED if STORED[d] == accumulator(x.dtype))
    direct = wide is x.dtype
    place = OUT if direct else SCRATCH
    summed = Layout(out.shape, out.strides, wide)
    steps: list[Step] = [_map("scatter_add", "a", [(0, x)], summed, place)]
    if indices.size:
        steps.append(_scatter(op.axis % x.rank, indices, source, summed, place))
    if not direct:
        steps.append(_map("scatter_add", "a", [(SCRATCH, summed)], out))
    return Lowered(steps, scratch=0 if direct else summed.size * wide.itemsize)


def _scatter(axis: int, indices: Layout, source: Layout, out: Layout, place: int) -> Stage:
    parameters = Parameters(3)
    size = parameters.add(indices.size)
    own = row_major(out.shape)
    others = tuple(0 if a == axis else s for a, s in enumerate(own))
    shape, strides = collapsed(indices.shape, others, indices.strides, source.strides)
    names = ("place", "at0", "at1")
    index = places(parameters, "i", shape, list(zip(names, strides, strict=True)))
    return stage(
        "scatter", "scatter_add", parameters, [place, 1, 2], indices.size,
        _reach(out, indices, source), size=size, index=index,
        bound=parameters.add(out.shape[axis]), step=parameters.add(own[axis]),
        in0=STORED[indices.dtype], in1=STORED[source.dtype], atomic=_ATOMIC[STORED[out.dtype]],
    )  # fmt: skip


def _reduce(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered | Declined:
    """Over `op.axes`; where there are few outputs, in pieces first and then over those."""
    (x,), out = inputs, outputs[0]
    axes = range(x.rank) if op.axes is None else sorted(a % x.rank for a in op.axes)
    kept = [a for a in range(x.rank) if a not in axes]
    rows = Layout(*_taken(x, kept), x.dtype)
    columns = Layout(*_taken(x, axes), x.dtype)
    joining = REDUCTIONS[op.name]
    count = columns.size
    pieces = _pieces(out.size, count, _sharing(rows, columns)[1])
    value = accumulator(x.dtype)
    if pieces == 1:
        return Lowered(
            [_reduction(op.name, joining, (0, x.dtype), rows, columns, out.dtype, count)]
        )
    wide = next(d for d in STORED if STORED[d] == value)
    first = attrs.evolve(joining, finish="total_of_all")
    second = attrs.evolve(joining, element="(Value)x")
    between = Layout((pieces,), (out.size,), wide)
    flat = Layout((out.size,), (1,), wide)
    return Lowered(
        [
            _reduction(op.name, first, (0, x.dtype), rows, columns, wide, count, pieces),
            _reduction(op.name, second, (SCRATCH, wide), flat, between, out.dtype, count),
        ],
        scratch=pieces * out.size * wide.itemsize,
    )


def _taken(x: Layout, axes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes)


def _sharing(rows: Layout, columns: Layout) -> tuple[bool, int]:
    """Whether neighbouring threads take neighbouring outputs, as they do if those lie closer
    together in memory, and how many threads share an output: a power of 2.
    """
    _, ((*_, step),) = collapsed(columns.shape, columns.strides)
    _, ((*_, start),) = collapsed(rows.shape, rows.strides)
    across = rows.size >= 32 and abs(start) < abs(step)
    return across, 1 << min(3 if across else 8, (columns.size // 4).bit_length())


def _pieces(outputs: int, count: int, lanes: int) -> int:
    """In how many parts each output's elements are reduced, by shapes alone."""
    return max(1, min(_ENOUGH // (outputs * lanes), count // (lanes * _EACH)))


def _reduction(
    op: str, joining: Joining, x: tuple[int, DType], rows: Layout, columns: Layout, out: DType,
    count: int, pieces: int = 1,
) -> Stage:  # fmt: skip
    """For every place of `rows` the elements along `columns`, in so many pieces, to one number."""
    parameters = Parameters(2)
    add = parameters.add
    along, steps = collapsed(columns.shape, columns.strides)
    beside, starts = collapsed(rows.shape, rows.strides)
    across, lanes = _sharing(rows, columns)
    index = places(parameters, "i", beside, [("row", starts[0])])
    inner = places(parameters, "j", along, [("column", steps[0])])
    inner += "\n    const Index at = row + column;"
    finish = joining.finish.replace("reduced_in_all", add(count))
    value = accumulator(x[1])
    size = rows.size * pieces
    return stage(
        "reduction", op, parameters, [OUT if pieces == 1 else SCRATCH, x[0]], size * lanes,
        _reach(rows, columns) + extent(rows.shape, rows.strides) + size * lanes,
        lanes=str(lanes), across="true" if across else "false", pieces=add(pieces),
        piece=add(-(-columns.size // pieces)), reduced=add(columns.size), size=add(size),
        outputs=add(rows.size), in0=STORED[x[1]], accumulator=value, index=index,
        inner="\n".join("        " + line for line in inner.splitlines()),
        start=joining.start, element=joining.element, combine=joining.combine, finish=finish,
        out=STORED[out],
    )  # fmt: skip


def _random_bits(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    size = outputs[0].size
    parameters = Parameters(2)
    made = stage(
        "random", "random_bits", parameters, [OUT, 0], -(-size // 4), size,
        size=parameters.add(size), step=parameters.add(inputs[0].strides[0]),
    )  # fmt: skip
    return Lowered([made])


_SPECIAL: Final[dict[str, Lower]] = {
    "full": _full, "arange": _arange, "clamp": _clamp, "pad": _pad, "concat": _concat,
    "gather": _gather, "scatter_add": _scatter_add, "random_bits": _random_bits,
    **dict.fromkeys(REDUCTIONS, _reduce),
}  # fmt: skip

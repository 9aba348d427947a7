"""How programs are made at random: any op of the registry that takes what is there.

Elementwise ops, reductions and ops along an axis come from the registry, those of other packages
too. What has sizes among its parameters (views, padding) is made to fit here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from math import prod
from typing import Final, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from groundup import dtypes as dt
from groundup.backends.api import DeviceInfo
from groundup.dtypes import DType
from groundup.errors import GroundupError
from groundup.layout import Spec
from groundup.ops.assembly import Concat, Pad
from groundup.ops.contraction import MatMul
from groundup.ops.movement import Assign, Contiguous, Expand, Flip, Permute, Reshape, Slice
from groundup.ops.op import Op
from groundup.ops.rounding import Cast
from groundup.ops.third_party import all_ops
from groundup.shapes import Shape
from groundup_conformance.fuzz.programs import Input, Program, Step
from groundup_conformance.oracle import has_reference
from groundup_conformance.samples import outputs

_DTYPES: Final = (dt.float32, dt.float16, dt.bfloat16, dt.int32, dt.bool_)
_SIZES: Final = (1, 2, 3, 5, 0, 33)
_MOST_STEPS: Final = 8
_MOST_ELEMENTS: Final = 4096
# Integers divided by 0 are an error on one backend and 0 on others; shifts reach too far.
_NOT_FOR_INTEGERS: Final = frozenset(
    {"remainder", "floor_divide", "bitwise_left_shift", "bitwise_right_shift"}
)
Specs: TypeAlias = Sequence[Spec]
Maker: TypeAlias = Callable[[DrawFn, Specs], Step | None]


def programs(info: DeviceInfo) -> SearchStrategy[Program]:
    """Programs for a device, in the dtypes that it computes in."""
    return _program([dtype for dtype in _DTYPES if "compute" in info.dtypes.get(dtype, ())])


@st.composite
def _program(draw: DrawFn, known: Sequence[DType]) -> Program:
    inputs = draw(st.lists(_inputs(known), min_size=2, max_size=3))
    specs = [Spec(x.shape, x.dtype) for x in inputs]
    roots: list[int | None] = list(range(len(inputs)))
    steps: list[Step] = []
    makers: list[Maker] = [*_MAKERS, partial(_write, roots=roots)]
    for maker in draw(st.lists(st.sampled_from(makers), min_size=2, max_size=_MOST_STEPS)):
        step = maker(draw, specs)
        if step is not None and step.writes:
            steps.append(step)
            continue
        made = None if step is None else _results(step, specs)
        if step is None or made is None:
            continue
        if all(spec.size <= _MOST_ELEMENTS and spec.dtype in known for spec in made):
            steps.append(step)
            specs += made
            roots += [step.root(roots)] * len(made)
    return Program(tuple(inputs), tuple(steps))


def _inputs(known: Sequence[DType]) -> SearchStrategy[Input]:
    shapes = st.lists(st.sampled_from(_SIZES), max_size=4).map(tuple)
    likely = [dt.float32] * len(known)
    return st.builds(Input, shapes, st.sampled_from([*likely, *known]), st.integers(0, 99))


def _results(step: Step, specs: Specs) -> tuple[Spec, ...] | None:
    """The specs of a step's results; None if the op takes other shapes or dtypes."""
    given = [specs[i] for i in step.operands]
    if step.op.name in _NOT_FOR_INTEGERS and not any(s.dtype.is_floating for s in given):
        return None
    try:
        return outputs(step.op, given)
    except GroundupError:
        return None


# ---- ops of the registry ----


@cache
def _elementwise() -> tuple[type[Op], ...]:
    return tuple(op for op in _usable() if op.broadcasts)


@cache
def _along_axes() -> tuple[type[Op], ...]:
    """Ops of one tensor whose only required knowledge is an axis, or axes."""
    return tuple(
        op
        for op in _usable()
        if len(op.inputs) == 1 and not op.variadic and {"axis", "axes"} & set(op.fields)
    )


def _usable() -> list[type[Op]]:
    """What has a reference and no parameter without a default, but for an axis."""
    return [
        op
        for _, op in sorted(all_ops().items())
        if has_reference(op)
        and not op.aliases
        and all(name in op._defaults or name == "axis" for name in op.fields)
    ]


def _apply_elementwise(draw: DrawFn, specs: Specs) -> Step | None:
    """An op that takes the first operand's dtype, with others that broadcast with it."""
    place = _place(draw, specs)
    first = specs[place]
    op = draw(st.sampled_from([op for op in _elementwise() if first.dtype in op.dtypes]))
    operands = []
    for number in range(len(op.inputs)):
        typed = op.promotes[0] if op.promotes else 0
        if number == typed:
            operands.append(place)
            continue
        chosen = op.dtypes if number in op.promotes else (dt.bool_,)
        fitting = [
            i for i, spec in enumerate(specs) if spec.dtype in chosen and _broadcast(spec, first)
        ]
        if not fitting:
            return None
        operands.append(draw(st.sampled_from(fitting)))
    return Step(op(), tuple(operands))


def _broadcast(one: Spec, other: Spec) -> bool:
    pairs = zip(reversed(one.shape), reversed(other.shape), strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def _apply_along_axes(draw: DrawFn, specs: Specs) -> Step:
    place = _place(draw, specs)
    known = [op for op in _along_axes() if specs[place].dtype in op.dtypes]
    op = draw(st.sampled_from(known))
    rank = specs[place].rank
    parameters: dict[str, object] = {}
    if "axis" in op.fields and rank:
        parameters["axis"] = draw(st.integers(0, rank - 1))
    elif "axis" in op.fields:
        parameters["axis"] = 0
    if "axes" in op.fields and draw(st.booleans()):
        parameters["axes"] = _some_axes(draw, rank)
    if "keepdims" in op.fields:
        parameters["keepdims"] = draw(st.booleans())
    return Step(op(**parameters), (place,))


def _place(draw: DrawFn, specs: Specs) -> int:
    """A value; the last ones are the likeliest when a program is made shorter."""
    return len(specs) - 1 - draw(st.integers(0, len(specs) - 1))


def _some_axes(draw: DrawFn, rank: int) -> Shape:
    return tuple(axis for axis in range(rank) if draw(st.booleans()))


# ---- views and the like ----


def _permute(draw: DrawFn, specs: Specs) -> Step:
    place = _place(draw, specs)
    axes = draw(st.permutations(range(specs[place].rank)))
    return Step(Permute(axes=tuple(axes)), (place,))


def _slice(draw: DrawFn, specs: Specs) -> Step:
    place = _place(draw, specs)
    start, stop, step = [], [], []
    for size in specs[place].shape:
        first = draw(st.integers(0, size))
        start.append(first)
        stop.append(size - draw(st.integers(0, size - first)))
        step.append(draw(st.integers(1, 3)))
    return Step(Slice(start=tuple(start), stop=tuple(stop), step=tuple(step)), (place,))


def _flip(draw: DrawFn, specs: Specs) -> Step:
    place = _place(draw, specs)
    return Step(Flip(axes=_some_axes(draw, specs[place].rank)), (place,))


def _expand(draw: DrawFn, specs: Specs) -> Step:
    place = _place(draw, specs)
    lead = draw(st.lists(st.integers(1, 3), max_size=2))
    kept = [draw(st.integers(1, 5)) if size == 1 else size for size in specs[place].shape]
    return Step(Expand(shape=(*lead, *kept)), (place,))


def _reshape(draw: DrawFn, specs: Specs) -> Step:
    """Axes joined, or one split, or axes of size 1 put in."""
    place = _place(draw, specs)
    shape = list(specs[place].shape)
    way = draw(st.sampled_from(("join", "split", "insert")))
    at = draw(st.integers(0, len(shape)))
    if way == "join":
        shape[at:] = [prod(shape[at:])]
    elif way == "split" and at < len(shape):
        divisors = [d for d in (2, 3, 5, 11) if shape[at] % d == 0]
        by = draw(st.sampled_from([1, *divisors]))
        shape[at : at + 1] = [shape[at] // by, by]
    else:
        shape.insert(at, 1)
    return Step(Reshape(shape=tuple(shape)), (place,))


def _contiguous(draw: DrawFn, specs: Specs) -> Step:
    return Step(Contiguous(), (_place(draw, specs),))


def _cast(draw: DrawFn, specs: Specs) -> Step:
    place = _place(draw, specs)
    # What a float becomes that does not fit an integer is not the same everywhere.
    floats = specs[place].dtype.is_floating
    targets = [d for d in _DTYPES if not (floats and d.kind == "int")]
    return Step(Cast(dtype=draw(st.sampled_from(targets))), (place,))


def _pad(draw: DrawFn, specs: Specs) -> Step:
    place = _place(draw, specs)
    sizes = st.integers(0, 2)
    before, after, interior = (
        tuple(draw(sizes) for _ in specs[place].shape) for _ in ("before", "after", "interior")
    )
    return Step(Pad(before=before, after=after, interior=interior), (place,))


def _concat(draw: DrawFn, specs: Specs) -> Step | None:
    place = _place(draw, specs)
    if not specs[place].rank:
        return None
    axis = draw(st.integers(0, specs[place].rank - 1))
    fitting = [i for i, spec in enumerate(specs) if _joins(spec, specs[place], axis)]
    others = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=2))
    return Step(Concat(axis=axis), (place, *others))


def _joins(one: Spec, other: Spec, axis: int) -> bool:
    def without(spec: Spec) -> Shape:
        return spec.shape[:axis] + spec.shape[axis + 1 :]

    return one.dtype is other.dtype and one.rank == other.rank and without(one) == without(other)


def _matmul(draw: DrawFn, specs: Specs) -> Step | None:
    place = _place(draw, specs)
    left = specs[place]
    if left.rank < 2:
        return None
    fitting = [
        i
        for i, spec in enumerate(specs)
        if spec.rank >= 2 and spec.shape[-2] == left.shape[-1] and spec.dtype is left.dtype
    ]
    return Step(MatMul(), (place, draw(st.sampled_from(fitting)))) if fitting else None


# ---- writes ----


def _write(draw: DrawFn, specs: Specs, roots: Sequence[int | None]) -> Step:
    """An input, or a view of one, overwritten by a value that spreads over it; itself at worst."""
    places = [i for i, root in enumerate(roots) if root is not None]
    target = draw(st.sampled_from(places))
    fitting = [
        i
        for i, spec in enumerate(specs)
        if spec.dtype is specs[target].dtype and _spreads(spec.shape, specs[target].shape)
    ]
    return Step(Assign(), (target, draw(st.sampled_from(fitting))))


def _spreads(shape: Shape, over: Shape) -> bool:
    pairs = zip(reversed(shape), reversed(over), strict=False)
    return len(shape) <= len(over) and all(a in (1, b) for a, b in pairs)


_MAKERS: Final[tuple[Maker, ...]] = (
    _permute, _slice, _flip, _expand, _reshape, _contiguous, _cast, _pad, _concat, _matmul,
    *(_apply_along_axes,) * 3, *(_apply_elementwise,) * 6,
)  # fmt: skip

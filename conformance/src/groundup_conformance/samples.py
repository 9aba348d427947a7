"""Samples: an op with its parameters and operands, taken from the registry or derived from it.

An op's own samples say what is special about it. What every op must stand is derived here from its
first plain sample: other sizes, other dtypes, NaN in each operand, more workgroups than one
dispatch may have.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache, partial
from typing import Final

import attrs
import numpy as np

from groundup.dtypes import DType, promote
from groundup.errors import GroundupError
from groundup.layout import Spec
from groundup.ops.lower import adjustments
from groundup.ops.op import Op
from groundup.ops.samples import cases_of
from groundup.shapes import Shape
from groundup_conformance.budgets.units import Array
from groundup_conformance.memory import Placed, as_given, placed

SPECIAL: Final = frozenset({"special", "nan", "inf", "extreme"})  # tags: no gradient is asked
SIZES: Final = (0, 1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 255, 257, 1023, 1025, 5000)
FEW_SIZES: Final = (33, 257, 1025)
LARGE: Final = 1 << 20  # elements from which operands are not kept
_MOST_ELEMENTS: Final = 100_000
_MOST_WORK: Final = 3_000_000  # operations of a resized sample
_MOST_RESULTS: Final = 64  # tensors


@attrs.frozen
class Tiles:
    """Values that repeat after `period` along one axis of each operand (None: not of that one)."""

    period: int
    axes: tuple[int | None, ...]

    def first(self, arrays: Sequence[Array]) -> list[Array]:
        """One period of each."""
        return [
            x if axis is None else x[(slice(None),) * axis + (slice(self.period),)]
            for x, axis in zip(arrays, self.axes, strict=True)
        ]


@attrs.frozen(eq=False, slots=False)
class Sample:
    """`op` on operands that `make` gives. `tags` are those of the registry's cases.

    `tiles` says how the values repeat, and the result with them: so much of them is enough for the
    oracle. `source` is what a large sample is derived from: its operands need not be made.
    """

    op: Op
    dtype: DType
    name: str
    make: Callable[[], tuple[Placed, ...]]
    tags: frozenset[str] = frozenset()
    tiles: Tiles | None = None
    source: Sample | None = None

    @property
    def operands(self) -> tuple[Placed, ...]:
        """The operands; kept, unless they are large."""
        return self.make() if self.source else self._kept

    @cached_property
    def _kept(self) -> tuple[Placed, ...]:
        return self.make()

    @property
    def arrays(self) -> list[Array]:
        """Their values."""
        return [operand.array for operand in self.operands]

    @property
    def specs(self) -> list[Spec]:
        """Their shapes and dtypes."""
        return [operand.layout.spec for operand in self.operands]

    @cached_property
    def dtypes(self) -> frozenset[DType]:
        """Those of operands and results."""
        if self.source is not None:
            return self.source.dtypes
        specs = self.specs
        return frozenset(spec.dtype for spec in (*specs, *outputs(self.op, specs)))


def outputs(op: Op, specs: Sequence[Spec]) -> tuple[Spec, ...]:
    """The results' specs. Raises as `infer` does."""
    return op.infer_all(*seen(op, specs))


def seen(op: Op, specs: Sequence[Spec]) -> Sequence[Spec]:
    """What the op sees of its inputs, after the casts and expands that the core inserts."""
    changes = adjustments(op, specs) if op.broadcasts else None
    if changes is None:
        return specs
    return [
        Spec(spec.shape if shape is None else shape, dtype or spec.dtype)
        for spec, (dtype, shape) in zip(specs, changes, strict=True)
    ]


@lru_cache(maxsize=4096)
def registered(op: type[Op], dtype: DType) -> tuple[Sample, ...]:
    """The op's own samples in one dtype."""
    found = []
    for case in cases_of(op, dtype):
        given = tuple(as_given(operand) for operand in case.inputs)
        found.append(Sample(case.op, dtype, case.id, partial(tuple, given), case.tags))
    return tuple(found)


def plain(op: type[Op], dtype: DType) -> list[Sample]:
    """The op's samples without anything special, those with a matrix in them first."""
    usual = [sample for sample in registered(op, dtype) if not sample.tags - {"view", "broadcast"}]
    usual = [s for s in usual if any(x.layout.size >= 2 for x in s.operands)] or usual
    return sorted(usual, key=lambda s: max((len(x.shape) for x in s.operands), default=0) < 2)


def base(op: type[Op], dtype: DType) -> Sample | None:
    """The sample that others are derived from."""
    return next(iter(plain(op, dtype)), None)


def variety(op: type[Op], dtype: DType, most: int) -> list[Sample]:
    """Up to `most` plain samples that differ in the op's parameters."""
    chosen: dict[Op, Sample] = {}
    for sample in plain(op, dtype):
        chosen.setdefault(sample.op, sample)
    return list(chosen.values())[:most]


def deepest(op: type[Op], dtype: DType) -> list[Sample]:
    """The plain sample with the most axes, if it has more than the one that others derive from."""
    found = max(plain(op, dtype), key=_rank, default=None)
    usual = base(op, dtype)
    return [found] if found and usual and _rank(found) > max(_rank(usual), 2) else []


def _rank(sample: Sample) -> int:
    return max((len(x.shape) for x in sample.operands), default=0)


# ---- derived ----


def resized(sample: Sample, sizes: Sequence[int]) -> Iterator[Sample]:
    """The sample with axes brought to other sizes, where its op accepts that.

    Axes of one size usually belong together (the inner axes of a product), so all of one size
    change at once; or, where that is refused, one axis alone. Elementwise ops know no axes:
    there the last one is enough. Ops that only take a shape get another.
    """
    if shaped(sample) is not None:
        yield from (reshaped(sample, (size,), f"size{size}") for size in sizes)
        return
    for old in _present(sample):
        for new in sizes:
            made = _resize(sample, old, new) if new != old else None
            if made is not None:
                yield made


def _present(sample: Sample) -> list[int]:
    """The sizes of the sample's axes that are worth changing."""
    shapes = [operand.shape for operand in sample.operands]
    if sample.op.broadcasts:
        return [shape[-1] for shape in shapes[:1] if shape and shape[-1] > 1]
    leading = max(shapes, key=len, default=())[:1]
    return sorted({*leading, *[size for shape in shapes for size in shape if size > 1]})


@lru_cache(maxsize=1024)
def _takes_indices(op: type[Op]) -> bool:
    """Whether an operand is of integers where the data are floats: indices, lengths, states."""
    floats = [dtype for dtype in op.dtypes if dtype.is_floating]
    found = base(op, floats[0]) if floats else None
    return found is not None and any(x.dtype.kind == "int" for x in found.operands)


def _may_leave(sample: Sample, shapes: Sequence[Shape]) -> bool:
    """Whether indices may lie outside of what they index, once that is smaller."""
    pairs = zip(sample.operands, shapes, strict=True)
    return _takes_indices(type(sample.op)) and any(
        x.dtype.kind == "int" and 0 not in shape for x, shape in pairs
    )


def _resize(sample: Sample, old: int, new: int) -> Sample | None:
    for way, shapes in ways(sample, old, new):
        if new < old and _may_leave(sample, shapes):
            continue
        specs = [Spec(shape, x.dtype) for shape, x in zip(shapes, sample.operands, strict=True)]
        if affordable(sample.op, specs, _MOST_ELEMENTS, _MOST_WORK):
            name = f"{sample.name}-{way}{old}to{new}"
            return Sample(sample.op, sample.dtype, name, partial(drawn, sample, shapes, name))
    return None


def ways(sample: Sample, old: int, new: int) -> Iterator[tuple[str, list[Shape]]]:
    """(name, shapes) with `new` for `old`: everywhere; then on one axis of the alike operands."""
    shapes = [operand.shape for operand in sample.operands]
    if old > 1:
        yield "", [tuple(new if n == old else n for n in shape) for shape in shapes]
    main = max(shapes, key=len)
    for axis in [a for a, size in enumerate(main) if size == old]:
        like = [len(shape) == len(main) and shape[axis] == old for shape in shapes]
        changed = [
            (*shape[:axis], new, *shape[axis + 1 :]) if same else shape
            for shape, same in zip(shapes, like, strict=True)
        ]
        yield f"axis{axis}-", changed


def affordable(op: Op, specs: Sequence[Spec], most: int, work: int) -> bool:
    """Whether the op takes these operands, and they are not too much for a quick case."""
    try:
        results = outputs(op, specs)
        return (
            len(results) <= _MOST_RESULTS
            and sum(spec.size for spec in (*specs, *results)) <= most
            and op.cost(*seen(op, specs)).flops <= work
        )
    except GroundupError:
        return False


def drawn(sample: Sample, shapes: Sequence[Shape], name: str) -> tuple[Placed, ...]:
    """Operands of new shapes: values of the old ones in random order, floats a little changed."""
    rng = np.random.default_rng(zlib.crc32(f"{sample.op!r}:{name}".encode()))
    made = []
    for operand, shape in zip(sample.operands, shapes, strict=True):
        values = operand.array
        if shape != operand.shape:
            values = rng.choice(values.reshape(-1), shape)
            if operand.dtype.is_floating:
                values = (values * rng.uniform(0.9, 1.1, shape)).astype(operand.base.dtype)
        made.append(placed(values))
    return tuple(made)


def shaped(sample: Sample) -> Shape | None:
    """The op's own parameter `shape`, if that alone says what the results look like."""
    shape = getattr(sample.op, "shape", None)
    if not isinstance(shape, tuple):
        return None
    try:
        reshaped(sample, (77,), "")
        return shape
    except GroundupError:
        return None


def reshaped(sample: Sample, shape: Shape, name: str) -> Sample:
    """The sample with another parameter `shape`. Raises ShapeError if that is not free."""
    op = sample.op
    fields = {field: getattr(op, field) for field in op.fields}
    other = type(op)(**{**fields, "shape": shape})
    outputs(other, sample.specs)
    large = int(np.prod(shape)) >= LARGE
    return Sample(other, sample.dtype, name, sample.make, source=sample if large else None)


def with_specials(sample: Sample) -> Iterator[Sample]:
    """For each operand of floats the sample with NaN and both infinities put into that one."""
    for place, operand in enumerate(sample.operands):
        if not operand.dtype.is_floating or operand.layout.size < 4:
            continue
        values = operand.array.copy()
        values.reshape(-1)[[1, values.size // 2, -1]] = (np.nan, np.inf, -np.inf)
        changed = (*sample.operands[:place], placed(values), *sample.operands[place + 1 :])
        name = f"{sample.name}-nonfinite{place}"
        yield Sample(sample.op, sample.dtype, name, partial(tuple, changed), frozenset({"special"}))


def mixed(sample: Sample, others: Sequence[DType]) -> Iterator[Sample]:
    """The sample with its second operand in another dtype, which the core promotes."""
    op = sample.op
    if len(op.promotes) < 2 or not sample.dtype.is_floating:
        return
    second = op.promotes[1]
    for other in others:
        if other is sample.dtype or not promote(sample.dtype, other).is_floating:
            continue
        operands = list(sample.operands)
        with np.errstate(all="ignore"):
            operands[second] = placed(operands[second].array.astype(other.numpy))
        try:
            outputs(op, [operand.layout.spec for operand in operands])
        except GroundupError:
            continue
        name = f"{sample.name}-with-{other}"
        yield Sample(op, sample.dtype, name, partial(tuple, operands))


def in_other_dtypes(op: type[Op], dtypes: Sequence[DType]) -> Iterator[Sample]:
    """Plain samples in dtypes that a device has and the op's samples leave out, if it takes them.

    Only where the op makes no difference between dtypes of one kind: integers beside int32.
    """
    kinds = {dtype.kind for dtype in op.dtypes}
    for dtype in dtypes:
        if dtype in op.dtypes or dtype.kind not in kinds or dtype.is_floating:
            continue
        for sample in plain(op, dtype)[:3]:
            try:
                made = {spec.dtype for spec in outputs(sample.op, sample.specs)}
            except GroundupError:
                continue
            given = {spec.dtype for spec in sample.specs} or made
            if dtype in given:
                yield sample

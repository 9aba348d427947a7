"""Every case of levels 0 to 2, derived from the registry: no list of ops is kept here.

A `Check` is one case: its name, its level, the sample that it runs and what must work before it
makes sense to run it. The modules in `suite/` say what is asked of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from groundup import dtypes as dt
from groundup.backends.api import DeviceInfo
from groundup.dtypes import DType
from groundup.ops.op import Op
from groundup.ops.samples import BadCase, bad_cases_of
from groundup_conformance.grids import grids
from groundup_conformance.ids import CaseId
from groundup_conformance.layouts import LAYOUTS, MIXED, arrange
from groundup_conformance.memory import Placed
from groundup_conformance.oracle import has_reference
from groundup_conformance.samples import (
    FEW_SIZES,
    SIZES,
    SPECIAL,
    Sample,
    base,
    deepest,
    in_other_dtypes,
    mixed,
    outputs,
    registered,
    resized,
    variety,
    with_specials,
)

Ops: TypeAlias = Mapping[str, type[Op]]

_FOUNDATIONS: Final = ("movement", "creation")  # families that level 0 is about
_GIVEN: Final = "given"


@attrs.frozen(eq=False)
class Check:
    """One case.

    `kind` is its class in the coverage table. `needs` and `gives` name foundations ("float16",
    "float16 transposed"): if a case that gives one fails, those that need it are blocked.
    `unsupported` says which declared limit leaves the case out. `payload` is what the test needs
    beside the sample.
    """

    id: CaseId
    level: int
    kind: str
    sample: Sample | None = None
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()
    unsupported: str | None = None
    payload: Any = None

    def operands(self) -> tuple[Placed, ...]:
        """The sample's operands in the case's layout."""
        assert self.sample is not None
        if self.id.layout == _GIVEN:
            return self.sample.operands
        arranged = arrange(self.id.layout, self.sample.arrays)
        assert arranged is not None  # or there would be no such case
        return arranged


Generator: TypeAlias = Callable[[Ops, DeviceInfo], Iterator[Check]]


def foundations(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """The results of the ops of level 0, which everything else stands on."""
    return _forward([op for op in ops.values() if level_of(op) == 0], info)


def forward(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """The results of all other ops."""
    return _forward([op for op in ops.values() if level_of(op) > 0], info)


def _forward(ops: Sequence[type[Op]], info: DeviceInfo) -> Iterator[Check]:
    """On their own samples, in other layouts, sizes and dtypes, with NaN in them."""
    for op in ops:
        for dtype in op.dtypes:
            for sample in registered(op, dtype):
                yield _check(op, sample, _kind(sample), info)
            yield from _derived_forward(op, dtype, info)
        for sample in in_other_dtypes(op, tuple(info.dtypes)):
            yield _check(op, sample, "dtypes", info)


def grid(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """More workgroups than one dispatch may have, in the first dtype that the device computes."""
    for op in ops.values():
        dtype = _main_dtype(op, info)
        for sample in grids(op, dtype) if dtype else ():
            yield _check(op, sample, "grid", info)


def gradients(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """The gradient of every differentiable op by every input that holds floats."""
    for op in ops.values():
        for dtype in op.dtypes if op.differentiable else ():
            if not dtype.is_floating:
                continue
            chosen = [s for s in registered(op, dtype) if not s.tags & SPECIAL and _has_floats(s)]
            for sample in chosen:
                yield _check(op, sample, "gradient", info, variant="gradient")
            yield from _derived_gradients(op, dtype, info)


def repeats(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """The same bits twice, from memory that held something else before."""
    for op in ops.values():
        for dtype in op.dtypes:
            few = 4 if dtype is dt.float32 else 1
            for sample in variety(op, dtype, few):
                yield _check(op, sample, "determinism", info, variant="twice")


def aliases(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Updates in place, inputs that share memory, one tensor given for several inputs."""
    for op in ops.values():
        for dtype in op.dtypes:
            for sample in registered(op, dtype):
                if sample.op.aliases and not sample.tags & SPECIAL:
                    yield _check(op, sample, "aliasing", info, variant="in-place")
            usual = base(op, dtype)
            if usual is not None and _overlapping(usual):
                yield _check(op, usual, "aliasing", info, variant="overlap")
            if usual is not None and len(alike(usual)) > 1:
                yield _check(op, usual, "aliasing", info, variant="shared")


def refusals(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """What every op must refuse, with the error class and the text that it promises."""
    for op in ops.values():
        for dtype in op.dtypes:
            for number, bad in enumerate(bad_cases_of(op, dtype)):
                yield _refusal(op, dtype, number, bad, info)


def references(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """That the oracle knows every op: without, none of its cases means anything."""
    for op in ops.values():
        name = CaseId(op.name, "-", "reference", "-", "oracle")
        yield Check(name, level_of(op), "reference", gives=_reference(op), payload=op)


def undeclared(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Dtypes that the device does not declare: each op must refuse them by name."""
    for op in ops.values():
        for dtype in op.dtypes:
            sample = base(op, dtype)
            if sample is not None and any(d not in info.dtypes for d in sample.dtypes):
                name = CaseId(op.name, dtype.name, sample.name, _GIVEN, "refused")
                yield Check(name, 1, "refusal", sample)


# ---- parts ----


def _derived_forward(op: type[Op], dtype: DType, info: DeviceInfo) -> Iterator[Check]:
    sample = base(op, dtype)
    if sample is None:
        return
    several = variety(op, dtype, 3 if dtype is dt.float32 else 1)
    deeper = [each for each in deepest(op, dtype) if each not in several]
    for each in (*several, *(deeper if dtype is dt.float32 else ())):
        yield from _in_layouts(op, each, (*LAYOUTS, MIXED), "layout", info, "forward")
    sizes = SIZES if dtype in (dt.float32, dt.int32) else FEW_SIZES
    for each in resized(sample, sizes):
        yield _check(op, each, "empty" if _kind(each) == "empty" else "sizes", info)
    if dtype.is_floating:
        for each in with_specials(sample):
            yield _check(op, each, "special", info)
        for each in mixed(sample, tuple(info.dtypes)):
            yield _check(op, each, "dtypes", info)


def _derived_gradients(op: type[Op], dtype: DType, info: DeviceInfo) -> Iterator[Check]:
    sample = base(op, dtype)
    if sample is None or dtype is not dt.float32 or not _has_floats(sample):
        return
    yield from _in_layouts(op, sample, (*LAYOUTS, MIXED), "gradient", info, "gradient")
    for each in resized(sample, (17, 65, 257)):
        yield _check(op, each, "gradient", info, variant="gradient")


def _in_layouts(
    op: type[Op], sample: Sample, names: tuple[str, ...], kind: str, info: DeviceInfo, variant: str
) -> Iterator[Check]:
    for layout in names:
        if layout == MIXED and len(sample.operands) < 2:
            continue
        if arrange(layout, sample.arrays) is not None:
            yield _check(op, sample, kind, info, layout=layout, variant=variant)


def _check(
    op: type[Op],
    sample: Sample,
    kind: str,
    info: DeviceInfo,
    *,
    layout: str = _GIVEN,
    variant: str = "forward",
) -> Check:
    name = CaseId(op.name, sample.dtype.name, sample.name, layout, variant)
    needs = {dtype.name for dtype in sample.dtypes}
    if layout in LAYOUTS:
        needs |= {f"{dtype.name} {layout}" for dtype in sample.dtypes}
    if not has_reference(op):
        needs |= _reference(op)
    gives = needs - {sample.dtype.name} if op.name == "contiguous" and kind == "layout" else ()
    level = level_of(op) if variant == "forward" else 2
    limit = unsupported(op, sample, info)
    if gives:  # the copy that others rely on for this layout
        return Check(
            name, level, kind, sample, frozenset({sample.dtype.name}), frozenset(gives), limit
        )
    return Check(name, level, kind, sample, frozenset(needs), unsupported=limit)


def level_of(op: type[Op]) -> int:
    """0 for what moves, fills and converts data, 1 for all that computes."""
    return 0 if op.family in _FOUNDATIONS or op.name == "cast" else 1


def unsupported(op: type[Op], sample: Sample, info: DeviceInfo) -> str | None:
    """Which declared limit of the device keeps it from running the sample, None if none does."""
    wanted = "matmul" if op.family == "contraction" else "compute"
    for dtype in sorted(sample.dtypes, key=str):
        if dtype not in info.dtypes:
            return f"{info.name} has no {dtype}"
        uses = info.dtypes[dtype]
        if level_of(op) and not uses & {wanted, "compute"}:
            return f"{info.name} only stores {dtype}"
    if op.family == "contraction" and "matmul" not in info.dtypes[sample.dtype]:
        return f"{info.name} has no products of {sample.dtype}"
    return None


def _refusal(op: type[Op], dtype: DType, number: int, bad: BadCase, info: DeviceInfo) -> Check:
    name = CaseId(op.name, dtype.name, f"bad{number}", _GIVEN, bad.error.__name__)
    missing = [x.base.dtype for x in bad.inputs if dt.as_dtype(x.base.dtype) not in info.dtypes]
    reason = f"{info.name} has no {missing[0]}" if missing else None
    return Check(name, 0, "refusal", unsupported=reason, payload=bad)


def _kind(sample: Sample) -> str:
    if sample.tags & SPECIAL:
        return "special"
    if any(not spec.size for spec in (*sample.specs, *outputs(sample.op, sample.specs))):
        return "empty"
    if "view" in sample.tags:
        return "layout"
    scalars = [not x.shape for x in sample.operands]
    return "scalar" if scalars and all(scalars) else "values"


def _reference(op: type[Op]) -> frozenset[str]:
    return frozenset({f"reference of {op.name}"})


def _main_dtype(op: type[Op], info: DeviceInfo) -> DType | None:
    known = [dtype for dtype in op.dtypes if dtype in info.dtypes]
    return dt.float32 if dt.float32 in known else next(iter(known), None)


def _has_floats(sample: Sample) -> bool:
    return any(x.dtype.is_floating for x in sample.operands)


def _overlapping(sample: Sample) -> bool:
    floats = [x for x in sample.operands if x.dtype is sample.dtype and x.layout.size > 1]
    return sample.dtype.is_floating and len(floats) > 1


def alike(sample: Sample) -> list[int]:
    """The places of the operands that may be one tensor: floats of the commonest shape."""
    groups: dict[Any, list[int]] = {}
    for place, operand in enumerate(sample.operands):
        if operand.dtype.is_floating and operand.layout.size > 1:
            groups.setdefault(operand.layout.spec, []).append(place)
    return max(groups.values(), key=len, default=[])

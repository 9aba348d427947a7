"""Which classes of cases every op has: a table, and the holes in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from groundup import dtypes as dt
from groundup.backends.api import DeviceInfo
from groundup.errors import GroundupError
from groundup.layout import Spec
from groundup.ops.op import Op, has
from groundup_conformance import cases
from groundup_conformance.report.table import columns_of
from groundup_conformance.samples import Sample, base, outputs, variety

KINDS: Final = (
    "values", "special", "empty", "scalar", "layout", "sizes", "dtypes", "grid", "refusal",
    "gradient", "determinism", "aliasing",
)  # fmt: skip
GENERATORS: Final = (
    cases.foundations, cases.forward, cases.grid, cases.gradients, cases.repeats, cases.aliases,
    cases.refusals,
)  # fmt: skip


@attrs.frozen
class Coverage:
    """Cases of one op by class, and the classes that apply to it but have none."""

    op: str
    counts: Mapping[str, int]
    holes: tuple[str, ...]


def coverage(ops: cases.Ops, info: DeviceInfo) -> list[Coverage]:
    """One entry per op, for a device with those dtypes."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for generator in GENERATORS:
        for check in generator(ops, info):
            counts[check.id.op][check.kind] += 1
    return [
        Coverage(name, counts[name], tuple(k for k in _applicable(op) if not counts[name][k]))
        for name, op in ops.items()
    ]


def render(found: list[Coverage]) -> str:
    """The table; `-` where a class does not apply, `none` where it does and is empty."""
    lines = [["op", *KINDS]]
    for entry in found:
        cells = [_cell(entry, kind) for kind in KINDS]
        lines.append([entry.op, *cells])
    return "\n".join(columns_of(lines))


def _cell(entry: Coverage, kind: str) -> str:
    if kind in entry.holes:
        return "NONE"
    return str(entry.counts.get(kind) or "-")


def _applicable(op: type[Op]) -> Iterator[str]:
    """The classes that must have cases, by what the op is."""
    sample = next((found for dtype in op.dtypes if (found := base(op, dtype))), None)
    operands = sample.operands if sample else ()
    moves = has(op, "view")
    kinds = {dtype.kind for dtype in op.dtypes}
    yield "values"
    yield "determinism"
    if any(x.dtype.is_floating for x in operands):
        yield "special"
    if any(x.layout.size > 1 for x in operands):
        yield "layout"
    if sample and any(_accepts(each, 0) for each in variety(op, sample.dtype, 9)):
        yield "empty"
    if op.broadcasts:
        yield "scalar"
    if sample and not moves and any(_accepts(each, 7) for each in variety(op, sample.dtype, 9)):
        yield "sizes"
        yield "grid"
    if len(op.promotes) > 1 and "float" in kinds:
        yield "dtypes"
    if len(operands) > 1:
        yield "refusal"
    if op.differentiable and dt.float32 in op.dtypes and any(x.dtype.is_floating for x in operands):
        yield "gradient"
    if sample and (sample.op.aliases or len(cases.alike(sample)) > 1):
        yield "aliasing"


def _accepts(sample: Sample, new: int) -> bool:
    """Whether the op takes the sample with some axis of another size."""
    for old in {size for x in sample.operands for size in x.shape}:
        specs = [
            Spec(tuple(new if n == old else n for n in x.shape), x.dtype) for x in sample.operands
        ]
        try:
            if specs != sample.specs and len(outputs(sample.op, specs)) == 1:
                return True
        except GroundupError:
            continue
    return False

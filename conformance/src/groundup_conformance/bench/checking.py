"""Whether what is timed is right: results against the oracle, before and after.

Small results are checked whole. Of large ones, some rows are, where rows of operands and results
belong together: the first, the last and others at random. (That they do is not declared but tried:
the oracle must give the same for every second of the chosen rows alone as for all of them.) Where
they do not, the whole result is checked, or the row is left out as too large. Where the oracle is
slow, one set of operands is enough for it.

Either way every element of every set counts: results must have the same bits before and after
timing, from memory that was filled with two different poisons, so that no element can be left out,
and those of different sets must differ.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import attrs
import numpy as np

from groundup.errors import GroundupError
from groundup.layout import Spec
from groundup_conformance.bench.bound import Bound, same_bits
from groundup_conformance.bench.works import Work
from groundup_conformance.budgets import Expected, Profile
from groundup_conformance.budgets.units import Array
from groundup_conformance.judging import Failed
from groundup_conformance.oracle import forward
from groundup_conformance.samples import outputs

_WHOLE: Final = 1 << 16  # elements up to which everything is checked
_SLICE: Final = 1 << 16  # elements of the rows that are
_FLOPS: Final = 1 << 25  # operations of the rows that are
_PATIENCE: Final = 0.5  # seconds of the oracle after which one set is enough


class TooLarge(Exception):
    """A row that cannot be checked in reasonable time, and so is not measured."""


@attrs.frozen(eq=False)
class Rows:
    """Chosen rows: an axis for each operand (None: it is needed whole) and for each result."""

    operands: tuple[int | None, ...]
    results: tuple[int, ...]
    index: Array

    def of(self, arrays: Sequence[Array], axes: Sequence[int | None]) -> list[Array]:
        """Those rows of arrays."""
        pairs = zip(arrays, axes, strict=True)
        return [x if axis is None else np.take(x, self.index, axis) for x, axis in pairs]


@attrs.define(eq=False)
class Check:
    """What the results of some sets must be, and what they were the first time."""

    rows: Rows | None
    expected: list[tuple[Expected, ...]]
    first: list[list[Array]] = attrs.field(factory=list)

    @property
    def how(self) -> str:
        """What is compared with the oracle: "all", or "rows"."""
        return "all" if self.rows is None else "rows"

    def judge(self, outputs: Sequence[Sequence[Array]], when: str) -> float:
        """The largest error over its budget. Raises Failed for a wrong result."""
        worst = 0.0
        for number, (arrays, wanted) in enumerate(zip(outputs, self.expected, strict=False)):
            chosen = arrays if self.rows is None else self.rows.of(arrays, self.rows.results)
            for place, (got, right) in enumerate(zip(chosen, wanted, strict=True)):
                verdict = right.judge(got)
                worst = max(worst, verdict.ratio)
                if not verdict.ok:
                    raise Failed(f"result {place} of set {number} {when}: {verdict}")
        self._repeat(outputs, when)
        return worst

    def _repeat(self, outputs: Sequence[Sequence[Array]], when: str) -> None:
        if not self.first:
            self.first = [list(arrays) for arrays in outputs]
            self._differ(when)
            return
        for number, (one, two) in enumerate(zip(self.first, outputs, strict=True)):
            if not same_bits(one, two):
                raise Failed(f"the results of set {number} {when} are not those of the first run")

    def _differ(self, when: str) -> None:
        """Sets without a result of the oracle must at least not repeat the first one's."""
        for number in range(len(self.expected), len(self.first)):
            if same_bits(self.first[0], self.first[number]):
                raise Failed(f"the results of set {number} {when} are those of set 0")


def prepare(work: Work, bound: Sequence[Bound], profile: Profile, most: int) -> Check:
    """What to compare results with.

    Raises TooLarge for more than `most` elements of which some rows will not do.
    """
    results = work.results
    size = sum(spec.size for spec in (*work.specs, *results))
    start = time.perf_counter()
    found = _find_rows(work, bound[0].arrays, results, profile) if size > _WHOLE else None
    if found is None and size > most:
        raise TooLarge(f"{size:,} elements are too many to be checked whole")
    rows, expected = (found[0], [found[1]]) if found else (None, [])
    for each in bound[len(expected) :]:
        if expected and time.perf_counter() - start > _PATIENCE:
            break
        arrays = each.arrays if rows is None else rows.of(each.arrays, rows.operands)
        expected.append(forward(work.op, arrays, profile))
    return Check(rows, expected)


def _find_rows(
    work: Work, arrays: Sequence[Array], results: Sequence[Spec], profile: Profile
) -> tuple[Rows, tuple[Expected, ...]] | None:
    """Rows that are independent, and what the results of those must be."""
    flops = work.cost.flops
    for size, axes in _candidates(arrays):
        taken = sum(x.size for x, axis in zip(arrays, axes, strict=True) if axis is not None)
        index = _choose(size, max(_SLICE * flops // _FLOPS, taken))
        found = _result_axes(work, axes, results, size, len(index))
        if found is None or found != _result_axes(work, axes, results, size, len(index) // 2):
            continue
        rows = Rows(axes, found, index)
        wanted = _if_independent(work, arrays, rows, profile)
        if wanted is not None:
            return rows, wanted
    return None


def _candidates(arrays: Sequence[Array]) -> list[tuple[int, tuple[int | None, ...]]]:
    """(number of rows, axis in each operand): leading axes of the largest operand and the like."""
    main = max(arrays, key=lambda x: x.size, default=None)
    found: list[tuple[int, tuple[int | None, ...]]] = []
    if main is None:
        return found
    for axis in range(min(main.ndim, 3)):
        size = main.shape[axis]
        if size < 2:
            continue
        same = [x.ndim > axis and x.shape[axis] == size for x in arrays]
        rank = [ok and x.ndim == main.ndim for ok, x in zip(same, arrays, strict=True)]
        for takes in (same, rank, [x is main for x in arrays]):
            axes = tuple(axis if ok else None for ok in takes)
            if (size, axes) not in found:
                found.append((size, axes))
    return found


def _choose(size: int, elements: int) -> Array:
    """Which rows: the first, the last, others in between."""
    count = min(size, max(2, _SLICE * size // max(elements, 1)))
    edge = max(1, count // 4)
    inner = np.random.default_rng(5).integers(0, size, count)
    picked = np.unique(np.concatenate([np.arange(edge), size - 1 - np.arange(edge), inner]))
    return picked[picked < size]


def _result_axes(
    work: Work, axes: Sequence[int | None], results: Sequence[Spec], size: int, count: int
) -> tuple[int, ...] | None:
    """In which axis each result gets shorter with the operands; None if one does not."""
    specs = [
        spec
        if axis is None
        else Spec((*spec.shape[:axis], count, *spec.shape[axis + 1 :]), spec.dtype)
        for spec, axis in zip(work.specs, axes, strict=True)
    ]
    try:
        short = outputs(work.op, specs)
    except GroundupError:
        return None
    found = []
    for small, large in zip(short, results, strict=True):
        differ = [
            a for a, (m, n) in enumerate(zip(small.shape, large.shape, strict=False)) if m != n
        ]
        if small.rank != large.rank or len(differ) != 1 or large.shape[differ[0]] != size:
            return None
        found.append(differ[0])
    return tuple(found)


def _if_independent(
    work: Work, arrays: Sequence[Array], rows: Rows, profile: Profile
) -> tuple[Expected, ...] | None:
    """The results of the rows, if the oracle gives every second one the same alone."""
    half = attrs.evolve(rows, index=np.arange(1, len(rows.index), 2))
    chosen = rows.of(arrays, rows.operands)
    try:
        together = forward(work.op, chosen, profile)
        alone = forward(work.op, half.of(chosen, rows.operands), profile)
    except (GroundupError, IndexError):  # indices of rows that were not chosen
        return None
    same = all(
        np.allclose(np.take(all_.value, half.index, axis), one.value, 1e-12, 0, equal_nan=True)
        for all_, one, axis in zip(together, alone, rows.results, strict=True)
    )
    return together if same else None

"""What a wrong result looks like: a guess at the cause from where and how far it is off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np

from groundup.errors import GroundupError
from groundup.ops.op import Op
from groundup_conformance.budgets import Expected, Verdict
from groundup_conformance.budgets.units import Array
from groundup_conformance.memory import Placed, placed

_NARROW: Final = 16  # dtypes of up to so many bits may have been summed in their own format
Rule: TypeAlias = Callable[[Array, Expected, Array], str | None]


def cause(
    op: Op, operands: Sequence[Placed], got: Array, expected: Expected, verdict: Verdict
) -> str | None:
    """A guess for a forward result, None where nothing fits."""
    if verdict.failed is None or got.shape != expected.value.shape:
        return None
    failed = np.broadcast_to(verdict.failed, got.shape)
    return _misread(op, operands, got, expected) or _pattern(got, expected, failed)


def cause_of_gradient(got: Array, expected: Expected, verdict: Verdict) -> str | None:
    """A guess for a gradient."""
    if verdict.failed is None or got.shape != expected.value.shape:
        return None
    return _pattern(got, expected, np.broadcast_to(verdict.failed, got.shape))


def _pattern(got: Array, expected: Expected, failed: Array) -> str | None:
    for rule in _RULES:
        found = rule(got, expected, failed)
        if found:
            return found
    return None


def _never_written(got: Array, expected: Expected, failed: Array) -> str | None:
    if not expected.dtype.is_floating:
        return None
    unwritten = np.isnan(got.astype(np.float64)) & ~np.isnan(expected.value)
    if not unwritten.any():
        return None
    where = _tail(unwritten)
    if where:
        return f"NaN only in the {where}: the tail is never written, or NaN was read behind an end"
    return f"{int(unwritten.sum())} elements are NaN: never written, or NaN was read between rows"


def _lost_nan(got: Array, expected: Expected, failed: Array) -> str | None:
    if not expected.dtype.is_floating:
        return None
    lost = np.isnan(expected.value) & ~np.isnan(got.astype(np.float64))
    return "NaN does not propagate (a maximum or a comparison drops it)" if lost.any() else None


def _zeroed(got: Array, expected: Expected, failed: Array) -> str | None:
    zeros = failed & (got == 0)
    if zeros.any() and (zeros == failed).all() and not failed.all():
        where = _tail(failed)
        return f"zeros in the {where}: work that was dropped" if where else "some results are 0"
    return None


def _tail_wrong(got: Array, expected: Expected, failed: Array) -> str | None:
    where = _tail(failed)
    return f"errors only in the {where}: a tail of a tile or of a workgroup" if where else None


def _shifted_by_one(got: Array, expected: Expected, failed: Array) -> str | None:
    flat, wanted = got.reshape(-1), expected.rounded().reshape(-1)
    if flat.size < 3 or len(np.unique(wanted)) < 3:
        return None
    for step in (1, -1):
        if np.array_equal(np.roll(flat, step)[1:-1], wanted[1:-1]):
            return "every element is its neighbour's: off by one"
    return None


def _constant_factor(got: Array, expected: Expected, failed: Array) -> str | None:
    if not expected.dtype.is_floating or failed.sum() < 3:
        return None
    with np.errstate(all="ignore"):
        ratio = got.astype(np.float64)[failed] / expected.value[failed]
    ratio = ratio[np.isfinite(ratio)]
    if ratio.size < 3 or abs(ratio.mean()) < 1e-6:
        return None
    factor = float(np.median(ratio))
    if np.ptp(ratio) < 0.1 * abs(factor - 1):
        return f"every wrong element is {factor:.4g} times what it must be"
    return None


def _constant_difference(got: Array, expected: Expected, failed: Array) -> str | None:
    if not expected.dtype.is_floating or failed.sum() < 3:
        return None
    with np.errstate(all="ignore"):
        difference = (got.astype(np.float64) - expected.value)[failed]
    if not np.isfinite(difference).all():
        return None
    middle = float(np.median(difference))
    if middle and np.ptp(difference) < 1e-3 * abs(middle):
        return f"every wrong element is {middle:+.4g} from what it must be"
    return None


def _coarse_sums(got: Array, expected: Expected, failed: Array) -> str | None:
    """Small relative errors all over: arithmetic in a narrower format than the one declared."""
    if not expected.dtype.is_floating or failed.mean() < 0.02:
        return None
    with np.errstate(all="ignore"):
        relative = np.abs(got.astype(np.float64) / expected.value - 1)[failed]
    relative = relative[np.isfinite(relative)]
    if not relative.size:
        return None
    size = float(np.median(relative))
    if expected.dtype.bits <= _NARROW and size < 0.2:
        return f"small errors all over in {expected.dtype}: sums kept in {expected.dtype}?"
    if expected.dtype.bits == 32 and 2e-5 < size < 1e-2:
        return "errors of about 1e-3 all over: products in TF32 or 16 bits?"
    if expected.dtype.bits == 64 and 1e-9 < size < 1e-5:
        return "errors of about 1e-7 all over: computed in float32?"
    return None


_RULES: Final[tuple[Rule, ...]] = (
    _never_written, _lost_nan, _zeroed, _tail_wrong, _shifted_by_one, _constant_factor,
    _constant_difference, _coarse_sums,
)  # fmt: skip


def _tail(wrong: Array) -> str | None:
    """Names the last part of an axis if all that is wrong lies there, and much else is right."""
    if not wrong.any() or wrong.all():
        return None
    for axis, size in reversed(list(enumerate(wrong.shape))):
        others = tuple(a for a in range(wrong.ndim) if a != axis)
        places = np.flatnonzero(wrong.any(axis=others))
        first = int(places[0])
        share = np.take(wrong, places, axis).mean()  # chance hits a few elements, a tail most
        if size > 3 and 2 * first >= size and len(places) == size - first and share > 0.5:
            return f"last {size - first} of {size} along axis {axis}"
    return None


# ---- operands read as if they lay otherwise ----


def _misread(op: Op, operands: Sequence[Placed], got: Array, expected: Expected) -> str | None:
    """Whether the result is right for operands that were read wrongly."""
    for what, wrongly in _misreadings(operands):
        try:
            from groundup_conformance.oracle import forward

            for other in forward(op, [x.array for x in wrongly], expected.profile):
                if other.value.shape == got.shape and other.judge(got).ok:
                    return what
        except (GroundupError, LookupError, ValueError, IndexError):
            continue
    return None


def _misreadings(operands: Sequence[Placed]) -> Iterator[tuple[str, list[Placed]]]:
    dense = [_as_if_dense(x, x.offset) for x in operands]
    if any(not x.layout.is_row_major for x in operands):
        yield "equals the result for row-major memory: strides are ignored", dense
    if any(x.offset for x in operands):
        at_start = [Placed(x.base, x.shape, x.strides, 0) for x in operands]
        low = [min(0, *_reach(x)) if x.shape else 0 for x in operands]
        if not any(low):
            yield "equals the result without offset: the storage offset is ignored", at_start
    if len(operands) > 1 and operands[0].layout.spec is operands[1].layout.spec:
        swapped = [operands[1], operands[0], *operands[2:]]
        yield "equals the result with the first two operands swapped", swapped


def _as_if_dense(operand: Placed, offset: int) -> Placed:
    flat = np.resize(operand.base[max(offset, 0) :], operand.layout.size)
    return placed(flat.reshape(operand.shape))


def _reach(operand: Placed) -> list[int]:
    return [(n - 1) * s for n, s in zip(operand.shape, operand.strides, strict=True)]

"""Every op on every sample: its kernel against its composition, and both against float64.

The oracle is the composition (or for a primitive the kernel) run in float64 on the same rounded
inputs. What a primitive computes in float64 is checked against formulas elsewhere
(`test_ops_*.py`); here it is the width that changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch, dtypes
from groundup.backends.devices import device_for
from groundup.dtypes import as_dtype
from groundup.ops import REGISTRY, Op
from groundup.ops.lower import Adjust, adjustments
from groundup.ops.op import has
from groundup.ops.samples import Case, cases_of

NAMES = sorted(name for name in REGISTRY if "::" not in name)
COMPOSITES = [name for name in NAMES if has(REGISTRY[name], "compose")]
Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def tensors(case: Case, dtype: dtypes.DType | None = None) -> tuple[gu.Tensor, ...]:
    """The case's inputs as views of tensors; floats in `dtype` if that is given."""
    made = []
    for operand in case.inputs:
        base = operand.base
        if dtype is not None and as_dtype(base.dtype).is_floating:
            base = base.astype(dtype.numpy)
        made.append(operand.view(gu.tensor(base, device="cpu")))
    return tuple(made)


def native(op: Op, inputs: Sequence[gu.Tensor]) -> tuple[gu.Tensor, ...]:
    results = dispatch.apply(op, tuple(inputs), device_for("cpu"))
    return results if isinstance(results, tuple) else (results,)


def composed(op: Op, inputs: Sequence[gu.Tensor]) -> tuple[gu.Tensor, ...]:
    """The op's composition, on inputs that were brought to one shape and dtype as the core does."""
    changes = adjustments(op, [x.spec for x in inputs]) if op.broadcasts else None
    if changes is not None:
        inputs = dispatch._adjusted(Adjust(changes), tuple(inputs))
    results = op.compose(*inputs) if inputs else op.compose(device=device_for("cpu"))
    return results if isinstance(results, tuple) else (results,)


def every_case(op: type[Op]) -> Iterator[tuple[dtypes.DType, Case]]:
    for dtype in op.dtypes:
        for case in cases_of(op, dtype):
            yield dtype, case


def unit(dtype: np.dtype[Any]) -> float:
    """Half the spacing of floats near 1."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps) / 2


def wide(x: gu.Tensor) -> Array:
    array = x.detach().numpy()
    return array.astype(np.float64) if x.dtype.is_floating else array


def budget(case: Case, got: gu.Tensor, wanted: Array, index: int) -> Array:
    """How far each element may be from the exact result, by the op's accuracy class.

    float16 and bfloat16 accumulate in float32 and round once at the end, so only that rounding is
    in units of theirs.
    """
    u = unit(got.dtype.numpy)
    inner = min(u, unit(np.dtype(np.float32)))
    kind = case.op.accuracy.kind
    size = np.abs(np.where(np.isfinite(wanted), wanted, 0))
    tiny = 2.0**-24 if got.dtype is dtypes.float16 else 2.0**-133  # the smallest steps near 0
    rounding = 2 * u * size + tiny
    if kind == "exact":
        return np.zeros_like(size)
    if kind == "rounded":
        return rounding
    if kind == "transcendental":
        return rounding + 2 * case.op.accuracy.factor * u * size
    if kind == "contraction":
        count = max([x.array.size for x in case.inputs], default=1)
        positive = [abs(x) if x.dtype.is_floating else x for x in tensors(case, dtypes.float64)]
        terms = np.abs(wide(native(case.op, positive)[index]))
        return (8 + 2 * np.sqrt(count)) * inner * terms + rounding
    steps = len(getattr(case.op, "steps", ()))  # of a fused op, each of which may round
    return (64 * inner + 2 * u * steps) * (size + size.max(initial=0) + 1) + rounding


def agree(got: Array, wanted: Array, allowed: Array | float) -> bool:
    """Equal NaN, equal infinities, and the rest within `allowed`."""
    if got.shape != wanted.shape or got.dtype.kind != wanted.dtype.kind:
        return False
    if got.dtype.kind != "f":
        return bool(np.array_equal(got, wanted))
    close = np.abs(got - wanted) <= allowed
    return bool((close | (got == wanted) | (np.isnan(got) & np.isnan(wanted))).all())


@pytest.mark.parametrize("name", NAMES)
def test_results_are_as_inferred_and_inputs_stay(name: str) -> None:
    for dtype, case in every_case(REGISTRY[name]):
        inputs = tensors(case)
        specs = [x.spec for x in inputs]
        before = [x.numpy().tobytes() for x in inputs]
        results = native(case.op, inputs)
        changes = adjustments(case.op, specs) if case.op.broadcasts else None
        if changes is not None:
            specs = [x.spec for x in dispatch._adjusted(Adjust(changes), inputs)]
        what = f"{case.op!r} {case.id} [{dtype}]"
        assert [y.spec for y in results] == list(case.op.infer_all(*specs)), what
        assert [x.numpy().tobytes() for x in inputs] == before, f"{what} changed an input"


@pytest.mark.parametrize("name", COMPOSITES)
def test_kernel_and_composition_agree(name: str) -> None:
    """In the same dtype: NaN and infinities in the same places, the rest within both budgets."""
    for dtype, case in every_case(REGISTRY[name]):
        pairs = zip(native(case.op, tensors(case)), composed(case.op, tensors(case)), strict=True)
        for index, (got, wanted) in enumerate(pairs):
            what = f"{case.op!r} {case.id} [{dtype}] output {index}"
            assert got.spec is wanted.spec, what
            allowed: Array | float = 0.0
            if got.dtype.is_floating:
                allowed = 2 * budget(case, got, wide(wanted), index)
                if dtype in (dtypes.float16, dtypes.bfloat16):  # each step of it rounds
                    allowed = allowed + 16 * unit(dtype.numpy) * (np.abs(wide(wanted)) + 1)
            assert agree(wide(got), wide(wanted), allowed), (
                f"{what}:\nkernel\n{got}\ncomposition\n{wanted}"
            )


@pytest.mark.parametrize("name", NAMES)
def test_narrow_floats_are_near_float64(name: str) -> None:
    op = REGISTRY[name]
    for dtype, case in every_case(op):
        if not dtype.is_floating or dtype is dtypes.float64 or case.tags & {"special", "extreme"}:
            continue
        oracle = composed if has(op, "compose") else native
        exact = oracle(case.op, tensors(case, dtypes.float64))
        for index, (got, best) in enumerate(
            zip(native(case.op, tensors(case)), exact, strict=True)
        ):
            wanted = wide(best)
            if got.dtype.is_floating:
                allowed = budget(case, got, wanted, index)
                wanted = wanted.astype(got.dtype.numpy).astype(np.float64)
            else:
                allowed = np.zeros(())
            assert agree(wide(got), wanted, allowed), (
                f"{case.op!r} {case.id} [{dtype}] output {index}:\n{got}\nexact\n{wanted}"
            )


@pytest.mark.parametrize("name", NAMES)
def test_views_compute_what_copies_compute(name: str) -> None:
    """Bit for bit, except where another order of summation or another approximation is allowed.

    NumPy's vectorised log1p and tan are not its strided ones.
    """
    op = REGISTRY[name]
    loose = op.accuracy.kind not in ("exact", "rounded")
    for dtype, case in every_case(op):
        if all(operand.array.flags.c_contiguous for operand in case.inputs):
            continue
        inputs = tensors(case)
        copies = [x.contiguous() for x in inputs]
        pairs = zip(native(case.op, inputs), native(case.op, copies), strict=True)
        for index, (got, wanted) in enumerate(pairs):
            allowed: Array | float = 0.0
            if loose and got.dtype.is_floating:
                allowed = budget(case, got, wide(wanted), index)
            what = f"{case.op!r} {case.id} [{dtype}] output {index}"
            assert agree(wide(got), wide(wanted), allowed), f"{what}:\n{got}\n{wanted}"


@pytest.mark.parametrize("name", NAMES)
def test_running_twice_gives_the_same_bits(name: str) -> None:
    op = REGISTRY[name]
    for dtype, case in every_case(op):
        first, second = native(case.op, tensors(case)), native(case.op, tensors(case))
        for a, b in zip(first, second, strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes(), f"{case.op!r} {case.id} [{dtype}]"

"""Every budget accepts correct computations, and is not much wider than what they need.

Three of them: an adversary that uses the profile's allowance up at every step, the cpu backend's
kernels, and the ops' compositions on the cpu.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch
from groundup import dtypes as dt
from groundup.backends.devices import device_for
from groundup.dtypes import as_dtype
from groundup.errors import GroundupError, UnsupportedOp
from groundup.ops.lower import Adjust, adjustments
from groundup.ops.op import REGISTRY, has
from groundup.ops.samples import Case, cases_of
from groundup_conformance.budgets import IEEE, PROFILES, Expected, Profile
from groundup_conformance.budgets.adversary import Adversary
from groundup_conformance.oracle import backward, forward

Array = np.ndarray[Any, np.dtype[Any]]
NAMES = sorted(name for name in REGISTRY if "::" not in name)
# The adversary needs room between the device's arithmetic and the oracle's.
NARROW = (dt.float16, dt.bfloat16, dt.float32)
ODD = {"special", "nan", "extreme", "scale", "empty"}  # cases where ratios mean nothing
# Results that are exact whatever the arithmetic: integers, choices, moved values.
EXACT = {"exact"}
WIDE = 0.05  # a budget of which the worst legal computation uses less than this is too wide

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def arrays(case: Case) -> list[Array]:
    return [o.array for o in case.inputs]


def cotangents(case: Case, outputs: Sequence[Expected]) -> list[Array | None]:
    """Normal values for the outputs that have gradients."""
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal(y.value.shape).astype(y.dtype.numpy)
        if i in case.op.differentiable and y.dtype.is_floating
        else None
        for i, y in enumerate(outputs)
    ]


def used(wanted: Expected | None, got: Expected | None) -> float:
    """The largest share of a budget that another evaluation's values use."""
    assert (wanted is None) == (got is None)
    if wanted is None or got is None or not wanted.dtype.is_floating:
        return 0.0
    error = np.abs(got.value - wanted.value)
    budget = np.broadcast_to(wanted.budget, error.shape)
    assert np.isfinite(budget[np.isfinite(wanted.value)]).all(), "nothing is promised"
    counts = np.isfinite(wanted.value) & (error > 0)
    return float((error[counts] / budget[counts]).max(initial=0.0))


# ---- the adversary ----


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("name", NAMES)
def test_a_device_that_uses_its_allowance_up_passes(name: str, profile: Profile) -> None:
    """So the errors of operands are let through every operation, and gradients too."""
    op, most = REGISTRY[name], {"values": 0.0, "gradients": 0.0}
    for dtype in [d for d in op.dtypes if d in NARROW]:
        for case in (c for c in cases_of(op, dtype) if not c.tags & ODD):
            adversary = Adversary(profile, seed=1, bias=0.4)
            wanted = forward(case.op, arrays(case), profile)
            got = forward(case.op, arrays(case), adversary)
            shares = [used(x, y) for x, y in zip(wanted, got, strict=True)]
            most["values"] = max(most["values"], *shares)
            assert max(shares) <= 1 + 1e-6, f"{case.op!r} {case.id} [{dtype}]"
            if not op.differentiable:
                continue
            pulled = cotangents(case, wanted)
            wanted_gradients = backward(case.op, arrays(case), pulled, profile)
            gradients = backward(case.op, arrays(case), pulled, adversary)
            shares = [used(x, y) for x, y in zip(wanted_gradients, gradients, strict=True)]
            most["gradients"] = max(most["gradients"], *shares)
            assert max(shares) <= 1 + 1e-6, f"gradient of {case.op!r} {case.id} [{dtype}]"
    assert all(share == 0 or share >= WIDE for share in most.values()), most


# ---- the cpu backend ----


def tensors(case: Case, gradients: bool) -> list[gu.Tensor]:
    found = [o.view(gu.tensor(o.base, device="cpu")) for o in case.inputs]
    if not gradients:
        return found
    return [x.detach().requires_grad_() if x.dtype.is_floating else x for x in found]


def tuple_of(result: Any) -> tuple[gu.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def native(case: Case) -> tuple[gu.Tensor, ...]:
    return tuple_of(dispatch.apply(case.op, tuple(tensors(case, False)), device_for("cpu")))


def composed(case: Case) -> tuple[gu.Tensor, ...]:
    inputs = tuple(tensors(case, False))
    changes = adjustments(case.op, [x.spec for x in inputs]) if case.op.broadcasts else None
    if changes is not None:
        inputs = dispatch._adjusted(Adjust(changes), inputs)
    return tuple_of(
        case.op.compose(*inputs) if inputs else case.op.compose(device=device_for("cpu"))
    )


def every_case(name: str) -> Iterator[tuple[dt.DType, Case]]:
    for dtype in REGISTRY[name].dtypes:
        for case in cases_of(REGISTRY[name], dtype):
            yield dtype, case


@pytest.mark.parametrize("name", NAMES)
def test_kernels_of_the_cpu_backend_pass(name: str) -> None:
    """Every dtype, special values included, in both profiles: what IEEE does, WGSL allows."""
    for dtype, case in every_case(name):
        results = [y.numpy() for y in native(case)]
        for profile in PROFILES.values():
            for wanted, got in zip(forward(case.op, arrays(case), profile), results, strict=True):
                verdict = wanted.judge(got)
                assert verdict.ok, f"{profile.name} {case.op!r} {case.id} [{dtype}]: {verdict}"


@pytest.mark.parametrize("name", [n for n in NAMES if has(REGISTRY[n], "compose")])
def test_compositions_on_the_cpu_pass(name: str) -> None:
    for dtype, case in every_case(name):
        if case.tags & ODD:
            continue
        wanted = forward(case.op, arrays(case), IEEE)
        for expected, got in zip(wanted, composed(case), strict=True):
            verdict = expected.judge(got.numpy())
            assert verdict.ok, f"{case.op!r} {case.id} [{dtype}]: {verdict}"


@pytest.mark.parametrize("name", [n for n in NAMES if REGISTRY[n].differentiable])
def test_gradients_on_the_cpu_pass(name: str) -> None:
    for dtype, case in every_case(name):
        inputs = tensors(case, True)
        outputs = tuple_of(dispatch.apply(case.op, tuple(inputs), device_for("cpu")))
        wanted = forward(case.op, arrays(case), IEEE)
        pulled = [
            c if y.requires_grad else None
            for c, y in zip(cotangents(case, wanted), outputs, strict=True)
        ]
        reached = [(y, gu.tensor(c, device="cpu"))
                   for y, c in zip(outputs, pulled, strict=True) if c is not None]  # fmt: skip
        leaves = [x for x in inputs if x.dtype.is_floating]
        if not reached or not leaves:
            continue
        found = iter(gu.grad([y for y, _ in reached], leaves, [c for _, c in reached]))
        gradients = backward(case.op, arrays(case), pulled, IEEE)
        for x, expected in zip(inputs, gradients, strict=True):
            got = next(found) if x.dtype.is_floating else None
            if got is None or expected is None:
                assert got is None or not got.numpy().any()
                assert expected is None or not expected.value.any()
                continue
            verdict = expected.judge(got.numpy())
            assert verdict.ok, f"gradient of {case.op!r} {case.id} [{dtype}]: {verdict}"


# ---- compositions, on the oracle's own device ----


@pytest.mark.parametrize("name", [n for n in NAMES if has(REGISTRY[n], "compose")])
def test_references_agree_with_compositions_over_references(name: str) -> None:
    """Two derivations of value and budget, as far as both are exact about rounding."""
    from groundup_conformance.oracle import fallback

    if name == "uniform":  # exact in float32, which the oracle's float64 is not
        return
    for dtype, case in every_case(name):
        if case.tags & ODD or dtype is dt.float64:
            continue
        device = fallback.OracleDevice(IEEE)
        inputs = tuple(fallback._tensor(device, x) for x in arrays(case))
        device.composing = True
        changes = adjustments(case.op, [x.spec for x in inputs]) if case.op.broadcasts else None
        if changes is not None:
            inputs = dispatch._adjusted(Adjust(changes), inputs)
        results = tuple_of(case.op.compose(*inputs) if inputs else case.op.compose(device=device))
        for wanted, result in zip(forward(case.op, arrays(case), IEEE), results, strict=True):
            got = fallback._expected(device, result)
            what = f"{case.op!r} {case.id} [{dtype}]"
            if as_dtype(got.dtype).is_floating:
                assert used(wanted, got) <= 1, what
            else:
                np.testing.assert_array_equal(got.value, wanted.value, what)


def test_what_an_op_refuses_the_oracle_refuses() -> None:
    with pytest.raises(GroundupError):
        forward(REGISTRY["matmul"](), [np.ones((2, 3)), np.ones((2, 3))], IEEE)
    with pytest.raises(UnsupportedOp, match="no reference"):
        forward(_Unknown(), [np.ones(3)], IEEE)


class _Unknown(gu.ops.Op):
    """An op that is neither registered nor composed."""

    name = "unknown"

    def infer(self, x: Any) -> Any:
        return x

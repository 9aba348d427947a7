"""The gradient of every differentiable op, and its gradient, against central differences."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch, dtypes
from groundup.backends.devices import device_for
from groundup.dtypes import as_dtype
from groundup.gradcheck import gradcheck, gradgradcheck
from groundup.ops import REGISTRY
from groundup.ops.op import has
from groundup.ops.samples import Case, cases_of

# No derivative exists there, or no difference can be formed.
SKIPPED_TAGS = {"special", "nan", "inf", "tie", "ties", "extreme", "kink"}
SMALL = 40  # elements: beyond, differences are taken along random directions

DIFFERENTIABLE = sorted(
    name
    for name, op in REGISTRY.items()
    if "::" not in name and op.differentiable and dtypes.float64 in op.dtypes
)

# Their result is float32 whatever goes in, too coarse for differences: formulas below.
NARROW_RESULT = {"global_norm"}

# Gradients that are themselves not differentiable, with the reason.
ONCE_ONLY: dict[str, str] = {}


def usable(case: Case) -> bool:
    """All its floats are float64, finite, of moderate size; its results are float64."""
    if case.tags & SKIPPED_TAGS:
        return False
    floats = [o.array for o in case.inputs if as_dtype(o.array.dtype).is_floating]
    if not floats or any(a.dtype != np.float64 for a in floats):
        return False
    if any(a.size and not np.abs(a).max() < 1e3 for a in floats):
        return False
    results = run(case, *tensors(case))
    outs = results if isinstance(results, tuple) else (results,)
    found = {y.dtype for y in outs if y.dtype.is_floating}
    return found == {dtypes.float64}


def tensors(case: Case) -> list[gu.Tensor]:
    return [operand.view(gu.tensor(operand.base, device="cpu")) for operand in case.inputs]


def run(case: Case, *inputs: gu.Tensor) -> gu.Tensor | tuple[gu.Tensor, ...]:
    """The op's differentiable outputs, without those that hold infinities (log of nothing)."""
    results = dispatch.apply(case.op, inputs, device_for("cpu"))
    if not isinstance(results, tuple):
        return results
    chosen = [results[i] for i in case.op.differentiable]
    return tuple(y for y in chosen if np.isfinite(y.detach().numpy()).all())


def along_directions(case: Case) -> None:
    """For large inputs: one random direction for all inputs together, twice."""
    inputs = [x.contiguous() for x in tensors(case)]
    moving = [i for i, x in enumerate(inputs) if x.dtype.is_floating]
    rng = np.random.default_rng(1)
    for _ in range(2):
        steps = {i: gu.tensor(rng.standard_normal(inputs[i].shape), device="cpu") for i in moving}

        def line(t: gu.Tensor, steps: dict[int, gu.Tensor] = steps) -> object:
            moved = [x + steps[i] * t if i in steps else x for i, x in enumerate(inputs)]
            return run(case, *moved)

        gradcheck(line, [gu.tensor(0.0, dtype="float64", device="cpu")], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient(name: str) -> None:
    checked = 0
    for case in cases_of(REGISTRY[name], dtypes.float64):
        if not usable(case):
            continue
        checked += 1
        try:
            if sum(o.array.size for o in case.inputs) > SMALL:
                along_directions(case)
            else:
                gradcheck(lambda *xs, case=case: run(case, *xs), tensors(case))
        except gu.errors.GroundupError as error:
            pytest.fail(f"{case.op!r} {case.id}: {error}")
    assert checked or name in NARROW_RESULT


def test_gradient_of_global_norm() -> None:
    op = REGISTRY["global_norm"]()
    arrays = [np.array([3.0, 0.0]), np.array([[4.0], [12.0]])]
    inputs = [gu.tensor(a, device="cpu", requires_grad=True) for a in arrays]
    norm = op(*inputs)
    assert norm.item() == 13.0
    norm.backward()
    for x, a in zip(inputs, arrays, strict=True):
        assert x.grad is not None
        np.testing.assert_allclose(x.grad.numpy(), a / 13, rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if n not in ONCE_ONLY])
def test_gradient_of_gradient(name: str) -> None:
    """On the small cases only: each difference costs a backward."""
    for case in cases_of(REGISTRY[name], dtypes.float64):
        if not usable(case) or sum(o.array.size for o in case.inputs) > SMALL:
            continue
        try:
            gradgradcheck(lambda *xs, case=case: run(case, *xs), tensors(case))
        except gu.errors.AutogradError as error:
            if "no output depends" not in str(error):  # the gradient is a constant
                pytest.fail(f"{case.op!r} {case.id}: {error}")
        except gu.errors.GroundupError as error:
            pytest.fail(f"{case.op!r} {case.id}: {error}")


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_have_the_inputs_spec(name: str) -> None:
    """In every dtype, for every sample, the empty and the special ones included."""
    op = REGISTRY[name]
    for dtype in op.dtypes:
        for case in cases_of(op, dtype):
            if not dtype.is_floating:
                continue
            inputs = [
                x.requires_grad_() if x.dtype.is_floating else x
                for x in (y.detach() for y in tensors(case))
            ]
            results = run(case, *inputs)
            outs = results if isinstance(results, tuple) else (results,)
            reached = [y for y in outs if y.requires_grad]
            leaves = [x for x in inputs if x.requires_grad]
            if not reached:
                assert not leaves or not any(y.dtype.is_floating for y in outs)
                continue
            found = gu.grad(reached, leaves, [gu.ones_like(y) for y in reached])
            for x, g in zip(leaves, found, strict=True):
                assert g is None or g.spec is x.spec, f"{case.op!r} {case.id} [{dtype}]"


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if has(REGISTRY[n], "vjp")])
def test_unwanted_gradients_may_be_left_out(name: str) -> None:
    """With only one input that requires a gradient, that gradient is the same."""
    case = next((c for c in cases_of(REGISTRY[name], dtypes.float64) if usable(c)), None)
    if case is None or len(case.inputs) < 2:
        return

    def gradients(wanted: set[int]) -> dict[int, gu.Tensor | None]:
        inputs = [
            x.detach().requires_grad_() if i in wanted else x for i, x in enumerate(tensors(case))
        ]
        results = run(case, *inputs)
        outs = results if isinstance(results, tuple) else (results,)
        outs = tuple(y for y in outs if y.requires_grad)
        targets = [inputs[i] for i in sorted(wanted)]
        found = gu.grad(outs, targets, [gu.ones_like(y) for y in outs]) if outs else [None] * 9
        return dict(zip(sorted(wanted), found, strict=False))

    every = {i for i, x in enumerate(tensors(case)) if x.dtype.is_floating}
    together = gradients(every)
    for i in every:
        alone = gradients({i})[i]
        both = together[i]
        assert (alone is None) == (both is None)
        if alone is not None and both is not None:
            np.testing.assert_allclose(alone.numpy(), both.numpy(), rtol=1e-12, atol=1e-12)

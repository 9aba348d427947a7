"""Every gradient of the oracle against central differences of its own forward, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from groundup import dtypes
from groundup.ops.op import REGISTRY, Op
from groundup.ops.samples import Case, cases_of
from groundup_conformance.oracle import IEEE, backward, forward

Array = np.ndarray[Any, np.dtype[Any]]

# No derivative exists there, or no difference can be formed.
SKIPPED = {"special", "nan", "tie", "extreme", "scale"}
STEP = 1e-6

DIFFERENTIABLE = sorted(
    name
    for name, op in REGISTRY.items()
    if "::" not in name and op.differentiable and dtypes.float64 in op.dtypes
)
# The derivative is 0 almost everywhere, so that there is nothing to compare.
FLAT = {"ceil", "floor", "floor_divide", "round", "sign"}


def usable(case: Case) -> bool:
    floats = [o.array for o in case.inputs if o.array.dtype == np.float64]
    return bool(floats) and not case.tags & SKIPPED and all(np.isfinite(a).all() for a in floats)


def weighted(op: Op, inputs: Sequence[Array], weights: Sequence[Array | None]) -> float:
    """<weights, op(inputs)>."""
    outputs = forward(op, inputs, IEEE)
    pairs = zip(outputs, weights, strict=True)
    return sum(float((y.value * w).sum()) for y, w in pairs if w is not None)


def directions(op: Op, inputs: Sequence[Array]) -> list[Array | None]:
    """Random weights of the differentiable outputs, 0 where they are infinite."""
    rng = np.random.default_rng(0)
    found: list[Array | None] = []
    for i, y in enumerate(forward(op, inputs, IEEE)):
        if i not in op.differentiable or not y.dtype.is_floating:
            found.append(None)
            continue
        weights = rng.uniform(0.5, 1.5, y.value.shape) * rng.choice([-1.0, 1.0], y.value.shape)
        found.append(np.where(np.isfinite(y.value), weights, 0.0))
    return found


def moved(inputs: Sequence[Array], steps: Sequence[Array | None], by: float) -> list[Array]:
    return [x if s is None else x + by * s for x, s in zip(inputs, steps, strict=True)]


def cases(name: str) -> Iterator[Case]:
    yield from (case for case in cases_of(REGISTRY[name], dtypes.float64) if usable(case))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_is_the_limit_of_differences(name: str) -> None:
    """Along random directions, of each input by itself and of all together."""
    checked = 0
    for case in cases(name):
        inputs = [np.array(o.array) for o in case.inputs]
        weights = directions(case.op, inputs)
        if any(w is not None and not np.isfinite(w).all() for w in weights):
            continue
        outputs = forward(case.op, inputs, IEEE)
        if any(not np.isfinite(y.value).all() for y in outputs if y.dtype.is_floating):
            continue
        cotangents = [
            None if w is None else w.astype(y.dtype.numpy)
            for w, y in zip(weights, outputs, strict=True)
        ]
        weights = [None if c is None else c.astype(np.float64) for c in cotangents]
        gradients = backward(case.op, inputs, cotangents, IEEE)
        rng = np.random.default_rng(1)
        floats = [i for i, x in enumerate(inputs) if x.dtype == np.float64 and x.size]
        for chosen in [[i] for i in floats] + [floats]:
            steps = [
                rng.standard_normal(x.shape) if i in chosen else None for i, x in enumerate(inputs)
            ]
            sides = [weighted(case.op, moved(inputs, steps, by), weights) for by in (STEP, -STEP)]
            wanted = (sides[0] - sides[1]) / (2 * STEP)
            got = sum(
                float((g.value * steps[i]).sum()) for i in chosen if (g := gradients[i]) is not None
            )
            size = sum(
                float(np.abs(g.value * steps[i]).sum())
                for i in chosen
                if (g := gradients[i]) is not None
            )
            assert got == pytest.approx(wanted, rel=1e-6, abs=1e-7 * (1 + size)), (
                f"{case.op!r} {case.id}, inputs {chosen}"
            )
            checked += 1
    assert checked or name in FLAT


@pytest.mark.parametrize("name", sorted(FLAT))
def test_flat_functions_have_no_gradient(name: str) -> None:
    for case in cases(name):
        inputs = [o.array for o in case.inputs]
        (y,) = forward(case.op, inputs, IEEE)
        gradients = backward(case.op, inputs, [np.ones_like(y.value)], IEEE)
        assert gradients == (None,) * len(inputs)

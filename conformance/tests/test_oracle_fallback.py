"""Ops of other packages: by their composition over references, or by a reference of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch
from groundup.backends.devices import device_for
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED
from groundup.ops.op import REGISTRY, Op
from groundup.ops.samples import Case, Make
from groundup_conformance.oracle import (
    IEEE,
    Number,
    backward,
    forward,
    has_reference,
    reference,
)
from groundup_conformance.oracle.registry import NUMBERS

if TYPE_CHECKING:
    from groundup.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
SHAPE = (5, 8)


class Centre(Op):
    """tanh(x - mean(x)) * 0.3 + y, over the last axis: a composition with views and constants."""

    accuracy = COMPOSED
    saves = ("x", "y")

    def infer(self, x: Spec, y: Spec) -> Spec:
        return x

    def compose(self, x: Tensor, y: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdims=True)
        turned = centred.mT.tanh().mT
        return turned * 0.3 + y

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield Case(cls(), (make.normal(*SHAPE), make.normal(*SHAPE)), "matrix")


@pytest.fixture(scope="module")
def centre() -> Iterator[type[Op]]:
    """The op, registered while these tests run."""

    class Registered(Centre, name="tests::centre", family="elementwise"):
        """As Centre."""

    yield Registered
    del REGISTRY["tests::centre"]


@pytest.fixture
def inputs() -> list[Array]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(SHAPE).astype(np.float32) for _ in range(3)]


def exact(x: Array, y: Array) -> Array:
    x = x.astype(np.float64)
    return np.tanh(x - x.mean(-1, keepdims=True)) * 0.3 + y


def test_values_and_budgets_follow_from_the_composition(
    centre: type[Op], inputs: list[Array]
) -> None:
    assert has_reference(centre)
    x, y, _ = inputs
    (wanted,) = forward(centre(), [x, y], IEEE)
    # A constant is what float32 holds of it, which the budget counts.
    assert (np.abs(wanted.value - exact(x, y)) <= wanted.budget).all()
    result = dispatch.apply(centre(), (gu.tensor(x), gu.tensor(y)), device_for("cpu"))
    verdict = wanted.judge(result.numpy())
    assert verdict.ok, str(verdict)
    assert verdict.ratio > 0.02
    assert not wanted.judge(exact(x.astype(np.float16), y).astype(np.float32)).ok


def test_gradients_follow_from_the_composition(centre: type[Op], inputs: list[Array]) -> None:
    x, y, g = inputs
    dx, dy = backward(centre(), [x, y], [g], IEEE)
    assert dx is not None
    assert dy is not None
    np.testing.assert_array_equal(dy.value, g)
    step = 1e-5 * np.random.default_rng(5).standard_normal(SHAPE)
    wide = x.astype(np.float64)
    wanted = (g * (exact(wide + step, y) - exact(wide - step, y))).sum() / 2
    assert (dx.value * step).sum() == pytest.approx(wanted, rel=1e-6)
    leaves = [gu.tensor(a, requires_grad=True) for a in (x, y)]
    result = dispatch.apply(centre(), tuple(leaves), device_for("cpu"))
    for expected, got in zip((dx, dy), gu.grad(result, leaves, [gu.tensor(g)]), strict=True):
        assert got is not None
        verdict = expected.judge(got.numpy())
        assert verdict.ok, str(verdict)


def test_a_package_brings_a_reference_of_its_own(centre: type[Op], inputs: list[Array]) -> None:
    x, y, g = inputs
    by_composition = forward(centre(), [x, y], IEEE)[0]

    @reference("tests::centre")
    def _centre(op: Any, x: Number, y: Number) -> Number:
        from groundup_conformance.oracle import functions
        from groundup_conformance.oracle.sums import mean

        return functions.tanh(x - mean(x, (1,), keepdims=True)) * 0.3 + y

    try:
        own = forward(centre(), [x, y], IEEE)[0]
        assert own is not by_composition
        np.testing.assert_allclose(own.value, exact(x, y), rtol=1e-15, atol=1e-15)
        assert (own.budget <= 4 * by_composition.budget).all()
        dx, _ = backward(centre(), [x, y], [g], IEEE)
        assert dx is not None
    finally:
        del NUMBERS["tests::centre"]


def test_an_op_of_the_core_may_not_do_without() -> None:
    """Else a missing reference would go unseen."""
    assert not has_reference(Centre)

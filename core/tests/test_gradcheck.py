"""gradcheck finds wrong gradients and says where."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as gu
from groundup.errors import AutogradError, GradientMismatch
from groundup.gradcheck import gradcheck, gradgradcheck
from groundup.layout import Spec
from groundup.ops.elementwise_base import Unary
from groundup.ops.op import Ctx


class WrongSine(Unary):
    """sin(x) with a gradient that is wrong in the fourth digit, unregistered."""

    name = "wrong_sine"
    saves = ("x",)
    inputs = ("x",)

    def infer(self, x: Spec) -> Spec:
        return x

    def compose(self, x: gu.Tensor) -> gu.Tensor:
        return x.detach().sin()

    def vjp(self, ctx: Ctx, grad: gu.Tensor) -> tuple[gu.Tensor]:
        return (grad * ctx.saved[0].cos() * 1.0003,)


def doubles(*shape: int) -> gu.Tensor:
    rng = np.random.default_rng(7)
    return gu.tensor(rng.uniform(0.5, 1.5, shape), device="cpu")


def test_right_gradients_pass() -> None:
    x, y = doubles(3, 4), doubles(4, 3).mT
    assert gradcheck(lambda a, b: (a * b).exp() / b, [x, y])
    assert gradgradcheck(lambda a, b: (a * b).exp() / b, [x, y])
    assert gradcheck(lambda a: (a.sin(), a.sum(), a > 1), [x])


def test_wrong_gradients_are_found() -> None:
    x = doubles(3)
    with pytest.raises(GradientMismatch) as caught:
        gradcheck(lambda a: WrongSine()(a), [x])
    text = str(caught.value)
    assert text.startswith("gradcheck: input 0 float64[3] at [")
    assert "(3 of 3 elements differ)" in text
    assert "\n" not in text
    with pytest.raises(AssertionError):
        gradcheck(lambda a: a * a.detach(), [x])


def test_the_wrong_input_is_named() -> None:
    with pytest.raises(GradientMismatch, match=r"input 1 float64\[2\]"):
        gradcheck(lambda a, b: a * b * b.detach(), [doubles(2), doubles(2)])


def test_a_missing_gradient_is_found() -> None:
    with pytest.raises(GradientMismatch, match=r"got 0, central differences want"):
        gradcheck(lambda a, b: a + b.detach(), [doubles(2), doubles(2)])


def test_nan_is_wrong() -> None:
    with pytest.raises(GradientMismatch, match="got nan"):
        gradcheck(lambda a: (a > 0).where(a, (a - 10).log()) * (a - a).sqrt().sum(), [doubles(2)])


def test_wrong_second_gradients_are_found() -> None:
    class Cube(Unary):
        """x^3 with a gradient that forgets its own, unregistered."""

        name = "cube"
        saves = ("x",)
        inputs = ("x",)

        def compose(self, x: gu.Tensor) -> gu.Tensor:
            return x.detach() ** 3.0

        def vjp(self, ctx: Ctx, grad: gu.Tensor) -> tuple[gu.Tensor]:
            return (grad * 3 * ctx.saved[0].detach() ** 2.0,)

    assert gradcheck(lambda a: Cube()(a), [doubles(3)])
    with pytest.raises(GradientMismatch):
        gradgradcheck(lambda a: Cube()(a), [doubles(3)])


def test_inputs_are_put_back() -> None:
    x = doubles(2, 3)
    before = x.numpy()
    with pytest.raises(GradientMismatch):
        gradcheck(lambda a: a * a.detach(), [x.mT])
    np.testing.assert_array_equal(x.numpy(), before)
    assert not x.requires_grad


def test_integers_are_passed_on() -> None:
    ids = gu.tensor([0, 2, 2], device="cpu")
    assert gradcheck(lambda table, i: table.take(i), [doubles(3, 2), ids])


def test_what_cannot_be_checked() -> None:
    with pytest.raises(AutogradError, match="differences need float64"):
        gradcheck(lambda a: a, [gu.tensor([1.0], device="cpu")])
    with pytest.raises(AutogradError, match="expanded view"):
        gradcheck(lambda a: a * 1, [doubles(1).expand(3)])
    with pytest.raises(AutogradError, match="no output depends on an input"):
        gradcheck(lambda a: a > 1, [doubles(2)])

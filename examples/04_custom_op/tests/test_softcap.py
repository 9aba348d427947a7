"""What a package with an op should check: values, gradient, refusals, whose kernel runs."""

import numpy as np
import pytest
from groundup_softcap import softcap

import groundup as gu
from groundup import support
from groundup.errors import ConfigError
from groundup.gradcheck import gradcheck


def test_values() -> None:
    x = np.linspace(-100, 100, 41, dtype=np.float32)
    wanted = 30 * np.tanh(x.astype(np.float64) / 30)
    np.testing.assert_allclose(softcap(gu.from_numpy(x)).numpy(), wanted, rtol=2e-6, atol=1e-6)


def test_gradient() -> None:
    x = gu.tensor([-2.0, 0.3, 5.0], dtype="float64")
    gradcheck(lambda t: softcap(t, cap=2.5), [x])


def test_cap_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="cap must be above 0, got -1"):
        softcap(gu.ones(2), cap=-1)


def test_its_kernel_is_used() -> None:
    (row,) = [row for row in support.matrix() if row.op == "softcap::softcap"]
    assert row.backends["cpu"] == "native"
    assert row.providers["cpu"] == "groundup-softcap"

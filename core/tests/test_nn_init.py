import math

import numpy as np
import pytest

import groundup as gu
from groundup.errors import ConfigError, ShapeError
from groundup.nn import init
from groundup.random import Generator, manual_seed


def filled(*shape: int) -> gu.Tensor:
    return gu.zeros(shape).requires_grad_()


def test_each_returns_its_tensor_and_keeps_it_a_leaf() -> None:
    t = filled(3, 4)
    for function in (init.zeros_, init.ones_, init.uniform_, init.normal_, init.trunc_normal_,
                     init.xavier_uniform_, init.xavier_normal_, init.kaiming_uniform_,
                     init.kaiming_normal_):  # fmt: skip
        assert function(t) is t
    assert init.constant_(t, 2.5) is t
    assert t.detach().tolist() == [[2.5] * 4] * 3
    assert t.requires_grad
    assert t.is_leaf


def test_moments_and_ranges() -> None:
    generator = Generator(3)
    x = init.uniform_(filled(200, 300), -0.5, 1.5, generator).detach().numpy()
    assert x.min() >= -0.5
    assert x.max() < 1.5
    assert abs(x.mean() - 0.5) < 0.01
    x = init.normal_(filled(200, 300), 2.0, 0.5, generator).detach().numpy()
    assert abs(x.mean() - 2) < 0.01
    assert abs(x.std() - 0.5) < 0.01


def test_truncated_normal_is_the_normal_between_its_bounds() -> None:
    x = init.trunc_normal_(filled(400, 500), 0.5, 2.0, -1.0, 3.0, Generator(1)).detach().numpy()
    assert x.min() >= -1
    assert x.max() <= 3
    grid = np.linspace(-1, 3, 41)
    phi = np.array([0.5 * (1 + math.erf((g - 0.5) / (2 * math.sqrt(2)))) for g in grid])
    wanted = (phi - phi[0]) / (phi[-1] - phi[0])
    measured = np.searchsorted(np.sort(x.ravel()), grid) / x.size
    assert np.abs(measured - wanted).max() < 0.005
    far = init.trunc_normal_(filled(100_000), 0.0, 0.02, -2.0, 2.0, Generator(2)).detach().numpy()
    assert np.abs(far).max() < 0.02 * 6  # no draw at the bounds, 100 deviations away


def test_fans() -> None:
    assert init.fans((20, 30)) == (30, 20)
    assert init.fans((8, 4, 3, 5)) == (60, 120)
    with pytest.raises(ShapeError, match=r"shape \(3,\) has no fan-in"):
        init.fans((3,))


@pytest.mark.parametrize(
    ("function", "variance"),
    [
        (init.xavier_uniform_, 2 / 500), (init.xavier_normal_, 2 / 500),
        (init.kaiming_uniform_, 2 / 300), (init.kaiming_normal_, 2 / 300),
        (lambda t: init.kaiming_uniform_(t, math.sqrt(5)), 1 / 900),
        (lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"), 2 / 200),
    ],
)  # fmt: skip
def test_variance_scaling(function: object, variance: float) -> None:
    manual_seed(5)
    x = function(filled(200, 300)).detach().numpy()  # type: ignore[operator]
    assert abs(x.var() / variance - 1) < 0.03


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu"])
def test_gains_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert math.isclose(init.calculate_gain(name), torch.nn.init.calculate_gain(name))


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="no gain is known for 'swish'"):
        init.calculate_gain("swish")
    with pytest.raises(ConfigError, match="mode must be"):
        init.kaiming_normal_(filled(2, 2), mode="fan")
    with pytest.raises(ConfigError, match="no values with std 0"):
        init.trunc_normal_(filled(2), std=0)


def test_a_seed_decides_the_values_in_every_dtype() -> None:
    wide = init.normal_(filled(50), generator=Generator(9)).detach()
    again = init.normal_(filled(50), generator=Generator(9)).detach()
    np.testing.assert_array_equal(wide.numpy(), again.numpy())
    narrow = gu.zeros(50, dtype="bfloat16")
    init.normal_(narrow, generator=Generator(9))
    np.testing.assert_array_equal(narrow.numpy(), wide.astype("bfloat16").numpy())

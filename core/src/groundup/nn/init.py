"""Filling parameters with initial values. Each writes into its tensor and returns it.

The draws come from the core's counter-based generator, so one seed gives the same weights on every
device. `generator` is the default one of the tensor's device unless given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from groundup import ops
from groundup.errors import ConfigError, ShapeError
from groundup.graph import Setting
from groundup.random import Generator, draw
from groundup.tensor import Tensor

_FIXED_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "sigmoid": 1.0,
    "tanh": 5 / 3, "relu": math.sqrt(2),
}  # fmt: skip
_BELOW_ONE = 1 - 2**-24  # the largest float32 below 1


def zeros_(tensor: Tensor) -> Tensor:
    """All 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """All 1."""
    return constant_(tensor, 1.0)


def constant_(tensor: Tensor, value: float) -> Tensor:
    """All `value`."""
    with Setting(grad=False):
        return tensor.assign_(value)


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in [a, b)."""
    with Setting(grad=False):
        state = draw(tensor.device, generator)
        return tensor.assign_(ops.uniform(state, tensor.shape, a, b, tensor.dtype))


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with this mean and standard deviation."""
    with Setting(grad=False):
        state = draw(tensor.device, generator)
        return tensor.assign_(ops.normal(state, tensor.shape, mean, std, tensor.dtype))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, but only values in [a, b] (absolute bounds, as in PyTorch).

    By inversion: x = mean + std * sqrt(2) * erfinv(u), with u uniform between the images of the
    bounds under erf. Raises ConfigError for bounds that do not increase or a std that is not
    positive.
    """
    if not (a < b and std > 0):
        raise ConfigError(f"trunc_normal_: no values with std {std} lie in [{a}, {b}]")
    low, high = (math.erf((bound - mean) / (std * math.sqrt(2))) for bound in (a, b))
    with Setting(grad=False):
        u = ops.uniform(draw(tensor.device, generator), tensor.shape, low, high)
        # erfinv(+-1) is infinite; a clamp keeps such a draw beside the others
        x = _erfinv(u.clamp(-_BELOW_ONE, _BELOW_ONE)) * (std * math.sqrt(2)) + mean
        return tensor.assign_(x.clamp(a, b).astype(tensor.dtype))


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6 / sum(fans(tensor.shape)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with std gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor.shape))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in +-gain * sqrt(3 / fan) (He et al., 2015); `a` is a leaky ReLU's slope."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with std gain / sqrt(fan) (He et al., 2015); `a` is a leaky ReLU's slope."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _kaiming_std(tensor: Tensor, slope: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ConfigError(f"init: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = fans(tensor.shape)[mode == "fan_out"]
    return calculate_gain(nonlinearity, slope) / math.sqrt(fan)


def calculate_gain(nonlinearity: str, slope: float = 0.01) -> float:
    """By how much an activation's output shrinks, as PyTorch states it. Raises ConfigError."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in _FIXED_GAINS:
        names = ", ".join([*_FIXED_GAINS, "leaky_relu"])
        raise ConfigError(f"init: no gain is known for {nonlinearity!r}", hint=f"one of {names}")
    return _FIXED_GAINS[nonlinearity]


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel). Raises ShapeError below rank 2."""
    if len(shape) < 2:
        raise ShapeError(f"init: a weight of shape {tuple(shape)} has no fan-in and fan-out")
    field = math.prod(shape[2:])
    return max(shape[1] * field, 1), max(shape[0] * field, 1)


def _erfinv(y: Tensor) -> Tensor:
    """The inverse of erf to float32's precision: two polynomials in -log(1 - y^2) (Giles, 2010)."""
    w = -((1 - y) * (1 + y)).log()
    center, tail = w - 2.5, w.sqrt() - 3.0
    return (w < 5).where(_polynomial(center, _CENTER), _polynomial(tail, _TAIL)) * y


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        total = total * x + coefficient
    return total


_CENTER = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip

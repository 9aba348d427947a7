"""Elementwise ops against formulas in NumPy float64, written independently of the kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import dtypes, ops
from groundup.errors import ConfigError, DomainError, DTypeError
from groundup.ops import REGISTRY
from groundup.ops.op import has
from groundup.ops.samples import cases_of

Array = np.ndarray[Any, np.dtype[Any]]


def erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def sigmoid(x: Array) -> Array:
    return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))


def gelu(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def slope(function: Callable[[Array], Array], x: Array) -> Array:
    """The derivative, from a fourth-order difference in float64."""
    h = 1e-3
    near = 8 * (function(x + h) - function(x - h))
    return (near - function(x + 2 * h) + function(x - 2 * h)) / (12 * h)


def clamp(op: Any, x: Array) -> Array:
    return np.clip(x, op.min, op.max)


def saturating_cast(op: Any, x: Array) -> Array:
    target = op.dtype.numpy
    if op.dtype is dtypes.bool_:
        return x != 0
    if op.dtype.kind != "int" or x.dtype.kind != "f":
        return x.astype(target)
    info = np.iinfo(target)
    flat = [
        0 if math.isnan(v) else info.max if v >= info.max else info.min if v <= info.min else int(v)
        for v in x.ravel()
    ]
    return np.array(flat, target).reshape(x.shape)


def floor_divide(x: Array, y: Array) -> Array:
    return np.floor(x / y) if x.dtype.kind == "f" else x // y


def remainder(x: Array, y: Array) -> Array:
    """C's fmod, which is exact, moved by one divisor where its sign is the dividend's."""
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


# Formulas get the op, then its inputs: floats as float64, integers and bool as they are.
FORMULAS: dict[str, Callable[..., Any]] = {
    "abs": lambda op, x: np.abs(x),
    "neg": lambda op, x: 0 - x if x.dtype.kind == "i" else -x,
    "sign": lambda op, x: np.where(x > 0, 1, np.where(x < 0, -1, x)),
    "exp": lambda op, x: np.exp(x),
    "expm1": lambda op, x: np.expm1(x),
    "log": lambda op, x: np.log(x),
    "log1p": lambda op, x: np.log1p(x),
    "sqrt": lambda op, x: np.sqrt(x),
    "rsqrt": lambda op, x: 1 / np.sqrt(x),
    "reciprocal": lambda op, x: 1 / x,
    "sin": lambda op, x: np.sin(x),
    "cos": lambda op, x: np.cos(x),
    "tan": lambda op, x: np.sin(x) / np.cos(x),
    "tanh": lambda op, x: np.tanh(x),
    "erf": lambda op, x: erf(x),
    "sigmoid": lambda op, x: sigmoid(x),
    "relu": lambda op, x: np.where(x <= 0, 0, x),
    "gelu": lambda op, x: gelu(x, op.approximate),
    "gelu_backward": lambda op, x, g: g * slope(lambda v: gelu(v, op.approximate), x),
    "silu": lambda op, x: x * sigmoid(x),
    "silu_backward": lambda op, x, g: g * slope(lambda v: v * sigmoid(v), x),
    "floor": lambda op, x: np.floor(x),
    "ceil": lambda op, x: np.ceil(x),
    "round": lambda op, x: np.rint(x),
    "isnan": lambda op, x: x != x,
    "isfinite": lambda op, x: np.abs(x) < np.inf,
    "cast": saturating_cast,
    "clamp": clamp,
    "where": lambda op, c, x, y: np.where(c, x, y),
    "add": lambda op, x, y: x + y,
    "sub": lambda op, x, y: x - y,
    "mul": lambda op, x, y: x * y,
    "div": lambda op, x, y: x / y,
    "pow": lambda op, x, y: np.power(x, y),
    "maximum": lambda op, x, y: np.where((x >= y) | (x != x), x, y),
    "minimum": lambda op, x, y: np.where((x <= y) | (x != x), x, y),
    "remainder": lambda op, x, y: remainder(x, y),
    "floor_divide": lambda op, x, y: floor_divide(x, y),
    "less": lambda op, x, y: x < y,
    "less_equal": lambda op, x, y: x <= y,
    "greater": lambda op, x, y: x > y,
    "greater_equal": lambda op, x, y: x >= y,
    "equal": lambda op, x, y: x == y,
    "not_equal": lambda op, x, y: x != y,
    "logical_and": lambda op, x, y: (x != 0) & (y != 0),
    "logical_or": lambda op, x, y: (x != 0) | (y != 0),
    "logical_xor": lambda op, x, y: (x != 0) != (y != 0),
    "logical_not": lambda op, x: x == 0,
    "bitwise_and": lambda op, x, y: x & y,
    "bitwise_or": lambda op, x, y: x | y,
    "bitwise_xor": lambda op, x, y: x ^ y,
    "bitwise_not": lambda op, x: ~x,
    "bitwise_left_shift": lambda op, x, y: x * 2 ** y.astype(np.int64),
    "bitwise_right_shift": lambda op, x, y: np.floor(x / 2.0**y),
}
# Where a formula in float64 does not say what IEEE arithmetic in the narrow dtype gives.
SPECIAL_ELSEWHERE = {
    "gelu", "gelu_backward", "silu", "silu_backward", "remainder", "floor_divide", "pow",
}  # fmt: skip

ELEMENTWISE = sorted(
    name
    for name, op in REGISTRY.items()
    if op.family == "elementwise" and "::" not in name and name != "fused"  # that has a body
)


def test_every_elementwise_op_has_a_formula() -> None:
    assert set(ELEMENTWISE) - set(FORMULAS) == set()


def ulp(values: Array, dtype: dtypes.DType) -> Array:
    """The spacing of `dtype` at each finite value."""
    import ml_dtypes

    info = ml_dtypes.finfo(dtype.numpy)
    size = np.abs(np.where(np.isfinite(values), values, 0))
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log2(np.maximum(size, float(info.tiny))))
    return np.exp2(exponent) * float(info.eps)


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name in FORMULAS])
def test_formula(name: str) -> None:
    op = REGISTRY[name]
    for dtype in op.dtypes:
        for case in cases_of(op, dtype):
            if name in SPECIAL_ELSEWHERE and "special" in case.tags:
                continue
            arrays = [operand.array for operand in case.inputs]
            got = case.op(*[o.view(gu.tensor(o.base, device="cpu")) for o in case.inputs])
            wide = [a.astype(np.float64) if dtype.is_floating and a.dtype.kind not in "biu" else a
                    for a in arrays]  # fmt: skip
            with np.errstate(all="ignore"):
                exact = np.asarray(FORMULAS[name](case.op, *wide))
                check(f"{case.op!r} {case.id} [{dtype}]", got, exact, case.op)


def check(what: str, got: gu.Tensor, exact: Array, op: Any) -> None:
    """The exact result rounded to got's dtype, or as near as the op's accuracy class says."""
    values, wanted = got.numpy(), exact.astype(got.dtype.numpy)
    assert values.shape == wanted.shape
    if not got.dtype.is_floating:
        assert np.array_equal(values, wanted), f"{what}:\n{values}\n{wanted}"
        return
    values, rounded = values.astype(np.float64), wanted.astype(np.float64)
    exact = exact.astype(np.float64)
    factor = {"exact": 0.0, "rounded": 0.51}.get(op.accuracy.kind, op.accuracy.factor + 0.51)
    if got.dtype is dtypes.float64:
        factor += 1  # the formula rounds too, and the derivatives are differences
    allowed = factor * ulp(exact, got.dtype)
    if op.accuracy.kind == "composed":
        allowed = 16 * ulp(np.abs(exact) + 1, got.dtype)
        if op.name.endswith("_backward"):
            allowed = allowed + 1e-10
    near = np.abs(values - exact) <= allowed
    same = (values == rounded) | (np.isnan(values) & np.isnan(rounded))
    worst = np.abs(values - exact).max(initial=0)
    assert (near | same).all(), f"{what}: off by {worst}\n{values}\n{exact}"


@pytest.mark.parametrize(
    "function", [ops.add, ops.sub, ops.mul, ops.maximum, ops.remainder, ops.bitwise_left_shift]
)
def test_bools_are_no_numbers(function: Callable[..., Any]) -> None:
    x = gu.tensor([True, False], device="cpu")
    with pytest.raises(DTypeError, match=r"needs numbers, got bool\[2\].*astype"):
        function(x, x)
    with pytest.raises(DTypeError, match="needs numbers"):
        ops.neg(x)
    assert (x + 1).tolist() == [2, 1]
    assert (x + 0.5).tolist() == [1.5, 0.5]


# ---- decided meanings (DESIGN, section 7) ----


def test_nan_propagates() -> None:
    nan = gu.tensor([math.nan, 1.0, math.nan])
    other = gu.tensor([1.0, math.nan, math.nan])
    for op in (ops.maximum, ops.minimum, ops.add, ops.mul):
        assert op(nan, other).isnan().tolist() == [True, True, True]
    assert ops.relu(nan).isnan().tolist() == [True, False, True]
    assert ops.clamp(nan, 0, 1).isnan().tolist() == [True, False, True]


def test_integers_wrap() -> None:
    top = gu.tensor([2**31 - 1], dtype="int32")
    assert (top + 1).tolist() == [-(2**31)]
    assert (top * 2).tolist() == [-2]
    assert (-gu.tensor([-(2**31)], dtype="int32")).tolist() == [-(2**31)]
    assert gu.tensor([-(2**31)], dtype="int32").abs().tolist() == [-(2**31)]


@pytest.mark.parametrize("op", [ops.remainder, ops.floor_divide])
def test_integer_division_by_zero_raises(op: Any) -> None:
    with pytest.raises(DomainError, match="integer division by zero"):
        op(gu.tensor([1, 2]), gu.tensor([1, 0]))
    assert op(gu.tensor([7]), gu.tensor([2])).tolist() == [7 % 2 if op is ops.remainder else 3]


def test_remainder_has_the_divisors_sign() -> None:
    x = gu.tensor([7, -7, 7, -7])
    y = gu.tensor([3, 3, -3, -3])
    assert (x % y).tolist() == [1, 2, -2, -1]
    assert (x // y).tolist() == [2, -3, -3, 2]
    floats = x.astype("float32") % y.astype("float32")
    assert floats.tolist() == [1.0, 2.0, -2.0, -1.0]


def test_ties_round_to_even() -> None:
    assert gu.tensor([0.5, 1.5, 2.5, -0.5, -1.5]).round().tolist() == [0.0, 2.0, 2.0, -0.0, -2.0]


def test_division_of_integers_gives_float32() -> None:
    out = gu.tensor([1, 2]) / gu.tensor([2, 4])
    assert out.dtype is dtypes.float32
    assert out.tolist() == [0.5, 0.5]
    assert gu.tensor([4]).sqrt().dtype is dtypes.float32


def test_casts_saturate() -> None:
    x = gu.tensor([math.nan, math.inf, -math.inf, 3e9, -1.9, 300.7])
    assert x.astype("int32").tolist() == [0, 2**31 - 1, -(2**31), 2**31 - 1, -1, 300]
    assert x.astype("uint8").tolist() == [0, 255, 0, 255, 0, 255]
    assert x.astype("int64").tolist()[1] == 2**63 - 1
    assert x.astype("bool").tolist() == [True] * 6


def test_float16_rounds_once() -> None:
    """sigmoid in float16 is the float32 result rounded, not a chain of rounded steps."""
    x = gu.tensor(np.linspace(-8, 8, 999, dtype=np.float16))
    exact = sigmoid(x.numpy().astype(np.float64))
    assert np.abs(ops.sigmoid(x).numpy() - exact.astype(np.float16)).max() <= 2.0**-12


def test_powers_at_zero() -> None:
    x = gu.tensor([0.0, 0.0, 2.0], requires_grad=True)
    y = x ** gu.tensor([0.0, 2.0, 3.0])
    assert y.tolist() == [1.0, 0.0, 8.0]
    y.backward(gu.ones_like(y))
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 12.0]


def test_ties_share_the_gradient() -> None:
    x = gu.tensor([1.0, 3.0], requires_grad=True)
    y = gu.tensor([1.0, 2.0], requires_grad=True)
    ops.maximum(x, y).backward(gu.tensor([1.0, 1.0]))
    assert x.grad is not None
    assert y.grad is not None
    assert (x.grad.tolist(), y.grad.tolist()) == ([0.5, 1.0], [0.5, 0.0])


def test_gelu_names_its_choices() -> None:
    with pytest.raises(ConfigError, match="approximate must be 'none' or 'tanh', got 'fast'"):
        ops.gelu(gu.tensor([1.0]), "fast")


def test_where_wants_a_bool_condition() -> None:
    with pytest.raises(DTypeError, match=r"condition must be bool, got int32\[2\]"):
        ops.where(gu.tensor([1, 0]), 1.0, 2.0)


def test_results_match_torch_where_it_is_installed() -> None:
    torch = pytest.importorskip("torch")
    x = np.linspace(-4, 4, 101, dtype=np.float32)
    functional = torch.nn.functional
    for got, wanted in (
        (ops.gelu(gu.tensor(x)), functional.gelu(torch.tensor(x))),
        (ops.gelu(gu.tensor(x), "tanh"), functional.gelu(torch.tensor(x), approximate="tanh")),
        (ops.silu(gu.tensor(x)), functional.silu(torch.tensor(x))),
        (ops.erf(gu.tensor(x)), torch.erf(torch.tensor(x))),
        (gu.tensor(x) % 3, torch.tensor(x) % 3),
        (gu.tensor(x) // 3, torch.tensor(x) // 3),
    ):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=2e-6, atol=1e-6)


def test_composites_say_so() -> None:
    """The set that a new backend must write stays small."""
    primitives = {name for name in ELEMENTWISE if not has(REGISTRY[name], "compose")}
    assert len(primitives) <= 36, sorted(primitives)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_integers_are_whole_already(dtype: str) -> None:
    """Not even by way of float32, which has no 2^24 + 1."""
    x = gu.tensor([2**24 + 1, -3] if dtype != "uint8" else [255, 0], dtype=dtype)
    for function in (ops.floor, ops.ceil, ops.round):
        assert function(x).dtype is x.dtype
        assert function(x).tolist() == x.tolist()


def test_bounds_of_clamp_are_numbers() -> None:
    x = gu.tensor([-2.0, 0.5, 3.0])
    assert x.clamp(np.float32(0), np.int64(1)).tolist() == [0, 0.5, 1]
    assert gu.tensor([3, 5]).clamp(np.int64(4)).tolist() == [4, 5]
    for wrong in ("x", (0, 1), x):
        with pytest.raises(DTypeError, match="clamp: max must be a number"):
            x.clamp(0, wrong)  # type: ignore[arg-type]

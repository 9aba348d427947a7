"""Every budget rejects wrong computations: mechanical ones for every op, and known mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from groundup import dtypes as dt
from groundup.dtypes import DType
from groundup.ops.op import REGISTRY, Op
from groundup.ops.samples import Case, cases_of
from groundup_conformance.budgets import PROFILES, Expected, Profile
from groundup_conformance.oracle import backward, forward
from groundup_conformance.oracle.functions import error_function

Array = np.ndarray[Any, np.dtype[Any]]
NAMES = sorted(name for name in REGISTRY if "::" not in name)
PROFILE = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

# ---- mechanical mutants ----

# Fraction bits that a mutant keeps: TF32's ten for float32, about half for the others.
KEPT = {dt.float64: 23, dt.float32: 10, dt.float16: 7, dt.bfloat16: 4}
# WGSL bounds these, or functions that they are made of, by an absolute error that hides a
# rounding of the inputs.
COARSE_IN_WGSL = {
    dt.float16: {"cos", "erf", "gelu", "gelu_backward", "log1p", "sigmoid", "sin", "tan", "tanh",
                 "rotary_embedding", "silu", "silu_backward", "sqrt", "expm1", "pow"},
    dt.bfloat16: {"sqrt", "rotary_embedding"},
    dt.float32: {"rotary_embedding", "tan"},
}  # fmt: skip
COARSE_GRADIENTS_IN_WGSL = {"cos", "sin", "rotary_embedding"}
# One value everywhere, or a single one: nothing to mistake for another.
UNIFORM = {"full", "global_norm"}


def kept(x: Array, bits: int) -> Array:
    """Floats with only so many bits of their fraction."""
    if x.dtype.kind in "iub":
        return x
    mantissa, exponent = np.frexp(x.astype(np.float64))
    short = np.round(np.ldexp(mantissa, bits + 1))
    return np.ldexp(short, exponent - bits - 1).astype(x.dtype)


def coarse(case: Case, right: Sequence[Array], dtype: DType, profile: Profile) -> list[Array]:
    """From inputs of fewer bits, as TF32 or a narrower accumulator has them."""
    inputs = [kept(o.array, KEPT.get(dtype, 10)) for o in case.inputs]
    return [y.rounded() for y in forward(case.op, inputs, profile)]


def missing(case: Case, right: Sequence[Array], dtype: DType, profile: Profile) -> list[Array]:
    """An element in the middle left at 0."""
    found = []
    for y in right:
        y = y.copy()
        places = np.flatnonzero(np.nan_to_num(y.astype(np.float64)))
        if places.size:
            y.reshape(-1)[places[places.size // 2]] = 0
        found.append(y)
    return found


def shifted(case: Case, right: Sequence[Array], dtype: DType, profile: Profile) -> list[Array]:
    """Every element in its neighbour's place."""
    return [np.roll(y.ravel(), 1).reshape(y.shape) for y in right]


def kills(wanted: Sequence[Expected], got: Sequence[Array]) -> bool:
    return any(not w.judge(g).ok for w, g in zip(wanted, got, strict=True))


@PROFILE
@pytest.mark.parametrize("name", NAMES)
def test_mechanical_mutants_of_every_op_are_rejected(name: str, profile: Profile) -> None:
    op = REGISTRY[name]
    for dtype in op.dtypes:
        if profile.flushes and dtype is dt.float64:  # WGSL has none
            continue
        wanted = {missing.__name__, shifted.__name__}
        computed = op.accuracy.kind != "exact" and dtype.is_floating
        if computed and name not in {"arange", "floor_divide"}:
            wanted.add(coarse.__name__)
        if profile.flushes and name in COARSE_IN_WGSL.get(dtype, ()):
            wanted.discard(coarse.__name__)
        if name == "global_norm" and dtype is dt.float64:  # its result is float32
            wanted.discard(coarse.__name__)
        if name in UNIFORM:
            wanted.discard(shifted.__name__)
        killed = set()
        for case in cases_of(op, dtype):
            expected = forward(case.op, [o.array for o in case.inputs], profile)
            right = [y.rounded() for y in expected]
            if not kills(expected, right):  # else the case could not tell
                for mutant in (coarse, missing, shifted):
                    if kills(expected, mutant(case, right, dtype, profile)):
                        killed.add(mutant.__name__)
        assert wanted <= killed, f"[{dtype}] {sorted(wanted - killed)} survive"


@PROFILE
@pytest.mark.parametrize("name", [n for n in NAMES if REGISTRY[n].differentiable])
def test_mechanical_mutants_of_every_gradient_are_rejected(name: str, profile: Profile) -> None:
    """In float32: cotangents of ten bits, and an element left out."""
    op, rng = REGISTRY[name], np.random.default_rng(0)
    killed, tried = set(), False
    for case in cases_of(op, dt.float32):
        inputs = [o.array for o in case.inputs]
        outputs = forward(case.op, inputs, profile)
        pulled = [
            rng.standard_normal(y.value.shape).astype(y.dtype.numpy)
            if i in case.op.differentiable and y.dtype.is_floating
            else None
            for i, y in enumerate(outputs)
        ]
        found = [g for g in backward(case.op, inputs, pulled, profile) if g is not None]
        tried = tried or any(g.value.size for g in found)
        short = [None if c is None else kept(c, 10) for c in pulled]
        rough = [g for g in backward(case.op, inputs, short, profile) if g is not None]
        if kills(found, [g.rounded() for g in rough]):
            killed.add("coarse")
        if kills(found, missing(case, [g.rounded() for g in found], dt.float32, profile)):
            killed.add("missing")
    hidden = profile.flushes and name in COARSE_GRADIENTS_IN_WGSL
    wanted = {"missing"} if hidden else {"missing", "coarse"}
    assert not tried or wanted <= killed


# ---- known mistakes ----

F16, F32 = np.float16, np.float32
Wrong = Callable[..., Any]
MISTAKES: list[tuple[str, Op, list[Array], Wrong]] = []


def mistake(name: str, params: dict[str, Any], *inputs: Any) -> Callable[[Wrong], Wrong]:
    """A wrong computation of an op on inputs that show it."""
    op = REGISTRY[name](**params)

    def register(function: Wrong) -> Wrong:
        label = f"{name}-{function.__name__}"
        MISTAKES.append((label, op, [np.asarray(x) for x in inputs], function))
        return function

    return register


RNG = np.random.default_rng(11)


def normal(*shape: int, kind: Any = F32, scale: float = 1.0, shift: float = 0.0) -> Array:
    return np.asarray(RNG.standard_normal(shape) * scale + shift, kind)


@mistake("softmax", {}, normal(4, 16, scale=50, shift=100))
def without_the_shift(x: Array) -> Array:
    powers = np.exp(x)
    return powers / powers.sum(-1, keepdims=True)


@mistake("softmax", {}, normal(5, 5))
def along_the_other_axis(x: Array) -> Array:
    powers = np.exp(x - x.max(0))
    return powers / powers.sum(0)


@mistake("logsumexp", {"axes": (1,)}, normal(4, 16, shift=200))
def naively(x: Array) -> Array:
    return np.log(np.exp(x).sum(1))


def moments(x: Array) -> Array:
    return (x * x).mean(-1, keepdims=True) - x.mean(-1, keepdims=True) ** 2


@mistake("var", {"axes": (-1,)}, normal(3, 64, shift=1000))
def by_moments(x: Array) -> Array:
    return moments(x)[..., 0]


@mistake("layer_norm", {}, normal(3, 64, shift=1000), normal(64), normal(64))
def with_variance_by_moments(x: Array, w: Array, b: Array) -> Array:
    root = np.sqrt(np.maximum(moments(x), 0) + F32(1e-5))
    return (x - x.mean(-1, keepdims=True)) / root * w + b


@mistake("layer_norm", {}, normal(3, 9), normal(9), normal(9))
def by_n_minus_one(x: Array, w: Array, b: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    var = (centred * centred).sum(-1, keepdims=True) / F32(8)
    return centred / np.sqrt(var + F32(1e-5)) * w + b


@mistake("rms_norm", {}, normal(3, 32, scale=1e-3), normal(32))
def with_ten_times_eps(x: Array, w: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + F32(1e-5)) * w


@mistake("rms_norm", {}, normal(3, 32, scale=1e-3), normal(32))
def with_eps_outside_the_root(x: Array, w: Array) -> Array:
    return x / (np.sqrt((x * x).mean(-1, keepdims=True)) + F32(1e-6)) * w


@mistake("layer_norm_backward", {}, normal(4, 16), normal(16), normal(4, 16))
def without_the_second_mean(x: Array, w: Array, grad: Array) -> list[Array]:
    centred = x - x.mean(-1, keepdims=True)
    s = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + F32(1e-5))
    g = grad * w
    return [(g - g.mean(-1, keepdims=True)) * s, (grad * centred * s).sum(0), grad.sum(0)]


@mistake("gelu", {}, normal(257))
def gelu_by_tanh(x: Array) -> Array:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)), F32)


@mistake("gelu_backward", {}, normal(257), normal(257))
def gelu_slope_wrong_in_the_fourth_digit(x: Array, grad: Array) -> Array:
    phi = 0.5 * (1 + error_function(x / math.sqrt(2)))
    return np.asarray(grad * (phi + x * np.exp(-x * x / 2) * 0.3990), F32)


@mistake("log1p", {}, normal(64, scale=1e-3))
def log_of_one_plus(x: Array) -> Array:
    return np.log(F32(1) + x)


@mistake("expm1", {}, normal(64, scale=1e-3))
def exp_minus_one(x: Array) -> Array:
    return np.exp(x) - F32(1)


@mistake("matmul", {}, normal(8, 257, kind=F16), normal(257, 8, kind=F16))
def accumulated_in_float16(x: Array, y: Array) -> Array:
    total = np.zeros((8, 8), F16)
    for i in range(257):
        total += np.outer(x[:, i], y[i])
    return total


@mistake("matmul", {}, normal(33, 64), normal(64, 17))
def from_tf32(x: Array, y: Array) -> Array:
    return kept(x, 10) @ kept(y, 10)


@mistake("matmul", {}, normal(33, 1024), normal(1024, 17))
def from_tf32_of_long_rows(x: Array, y: Array) -> Array:
    return kept(x, 10) @ kept(y, 10)


@mistake("matmul", {}, normal(33, 65), normal(65, 17))
def without_the_last_term(x: Array, y: Array) -> Array:
    return x[:, :64] @ y[:64]


@mistake("sum", {}, np.abs(normal(5000, kind=F16)))
def summed_in_float16(x: Array) -> Array:
    total = F16(0)
    for value in x:
        total = F16(total + value)
    return np.asarray(total)


@mistake("cumsum", {}, normal(3, 40))
def without_the_element_itself(x: Array) -> Array:
    return np.asarray(x.cumsum(-1) - x, F32)


@mistake("scatter_add", {"axis": 0}, normal(4), np.array([2, 2, 0, 2], np.int32), normal(4))
def losing_duplicates(x: Array, indices: Array, source: Array) -> Array:
    out = x.copy()
    out[indices] = x[indices] + source
    return out


@mistake("conv2d", {}, normal(1, 2, 6, 6), normal(3, 2, 3, 3))
def with_the_kernel_turned(x: Array, w: Array) -> Array:
    return forward(REGISTRY["conv2d"](), [x, w[:, :, ::-1, ::-1]], PROFILES["ieee"])[0].rounded()


@mistake("max_pool2d", {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)},
         -1 - np.abs(normal(1, 1, 4, 4)))  # fmt: skip
def padded_with_zeros(x: Array) -> Array:
    return np.zeros((1, 1, 2, 2), F32)


ATTENTION: dict[str, Any] = {"scale": 0.5, "causal": True}
QKV = (normal(1, 2, 6, 4), normal(1, 2, 6, 4), normal(1, 2, 6, 4))


def attention(q: Array, k: Array, v: Array, scale: float, reach: int) -> list[Array]:
    scores = q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2) * scale
    scores = np.where(np.tri(6, 6, reach, bool), scores, -np.inf)
    powers = np.exp(scores)
    total = powers.sum(-1)
    return [(powers @ v / total[..., None]).astype(F32), np.log(total).astype(F32)]


@mistake("scaled_dot_product_attention", ATTENTION, *QKV)
def scaled_by_the_size(q: Array, k: Array, v: Array) -> list[Array]:
    return attention(q, k, v, 0.25, 0)


@mistake("scaled_dot_product_attention", ATTENTION, *QKV)
def seeing_one_too_far(q: Array, k: Array, v: Array) -> list[Array]:
    return attention(q, k, v, 0.5, 1)


@mistake("rotary_embedding", {}, normal(5, 8), np.arange(5, dtype=np.int32))
def with_neighbours_paired(x: Array, at: Array) -> Array:
    angle = at[:, None] * 10000.0 ** (-2 * np.arange(4) / 8)
    even, odd = x[:, ::2], x[:, 1::2]
    turned = [
        even * np.cos(angle) - odd * np.sin(angle),
        odd * np.cos(angle) + even * np.sin(angle),
    ]
    return np.stack(turned, -1).reshape(x.shape).astype(F32)


@mistake("cross_entropy", {}, normal(4, 5), np.array([1, -100, 3, -100], np.int32))
def averaged_over_ignored_rows(x: Array, target: Array) -> list[Array]:
    rows = np.log(np.exp(x).sum(-1))
    return [np.asarray(((rows[0] - x[0, 1]) + (rows[2] - x[2, 3])) / 4, F32), rows]


NUMBERS = (F32(0.01), np.int32(3), F32(1.0))
STATE = (*NUMBERS, normal(65), normal(65), normal(65), np.abs(normal(65)))


def adamw(p: Array, g: Array, m: Array, v: Array, step: float, inside: bool) -> list[Array]:
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    corrected, size = v / (1 - 0.999**step), m / (1 - 0.9**step)
    root = np.sqrt(corrected + 1e-8) if inside else np.sqrt(corrected) + 1e-8
    return [np.asarray(x, F32) for x in (p - 0.01 * size / root, m, v)]


@mistake("adamw", {"count": 1, "weight_decay": (0.0,)}, *STATE)
def without_bias_correction(lr: Any, step: Any, scale: Any, *own: Array) -> list[Array]:
    return adamw(*own, math.inf, inside=False)


@mistake("adamw", {"count": 1, "weight_decay": (0.0,)}, *STATE[:5], normal(65, scale=1e-6),
         np.full(65, 1e-12, F32))  # fmt: skip
def with_eps_inside_the_root(lr: Any, step: Any, scale: Any, *own: Array) -> list[Array]:
    return adamw(*own, 3, inside=True)


@mistake("sgd", {"count": 1, "weight_decay": (0.1,)}, *NUMBERS, normal(9), normal(9))
def with_decay_on_the_wrong_side(lr: Any, step: Any, scale: Any, p: Array, g: Array) -> Array:
    return np.asarray(p - F32(0.01) * (g - F32(0.1) * p), F32)


@mistake("dropout", {"p": 0.25}, normal(40), np.array([1, 0, 2, 0], np.int32))
def without_the_scale(x: Array, state: Array) -> Array:
    right = forward(REGISTRY["dropout"](p=0.25), [x, state], PROFILES["ieee"])[0].rounded()
    return np.where(right == 0, right, x)


@mistake("maximum", {}, np.array([np.nan, 1, 2], F32), np.array([1, np.nan, 1], F32))
def dropping_nan(x: Array, y: Array) -> Array:
    return np.fmax(x, y)


@mistake("sum", {}, np.array([2**24, 1], np.int32))
def integers_summed_as_floats(x: Array) -> Array:
    return np.asarray(x.astype(F32).sum(), np.int32)


@PROFILE
@pytest.mark.parametrize(("op", "inputs", "wrong"), [m[1:] for m in MISTAKES],
                         ids=[m[0] for m in MISTAKES])  # fmt: skip
def test_known_mistakes_are_rejected(
    op: Op, inputs: list[Array], wrong: Wrong, profile: Profile
) -> None:
    expected = forward(op, inputs, profile)
    found = wrong(*inputs)
    results = found if isinstance(found, list) else [found]
    assert not kills(expected, [y.rounded() for y in expected])
    assert kills(expected, results)

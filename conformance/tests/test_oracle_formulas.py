"""The oracle against closed forms, known answers and identities that need no other oracle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from groundup import dtypes as dt
from groundup.ops.op import REGISTRY, Op
from groundup.ops.samples import cases_of
from groundup_conformance.oracle import IEEE, WGSL, Expected, backward, forward, has_reference
from groundup_conformance.oracle.creation import philox
from groundup_conformance.oracle.functions import error_function, logistic
from groundup_conformance.oracle.sums import others

Array = np.ndarray[Any, np.dtype[Any]]


def op(name: str, **params: Any) -> Op:
    return REGISTRY[name](**params)


def value(found: Op, *inputs: Any) -> Array:
    return forward(found, [np.asarray(x) for x in inputs], IEEE)[0].value


def gradients(found: Op, inputs: list[Array], *cotangents: Array) -> list[Array]:
    results = backward(found, inputs, list(cotangents), IEEE)
    return [g.value for g in results if g is not None]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_every_op_of_the_core_has_a_reference() -> None:
    assert [name for name, kind in REGISTRY.items() if not has_reference(kind)] == []


# ---- known answers ----


@pytest.mark.parametrize(
    ("counter", "key", "wanted"),
    [
        ([0, 0, 0, 0], (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)  # fmt: skip
def test_philox_gives_the_published_answers(
    counter: list[int], key: tuple[int, int], wanted: str
) -> None:
    """The known-answer tests of Random123, the authors' own implementation."""
    words = philox(np.array([counter], np.uint64), key)[0]
    assert " ".join(f"{int(word):08x}" for word in words) == wanted


def test_special_functions() -> None:
    """DLMF 7.2, 4.37; values with more digits than float64 holds."""
    x = np.array([0.5, 1.0, 2.0, -1.0])
    wanted = [0.5204998778130465, 0.8427007929497149, 0.9953222650189527, -0.8427007929497149]
    np.testing.assert_allclose(error_function(x), wanted, rtol=1e-15)
    wanted = [0.5, 0.7310585786300049, 0.2689414213699951]
    np.testing.assert_allclose(logistic(np.array([0.0, 1.0, -1.0])), wanted, rtol=1e-15)
    assert logistic(np.array([-800.0, 800.0])).tolist() == [0.0, 1.0]


def test_closed_forms() -> None:
    assert value(op("gelu"), [1.0])[0] == pytest.approx(0.8413447460685429)
    assert value(op("gelu", approximate="tanh"), [1.0])[0] == pytest.approx(0.8411919906082768)
    assert value(op("silu"), [1.0])[0] == pytest.approx(0.7310585786300049)
    assert value(op("softmax"), [[0.0, math.log(3)]])[0] == pytest.approx([0.25, 0.75])
    assert value(op("logsumexp"), [1000.0, 1000.0]) == pytest.approx(1000 + math.log(2))
    assert value(op("var", correction=1), [1.0, 2.0, 4.0]) == pytest.approx(7 / 3)
    logits, target = np.array([[0.0, 0.0, math.log(2)]]), np.array([2], np.int32)
    assert value(op("cross_entropy"), logits, target) == pytest.approx(math.log(2))
    assert value(op("global_norm"), [3.0], [[4.0], [12.0]]) == pytest.approx(13)
    assert value(op("remainder"), [7.0, -7.0], [-3.0, 3.0]).tolist() == [-2.0, 2.0]
    assert value(op("pow"), [0.0, -2.0], [0.0, 3.0]).tolist() == [1.0, -8.0]


def test_convolution_by_definition(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((2, 4, 7, 6)), rng.standard_normal((6, 2, 3, 2))
    found = op("conv2d", stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)])
    y = value(found, x, w)
    wanted = np.zeros_like(y)
    for n, o, v, u in np.ndindex(wanted.shape):
        group = o // 3
        for c, i, j in np.ndindex(2, 3, 2):
            wanted[n, o, v, u] += w[o, c, i, j] * padded[n, 2 * group + c, 2 * v + 2 * i, u + j]
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-12)


def test_convolutions_are_one_trilinear_form(rng: np.random.Generator) -> None:
    """<conv(x, w), g> = <x, conv_transpose(g, w)> = <w, backward_weight(x, g)>."""
    settings = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    x, w = rng.standard_normal((2, 4, 5, 6)), rng.standard_normal((4, 2, 3, 2))
    y = value(op("conv2d", **settings), x, w)
    g = rng.standard_normal(y.shape)
    back = value(op("conv_transpose2d", **settings), g, w)
    dw = value(op("conv2d_backward_weight", kernel=(3, 2), **settings), x, g)
    assert (x * back).sum() == pytest.approx((y * g).sum())
    assert (w * dw).sum() == pytest.approx((y * g).sum())


def test_einsum_is_numpys(rng: np.random.Generator) -> None:
    for case in cases_of(REGISTRY["einsum"], dt.float64):
        arrays = [o.array for o in case.inputs]
        equation = case.op.equation  # type: ignore[attr-defined]
        if "special" in case.tags or any(not np.isfinite(a).all() for a in arrays):
            continue
        np.testing.assert_allclose(
            value(case.op, *arrays), np.einsum(equation, *arrays), rtol=1e-12, atol=1e-12
        )


def test_attention_by_definition(rng: np.random.Generator) -> None:
    q, k, v = (rng.standard_normal((2, h, n, 4)) for h, n in ((4, 5), (2, 7), (2, 7)))
    found = op("scaled_dot_product_attention", scale=0.3, causal=True)
    out, logsumexp = forward(found, [q, k, v], IEEE)
    for b, h, t in np.ndindex(2, 4, 5):
        scores = np.array([0.3 * q[b, h, t] @ k[b, h // 2, s] for s in range(t + 1)])
        p = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(out.value[b, h, t], p @ v[b, h // 2, : t + 1], rtol=1e-12)
        assert logsumexp.value[b, h, t] == pytest.approx(math.log(np.exp(scores).sum()))


def test_cached_attention_is_causal_attention_of_what_is_filled(rng: np.random.Generator) -> None:
    q, k, v = (rng.standard_normal((1, 2, n, 4)) for n in (5, 9, 9))
    plain = op("scaled_dot_product_attention", scale=0.5, causal=True)
    wanted = value(plain, q, k[:, :, :5], v[:, :, :5])
    got = value(op("cached_attention", scale=0.5), q, k, v, np.int32(5))
    np.testing.assert_allclose(got, wanted, rtol=1e-13)


def test_adamw_by_hand() -> None:
    found = op("adamw", count=1, weight_decay=(0.1,), beta1=0.9, beta2=0.99, eps=1e-8)
    one = np.ones(1)
    numbers = np.float64(0.5), np.int32(1), np.float64(2.0)
    p, m, v = forward(found, [*map(np.asarray, numbers), one, one, 0 * one, 0 * one], IEEE)
    # g = 2; m = 0.2, v = 0.04; both corrected are g and g^2, so that the step is lr.
    assert (m.value[0], v.value[0]) == pytest.approx((0.2, 0.04))
    assert p.value[0] == pytest.approx(1 - 0.5 * 0.1 - 0.5)


# ---- identities ----


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_sums_to_one_and_ignores_shifts(axis: int, rng: np.random.Generator) -> None:
    x = 5 * rng.standard_normal((3, 4, 5))
    y = value(op("softmax", axis=axis), x)
    np.testing.assert_allclose(y.sum(axis), 1, rtol=1e-13)
    np.testing.assert_allclose(value(op("softmax", axis=axis), x + 100), y, rtol=1e-12)
    logs = value(op("log_softmax", axis=axis), x)
    np.testing.assert_allclose(np.exp(logs), y, rtol=1e-13)


def test_gradient_of_softmax_sums_to_zero(rng: np.random.Generator) -> None:
    x, g = rng.standard_normal((2, 3, 7))
    for name in ("softmax", "log_softmax"):
        (dx,) = gradients(op(name), [x], g)
        np.testing.assert_allclose(dx.sum(-1), 0, atol=1e-13)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms_have_unit_size_and_ignore_scale(name: str, rng: np.random.Generator) -> None:
    x, ones = 3 * rng.standard_normal((4, 33)) + 2, np.ones(33)
    vectors = [ones, 0 * ones] if name == "layer_norm" else [ones]
    y = value(op(name, eps=0.0), x, *vectors)
    np.testing.assert_allclose((y * y).mean(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(value(op(name, eps=0.0), 7 * x, *vectors), y, rtol=1e-12)
    if name == "layer_norm":
        np.testing.assert_allclose(y.mean(-1), 0, atol=1e-13)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "var", "logsumexp", "prod"])
def test_reductions_do_not_see_the_order(name: str, rng: np.random.Generator) -> None:
    x = rng.uniform(0.5, 1.5, (3, 40))
    shuffled = x[:, rng.permutation(40)]
    kind = op(name, axes=(1,))
    np.testing.assert_allclose(value(kind, shuffled), value(kind, x), rtol=1e-13)


@pytest.mark.parametrize("name", ["matmul", "conv2d", "cumsum", "avg_pool2d"])
def test_linear_ops_are_linear(name: str, rng: np.random.Generator) -> None:
    shapes = {"matmul": [(4, 5), (5, 3)], "conv2d": [(1, 2, 5, 5), (3, 2, 2, 2)],
              "cumsum": [(3, 9)], "avg_pool2d": [(1, 2, 4, 4)]}  # fmt: skip
    params = {"avg_pool2d": {"kernel": (2, 2), "stride": (2, 2)}}
    kind = op(name, **params.get(name, {}))
    x, *rest = (rng.standard_normal(shape) for shape in shapes[name])
    z = rng.standard_normal(x.shape)
    both = value(kind, 2 * x - 3 * z, *rest)
    apart = 2 * value(kind, x, *rest) - 3 * value(kind, z, *rest)
    np.testing.assert_allclose(both, apart, rtol=1e-12, atol=1e-12)


def test_rows_do_not_see_each_other(rng: np.random.Generator) -> None:
    """f(concat(x, z)) = concat(f(x), f(z)) for what works on rows."""
    x, z, w = rng.standard_normal((3, 9)), rng.standard_normal((2, 9)), rng.standard_normal(9)
    for kind, rest in (
        (op("softmax"), []), (op("layer_norm"), [w, w]), (op("rms_norm"), [w]),
        (op("log_softmax"), []), (op("gelu"), []), (op("cumsum"), []),
    ):  # fmt: skip
        together = value(kind, np.concatenate([x, z]), *rest)
        apart = np.concatenate([value(kind, x, *rest), value(kind, z, *rest)])
        np.testing.assert_allclose(together, apart, rtol=1e-13)


def test_rotation_keeps_lengths_and_turns_back(rng: np.random.Generator) -> None:
    x, at = rng.standard_normal((5, 8)), np.arange(5, dtype=np.int32)
    y = value(op("rotary_embedding"), x, at)
    np.testing.assert_allclose(np.hypot(y[:, :4], y[:, 4:]), np.hypot(x[:, :4], x[:, 4:]))
    np.testing.assert_allclose(value(op("rotary_embedding", inverse=True), y, at), x, rtol=1e-12)


def test_products_of_others_need_no_division() -> None:
    rows = np.array([[2.0, 3.0, 5.0], [0.0, 3.0, 5.0], [0.0, 0.0, 5.0]])
    assert others(rows).tolist() == [[15, 10, 6], [15, 0, 0], [0, 0, 0]]


def test_random_numbers_have_their_moments() -> None:
    state = np.array([5, 0, 1, 0], np.int32)
    z = value(op("normal", shape=(40000,)), state)
    assert abs(z.mean()) < 0.02
    assert z.std() == pytest.approx(1, abs=0.02)
    u = value(op("uniform", shape=(40000,)), state)
    assert (u.min(), u.max()) == pytest.approx((0, 1), abs=1e-3)
    assert u.mean() == pytest.approx(0.5, abs=0.01)
    following = forward(op("advance_state"), [np.array([5, 6, -1, 8], np.int32)], IEEE)[0].value
    assert following.tolist() == [5, 6, 0, 9]


# ---- kinks and special values ----


def test_conventions_at_kinks() -> None:
    zero, one = np.zeros(1), np.ones(1)
    assert gradients(op("relu"), [zero], one)[0] == 0
    assert gradients(op("abs"), [zero], one)[0] == 0
    assert [g[0] for g in gradients(op("maximum"), [one, one], one)] == [0.5, 0.5]
    ties = np.array([2.0, 1.0, 2.0])
    assert gradients(op("max"), [ties], np.ones(()))[0].tolist() == [0.5, 0, 0.5]
    assert gradients(op("clamp", min=0, max=1), [one], one)[0] == 1
    assert gradients(op("prod"), [np.array([0.0, 3.0])], np.ones(()))[0].tolist() == [3, 0]


def test_conventions_for_nothing_and_nan() -> None:
    nothing = np.zeros((0, 2))
    assert value(op("sum", axes=(0,)), nothing).tolist() == [0, 0]
    assert value(op("prod", axes=(0,)), nothing).tolist() == [1, 1]
    assert np.isnan(value(op("mean", axes=(0,)), nothing)).all()
    assert (value(op("logsumexp", axes=(0,)), nothing) == -np.inf).all()
    nan = np.array([np.nan, 1.0])
    for name in ("maximum", "minimum"):
        assert np.isnan(value(op(name), nan, nan[::-1])).all()
    assert np.isnan(value(op("relu"), nan)).tolist() == [True, False]
    assert np.isnan(value(op("softmax"), [-np.inf, -np.inf])).all()
    assert value(op("argmax"), [1.0, np.nan, np.nan]) == 1


def test_attention_that_sees_nothing_is_zero() -> None:
    q = np.ones((1, 1, 1, 2))
    found = op("scaled_dot_product_attention", scale=1.0, masked=True)
    mask = np.zeros((1, 1), bool)
    out, logsumexp = forward(found, [q, q, q, mask], IEEE)
    assert (out.value == 0).all()
    assert logsumexp.value[0, 0, 0] == -np.inf
    for g in gradients(found, [q, q, q, mask], np.ones_like(q), np.zeros((1, 1, 1))):
        assert (g == 0).all()


def test_casts_saturate_wrap_and_round_to_even() -> None:
    def cast(x: Array, dtype: dt.DType) -> list[Any]:
        (found,) = forward(op("cast", dtype=dtype), [x], IEEE)
        return found.rounded().tolist()  # type: ignore[no-any-return]

    floats = np.array([np.nan, np.inf, -np.inf, 2.9, -2.9, 3e9], np.float32)
    top = 2**31 - 1
    assert cast(floats, dt.int32) == [0, top, -(2**31), 2, -2, top]
    assert cast(floats, dt.uint8) == [0, 255, 0, 2, 0, 255]
    assert cast(np.array([300, -1], np.int32), dt.uint8) == [44, 255]
    assert cast(np.array([2049.0, 2051.0], np.float32), dt.float16) == [2048.0, 2052.0]
    assert cast(floats[:1], dt.bool_) == [True]


def test_inputs_broadcast_and_promote_as_in_the_core() -> None:
    half, ints = np.ones((2, 1), np.float16), np.array([1, 2, 3], np.int32)
    (found,) = forward(op("add"), [half, ints], IEEE)
    assert found.dtype is dt.float16
    assert found.value.tolist() == [[2, 3, 4]] * 2
    dx, dy = backward(op("add"), [half, ints], [np.ones((2, 3), np.float16)], IEEE)
    assert isinstance(dx, Expected)
    assert (dx.value.tolist(), dy) == ([[3], [3]], None)
    (root,) = forward(op("sqrt"), [np.array([4], np.int32)], WGSL)
    assert (root.dtype, root.value.tolist()) == (dt.float32, [2])

"""The float64 layers of level 3: gradients by central differences, values by formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from groundup_conformance.training import float64 as f64
from groundup_conformance.training import steps
from groundup_conformance.training.float64 import Array, Value

RNG = np.random.default_rng(3)
TARGETS = np.array([1, 0, 2, 1], np.int32)
IDS = np.array([[0, 2, 2], [1, 0, 2]], np.int32)
LAYERS: dict[str, tuple[Callable[..., Value], list[tuple[int, ...]]]] = {
    "add": (f64.add, [(2, 3), (3,)]),
    "add-channels": (f64.add, [(2, 3, 2, 2), (3, 1, 1)]),
    "reshape": (lambda x: f64.reshape(x, 3, -1), [(2, 6)]),
    "permute": (lambda x: f64.permute(x, 2, 0, 1), [(2, 3, 4)]),
    "pick": (lambda x: f64.pick(x, slice(1, 3)), [(4, 2)]),
    "embedding": (lambda w: f64.embedding(w, IDS), [(4, 3)]),
    "linear": (f64.linear, [(2, 3, 4), (5, 4), (5,)]),
    "linear-no-bias": (f64.linear, [(3, 4), (5, 4)]),
    "conv2d": (lambda x, w: f64.conv2d(x, w, padding=1), [(2, 2, 5, 4), (3, 2, 3, 3)]),
    "conv2d-stride": (
        lambda x, w: f64.conv2d(x, w, stride=2, padding=1),
        [(1, 2, 6, 5), (2, 2, 3, 2)],
    ),
    "max_pool2d": (lambda x: f64.max_pool2d(x, 2), [(2, 2, 4, 6)]),
    "mean_pool": (f64.mean_pool, [(2, 3, 2, 3)]),
    "layer_norm": (f64.layer_norm, [(2, 3, 5), (5,), (5,)]),
    "group_norm": (lambda x, w, b: f64.group_norm(x, w, b, 2), [(2, 4, 2, 3), (4,), (4,)]),
    "batch_norm": (f64.batch_norm, [(3, 2, 2, 2), (2,), (2,)]),
    "rms_norm": (f64.rms_norm, [(2, 3, 4), (4,)]),
    "attention": (f64.attention, [(1, 2, 4, 3)] * 3),
    "relu": (f64.relu, [(3, 4)]),
    "silu": (f64.silu, [(3, 4)]),
    "gelu": (f64.gelu, [(3, 4)]),
    "gelu_tanh": (f64.gelu_tanh, [(3, 4)]),
    "cross_entropy": (lambda x: f64.cross_entropy(x, TARGETS), [(4, 3)]),
}


def weighted(y: Value, weights: Array) -> float:
    return float((y.data * weights).sum())


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_central_differences(name: str) -> None:
    layer, shapes = LAYERS[name]
    arrays = [RNG.standard_normal(shape) for shape in shapes]
    inputs = [Value(a) for a in arrays]
    y = layer(*inputs)
    weights = RNG.standard_normal(y.data.shape)
    total = f64.Value((y.data * weights).sum(), (y,), lambda g: (g * weights,))
    total.backward()
    for place, array in enumerate(arrays):
        numeric = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [a.copy() for a in arrays]
                moved[place][index] += step
                ends.append(weighted(layer(*map(Value, moved)), weights))
            numeric[index] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(inputs[place].grad, numeric, rtol=1e-6, atol=1e-8)


def test_a_value_that_is_used_twice_gets_both_gradients() -> None:
    x = Value([3.0])
    y = f64.add(x, f64.add(x, x))
    f64.reshape(y).backward()
    assert x.grad.tolist() == [3.0]


def test_attention_looks_back_only() -> None:
    q, k, v = (RNG.standard_normal((1, 1, 4, 3)) for _ in range(3))
    before = f64.attention(Value(q), Value(k), Value(v)).data
    k[0, 0, 2:], v[0, 0, 2:] = 9.0, 9.0
    after = f64.attention(Value(q), Value(k), Value(v)).data
    np.testing.assert_array_equal(after[0, 0, :2], before[0, 0, :2])
    np.testing.assert_allclose(before[0, 0, 0], v[0, 0, 0], rtol=1e-15)
    assert not np.allclose(after[0, 0, 2:], before[0, 0, 2:])


def test_convolution_is_the_sum_over_windows() -> None:
    x, w = RNG.standard_normal((1, 2, 4, 4)), RNG.standard_normal((1, 2, 3, 3))
    y = f64.conv2d(Value(x), Value(w)).data
    assert y.shape == (1, 1, 2, 2)
    np.testing.assert_allclose(y[0, 0, 1, 0], (x[0, :, 1:4, 0:3] * w[0]).sum(), rtol=1e-14)


def test_losses_and_norms_by_their_formulas() -> None:
    uniform = f64.cross_entropy(Value(np.zeros((4, 8))), TARGETS).data
    np.testing.assert_allclose(uniform, np.log(8), rtol=1e-15)
    x = RNG.standard_normal((5, 7)) * 3 + 10
    y = f64.layer_norm(Value(x), Value(np.ones(7)), Value(np.zeros(7)), eps=0.0).data
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose((y * y).mean(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(f64.gelu(Value(1.0)).data, 0.8413447460685429, rtol=1e-15)
    np.testing.assert_allclose(f64.gelu_tanh(Value(1.0)).data, 0.8411919906082768, rtol=1e-15)


def stepped(optimizer: steps.Descent | steps.AdamW, grads: Sequence[float]) -> list[float]:
    value = Value([1.0])
    found = []
    for grad in grads:
        value.grad = np.array([grad])
        optimizer.step({"p": value}, lr=0.1)
        found.append(float(value.data[0]))
    return found


def test_descent_by_hand() -> None:
    np.testing.assert_allclose(stepped(steps.Descent(), [1.0, 2.0]), [0.9, 0.7])
    # b = 1, then 0.5 * 1 + 2
    np.testing.assert_allclose(stepped(steps.Descent(momentum=0.5), [1.0, 2.0]), [0.9, 0.65])
    np.testing.assert_allclose(stepped(steps.Descent(decay=0.1), [1.0]), [1 - 0.1 * 1.1])


def test_adamw_by_hand() -> None:
    optimizer = steps.AdamW(beta1=0.5, beta2=0.5, eps=0.0, decay=0.0)
    m, v = 0.5 * 0.5 * 1 + 0.5 * 3, 0.5 * 0.5 * 1 + 0.5 * 9
    second = 0.9 - 0.1 * (m / 0.75) / np.sqrt(v / 0.75)
    np.testing.assert_allclose(stepped(optimizer, [1.0, 3.0]), [0.9, second])
    decayed = steps.AdamW(eps=0.0, decay=0.5)
    np.testing.assert_allclose(stepped(decayed, [1.0]), [0.95 - 0.1])


def test_clipping_leaves_small_gradients_alone() -> None:
    value = Value([0.0, 0.0])
    value.grad = np.array([3.0, 4.0])
    np.testing.assert_allclose(steps.clip({"p": value}, 1.0), 1 / (5 + 1e-6))
    assert steps.clip({"p": value}, 10.0) == 1.0

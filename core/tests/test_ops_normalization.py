"""softmax and the norms against formulas in float64; gradients and decided meanings."""

import numpy as np
import pytest

import groundup as gu
from groundup import ops
from groundup.autograd import grad
from groundup.errors import DTypeError, ShapeError

EPS = 1e-5
NARROW = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


def normal(*shape, seed=5):
    return np.random.default_rng(seed).standard_normal(shape)


def softmax(x, axis=-1):
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def layer_norm(x, weight, bias, eps=EPS):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def rms_norm(x, weight, eps=EPS):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def channels(vector, x):
    return vector.reshape(-1, *[1] * (x.ndim - 2))


def batch_norm(x, mean, var, weight, bias, eps=EPS):
    mean, var, weight, bias = (channels(v, x) for v in (mean, var, weight, bias))
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def group_norm(x, weight, bias, groups, eps=EPS):
    rows = x.reshape(x.shape[0], groups, -1)
    y = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + eps)
    return y.reshape(x.shape) * channels(weight, x) + channels(bias, x)


def tensors(*arrays, dtype=None):
    return [gu.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]


def check_gradients(function, reference, *arrays):
    """The gradient of sum(out * g) along a random direction of every input, by differences."""
    inputs = tensors(*arrays)
    out = function(*inputs)
    g = normal(*out.shape, seed=21)
    for i, found in enumerate(grad(out, inputs, [gu.tensor(g)])):
        step = normal(*arrays[i].shape, seed=22 + i)
        sides = []
        for sign in (1, -1):
            moved = [a + sign * 1e-6 * step if i == j else a for j, a in enumerate(arrays)]
            sides.append((reference(*moved) * g).sum())
        slope = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose((found.numpy() * step).sum(), slope, rtol=1e-6, atol=1e-8)


# ---- softmax ----


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_and_log_softmax(axis):
    x = normal(4, 5, 6) * 3
    got = ops.softmax(gu.tensor(x), axis).numpy()
    np.testing.assert_allclose(got, softmax(x, axis), rtol=1e-13)
    got = ops.log_softmax(gu.tensor(x), axis).numpy()
    np.testing.assert_allclose(got, np.log(softmax(x, axis)), rtol=1e-12)
    check_gradients(lambda t: ops.softmax(t, axis), lambda a: softmax(a, axis), x)
    check_gradients(lambda t: ops.log_softmax(t, axis), lambda a: np.log(softmax(a, axis)), x)


def test_softmax_neither_overflows_nor_underflows():
    x = np.array([[1e30, 0.0, -1e30], [-1e4, -1e4 - 1, -2e4]], np.float32)
    want = [[1.0, 0.0, 0.0], [1 / (1 + np.exp(-1)), np.exp(-1) / (1 + np.exp(-1)), 0.0]]
    np.testing.assert_allclose(ops.softmax(gu.tensor(x)).numpy(), want, rtol=1e-6)
    far = ops.log_softmax(gu.tensor(np.array([0.0, -500.0], np.float32))).numpy()
    np.testing.assert_allclose(far, [0.0, -500.0])


def test_softmax_of_nothing_but_minus_infinity_is_nan():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 0.0]], np.float32)
    got = ops.softmax(gu.tensor(x)).numpy()
    assert np.isnan(got[0]).all()
    assert got[1].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_softmax_of_nothing_is_nothing(shape):
    for function in (ops.softmax, ops.log_softmax):
        assert function(gu.zeros(shape)).shape == shape


def test_softmax_over_many_rows_and_long_rows():
    """More than one block of rows; rows too long for short-row sums."""
    for shape in ((3000, 200), (3, 50_000)):
        x = normal(*shape).astype(np.float32)
        got = ops.softmax(gu.tensor(x)).numpy()
        np.testing.assert_allclose(got, softmax(x.astype(float)), rtol=1e-5)


# ---- layer_norm, rms_norm ----


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 3, 7)], ids=str)
def test_layer_norm(shape):
    arrays = normal(*shape) * 2 + 1, normal(7, seed=6), normal(7, seed=7)
    got = ops.layer_norm(*tensors(*arrays)).detach().numpy()
    np.testing.assert_allclose(got, layer_norm(*arrays), rtol=1e-12, atol=1e-13)
    check_gradients(ops.layer_norm, layer_norm, *arrays)
    bare = ops.layer_norm(*tensors(*arrays[:2])).detach().numpy()
    np.testing.assert_allclose(bare, layer_norm(*arrays[:2], 0), rtol=1e-12, atol=1e-13)
    check_gradients(ops.layer_norm, lambda x, w: layer_norm(x, w, 0), *arrays[:2])


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 3, 7)], ids=str)
def test_rms_norm(shape):
    arrays = normal(*shape) * 2 + 1, normal(7, seed=6)
    got = ops.rms_norm(*tensors(*arrays), eps=EPS).detach().numpy()
    np.testing.assert_allclose(got, rms_norm(*arrays), rtol=1e-12, atol=1e-13)
    check_gradients(lambda *t: ops.rms_norm(*t, eps=EPS), rms_norm, *arrays)


def test_norms_over_many_rows():
    """More than one block: the parts of dweight and dbias add up."""
    x, weight, bias = normal(3000, 200) + 0.5, normal(200), normal(200)
    check_gradients(ops.layer_norm, layer_norm, x, weight, bias)
    check_gradients(lambda *t: ops.rms_norm(*t, eps=EPS), rms_norm, x, weight)


def test_layer_norm_of_a_large_mean_does_not_cancel():
    """E[x^2] - E[x]^2 in float32 would leave nothing of this variance."""
    x = (normal(4, 256) + 10_000).astype(np.float32)
    ones, zeros = np.ones(256, np.float32), np.zeros(256, np.float32)
    got = ops.layer_norm(*tensors(x, ones, zeros)).detach().numpy()
    np.testing.assert_allclose(got, layer_norm(x.astype(float), 1, 0), atol=2e-3)


def test_layer_norm_of_a_constant_row_is_the_bias():
    x = np.full((2, 384), 2.3, np.float32)
    bias = normal(384).astype(np.float32)
    got = ops.layer_norm(*tensors(x, np.ones(384, np.float32), bias)).detach().numpy()
    np.testing.assert_allclose(got, np.stack([bias, bias]), atol=1e-4)


@pytest.mark.parametrize("dtype", NARROW)
def test_low_precision_sums_in_float32(dtype):
    """Sums of 4096 squares near 2, which neither dtype could hold to a few digits."""
    x, weight = normal(3, 4096) + 1, normal(4096)
    low_x, low_weight = gu.tensor(x, dtype=dtype), gu.tensor(weight, dtype=dtype)
    exact = [t.astype("float64").numpy() for t in (low_x, low_weight)]
    allowed = 2 * NARROW[dtype]
    got = ops.rms_norm(low_x, low_weight, eps=EPS).astype("float64").numpy()
    np.testing.assert_allclose(got, rms_norm(*exact), rtol=allowed, atol=allowed)
    got = ops.softmax(low_x).astype("float64").numpy()
    np.testing.assert_allclose(got, softmax(exact[0]), rtol=allowed, atol=1e-7)


# ---- behind a residual add ----


def test_add_layer_norm_returns_both_results_with_gradients():
    arrays = normal(3, 7), normal(3, 7, seed=8), normal(7, seed=6), normal(7, seed=7)
    out, total = ops.add_layer_norm(*tensors(*arrays))
    np.testing.assert_array_equal(total.detach().numpy(), arrays[0] + arrays[1])
    want = layer_norm(arrays[0] + arrays[1], *arrays[2:])
    np.testing.assert_allclose(out.detach().numpy(), want, rtol=1e-12, atol=1e-13)

    def mixed(x, residual, weight, bias):  # uses both results
        out, total = ops.add_layer_norm(x, residual, weight, bias)
        return out * total

    check_gradients(mixed, lambda x, r, w, b: layer_norm(x + r, w, b) * (x + r), *arrays)
    check_gradients(
        lambda *t: ops.add_layer_norm(*t)[1], lambda x, r, w, b: x + r + 0 * w + 0 * b, *arrays
    )


def test_add_rms_norm_returns_both_results_with_gradients():
    arrays = normal(3, 7), normal(3, 7, seed=8), normal(7, seed=6)

    def mixed(x, residual, weight):
        out, total = ops.add_rms_norm(x, residual, weight, eps=EPS)
        return out * total

    check_gradients(mixed, lambda x, r, w: rms_norm(x + r, w) * (x + r), *arrays)


# ---- by channel ----


@pytest.mark.parametrize("shape", [(5, 6), (4, 6, 3), (2, 6, 3, 2)], ids=str)
def test_batch_norm(shape):
    x, (mean, weight, bias) = normal(*shape), normal(3, 6, seed=6)
    var = np.random.default_rng(7).uniform(0.5, 2, 6)
    arrays = x, mean, var, weight, bias
    got = ops.batch_norm(*tensors(*arrays)).detach().numpy()
    np.testing.assert_allclose(got, batch_norm(*arrays), rtol=1e-12, atol=1e-13)
    check_gradients(ops.batch_norm, batch_norm, *arrays)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(4, 6, 3), (2, 6, 3, 2)], ids=str)
def test_group_norm(shape, groups):
    arrays = normal(*shape), *normal(2, 6, seed=6)
    got = ops.group_norm(*tensors(*arrays), groups).detach().numpy()
    np.testing.assert_allclose(got, group_norm(*arrays, groups), rtol=1e-12, atol=1e-13)
    check_gradients(
        lambda *t: ops.group_norm(*t, groups), lambda *a: group_norm(*a, groups), *arrays
    )


def test_channel_norms_over_many_samples():
    """More than one block of samples."""
    x, (mean, weight, bias) = normal(300, 6, 40, 10), normal(3, 6, seed=6)
    var = np.random.default_rng(7).uniform(0.5, 2, 6)
    check_gradients(ops.batch_norm, batch_norm, x, mean, var, weight, bias)
    check_gradients(lambda *t: ops.group_norm(*t, 3), lambda *a: group_norm(*a, 3), x, weight, bias)


def test_refusals_name_what_is_wrong():
    x, good, bad = gu.zeros((2, 3)), gu.zeros((3,)), gu.zeros((4,))
    with pytest.raises(ShapeError, match=r"layer_norm: weight must have shape \(3,\), got \(4,\)"):
        ops.layer_norm(x, bad, good)
    with pytest.raises(DTypeError, match=r"rms_norm: .* weight is float16.*weight.astype"):
        ops.rms_norm(x, good.astype("float16"))
    with pytest.raises(ShapeError, match=r"add_rms_norm: .* but residual is"):
        ops.add_rms_norm(x, gu.zeros((3, 3)), good)
    with pytest.raises(DTypeError, match=r"softmax: x must be floating-point, got int32\[3\]"):
        ops.softmax(gu.zeros((3,), dtype="int32"))
    with pytest.raises(ShapeError, match="log_softmax: axis 2 is out of range"):
        ops.log_softmax(x, 2)
    with pytest.raises(ShapeError, match="group_norm: 2 groups do not divide the channels"):
        ops.group_norm(x, good, good, 2)
    with pytest.raises(ShapeError, match=r"batch_norm: var must have shape \(3,\)"):
        ops.batch_norm(x, good, bad, good, good)

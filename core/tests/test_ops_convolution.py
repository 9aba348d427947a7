"""Convolutions and pools against plain loops in float64, and against PyTorch if it is there."""

import itertools

import numpy as np
import pytest

import groundup as gu
from groundup import ops
from groundup.autograd import grad
from groundup.errors import DTypeError, ShapeError

SETTINGS = [
    {},
    {"padding": 1},
    {"stride": 2},
    {"dilation": 2},
    {"groups": 2},
    {"stride": (2, 3), "padding": (1, 2), "dilation": (2, 1), "groups": 2},
]


def normal(*shape, seed=5):
    return np.random.default_rng(seed).standard_normal(shape)


def pair(value):
    return (value, value) if isinstance(value, int) else value


def loops(x, weight, stride=1, padding=0, dilation=1, groups=1):
    """The definition: one dot product per output element."""
    (s, t), (p, q), (d, e) = pair(stride), pair(padding), pair(dilation)
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (q, q)))
    o, inner, kh, kw = weight.shape
    high = (x.shape[2] - d * (kh - 1) - 1) // s + 1
    wide = (x.shape[3] - e * (kw - 1) - 1) // t + 1
    out = np.zeros((x.shape[0], o, high, wide))
    for n, c, i, j in itertools.product(*map(range, out.shape)):
        first = c // (o // groups) * inner
        window = x[n, first : first + inner]
        window = window[:, i * s : i * s + d * kh : d, j * t : j * t + e * kw : e]
        out[n, c, i, j] = (window[:, :kh, :kw] * weight[c]).sum()
    return out


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_conv2d_is_its_definition(settings):
    x = normal(2, 4, 7, 8)
    weight, bias = normal(6, 4 // settings.get("groups", 1), 3, 2, seed=6), normal(6)
    got = ops.conv2d(gu.tensor(x), gu.tensor(weight), gu.tensor(bias), **settings).numpy()
    want = loops(x, weight, **settings) + bias[:, None, None]
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS[:5], ids=str)
def test_conv1d_is_its_definition(settings):
    x, weight = normal(2, 4, 9), normal(6, 4 // settings.get("groups", 1), 3, seed=6)
    got = ops.conv1d(gu.tensor(x), gu.tensor(weight), **settings).numpy()
    for_images = {k: v if k == "groups" else (1, v) for k, v in settings.items()}
    if "padding" in settings:
        for_images["padding"] = (0, settings["padding"])
    want = loops(x[:, :, None], weight[:, :, None], **for_images)[:, :, 0]
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_transposed_convolution_is_the_transpose(settings):
    """<conv(x), y> = <x, conv_transpose(y)> for all x and y is what a transpose is."""
    x = normal(2, 4, 7, 8)
    weight = normal(6, 4 // settings.get("groups", 1), 3, 2, seed=6)
    forward = loops(x, weight, **settings)
    y = normal(*forward.shape, seed=7)
    (s, t), (p, q), (d, e) = (
        pair(settings.get(name, value))
        for name, value in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    extra = (
        7 - ((y.shape[2] - 1) * s - 2 * p + d * 2 + 1),
        8 - ((y.shape[3] - 1) * t - 2 * q + e + 1),
    )
    back = ops.conv_transpose2d(gu.tensor(y), gu.tensor(weight), output_padding=extra, **settings)
    assert back.shape == x.shape
    np.testing.assert_allclose((back.numpy() * x).sum(), (forward * y).sum(), rtol=1e-10)


def test_many_images_and_a_kernel_of_one():
    """More than one block of columns; and the kernel that needs no columns at all."""
    x, weight = normal(40, 3, 33, 32), normal(2, 3, 3, 3)
    got = ops.conv2d(gu.tensor(x), gu.tensor(weight), padding=1).numpy()
    np.testing.assert_allclose(got[-1:], loops(x[-1:], weight, padding=1), rtol=1e-9, atol=1e-11)
    dot = normal(5, 3, 1, 1)
    got = ops.conv2d(gu.tensor(x), gu.tensor(dot)).numpy()
    np.testing.assert_allclose(got, np.einsum("nchw,oc->nohw", x, dot[:, :, 0, 0]), rtol=1e-9)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_convolution_gradients_agree_with_torch(settings):
    torch = pytest.importorskip("torch")
    x = normal(2, 4, 7, 8)
    weight, bias = normal(6, 4 // settings.get("groups", 1), 3, 2, seed=6), normal(6)
    compare(ops.conv2d, torch.nn.functional.conv2d, (x, weight, bias), settings, torch)


@pytest.mark.parametrize("settings", [*SETTINGS, {"stride": 3, "output_padding": 2}], ids=str)
def test_transposed_gradients_agree_with_torch(settings):
    torch = pytest.importorskip("torch")
    groups = settings.get("groups", 1)
    x, weight, bias = normal(2, 6, 5, 4), normal(6, 4 // groups, 3, 2, seed=6), normal(4)
    theirs = torch.nn.functional.conv_transpose2d
    compare(ops.conv_transpose2d, theirs, (x, weight, bias), settings, torch)


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"dilation": 3}], ids=str)
def test_conv1d_gradients_agree_with_torch(settings):
    torch = pytest.importorskip("torch")
    operands = (normal(2, 4, 9), normal(6, 4, 3, seed=6), normal(6))
    compare(ops.conv1d, torch.nn.functional.conv1d, operands, settings, torch)


POOLS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 1},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1)},
    {"kernel_size": 2, "stride": 3},
]


@pytest.mark.parametrize("settings", POOLS, ids=str)
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_pools_agree_with_torch(name, settings):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.functional, name)
    compare(getattr(ops, name), theirs, (normal(2, 3, 7, 8),), settings, torch)


@pytest.mark.parametrize("settings", POOLS[:3], ids=str)
def test_max_pool_shares_no_gradient_between_equal_values(settings):
    """The first of equal values takes it all, as in PyTorch."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(3).integers(0, 3, (2, 2, 7, 8)).astype(np.float64)
    compare(ops.max_pool2d, torch.nn.functional.max_pool2d, (x,), settings, torch)


def compare(ours, theirs, operands, settings, torch):
    """Values and gradients by every operand."""
    a = [gu.tensor(x, requires_grad=True) for x in operands]
    b = [torch.tensor(x, requires_grad=True) for x in operands]
    out, want = ours(*a, **settings), theirs(*b, **settings)
    np.testing.assert_allclose(out.detach().numpy(), want.detach().numpy(), rtol=1e-9, atol=1e-11)
    g = normal(*out.shape, seed=8)
    found = grad(out, a, [gu.tensor(g)])
    wanted = torch.autograd.grad(want, b, torch.tensor(g))
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-9, atol=1e-11)


def test_pools_are_their_definition():
    x = normal(1, 1, 4, 6)
    windows = x.reshape(1, 1, 2, 2, 3, 2).transpose(0, 1, 2, 4, 3, 5).reshape(1, 1, 2, 3, 4)
    np.testing.assert_array_equal(ops.max_pool2d(gu.tensor(x), 2).numpy(), windows.max(-1))
    np.testing.assert_allclose(ops.avg_pool2d(gu.tensor(x), 2).numpy(), windows.mean(-1))


def test_padding_counts_as_nothing_for_max_and_as_zeros_for_avg():
    x = gu.tensor(np.full((1, 1, 2, 2), -1.0, np.float32))
    assert ops.max_pool2d(x, 2, padding=1).numpy().tolist() == [[[[-1, -1], [-1, -1]]]]
    assert ops.avg_pool2d(x, 2, padding=1).numpy().tolist() == [[[[-0.25] * 2] * 2]]


def test_max_pool_keeps_nan_and_sends_it_the_gradient():
    x = gu.tensor(np.array([[[[1.0, np.nan], [5.0, 2.0]]]], np.float32), requires_grad=True)
    out = ops.max_pool2d(x, 2)
    assert np.isnan(out.detach().numpy()).all()
    (dx,) = grad(out, [x], [gu.ones((1, 1, 1, 1))])
    assert dx.numpy().tolist() == [[[[0, 1], [0, 0]]]]


def test_refusals_name_what_is_wrong():
    x, weight = gu.zeros((1, 4, 5, 5)), gu.zeros((2, 4, 3, 3))
    with pytest.raises(ShapeError, match=r"conv2d: a window of 7 .* does not fit 5 elements"):
        ops.conv2d(x, gu.zeros((2, 4, 7, 3)))
    with pytest.raises(
        ShapeError, match=r"conv2d: stride must be one number or 2, got \(1, 1, 1\)"
    ):
        ops.conv2d(x, weight, stride=(1, 1, 1))
    with pytest.raises(ShapeError, match=r"with 2 groups, weight must be \(2 n, 4 / 2"):
        ops.conv2d(x, weight, groups=2)
    with pytest.raises(ShapeError, match=r"groups \(0\)"):
        ops.conv2d(x, weight, groups=0)
    with pytest.raises(ShapeError, match=r"at least 1, padding \(-1, -1\) at least 0"):
        ops.conv2d(x, weight, padding=-1)
    with pytest.raises(DTypeError, match=r"weight is float16.*weight.astype"):
        ops.conv2d(x, weight.astype("float16"))
    with pytest.raises(ShapeError, match="output_padding 2 must be below stride 2"):
        ops.conv_transpose2d(x, gu.zeros((4, 2, 3, 3)), stride=2, output_padding=2)
    with pytest.raises(ShapeError, match="more than half of kernel"):
        ops.max_pool2d(x, 2, padding=2)

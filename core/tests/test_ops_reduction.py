"""Reductions against NumPy in float64: values, rounding, gradients, decided meanings, refusals."""

import numpy as np
import pytest

import groundup as gu
from groundup import dtypes
from groundup.errors import DTypeError, ShapeError
from groundup.ops.extrema import Min

UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}
SHAPE = (3, 4, 5)
AXES = [None, 0, -1, (0, 2), (1, -1), ()]
FUNCTIONS = ["sum", "mean", "prod", "max", "min", "any", "all", "var"]


def rng():
    return np.random.default_rng(7)


def budget(terms, axis):
    """The contraction class for float32 accumulation: (8 + 2 sqrt(k)) u sum |terms|."""
    k = terms.size if axis is None else terms.shape[axis]
    return (8 + 2 * np.sqrt(k)) * UNIT["float32"] * np.abs(terms).sum(axis)


def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_agrees_with_numpy(name, axis, keepdims):
    x = rng().standard_normal(SHAPE)
    got = getattr(gu.tensor(x), name)(axis, keepdims)
    want = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-13)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_logsumexp_agrees_with_numpy(axis, keepdims):
    x = rng().standard_normal(SHAPE)
    got = gu.tensor(x).logsumexp(axis, keepdims)
    np.testing.assert_allclose(got.numpy(), logsumexp(x, axis, keepdims), rtol=1e-13)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_of_extremes(name, axis):
    x = rng().standard_normal(SHAPE)
    for keepdims in (False, True):
        got = getattr(gu.tensor(x), name)(axis, keepdims)
        want = getattr(np, name)(x, axis=axis, keepdims=keepdims)
        assert got.dtype is dtypes.int32
        assert np.array_equal(got.numpy(), want)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumsum_agrees_with_numpy(axis):
    x = rng().standard_normal(SHAPE)
    np.testing.assert_allclose(gu.tensor(x).cumsum(axis).numpy(), np.cumsum(x, axis), rtol=1e-13)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((1_000_003,), None),
        ((200_000, 5), 0),
        ((3000, 385), 0),
        ((4, 70_000), 1),
        ((70, 80, 90), None),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["tenths", "positive", "signed"])
def test_float32_sums_stay_within_the_contraction_class(shape, axis, kind):
    """Tenths all round the same way, which is what sums row by row get wrong."""
    x = {
        "tenths": lambda: np.full(shape, 0.1),
        "positive": lambda: rng().uniform(0, 1, shape),
        "signed": lambda: rng().standard_normal(shape),
    }[kind]().astype(np.float32)
    exact = x.astype(np.float64)
    for view, source in ((x, exact), (x[::-1], exact[::-1])):
        error = np.abs(gu.tensor(view).sum(axis).numpy() - source.sum(axis))
        assert np.all(error <= budget(exact, axis))


def test_float32_sums_of_strided_views():
    """A reduced axis that lies between kept ones, none of them contiguous."""
    x = np.full((40, 3000, 6), 0.1, np.float32)
    t = gu.tensor(x)[:, ::2, 1::2]
    exact = x[:, ::2, 1::2].astype(np.float64)
    error = np.abs(t.sum(1).numpy() - exact.sum(1))
    assert np.all(error <= budget(exact, 1))
    assert abs(t.sum().item() - exact.sum()) <= budget(exact, None)


def test_cumsum_does_not_drift():
    x = np.full((2, 300_000), 0.1, np.float32)
    want = np.cumsum(x.astype(np.float64), 1)
    np.testing.assert_allclose(gu.tensor(x).cumsum().numpy(), want, rtol=2 * UNIT["float32"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "logsumexp"])
def test_low_precision_accumulates_in_float32(name, dtype):
    """One rounding at the end, as if everything before were exact."""
    x = gu.tensor(rng().uniform(0.5, 1, (4, 4096)).astype(np.float32)).astype(dtype)
    exact = x.astype("float64").numpy()
    want = logsumexp(exact, -1) if name == "logsumexp" else getattr(np, name)(exact, axis=-1)
    got = getattr(x, name)(-1)
    assert got.dtype is x.dtype
    np.testing.assert_allclose(got.astype("float64").numpy(), want, rtol=1.01 * UNIT[dtype])


def test_var_of_values_far_from_zero():
    """E[x^2] - E[x]^2 would lose every digit here."""
    x = (1000 + rng().uniform(0, 1, (3, 999))).astype(np.float32)
    want = x.astype(np.float64).var(-1)
    np.testing.assert_allclose(gu.tensor(x).var(-1).numpy(), want, rtol=1e-5)


def test_var_correction():
    x = rng().standard_normal((3, 7))
    np.testing.assert_allclose(gu.tensor(x).var(1, correction=1).numpy(), x.var(1, ddof=1))
    assert np.isnan(gu.tensor(x[:, :1]).var(1, correction=1).numpy()).all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64"])
def test_integer_sums_and_their_dtypes(dtype):
    x = np.array([[1, 0, 1], [1, 1, 0]]).astype(dtype)
    wanted = dtype if dtype in ("int32", "int64") else "int32"
    for name in ("sum", "prod", "cumsum"):
        got = getattr(gu.tensor(x), name)(axis=-1)
        assert got.dtype.name == wanted
        assert np.array_equal(got.numpy(), getattr(np, name)(x.astype(np.int64), axis=-1))


def test_integer_sums_are_exact_and_wrap():
    assert gu.tensor([2**24, 1, 1]).sum().item() == 2**24 + 2
    assert gu.tensor([2**31 - 1, 1]).sum().item() == -(2**31)
    large = np.ones((300, 1000), np.int32)
    assert gu.tensor(large).sum().item() == 300_000


def test_nothing():
    nothing = gu.zeros(0, 3)
    assert nothing.sum(0).tolist() == [0, 0, 0]
    assert nothing.prod(0).tolist() == [1, 1, 1]
    assert np.isnan(nothing.mean(0).numpy()).all()
    assert nothing.logsumexp(0).tolist() == [-np.inf] * 3
    assert nothing.any(0).tolist() == [False] * 3
    assert nothing.all(0).tolist() == [True] * 3
    assert nothing.max(1).shape == (0,)
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ShapeError, match=rf"{name}: .*there is no {name} of nothing"):
            getattr(nothing, name)(0)


def test_nan_and_infinities():
    nan, inf = np.nan, np.inf
    x = gu.tensor([[1, nan, 2], [1, inf, -inf], [-inf, -inf, -inf]])
    assert np.array_equal(x.max(1).numpy(), [nan, inf, -inf], equal_nan=True)
    assert np.array_equal(x.min(1).numpy(), [nan, -inf, -inf], equal_nan=True)
    assert np.array_equal(x.sum(1).numpy(), [nan, nan, -inf], equal_nan=True)
    assert np.array_equal(x.logsumexp(1).numpy(), [nan, inf, -inf], equal_nan=True)
    assert x.any(1).tolist() == x.all(1).tolist() == [True, True, True]
    assert x.argmax(1).tolist() == [1, 1, 0]
    assert x.argmin(1).tolist() == [1, 2, 0]


def test_first_of_equal_extremes_wins():
    x = gu.tensor([[3, 1, 3], [1, 1, 1]])
    assert x.argmax(1).tolist() == [0, 0]
    assert x.argmin(1).tolist() == [1, 0]
    assert x.argmax().item() == 0


def test_logsumexp_does_not_overflow():
    assert gu.tensor([1000.0, 1000.0]).logsumexp().item() == pytest.approx(1000 + np.log(2))
    assert gu.tensor([-1000.0, -1000.0]).logsumexp().item() == pytest.approx(-1000 + np.log(2))


def test_lowest_integer_is_its_own_negative():
    low = -(2**31)
    for smallest in (Min(), Min().compose):
        assert smallest(gu.tensor([low, 5])).item() == low


# ---- gradients ----


def gradient(function, x):
    t = gu.tensor(x).requires_grad_()
    out = function(t)
    out.backward(gu.tensor(rng().standard_normal(out.shape)))
    return t.grad.numpy()


def test_equal_extremes_share_the_gradient():
    x = gu.tensor([[2.0, 1.0, 2.0], [5.0, 0.0, 0.0]]).requires_grad_()
    (x.max(1).sum() + x.min(1).sum()).backward()
    assert x.grad.tolist() == [[0.5, 1, 0.5], [1, 0.5, 0.5]]


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_prod_gradient_with_zeros(zeros):
    x = np.array([2.0, 3.0, -4.0, 5.0])
    x[:zeros] = 0
    t = gu.tensor(x).requires_grad_()
    (first,) = gu.grad(t.prod(), [t], create_graph=True)
    others = [np.prod(np.delete(x, i)) for i in range(4)]
    assert first.tolist() == others
    (second,) = gu.grad(first, [t], [gu.tensor(np.ones(4))])
    pairs = [sum(np.prod(np.delete(x, [i, j])) for j in range(4) if j != i) for i in range(4)]
    assert second.tolist() == pairs


@pytest.mark.parametrize("axis", [None, 0, (0, 2), -1], ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "logsumexp", "var"])
def test_gradients_agree_with_torch(name, axis):
    torch = pytest.importorskip("torch")
    x = rng().standard_normal(SHAPE)
    dims = tuple(range(3)) if axis is None else axis

    def reference(t):
        if name in ("max", "min"):
            return getattr(torch, f"a{name}")(t, dims)
        if name == "prod":
            for dim in sorted((dims,) if isinstance(dims, int) else dims, reverse=True):
                t = t.prod(dim)
            return t
        if name == "var":
            return t.var(dims, correction=0)
        return getattr(torch, name)(t, dims)

    t = torch.tensor(x, requires_grad=True)
    out = reference(t)
    out.backward(torch.tensor(rng().standard_normal(tuple(out.shape))))
    got = gradient(lambda t: getattr(t, name)(axis), x)
    np.testing.assert_allclose(got, t.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_cumsum_gradient():
    x = gu.tensor([[1.0, 2, 3]]).requires_grad_()
    (x.cumsum(1) * gu.tensor([1.0, 10, 100])).sum().backward()
    assert x.grad.tolist() == [[111, 110, 100]]


# ---- refusals ----


@pytest.mark.parametrize("name", ["mean", "var", "logsumexp"])
def test_floats_only(name):
    with pytest.raises(DTypeError, match=rf"{name}: x must be floating .*int32\[2\].*astype"):
        getattr(gu.tensor([1, 2]), name)()


def test_bools_have_no_order():
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(DTypeError, match=f"{name}: x must hold numbers, got bool"):
            getattr(gu.tensor([True]), name)()


def test_bad_axes():
    x = gu.zeros(2, 3)
    with pytest.raises(ShapeError, match="sum: axis 2 is out of range for rank 2"):
        x.sum(2)
    with pytest.raises(ShapeError, match=r"mean: axis .* names one axis twice"):
        x.mean((0, -2))
    with pytest.raises(ShapeError, match="cumsum: axis -1 is out of range for rank 0"):
        gu.tensor(1.0).cumsum()


def test_the_gradient_of_logsumexp_is_softmax_where_all_are_infinite_too():
    x = gu.tensor([[-np.inf, -np.inf], [0.0, -np.inf]]).requires_grad_()
    x.logsumexp(axis=1).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), x.softmax(axis=1).detach().numpy())
    np.testing.assert_array_equal(x.grad.numpy(), [[np.nan, np.nan], [1.0, 0.0]])


def test_axes_may_be_numpys_and_nothing_but_integers():
    x = gu.tensor(rng().standard_normal(SHAPE))
    one = np.int64(1)
    assert x.sum(one).tolist() == x.sum(1).tolist()
    assert x.max([0, one]).tolist() == x.max((0, 1)).tolist()
    assert x.flip(one).tolist() == x.flip(1).tolist()
    for function in (gu.Tensor.sum, gu.Tensor.argmax, gu.Tensor.softmax, gu.Tensor.flip):
        for wrong in ("x", 1.5):
            with pytest.raises(ShapeError, match=r"must be (an integer|integers), got"):
                function(x, wrong)


def test_windows_may_be_numpys_and_nothing_but_integers():
    x = gu.ones(1, 1, 4, 4)
    assert gu.ops.max_pool2d(x, np.int64(2)).shape == (1, 1, 2, 2)
    with pytest.raises(ShapeError, match=r"max_pool2d: kernel_size: .*, got 2\.5"):
        gu.ops.max_pool2d(x, 2.5)

"""matmul and linear against NumPy in float64: values, layouts, rounding, gradients, refusals."""

import numpy as np
import pytest

import groundup as gu
from groundup import ops
from groundup.autograd import grad
from groundup.errors import DTypeError, ShapeError

UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}


def normal(*shape, seed=5):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)),
        ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2)),
        ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((2, 0, 4), (4, 5)), ((1, 1), (1, 1)),
    ],
    ids=str,
)  # fmt: skip
def test_matmul_agrees_with_numpy(left, right):
    x, y = normal(*left), normal(*right, seed=6)
    got = (gu.tensor(x) @ gu.tensor(y)).numpy()
    assert got.shape == (x @ y).shape
    np.testing.assert_allclose(got, x @ y, rtol=1e-12, atol=1e-13)


# Each is a view of a (2, 6, 6) array and of a tensor alike; all results are (2, 6, 6) but for one.
VIEWS = {
    "plain": lambda a: a,
    "transposed": lambda a: a.mT,
    "columns apart": lambda a: a[:, :, ::2],
    "rows reversed": lambda a: a[:, ::-1],
    "columns reversed": lambda a: a[:, :, ::-1],
    "one matrix": lambda a: a[:1],
    "middle": lambda a: a[:, 1:5, 2:5].mT,
}


@pytest.mark.parametrize("right", VIEWS)
@pytest.mark.parametrize("left", VIEWS)
def test_matmul_reads_views(left, right):
    x, y = normal(2, 6, 6).astype(np.float32), normal(2, 6, 6, seed=6).astype(np.float32)
    a, b = VIEWS[left](x), VIEWS[right](y)
    inner = min(a.shape[-1], b.shape[-2])
    want = a[..., :inner].astype(float) @ b[:, :inner].astype(float)
    got = VIEWS[left](gu.tensor(x))[..., :inner] @ VIEWS[right](gu.tensor(y))[:, :inner]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-5)


def test_matmul_with_one_matrix_for_a_whole_batch():
    """Repeated without memory: the product of all rows with it."""
    x, y = normal(3, 4, 5), normal(5, 2)
    repeated = gu.tensor(y).expand(3, 5, 2)
    np.testing.assert_allclose((gu.tensor(x) @ repeated).numpy(), x @ y, rtol=1e-12)
    rows = gu.tensor(x[:1]).expand(3, 4, 5)
    np.testing.assert_allclose((rows @ gu.tensor(y)).numpy(), np.stack([x[0] @ y] * 3), rtol=1e-12)


def test_integer_matmul_wraps():
    x = np.array([[2**30, 2**30], [-3, 4]], np.int32)
    y = np.array([[2, 1], [2, -1]], np.int32)
    assert np.array_equal((gu.tensor(x) @ gu.tensor(y)).numpy(), x @ y)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_accumulates_in_float32(dtype):
    """4096 ones: float16 would stop at 2048, bfloat16 at 256."""
    ones = gu.ones((1, 4096), dtype=dtype)
    weight = gu.ones((2, 4096), dtype=dtype)
    assert (ones @ weight.mT).astype("float32").numpy().tolist() == [[4096.0, 4096.0]]
    assert ops.linear(ones, weight).astype("float32").numpy().tolist() == [[4096.0, 4096.0]]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lead", [(), (7,), (2, 3), (0,), (2, 0)], ids=str)
def test_linear_agrees_with_numpy(lead, bias):
    x, weight, b = normal(*lead, 5), normal(4, 5, seed=6), normal(4, seed=7)
    operands = [gu.tensor(a) for a in ((x, weight, b) if bias else (x, weight))]
    got = ops.linear(*operands).numpy()
    want = x @ weight.T + (b if bias else 0)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_linear_rounds_within_the_contraction_budget():
    x, weight, b = (a.astype(np.float32) for a in (normal(300, 200), normal(70, 200), normal(70)))
    got = ops.linear(gu.tensor(x), gu.tensor(weight), gu.tensor(b)).numpy()
    exact = x.astype(float) @ weight.T.astype(float) + b
    terms = np.abs(x) @ np.abs(weight).T + np.abs(b)
    allowed = (8 + 2 * np.sqrt(201)) * UNIT["float32"] * terms
    assert (np.abs(got - exact) <= allowed).all()


def test_linear_of_views():
    x, weight = normal(4, 6, 5), normal(8, 12)
    got = ops.linear(gu.tensor(x).mT[:, ::-1], gu.tensor(weight)[::2, ::2], gu.tensor(normal(4)))
    want = x.swapaxes(1, 2)[:, ::-1][..., :6] @ weight[::2, ::2].T + normal(4)
    np.testing.assert_allclose(got.numpy()[..., :4], want, rtol=1e-12)


@pytest.mark.parametrize("lead", [(), (7,), (2, 3)], ids=str)
def test_linear_gradients(lead):
    """dx = g W, dW = g^T x, db = sum of g, written out."""
    x, weight, b, g = normal(*lead, 5), normal(4, 5), normal(4), normal(*lead, 4, seed=9)
    inputs = [gu.tensor(a, requires_grad=True) for a in (x, weight, b)]
    dx, dw, db = grad(ops.linear(*inputs), inputs, [gu.tensor(g)])
    rows, grows = x.reshape(-1, 5), g.reshape(-1, 4)
    np.testing.assert_allclose(dx.numpy(), g @ weight, rtol=1e-12)
    np.testing.assert_allclose(dw.numpy(), grows.T @ rows, rtol=1e-12)
    np.testing.assert_allclose(db.numpy(), grows.sum(0), rtol=1e-12)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((4,), (4, 5)), ((2, 3, 4), (4,)),
     ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4,)), ((4,), (2, 4, 3))],
    ids=str,
)  # fmt: skip
def test_matmul_gradients_agree_with_torch(left, right):
    torch = pytest.importorskip("torch")
    x, y = normal(*left), normal(*right, seed=6)
    g = normal(*(x @ y).shape, seed=7)
    ours = [gu.tensor(a, requires_grad=True) for a in (x, y)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, y)]
    found = grad(ours[0] @ ours[1], ours, [gu.tensor(g)])
    wanted = torch.autograd.grad(theirs[0] @ theirs[1], theirs, torch.tensor(g))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def test_refusals_name_what_is_wrong():
    x = gu.tensor(normal(2, 3).astype(np.float32))
    with pytest.raises(ShapeError, match=r"matmul: .* inner sizes 3 and 4 differ"):
        x @ gu.zeros((4, 5))
    with pytest.raises(DTypeError, match=r"dtypes differ.*cast both to float32"):
        x @ gu.zeros((3, 5), dtype="float16")
    with pytest.raises(ShapeError, match=r"linear: .* got \(2, 3\) and \(3, 4\)"):
        ops.linear(x, gu.zeros((3, 4)))
    with pytest.raises(ShapeError, match=r"linear: bias must have shape \(4,\), got \(3,\)"):
        ops.linear(x, gu.zeros((4, 3)), gu.zeros((3,)))
    with pytest.raises(DTypeError, match=r"weight is float16.*weight.astype\(groundup.float32\)"):
        ops.linear(x, gu.zeros((4, 3), dtype="float16"))

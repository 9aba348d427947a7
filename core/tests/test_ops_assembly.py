"""concat, stack, pad and repeat against NumPy."""

import numpy as np
import pytest

import groundup as gu
from groundup import ops
from groundup.errors import DTypeError, ShapeError
from groundup.ops.assembly import Concat

DTYPES = ["float32", "float16", "bfloat16", "int32", "bool", "int64", "uint8"]


def sample(*shape, dtype="float32"):
    values = np.random.default_rng(3).integers(0, 9, shape)
    return gu.tensor(values).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(axis, dtype):
    shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
    shapes[1][axis], shapes[2][axis] = 1, 0
    parts = [sample(*shape, dtype=dtype) for shape in shapes]
    got = ops.concat(parts, axis)
    want = np.concatenate([p.numpy() for p in parts], axis)
    assert got.dtype.name == dtype
    assert np.array_equal(got.numpy(), want)


def test_concat_of_views_and_repeated_tensors():
    x = sample(4, 6)
    parts = [x.mT[:4], x[:, ::-2], x[:, :1].expand(4, 2)]
    want = np.concatenate([p.numpy() for p in parts], 1)
    assert np.array_equal(ops.concat(parts, 1).numpy(), want)
    assert np.array_equal(ops.concat([x, x]).numpy(), np.tile(x.numpy(), (2, 1)))


def test_concat_of_one_is_a_copy():
    x = sample(3)
    joined = ops.concat([x])
    joined[0] = 99
    assert x[0].item() != 99


def test_composition_of_concat_keeps_signed_zeros():
    parts = (gu.tensor([0.0, -0.0]), gu.tensor([-0.0, np.nan, -np.inf]))
    got = Concat().compose(*parts).numpy()
    want = np.array([0.0, -0.0, -0.0, np.nan, -np.inf], np.float32)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_stack(axis):
    parts = [sample(3, 4), sample(3, 4) + 1]
    want = np.stack([p.numpy() for p in parts], axis)
    assert np.array_equal(ops.stack(parts, axis).numpy(), want)
    assert ops.stack([gu.tensor(1.0), gu.tensor(2.0)]).tolist() == [1, 2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("before", "after"), [((1, 2), (3, 0)), ((0, 0), (0, 0)), ((0, 4), (0, 0))], ids=str
)
def test_pad(before, after, dtype):
    x = sample(3, 4, dtype=dtype)
    got = x.pad(before, after, value=1)
    widths = list(zip(before, after, strict=True))
    want = np.pad(x.numpy().astype(np.float64), widths, constant_values=1)
    assert got.dtype.name == dtype
    assert np.array_equal(got.numpy().astype(np.float64), want)


def test_pad_between():
    x = gu.tensor([[1, 2], [3, 4]])
    got = x.pad((1, 0), (0, 1), value=7, interior=(1, 2))
    assert got.tolist() == [[7, 7, 7, 7, 7], [1, 7, 7, 2, 7], [7, 7, 7, 7, 7], [3, 7, 7, 4, 7]]
    assert gu.zeros(0).pad((2,), (1,), value=5, interior=(9,)).tolist() == [5, 5, 5]
    assert gu.tensor(3.0).pad((), ()).item() == 3


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_repeat(axis, repeats):
    x = sample(2, 3, 4).permute(1, 2, 0)
    assert np.array_equal(x.repeat(repeats, axis).numpy(), np.repeat(x.numpy(), repeats, axis))


def test_gradients():
    x = gu.tensor([1.0, 2.0]).requires_grad_()
    y = gu.tensor([3.0]).requires_grad_()
    scale = gu.tensor([1.0, 10, 100])
    (ops.concat([x, y]) * scale).sum().backward()
    assert x.grad.tolist() == [1, 10]
    assert y.grad.tolist() == [100]
    x.grad = None
    (x.pad((1,), (1,), interior=(1,)) * gu.tensor([1.0, 2, 3, 4, 5])).sum().backward()
    assert x.grad.tolist() == [2, 4]
    x.grad = None
    (x.repeat(2, 0) * gu.tensor([1.0, 2, 3, 4])).sum().backward()
    assert x.grad.tolist() == [3, 7]


def test_gradient_of_steps():
    """A slice's gradient is a pad with gaps."""
    x = gu.tensor(np.arange(7.0)).requires_grad_()
    (x[1::3] * gu.tensor([5.0, 6.0])).sum().backward()
    assert x.grad.tolist() == [0, 5, 0, 0, 6, 0, 0]


def test_refusals():
    x = gu.zeros(2, 3)
    with pytest.raises(ShapeError, match="concat: needs at least one tensor"):
        ops.concat([])
    with pytest.raises(ShapeError, match="stack: needs at least one tensor"):
        ops.stack([])
    with pytest.raises(ShapeError, match=r"stack: shapes \(2, 3\) and \(3, 2\) differ"):
        ops.stack([x, x.mT])
    with pytest.raises(ShapeError, match=r"concat: .* differ in more than axis 0"):
        ops.concat([x, x.mT])
    with pytest.raises(DTypeError, match=r"concat: dtypes differ: float32.* and int32"):
        ops.concat([x, x.astype("int32")])
    with pytest.raises(ShapeError, match=r"concat: .* no axis .*use stack"):
        ops.concat([gu.tensor(1.0)])
    with pytest.raises(ShapeError, match=r"pad: before \(1,\).* one size per axis"):
        x.pad((1,), (1,))
    with pytest.raises(ShapeError, match="pad: negative size"):
        x.pad((-1, 0), (0, 0))
    with pytest.raises(ShapeError, match="repeat: repeats must not be negative"):
        x.repeat(-1, 0)

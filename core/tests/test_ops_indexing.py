"""Indexing ops, one_hot, triangles, sort and topk against NumPy."""

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch, ops
from groundup.errors import DomainError, DTypeError, ShapeError
from groundup.ops.indexing import DynamicUpdateSlice, ScatterAdd

INDEX_DTYPES = ["int32", "int64", "uint8"]


def rng():
    return np.random.default_rng(11)


# ---- take and gather ----


@pytest.mark.parametrize("dtype", INDEX_DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,)], ids=str)
def test_take(shape, axis, dtype):
    x = rng().standard_normal((4, 5, 6))
    indices = rng().integers(0, 4, shape).astype(dtype)
    got = gu.tensor(x).take(gu.tensor(indices), axis)
    assert np.array_equal(got.numpy(), np.take(x, indices, axis))


def test_take_from_views():
    x = rng().standard_normal((6, 8))
    indices = gu.tensor([3, 0, 3])
    for view in (lambda t: t[::-2], lambda t: t[:, 1:]):
        for axis in (0, 1):
            chosen = indices if axis else indices - (indices > 2)
            got = view(gu.tensor(x)).take(chosen, axis)
            assert np.array_equal(got.numpy(), np.take(view(x), chosen.numpy(), axis))
    transposed = gu.tensor(x).mT.take(indices)
    assert np.array_equal(transposed.numpy(), x.T[[3, 0, 3]])


def test_take_of_many_rows():
    """Enough to be shared among threads."""
    table, indices = rng().standard_normal((500, 64)), rng().integers(0, 500, (40, 100))
    assert np.array_equal(gu.tensor(table).take(gu.tensor(indices)).numpy(), table[indices])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather(axis):
    x = rng().standard_normal((4, 5, 6))
    shape = [3, 4, 2]
    shape[axis] = 7
    indices = rng().integers(0, x.shape[axis], shape)
    window = tuple(slice(None) if a == axis else slice(0, n) for a, n in enumerate(shape))
    want = np.take_along_axis(x[window], indices, axis)
    assert np.array_equal(gu.tensor(x).gather(gu.tensor(indices), axis).numpy(), want)


def test_gather_of_many_elements():
    x, indices = rng().standard_normal((700, 300)), rng().integers(0, 300, (700, 250))
    got = gu.tensor(x).gather(gu.tensor(indices), 1)
    assert np.array_equal(got.numpy(), np.take_along_axis(x, indices, 1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool"])
def test_gather_keeps_the_dtype(dtype):
    x = gu.tensor([[1, 0], [3, 4]]).astype(dtype)
    got = x.gather(gu.tensor([[1, 0], [0, 0]]), 1)
    assert got.dtype is x.dtype
    assert np.array_equal(got.numpy(), np.take_along_axis(x.numpy(), np.array([[1, 0], [0, 0]]), 1))


# ---- scatter_add ----


def scattered(x, indices, source, axis):
    """The definition, one element at a time."""
    out = x.copy()
    for place in np.ndindex(*indices.shape):
        target = list(place)
        target[axis] = indices[place]
        out[tuple(target)] += source[place]
    return out


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scatter_add(axis):
    x = rng().standard_normal((4, 5, 6))
    shape = [3, 4, 2]
    shape[axis] = 9
    indices, source = rng().integers(0, x.shape[axis], shape), rng().standard_normal(shape)
    got = gu.tensor(x).scatter_add(gu.tensor(indices), gu.tensor(source), axis)
    np.testing.assert_allclose(got.numpy(), scattered(x, indices, source, axis), rtol=1e-13)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("spread", [1, 3, 40, 4000], ids="of {}".format)
def test_scatter_add_of_whole_rows(axis, spread):
    """Expanded indices: one row, a few rows many times, most rows once."""
    x = rng().standard_normal((spread, 8))
    rows, source = rng().integers(0, spread, 500), rng().standard_normal((500, 8))
    want = scattered(x, np.broadcast_to(rows[:, None], source.shape), source, 0)
    t, indices, added = (
        gu.tensor(x),
        gu.tensor(rows).reshape(-1, 1).expand(500, 8),
        gu.tensor(source),
    )
    if axis:
        got = t.mT.scatter_add(indices.mT, added.mT, 1).mT
    else:
        got = t.scatter_add(indices, added, 0)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


def test_scatter_add_leaves_its_inputs_alone():
    x, source = gu.zeros(3), gu.tensor([1.0, 2, 4])
    out = x.scatter_add(gu.tensor([0, 0, 2]), source, 0)
    assert out.tolist() == [3, 0, 4]
    assert x.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scatter_add_accumulates_in_float32(dtype):
    """4096 ones in one place: a float16 accumulator would stop at 2048, bfloat16 at 256."""
    indices, ones = gu.zeros(4096, dtype="int32"), gu.ones(4096, dtype=dtype)
    assert gu.zeros(2, dtype=dtype).scatter_add(indices, ones, 0).tolist() == [4096, 0]
    rows = indices.reshape(-1, 1).expand(4096, 3)
    wide = gu.ones(4096, 3, dtype=dtype)
    assert gu.zeros(2, 3, dtype=dtype).scatter_add(rows, wide, 0).tolist() == [[4096] * 3, [0] * 3]


def test_scatter_add_of_integers():
    x = gu.tensor([2**31 - 1, 5])
    assert x.scatter_add(gu.tensor([0, 1]), gu.tensor([1, 2]), 0).tolist() == [-(2**31), 7]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_scatter_add_in_place(dtype):
    whole = gu.zeros(4, 6, dtype=dtype)
    view = whole[:, ::2]
    indices = gu.tensor([[0, 2], [0, 0], [1, 1], [2, 0]])
    dispatch.update(ScatterAdd(axis=1), (view, indices, gu.ones(4, 2, dtype=dtype)))
    assert whole[:, ::2].tolist() == [[1, 0, 1], [2, 0, 0], [0, 2, 0], [1, 0, 1]]
    assert whole[:, 1::2].sum().item() == 0


def test_embedding_gradient():
    table = gu.zeros(5, 2).requires_grad_()
    ids = gu.tensor([[3, 1], [3, 3]])
    weights = gu.tensor([[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]])
    (table.take(ids) * weights).sum().backward()
    assert table.grad.tolist() == [[0, 0], [3, 4], [0, 0], [13, 16], [0, 0]]


@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_agree_with_torch(axis):
    torch = pytest.importorskip("torch")
    x, source = rng().standard_normal((4, 5)), rng().standard_normal((3, 4))
    indices = rng().integers(0, 4, (3, 4))
    weights = rng().standard_normal((4, 5))
    tx, ts = (torch.tensor(a, requires_grad=True) for a in (x, source))
    wanted = tx.scatter_add(axis, torch.tensor(indices), ts) * torch.tensor(weights)
    (wanted.sum() + tx.gather(axis, torch.tensor(indices)).pow(2).sum()).backward()
    gx, gs = (gu.tensor(a).requires_grad_() for a in (x, source))
    got = gx.scatter_add(gu.tensor(indices), gs, axis) * gu.tensor(weights)
    (got.sum() + (gx.gather(gu.tensor(indices), axis) ** 2).sum()).backward()
    np.testing.assert_allclose(gx.grad.numpy(), tx.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(gs.grad.numpy(), ts.grad.numpy(), rtol=1e-12)


# ---- dynamic_update_slice ----


@pytest.mark.parametrize(
    ("starts", "placed"), [((1, 2), (1, 2)), ((9, -3), (2, 0)), ((2, 4), (2, 3))], ids=str
)
def test_dynamic_update_slice(starts, placed):
    x, update = np.zeros((4, 5)), rng().standard_normal((2, 2))
    want = x.copy()
    want[placed[0] : placed[0] + 2, placed[1] : placed[1] + 2] = update
    tensors = gu.tensor(x), gu.tensor(update), gu.tensor(starts)
    assert np.array_equal(ops.dynamic_update_slice(*tensors).numpy(), want)
    assert np.array_equal(DynamicUpdateSlice().compose(*tensors).numpy(), want)
    dispatch.update(DynamicUpdateSlice(), tensors)
    assert np.array_equal(tensors[0].numpy(), want)


def test_dynamic_update_slice_gradients():
    x, update = gu.zeros(3, 3).requires_grad_(), gu.ones(1, 2).requires_grad_()
    weights = gu.tensor(np.arange(9.0, dtype=np.float32).reshape(3, 3))
    (ops.dynamic_update_slice(x, update, gu.tensor([7, 1])) * weights).sum().backward()
    assert x.grad.tolist() == [[0, 1, 2], [3, 4, 5], [6, 0, 0]]
    assert update.grad.tolist() == [[7, 8]]


# ---- one_hot, tril, triu ----


def test_one_hot():
    ids = rng().integers(0, 5, (3, 4))
    got = gu.tensor(ids).one_hot(5)
    assert got.dtype is gu.tensor(1.0).dtype
    assert np.array_equal(got.numpy(), np.eye(5)[ids])
    assert gu.tensor(2).one_hot(3).tolist() == [0, 0, 1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
@pytest.mark.parametrize("diagonal", [-9, -1, 0, 2, 9])
@pytest.mark.parametrize("name", ["tril", "triu"])
def test_triangles(name, diagonal, dtype):
    x = gu.tensor(rng().integers(1, 9, (2, 4, 5))).astype(dtype)
    got = getattr(x, name)(diagonal)
    assert got.dtype is x.dtype
    assert np.array_equal(got.numpy(), getattr(np, name)(x.numpy(), diagonal).astype(x.dtype.numpy))


def test_triangles_hide_nan():
    assert gu.tensor([[1.0, np.nan], [2, 3]]).tril().tolist() == [[1, 0], [2, 3]]


# ---- sort and topk ----


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("descending", [False, True])
def test_sort_is_stable(axis, descending):
    x = rng().integers(0, 4, (5, 6, 7))
    values, indices = gu.tensor(x).sort(axis, descending)
    order = np.argsort(-x if descending else x, axis, kind="stable")
    assert np.array_equal(indices.numpy(), order)
    assert np.array_equal(values.numpy(), np.take_along_axis(x, order, axis))


def test_nan_is_the_largest():
    x = gu.tensor([1.0, np.nan, -np.inf, np.inf, np.nan])
    assert x.sort()[1].tolist() == [2, 0, 3, 1, 4]
    assert x.sort(descending=True)[1].tolist() == [1, 4, 3, 0, 2]
    assert x.topk(3)[1].tolist() == [1, 4, 3]


@pytest.mark.parametrize("size", [40, 3000])
@pytest.mark.parametrize("kind", ["distinct", "ties", "nan"])
def test_topk(size, kind):
    """Long lines sort only their candidates; the result must not show it."""
    x = rng().permutation(size * 3).reshape(3, size).astype(np.float32)
    if kind == "ties":
        x = np.floor(x / size)
    if kind == "nan":
        x[0, rng().permutation(size)[:12]] = np.nan
        x[1, 5] = np.nan
    values, indices = gu.tensor(x).topk(10)
    keys = np.where(np.isnan(x), np.inf, x)
    order = np.argsort(-keys, -1, kind="stable")[:, :10]
    assert np.array_equal(indices.numpy(), order)
    assert np.array_equal(values.numpy(), np.take_along_axis(x, order, -1), equal_nan=True)


def test_topk_along_another_axis():
    x = rng().standard_normal((400, 3))
    values, indices = gu.tensor(x).topk(4, 0)
    order = np.argsort(-x, 0, kind="stable")[:4]
    assert np.array_equal(indices.numpy(), order)
    assert np.array_equal(values.numpy(), np.take_along_axis(x, order, 0))


def test_gradients_go_where_the_values_came_from():
    x = gu.tensor([3.0, 1.0, 2.0]).requires_grad_()
    (x.sort()[0] * gu.tensor([1.0, 10, 100])).sum().backward()
    assert x.grad.tolist() == [100, 1, 10]
    x.grad = None
    (x.topk(2)[0] * gu.tensor([1.0, 10])).sum().backward()
    assert x.grad.tolist() == [1, 0, 10]


# ---- refusals ----


def test_indices_out_of_range():
    x = gu.zeros(4, 3)
    with pytest.raises(DomainError, match="take: index 4 is out of range for axis 0 of size 4"):
        x.take(gu.tensor([1, 4]))
    with pytest.raises(DomainError, match=r"take: index -1 is out of range .*0 to 3"):
        x.take(gu.tensor([-1]))
    with pytest.raises(DomainError, match="gather: index 3 is out of range for axis 1 of size 3"):
        x.gather(gu.tensor([[0, 3]]), 1)
    with pytest.raises(DomainError, match="one_hot: index 5 is out of range for 5 classes"):
        gu.tensor([5]).one_hot(5)
    with pytest.raises(DomainError, match="nothing is allowed"):
        gu.zeros(0, 3).take(gu.tensor([0]))


def test_a_refused_update_changes_nothing():
    x = gu.zeros(3)
    with pytest.raises(DomainError, match="scatter_add: index 3"):
        dispatch.update(ScatterAdd(axis=0), (x, gu.tensor([0, 3]), gu.ones(2)))
    assert x.tolist() == [0, 0, 0]


def test_wrong_kinds_and_shapes():
    x = gu.zeros(4, 3)
    for indices in (gu.tensor([1.0]), gu.tensor([True])):
        with pytest.raises(DTypeError, match=r"take: indices must be int32.*astype"):
            x.take(indices)
    with pytest.raises(ShapeError, match=r"gather: indices .* do not fit x .* off axis 0"):
        x.gather(gu.zeros(2, 4, dtype="int32"), 0)
    with pytest.raises(ShapeError, match=r"scatter_add: source is .*: shapes differ"):
        x.scatter_add(gu.zeros(2, 3, dtype="int32"), gu.zeros(3, 2), 0)
    with pytest.raises(DTypeError, match="scatter_add: cannot add source int32"):
        x.scatter_add(gu.zeros(2, 3, dtype="int32"), gu.zeros(2, 3, dtype="int32"), 0)
    with pytest.raises(ShapeError, match="starts must have shape"):
        ops.dynamic_update_slice(x, x, gu.tensor([0]))
    with pytest.raises(ShapeError, match="topk: k is 4, but axis 1"):
        x.topk(4)
    with pytest.raises(ShapeError, match="tril: x must have at least 2 axes"):
        gu.zeros(3).tril()

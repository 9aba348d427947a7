"""einsum against NumPy's, in float64, with its gradients."""

import numpy as np
import pytest

import groundup as gu
from groundup import ops
from groundup.autograd import grad
from groundup.errors import DTypeError, ShapeError
from groundup.ops.einsum import parse

EQUATIONS = [
    ("ij,jk->ik", (3, 4), (4, 5)), ("ij,jk", (3, 4), (4, 5)), ("ij,kj->ki", (3, 4), (5, 4)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("bhtd,bhsd->bhts", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("ij->ji", (3, 4)), ("ba", (2, 3)), ("ij->", (3, 4)), ("ij->i", (3, 4)), ("i,i->", (4,), (4,)),
    ("i,j->ji", (3,), (4,)), ("ij,ij->ij", (3, 4), (3, 4)), ("i,i,i->i", (3,), (3,), (3,)),
    ("ij,kl->ik", (3, 4), (2, 5)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    (",ij->ij", (), (2, 3)), ("...ij,...jk->...ik", (2, 3, 4), (5, 2, 4, 3)),
    ("...ij,jk->...ik", (2, 6, 3, 4), (4, 5)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (1, 5, 4, 3)), ("i...->...", (3, 2, 4)),
    ("...i,...i->...", (2, 3, 4), (4,)), ("i...,j", (2, 3), (4,)), ("...,...->...", (1, 1), (1, 1)),
    ("ij,jk->ik", (0, 4), (4, 5)), ("ij,jk->ik", (3, 0), (0, 5)), (" i j , j -> i ", (3, 4), (4,)),
]  # fmt: skip


def normal(*shape, seed=5):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("case", EQUATIONS, ids=str)
def test_agrees_with_numpy(case):
    equation, *shapes = case
    operands = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    got = ops.einsum(equation, *[gu.tensor(x) for x in operands]).numpy()
    want = np.einsum(equation, *operands)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", EQUATIONS, ids=str)
def test_gradients_agree_with_differences_of_numpy(case):
    """The function is linear in each operand, so one difference along it is exact."""
    equation, *shapes = case
    operands = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    tensors = [gu.tensor(x, requires_grad=True) for x in operands]
    out = ops.einsum(equation, *tensors)
    g = normal(*out.shape, seed=9)
    for i, found in enumerate(grad(out, tensors, [gu.tensor(g)])):
        step = normal(*shapes[i], seed=10)
        moved = [step if i == j else x for j, x in enumerate(operands)]
        change = (np.einsum(equation, *moved) * g).sum()
        np.testing.assert_allclose((found.numpy() * step).sum(), change, rtol=1e-10, atol=1e-12)


def test_integers_are_exact():
    x, y = (np.random.default_rng(i).integers(-9, 9, (3, 4)).astype(np.int32) for i in (1, 2))
    got = ops.einsum("ij,kj->ik", gu.tensor(x), gu.tensor(y)).numpy()
    assert np.array_equal(got, x @ y.T)


def test_implicit_results_are_alphabetic():
    assert parse("cb,ba", [2, 2]) == ([("c", "b"), ("b", "a")], ("a", "c"))
    assert parse("...b,bc", [3, 2])[1] == ("1", "0", "c")


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        ("ii->i", "'i' occurs twice in 'ii'"), ("ij->ik", "no operand has 'k'"),
        ("ij,jk->ik", "has 2 operands, 1 given"), ("ijk->i", "'ijk' .* has rank 2"),
        ("i->i", "'i' .* has rank 2"), ("i1->i", "'1' is no letter"),
        ("i..->i", "rank 2|one '...'"),
    ],
)  # fmt: skip
def test_bad_equations_are_refused(equation, text):
    with pytest.raises(ShapeError, match=text):
        ops.einsum(equation, gu.zeros((3, 3)))


def test_bad_operands_are_refused():
    with pytest.raises(ShapeError, match="'j' has sizes 3 and 4"):
        ops.einsum("ij,jk->ik", gu.zeros((2, 3)), gu.zeros((4, 5)))
    with pytest.raises(ShapeError, match=r"'...' has sizes 2 and 3"):
        ops.einsum("...i,...i->...", gu.zeros((2, 4)), gu.zeros((3, 4)))
    with pytest.raises(DTypeError, match="dtypes differ"):
        ops.einsum("i,i->", gu.zeros((2,)), gu.zeros((2,), dtype="int32"))

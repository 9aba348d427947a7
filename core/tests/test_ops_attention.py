"""Attention against NumPy in float64 and against PyTorch: values, gradients, masks, dropout."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as gu
from groundup import ops
from groundup.errors import ConfigError, DTypeError, ShapeError
from groundup.ops.attention import ScaledDotProductAttention
from groundup.random import Generator


def operands(*shapes, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def oracle(q, k, v, mask=None, causal=False, scale=None):
    """softmax(q k^T scale + mask) v with every score in memory; rows that see nothing are 0."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-1e300)
    weights = np.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    return weights @ v / np.where(total == 0, 1, total)


CASES = {
    "square": ((2, 3, 8, 4),) * 3,
    "several-blocks": ((2, 2, 200, 8),) * 3,
    "cross": ((1, 2, 5, 4), (1, 2, 70, 4), (1, 2, 70, 6)),
    "long-keys": ((1, 1, 3, 4), (1, 1, 5000, 4), (1, 1, 5000, 4)),
    "grouped": ((2, 6, 20, 4), (2, 2, 20, 4), (2, 2, 20, 4)),
    "one-shared-head": ((2, 4, 70, 4), (2, 1, 70, 4), (2, 1, 70, 4)),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_values(name, causal):
    q, k, v = operands(*CASES[name])
    wanted = oracle(q, k, v, causal=causal)
    exact = ops.scaled_dot_product_attention(*map(gu.tensor, (q, k, v)), causal=causal)
    np.testing.assert_allclose(exact.numpy(), wanted, rtol=1e-10, atol=1e-12)
    short = [gu.tensor(x.astype(np.float32)) for x in (q, k, v)]
    got = ops.scaled_dot_product_attention(*short, causal=causal)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_floats_accumulate_in_float32(dtype):
    tensors = [gu.tensor(x).astype(dtype) for x in operands(*((1, 2, 300, 16),) * 3)]
    wanted = oracle(*[x.numpy().astype(np.float64) for x in tensors], causal=True)
    got = ops.scaled_dot_product_attention(*tensors, causal=True)
    assert got.dtype is tensors[0].dtype
    unit = 2.0**-11 if dtype == "float16" else 2.0**-8
    error = np.abs(got.numpy().astype(np.float64) - wanted)
    assert (error <= 1.01 * unit * np.abs(wanted) + 1e-5).all()


def test_views_of_a_packed_projection_give_the_same():
    (packed,) = operands((2, 40, 3 * 4 * 8))
    x = gu.tensor(packed)
    views = [
        x[:, :, i * 32 : (i + 1) * 32].reshape(2, 40, 4, 8).permute(0, 2, 1, 3) for i in range(3)
    ]
    got = ops.scaled_dot_product_attention(*views, causal=True).numpy()
    copies = [view.contiguous() for view in views]
    np.testing.assert_allclose(
        got, ops.scaled_dot_product_attention(*copies, causal=True).numpy(), rtol=1e-12
    )


def masks():
    rng = np.random.default_rng(5)
    dead = rng.random((8, 8)) < 0.5
    dead[3] = False
    return {
        "bool": rng.random((2, 1, 8, 8)) < 0.7,
        "dead-row": dead,
        "keys": np.array([True] * 5 + [False] * 3),
        "bias": rng.standard_normal((3, 8, 8)),
        "infinite-bias": np.where(rng.random((8, 8)) < 0.5, -np.inf, 0.0),
    }


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", masks())
def test_masks(name, causal):
    mask = masks()[name]
    q, k, v = operands(*CASES["square"])
    got = ops.scaled_dot_product_attention(*map(gu.tensor, (q, k, v, mask)), causal=causal)
    np.testing.assert_allclose(got.numpy(), oracle(q, k, v, mask, causal), rtol=1e-11, atol=1e-13)


def test_a_row_that_sees_nothing_is_zero_and_so_is_its_gradient():
    tensors = [gu.tensor(x, requires_grad=True) for x in operands(*((1, 1, 2, 3),) * 3)]
    mask = gu.tensor([[False, False], [True, True]])
    out = ops.scaled_dot_product_attention(*tensors, mask)
    assert out.detach().numpy()[0, 0, 0].tolist() == [0, 0, 0]
    (out * 2.0).sum().backward()
    assert tensors[0].grad.numpy()[0, 0, 0].tolist() == [0, 0, 0]
    assert all(np.isfinite(t.grad.numpy()).all() for t in tensors)


def test_nan_reaches_only_what_looks_at_it():
    q, k, v = (x.astype(np.float32) for x in operands(*((1, 1, 4, 3),) * 3))
    k[0, 0, 2] = np.nan
    got = ops.scaled_dot_product_attention(*map(gu.tensor, (q, k, v)), causal=True).numpy()
    assert np.isnan(got[0, 0]).all(-1).tolist() == [False, False, True, True]


@pytest.mark.parametrize("name", ["square", "several-blocks", "cross", "grouped"])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": True}], ids=str)
def test_gradients_as_pytorch(name, options):
    torch = pytest.importorskip("torch")
    arrays = operands(*CASES[name])
    T, S = arrays[0].shape[2], arrays[1].shape[2]
    mask = np.random.default_rng(2).standard_normal((T, S)) if "mask" in options else None
    inputs = arrays if mask is None else [*arrays, mask]
    ours = [gu.tensor(x, requires_grad=True) for x in inputs]
    theirs = [torch.tensor(x, requires_grad=True) for x in inputs]
    causal = options.get("causal", False)
    out = ops.scaled_dot_product_attention(*ours, causal=causal)
    reference = torch.nn.functional.scaled_dot_product_attention(
        *theirs, is_causal=causal, enable_gqa=arrays[0].shape[1] != arrays[1].shape[1]
    )
    np.testing.assert_allclose(
        out.detach().numpy(), reference.detach().numpy(), rtol=1e-9, atol=1e-12
    )
    (weights,) = operands(out.shape, seed=9)
    (out * gu.tensor(weights)).sum().backward()
    (reference * torch.tensor(weights)).sum().backward()
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), their.grad.numpy(), rtol=1e-8, atol=1e-11)


def test_float32_gradients_are_close_to_float64():
    arrays = operands(*((2, 3, 130, 16),) * 3)
    found = []
    for dtype in ("float32", "float64"):
        tensors = [gu.tensor(x).astype(dtype).requires_grad_() for x in arrays]
        out = ops.scaled_dot_product_attention(*tensors, causal=True)
        (out * out).sum().backward()
        found.append([t.grad.numpy() for t in tensors])
    for short, exact in zip(*found, strict=True):
        np.testing.assert_allclose(short, exact, rtol=1e-4, atol=1e-5)


def test_second_derivative_as_pytorch():
    torch = pytest.importorskip("torch")
    from torch.nn.attention import SDPBackend, sdpa_kernel

    arrays = operands(*((1, 2, 4, 3),) * 3)
    ours = [gu.tensor(x, requires_grad=True) for x in arrays]
    out = ops.scaled_dot_product_attention(*ours, causal=True)
    first = gu.grad((out * out).sum(), ours, create_graph=True)
    sum((g * g).sum() for g in first).backward()
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    with sdpa_kernel(SDPBackend.MATH):
        out = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=True)
    first = torch.autograd.grad((out * out).sum(), theirs, create_graph=True)
    sum((g * g).sum() for g in first).backward()
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), their.grad.numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("length", [8, 7, 70])
def test_dropout_uses_the_bits_of_the_scores(length):
    """out = (P * keep / (1 - p)) v, with `keep` from random_bits of shape (B, H, T, S)."""
    q, k, v = operands(*((2, 3, length, 4),) * 3)
    state = Generator(6).draw()
    bits = ops.random_bits(state, (2, 3, length, length)).numpy().view(np.uint32)
    keep = (bits >> 8) >= round(0.25 * 2**24)
    scores = np.where(np.tri(length, dtype=bool), q @ np.swapaxes(k, -1, -2) / 2, -np.inf)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    wanted = np.where(keep, weights / 0.75, 0) @ v
    tensors = [gu.tensor(x, requires_grad=True) for x in (q, k, v)]
    out = ops.scaled_dot_product_attention(*tensors, causal=True, dropout=0.25, state=state)
    np.testing.assert_allclose(out.detach().numpy(), wanted, rtol=1e-10, atol=1e-12)
    out.sum().backward()
    gradient = np.swapaxes(np.where(keep, weights / 0.75, 0), -1, -2) @ np.ones_like(v)
    np.testing.assert_allclose(tensors[2].grad.numpy(), gradient, rtol=1e-10, atol=1e-12)


def test_gradients_by_differences_with_dropout_and_mask():
    q, k, v = operands((1, 4, 5, 3), (1, 2, 6, 3), (1, 2, 6, 2))
    mask = np.random.default_rng(0).standard_normal((5, 6))
    state = Generator(6).draw()

    def function(*tensors):
        return ops.scaled_dot_product_attention(*tensors, dropout=0.3, state=state)

    gu.gradcheck(function, [gu.tensor(x) for x in (q, k, v, mask)])


def test_logsumexp_carries_gradients():
    arrays = operands(*((1, 2, 5, 3),) * 3)
    tensors = [gu.tensor(x, requires_grad=True) for x in arrays]
    _, logsumexp = ScaledDotProductAttention(scale=0.5, causal=True).many(*tensors)
    logsumexp.sum().backward()
    again = [gu.tensor(x, requires_grad=True) for x in arrays[:2]]
    mask = gu.tensor(np.tri(5, dtype=bool))
    mask.where(again[0] @ again[1].mT * 0.5, -np.inf).logsumexp(axis=-1).sum().backward()
    for one, two in zip(tensors, again, strict=False):
        np.testing.assert_allclose(one.grad.numpy(), two.grad.numpy(), rtol=1e-10)


def test_the_scores_are_never_all_in_memory(monkeypatch):
    attention = pytest.importorskip("groundup_cpu_ref.kernels.attention")
    sizes = []
    original = attention.Scratch.arrays

    def watched(self, p, block):
        arrays = original(self, p, block)
        sizes.append(sum(array.size for array in arrays))
        return arrays

    monkeypatch.setattr(attention.Scratch, "arrays", watched)
    tensors = [gu.tensor(x, requires_grad=True) for x in operands(*((1, 2, 3000, 8),) * 3)]
    ops.scaled_dot_product_attention(*tensors, causal=True).sum().backward()
    assert max(sizes) <= 3000 * 3000 / 20


@pytest.mark.parametrize("new", [1, 3])
def test_cached_attention_is_causal_attention(new):
    q, k, v = operands((2, 4, 9, 8), (2, 2, 9, 8), (2, 2, 9, 8))
    whole = oracle(q, k, v, causal=True)
    caches = [np.full((2, 2, 16, 8), np.nan) for _ in range(2)]
    for cache, x in zip(caches, (k, v), strict=True):
        cache[:, :, :9] = x
    length = gu.tensor(np.int32(9))
    got = ops.cached_attention(
        gu.tensor(q[:, :, 9 - new :]), gu.tensor(caches[0]), gu.tensor(caches[1]), length
    )
    np.testing.assert_allclose(got.numpy(), whole[:, :, 9 - new :], rtol=1e-10, atol=1e-12)


def test_rotary_turns_pairs_of_halves():
    (x,) = operands((2, 3, 5, 6))
    positions = np.array([0, 1, 2, 7, 100], np.int32)
    angle = positions[:, None] * 10000.0 ** (-np.arange(3) / 3)
    pairs = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * angle)
    got = ops.rotary_embedding(gu.tensor(x), gu.tensor(positions))
    np.testing.assert_allclose(
        got.numpy(), np.concatenate([pairs.real, pairs.imag], -1), rtol=1e-10
    )


def test_rotary_makes_scores_depend_on_distance_only():
    q, k = operands((1, 8), (1, 8))
    scores = []
    for start in (0, 50):
        turned = [
            ops.rotary_embedding(gu.tensor(x), gu.tensor([start + at], dtype="int32")).numpy()
            for x, at in ((q, 9), (k, 4))
        ]
        scores.append((turned[0] * turned[1]).sum())
    assert scores[0] == pytest.approx(scores[1], rel=1e-10)


def test_rotary_gradient_turns_back():
    (x,) = operands((4, 6))
    t = gu.tensor(x, requires_grad=True)
    positions = gu.tensor([3, 1, 4, 1], dtype="int32")
    out = ops.rotary_embedding(t, positions)
    (out * out.detach()).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), x, rtol=1e-10)


def test_refusals():
    q = gu.zeros(1, 4, 3, 8)
    with pytest.raises(ShapeError, match="batch, heads, length, size"):
        ops.scaled_dot_product_attention(q[0], q[0], q[0])
    with pytest.raises(ShapeError, match="multiple of those of k and v"):
        ops.scaled_dot_product_attention(q, gu.zeros(1, 3, 3, 8), gu.zeros(1, 3, 3, 8))
    with pytest.raises(DTypeError, match="one floating dtype"):
        ops.scaled_dot_product_attention(q, q, q.astype("float64"))
    with pytest.raises(ShapeError, match=r"do(es)? not broadcast"):
        ops.scaled_dot_product_attention(q, q, q, gu.ones(3, 4))
    with pytest.raises(ConfigError, match="needs a random state"):
        ops.scaled_dot_product_attention(q, q, q, dropout=0.1)
    with pytest.raises(ShapeError, match="even D"):
        ops.rotary_embedding(gu.zeros(3, 5), gu.tensor([0, 1, 2]))

"""Attention and its gradient on the GPU against float32 arithmetic on the CPU, in all variants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.ops.attention import (
    ScaledDotProductAttention,
    ScaledDotProductAttentionBackward,
)  # fmt: skip
from groundup_cuda.backend import CudaBackend

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)
DEVICE = "cuda:0"
Array = np.ndarray[Any, np.dtype[Any]]
# |error| / |result|, both as norms: a rounding of the results, and one of probabilities.
TOLERANCE: Final = {"float32": 2e-6, "float16": 6e-4, "bfloat16": 5e-3}
NAMES: Final = ("out", "logsumexp", "dq", "dk", "dv")


@attrs.frozen(kw_only=True)
class Problem:
    """Sizes as in the op: q (B, H, T, D), k (B, G, S, D), v (B, G, S, E)."""

    B: int = 1
    H: int = 2
    G: int = 2
    T: int = 64
    S: int = 64
    D: int = 64
    E: int = 64
    causal: bool = False
    dropout: float = 0.0
    mask: str = ""  # "bool", "float", or none
    place: str = "packed"  # how the operands lie in memory

    def operands(self) -> list[Array]:
        """q, k, v and the gradient of the result, as (B, length, heads, columns)."""
        rng = np.random.default_rng(7)
        sizes = [(self.T, self.H, self.D), (self.S, self.G, self.D), (self.S, self.G, self.E)]
        sizes.append((self.T, self.H, self.E))
        return [rng.normal(size=(self.B, *size)).astype(np.float32) for size in sizes]

    def masks(self) -> list[Array]:
        """The extra inputs: a mask that hides all keys from the second query, and the state."""
        rng = np.random.default_rng(8)
        found: list[Array] = []
        if self.mask == "bool":
            seen = rng.random((self.T, self.S)) < 0.7
            seen[1 % self.T] = False
            found.append(seen)
        elif self.mask:
            found.append(rng.normal(size=(self.H, 1, self.S)).astype(np.float32))
        if self.dropout:
            found.append(np.array([1234, -5, 7, 0], np.int32))
        return found

    def settings(self) -> dict[str, Any]:
        """The ops' fields."""
        return {
            "scale": self.D**-0.5, "causal": self.causal, "dropout": self.dropout,
            "masked": bool(self.mask),
        }  # fmt: skip


def placed(array: Array, dtype: g.dtypes.DType, device: str, place: str) -> g.Tensor:
    """(B, heads, length, columns), in memory as (B, length, heads, columns) or worse."""
    x = g.from_numpy(array, device).astype(dtype)
    if place == "odd":  # no row begins at a multiple of 16 bytes
        wider = g.zeros(*x.shape[:-1], x.shape[-1] + 1, dtype=dtype, device=device)
        wider[..., 1:] = x
        return wider[..., 1:].permute(0, 2, 1, 3)
    if place == "turned":  # columns lie apart
        return x.permute(0, 2, 3, 1).contiguous().permute(0, 1, 3, 2)
    if place == "joined":  # q, k and v are one array
        joined = g.concat([x, x + 1, x - 1], axis=2)
        return joined[:, :, : x.shape[2]].permute(0, 2, 1, 3)
    return x.permute(0, 2, 1, 3)


def computed(problem: Problem, dtype: g.dtypes.DType, device: str, exact: bool) -> list[Array]:
    """out, logsumexp, dq, dk, dv; `exact`: of operands rounded to `dtype`, in float32."""
    kind = g.float32 if exact else dtype

    def held(array: Array) -> g.Tensor:
        rounded = g.from_numpy(array, "cpu").astype(dtype).astype(g.float32).numpy()
        return placed(rounded, kind, device, problem.place)

    q, k, v, grad = (held(array) for array in problem.operands())
    extras = [extra(x, dtype, kind, device) for x in problem.masks()]
    where = g.device_for(device)
    outs = g.dispatch.apply(
        ScaledDotProductAttention(**problem.settings()), (q, k, v, *extras), where
    )
    slope = g.full_like(outs[1], 0.3)
    inputs = (q, k, v, *outs, grad, slope, *extras)
    op = ScaledDotProductAttentionBackward(**problem.settings())
    made = (*outs, *g.dispatch.apply(op, inputs, where))
    return [x.astype("float32").numpy().astype(np.float64) for x in made]


def extra(x: Array, dtype: g.dtypes.DType, kind: g.dtypes.DType, device: str) -> g.Tensor:
    """A mask or a state. Floats are rounded as the operands are."""
    made = g.from_numpy(x, device)
    return made.astype(dtype).astype(kind) if x.dtype == np.float32 else made


def compare(problem: Problem, dtype: g.dtypes.DType) -> None:
    wanted = computed(problem, dtype, "cpu", exact=True)
    poison()
    got = computed(problem, dtype, DEVICE, exact=False)
    subtracted = subtracted_norms(problem, wanted[0]) if dtype is g.float32 else {}
    for name, mine, right in zip(NAMES, got, wanted, strict=True):
        finite = np.isfinite(right)
        np.testing.assert_array_equal(np.isfinite(mine), finite, err_msg=name)
        size = max(np.linalg.norm(right[finite]), subtracted.get(name, 0.0))
        limit = TOLERANCE["float32" if name == "logsumexp" else dtype.name]
        error = np.linalg.norm((mine - right)[finite])
        assert error <= limit * max(size, 1e-3), f"{name}: {error / max(size, 1e-3):.1e}"


def subtracted_norms(problem: Problem, out: Array) -> dict[str, float]:
    """Norms of what is subtracted in dq and dk, where the one query sees one key and all cancels.

    It is grad . out times k or q, and the rounding of it stays. Empty for all other problems.
    """
    if not (problem.causal and problem.T == 1):
        return {}
    q, k, _, grad = (x.transpose(0, 2, 1, 3) for x in problem.operands())
    size = problem.settings()["scale"] * np.linalg.norm(grad * out, axis=-1, keepdims=True)
    seen = np.repeat(k[:, :, :1], problem.H // problem.G, axis=1)
    return {name: float(np.linalg.norm(size * x)) for name, x in (("dq", seen), ("dk", q))}


def poison() -> None:
    """NaN in memory that the pool hands out next, so that what is not written shows."""
    for size in (1 << 10, 1 << 14, 1 << 18, 1 << 20):
        dirty = [g.full((size,), float("nan"), device=DEVICE) for _ in range(4)]
        del dirty


FLOATS = (g.float32, g.float16, g.bfloat16)
LENGTHS = ((1, 1), (1, 300), (17, 64), (64, 17), (65, 129), (128, 128), (200, 333), (513, 65))
SIZES = ((16, 16), (32, 32), (64, 64), (96, 80), (128, 128), (160, 160), (256, 256), (20, 34))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_lengths(dtype: g.dtypes.DType, lengths: Sequence[int], causal: bool) -> None:
    compare(Problem(T=lengths[0], S=lengths[1], causal=causal), dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_head_sizes(dtype: g.dtypes.DType, sizes: Sequence[int]) -> None:
    compare(Problem(T=130, S=100, D=sizes[0], E=sizes[1], causal=True), dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("heads", [(4, 1), (6, 2), (3, 3)], ids=str)
def test_grouped_queries(dtype: g.dtypes.DType, heads: Sequence[int]) -> None:
    compare(Problem(B=3, H=heads[0], G=heads[1], T=70, S=140, causal=True), dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("mask", ["bool", "float"])
@pytest.mark.parametrize("causal", [False, True])
def test_masks(dtype: g.dtypes.DType, mask: str, causal: bool) -> None:
    compare(Problem(T=100, S=77, mask=mask, causal=causal), dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("keys", [64, 130, 77], ids=str)
@pytest.mark.parametrize("size", [32, 128])
def test_dropout_has_the_cpu_s_bits(dtype: g.dtypes.DType, keys: int, size: int) -> None:
    """Key counts that are and are not multiples of four, which share out words differently."""
    problem = Problem(B=2, T=67, S=keys, D=size, E=size, dropout=0.2)
    compare(problem, dtype)
    compare(attrs.evolve(problem, causal=True, mask="bool", dropout=0.5), dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("place", ["odd", "turned", "joined"])
def test_operands_are_read_where_they_are(dtype: g.dtypes.DType, place: str) -> None:
    compare(Problem(T=90, S=90, causal=True, place=place), dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_many_tiles(dtype: g.dtypes.DType) -> None:
    compare(Problem(H=1, G=1, T=1037, S=1037, causal=True), dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_large_scores_do_not_overflow(dtype: g.dtypes.DType) -> None:
    q = g.full((1, 1, 40, 64), 8.0, dtype=dtype, device=DEVICE)
    v = g.ones(1, 1, 40, 64, dtype=dtype, device=DEVICE)
    out = g.ops.scaled_dot_product_attention(q, q, v, causal=True, scale=8.0)
    assert out.astype("float32").tolist() == v.astype("float32").tolist()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_same_every_time(dtype: g.dtypes.DType) -> None:
    problem = Problem(B=2, H=4, G=2, T=300, S=300, causal=True, dropout=0.1)
    first, *others = (computed(problem, dtype, DEVICE, exact=False) for _ in range(3))
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_worse_than_twice_plain_products() -> None:
    """FlashAttention's own rule: the error is at most twice that of the same formula computed in
    bfloat16 step by step.
    """
    problem = Problem(B=2, H=2, T=200, S=200)
    exact = computed(problem, g.bfloat16, "cpu", exact=True)[0]
    ours = computed(problem, g.bfloat16, DEVICE, exact=False)[0]
    q, k, v = (placed(x, g.bfloat16, DEVICE, "packed") for x in problem.operands()[:3])
    plain = ((q @ k.mT * problem.D**-0.5).softmax(axis=-1) @ v).astype("float32").numpy()
    assert np.abs(ours - exact).max() <= 2 * np.abs(plain - exact).max()


def test_packed_queries_keys_and_values_are_not_copied() -> None:
    packed = g.randn(2, 40, 3, 4, 64, device=DEVICE).astype(g.bfloat16)
    q, k, v = (packed[:, :, i].permute(0, 2, 1, 3) for i in range(3))
    with g.counting(DEVICE) as counts:
        g.ops.scaled_dot_product_attention(q, k, v, causal=True)
    assert counts.launches == 1


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("queries", "length"), [(1, 130), (5, 130), (130, 130), (3, 0), (7, 3)])
def test_a_cache_is_read_up_to_its_length(dtype: g.dtypes.DType, queries: int, length: int) -> None:
    """What lies behind is NaN here; a query before the first position sees nothing and gives 0."""
    rng = np.random.default_rng(11)
    shapes = [(2, 6, queries, 64), (2, 2, 200, 64), (2, 2, 200, 64)]
    q, k, v = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    k[:, :, length:] = np.nan
    v[:, :, length:] = np.nan
    made = []
    for device, kind in (("cpu", g.float32), (DEVICE, dtype)):
        held = [g.from_numpy(x, device).astype(dtype).astype(kind) for x in (q, k, v)]
        filled = g.from_numpy(np.asarray(np.int32(length)), device)
        made.append(g.ops.cached_attention(*held, filled).astype("float32").numpy())
    error = np.linalg.norm(made[1] - made[0])
    assert error <= TOLERANCE[dtype.name] * max(np.linalg.norm(made[0]), 1e-3)

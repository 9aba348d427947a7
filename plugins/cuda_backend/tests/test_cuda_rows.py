"""The kernels of rows, losses and updates at the sizes at which they change: against float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.ops.loss import CrossEntropy, CrossEntropyBackward
from groundup.ops.normalization import (
    AddLayerNorm,
    AddRMSNorm,
    LayerNorm,
    LayerNormBackward,
    RMSNorm,
    RMSNormBackward,
)  # fmt: skip
from groundup.ops.optimizer_ops import AdamW, GlobalNorm, Sgd
from groundup.ops.softmax import LogSoftmax, LogSoftmaxBackward, Softmax, SoftmaxBackward
from groundup_cuda.backend import CudaBackend

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)

DEVICE = "cuda:0"
DTYPES = ("float32", "float16", "bfloat16")
UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float16": 2.0**-25}  # half of the smallest number: what subnormal numbers round by
# Columns: of less than a warp, not of whole packs, a warp's most, a block's first and most, more.
SHAPES = ((3, 5), (9, 384), (5, 1000), (3, 1024), (2, 1025), (2, 1032), (2, 8192), (2, 8200))
Array = np.ndarray[Any, np.dtype[Any]]
RNG = np.random.default_rng(11)


def normal(*shape: int, dtype: str = "float32", scale: float = 1.0) -> g.Tensor:
    """On the GPU, rounded to `dtype`."""
    values = (RNG.normal(size=shape) * scale).astype(np.float32)
    return g.from_numpy(values, DEVICE).astype(dtype)


def wide(x: g.Tensor) -> Array:
    return x.astype("float32").numpy().astype(np.float64)


def agree(got: g.Tensor, wanted: Array, terms: Array | float, dtype: str, units: int = 8) -> None:
    """Within some units of rounding of the result, and of the float32 terms that make it."""
    budget = UNIT[dtype] * np.abs(wanted) * 1.01 + units * UNIT["float32"] * np.asarray(terms)
    error = np.abs(wide(got) - wanted)
    budget += 1.01 * SMALLEST.get(dtype, 1e-30)
    assert (error <= budget).all(), (error / budget).max()


def run(op: Any, *inputs: g.Tensor) -> tuple[g.Tensor, ...]:
    made = g.dispatch.apply(op, inputs)
    return made if isinstance(made, tuple) else (made,)


def moments(x: Array, eps: float, *, centred: bool) -> tuple[Array, Array]:
    """The centred rows and the inverse of their deviation."""
    c = x - x.mean(-1, keepdims=True) if centred else x
    return c, 1 / np.sqrt((c * c).mean(-1, keepdims=True) + eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_norms(shape: tuple[int, int], dtype: str) -> None:
    x, more = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype)
    weight, bias = normal(shape[1], dtype=dtype), normal(shape[1], dtype=dtype)
    w, b = wide(weight), wide(bias)
    for residual in (False, True):
        rows = wide(x) + (wide(more) if residual else 0)
        inputs = (x, more) if residual else (x,)
        c, s = moments(rows, 1e-5, centred=True)
        op = AddLayerNorm() if residual else LayerNorm()
        out, *total = run(op, *inputs, weight, bias)
        span = np.abs(rows).max(-1, keepdims=True) * s * np.abs(w)
        agree(out, c * s * w + b, span + np.abs(b), dtype)
        root, scale = moments(rows, 1e-6, centred=False)
        op = AddRMSNorm() if residual else RMSNorm()
        out, *total = run(op, *inputs, weight)
        agree(out, root * scale * w, span, dtype)
        for sums in total:
            agree(sums, rows, np.abs(rows), dtype, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (1000, 64), (300, 1024)], ids=str)
def test_norm_gradients(shape: tuple[int, int], dtype: str) -> None:
    x, grad, weight = (
        normal(*shape, dtype=dtype), normal(*shape, dtype=dtype), normal(shape[1], dtype=dtype)
    )  # fmt: skip
    w, dy = wide(weight), wide(grad)
    for centred, op in ((True, LayerNormBackward()), (False, RMSNormBackward())):
        c, s = moments(wide(x), op.eps, centred=centred)
        y, gw = c * s, dy * w
        dx = gw - (gw.mean(-1, keepdims=True) if centred else 0)
        dx = (dx - y * (gw * y).mean(-1, keepdims=True)) * s
        got = run(op, x, weight, grad)
        terms = (np.abs(gw) + np.abs(y) * np.abs(gw * y).mean(-1, keepdims=True)) * s
        agree(got[0], dx, terms + np.abs(gw).mean(-1, keepdims=True) * s, dtype, 16)
        agree(got[1], (dy * y).sum(0), np.abs(dy * y).sum(0), dtype, 16)
        if centred:
            agree(got[2], dy.sum(0), np.abs(dy).sum(0), dtype, 16)


def test_the_variance_does_not_cancel() -> None:
    """E[x^2] - E[x]^2 has nothing left of a variance of 1 beside a mean of 10000."""
    x = normal(4, 768) + 10_000.0
    ones, zeros = g.ones(768, device=DEVICE), g.zeros(768, device=DEVICE)
    c, s = moments(wide(x), 1e-5, centred=True)
    assert np.abs(wide(LayerNorm()(x, ones, zeros)) - c * s).max() < 2e-3


def softmax_of(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_and_gradients(shape: tuple[int, int], dtype: str) -> None:
    x, grad = normal(*shape, dtype=dtype, scale=4), normal(*shape, dtype=dtype)
    y, dy = softmax_of(wide(x)), wide(grad)
    size = 1 + np.abs(wide(x)).max()
    agree(*run(Softmax(), x), y, y * size, dtype)
    agree(*run(LogSoftmax(), x), np.log(y), size + np.abs(np.log(y)), dtype)
    own = g.from_numpy(y.astype(np.float32), DEVICE).astype(dtype)
    y = wide(own)
    terms = y * (np.abs(dy) + np.abs(y * dy).sum(-1, keepdims=True))
    agree(*run(SoftmaxBackward(), own, grad), y * (dy - (y * dy).sum(-1, keepdims=True)), terms,
          dtype, 16)  # fmt: skip
    terms = np.abs(dy) + np.exp(y) * np.abs(dy).sum(-1, keepdims=True)
    agree(*run(LogSoftmaxBackward(), own, grad), dy - np.exp(y) * dy.sum(-1, keepdims=True),
          terms, dtype, 16)  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_along_other_axes(axis: int) -> None:
    """By a thread for each slice where there are many, else by a block."""
    for shape in ((3, 7, 5), (2, 9, 4100), (300, 3, 2)):
        x = normal(*shape, scale=3)
        wanted = np.moveaxis(softmax_of(np.moveaxis(wide(x), axis, -1)), -1, axis)
        agree(*run(Softmax(axis=axis), x), wanted, wanted * 20, "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (3, 50_257)], ids=str)
def test_logsumexp_and_cross_entropy(shape: tuple[int, int], dtype: str) -> None:
    logits = normal(*shape, dtype=dtype, scale=3)
    ids = RNG.integers(0, shape[1], shape[0]).astype(np.int32)
    ids[0] = -100
    target, x = g.from_numpy(ids, DEVICE), wide(logits)
    top = x.max(-1)
    sums = np.log(np.exp(x - top[:, None]).sum(-1)) + top
    size = 2 + np.abs(sums) + np.abs(x).max()
    agree(logits.logsumexp(-1), sums, size, dtype)
    losses = np.where(ids == -100, 0, sums - x[np.arange(len(ids)), np.maximum(ids, 0)])
    loss, saved = run(CrossEntropy(reduction="none"), logits, target)
    agree(loss, losses, size, dtype)
    agree(saved, sums, size, "float32")
    loss, saved = run(CrossEntropy(), logits, target)
    agree(loss, losses.sum() / (len(ids) - 1), size, dtype)
    _check_gradient(logits, target, saved, dtype)


def _check_gradient(logits: g.Tensor, target: g.Tensor, sums: g.Tensor, dtype: str) -> None:
    ids, x = target.numpy(), wide(logits)
    grad, more = g.full((), 0.75, dtype=dtype, device=DEVICE), normal(len(ids))
    share = np.where(ids == -100, 0, 0.75 / (len(ids) - 1))[:, None]
    powers = np.exp(x - wide(sums)[:, None])
    wanted = powers * (share + wide(more)[:, None])
    chosen = np.where(ids == -100, 0, ids)
    wanted[np.arange(len(ids)), chosen] -= share[:, 0]
    (got,) = run(CrossEntropyBackward(), logits, target, sums, grad, more)
    terms = powers * (2 + np.abs(wide(more))[:, None]) * (2 + np.abs(x)) + share
    agree(got, wanted, terms, dtype, 16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_that_begins_in_the_middle_of_a_pack(dtype: str) -> None:
    """Such operands are read one element at a time, perhaps in another order."""
    x, weight = normal(6, 512, dtype=dtype), normal(512, dtype=dtype)

    def shifted(t: g.Tensor) -> g.Tensor:
        room = g.zeros(t.size + 1, dtype=dtype, device=DEVICE)
        room[1:] = t.reshape(-1)
        return room[1:].reshape(t.shape)

    ids = g.from_numpy(RNG.integers(0, 512, 6).astype(np.int32), DEVICE)
    calls: list[Callable[[g.Tensor], tuple[g.Tensor, ...]]] = [
        lambda t: run(LayerNorm(), t, weight, weight), lambda t: run(RMSNorm(), t, weight),
        lambda t: run(AddLayerNorm(), t, x, weight, weight), lambda t: run(Softmax(), t),
        lambda t: run(SoftmaxBackward(), t, x), lambda t: run(CrossEntropy(), t, ids)[:1],
        lambda t: run(GlobalNorm(), t),
    ]  # fmt: skip
    for call in calls:
        whole, part = call(x), call(shifted(x))
        for a, b in zip(whole, part, strict=True):
            size = np.abs(wide(a))
            rounding = 2.02 * (UNIT[dtype] * size + SMALLEST.get(dtype, 1e-30))  # of both
            error = np.abs(wide(b) - wide(a))
            assert (error <= rounding + 16 * UNIT["float32"] * (size + 1)).all(), error.max()


@pytest.mark.parametrize("columns", [4, 1100])
def test_more_rows_than_65535(columns: int) -> None:
    """500 rows again and again, so that the sums over all are known from those."""
    again = 140
    few = normal(500, columns)
    x = few.expand(again, 500, columns).reshape(-1, columns)
    ones, rows = g.ones(columns, device=DEVICE), wide(few)
    c, s = moments(rows, 1e-5, centred=True)
    agree(LayerNorm()(x, ones)[-500:], c * s, np.abs(c * s) + 1, "float32")
    y = softmax_of(rows)
    agree(Softmax()(x)[-500:], y, y * 8, "float32")
    terms = rows * c * s
    dweight = run(LayerNormBackward(), x, ones, x)[1]
    agree(dweight, again * terms.sum(0), again * np.abs(terms).sum(0), "float32")
    ids = g.zeros(again * 500, dtype="int32", device=DEVICE)
    loss, _ = run(CrossEntropy(reduction="sum"), x, ids)
    losses = np.log(np.exp(rows).sum(-1)) - rows[:, 0]
    agree(loss, again * losses.sum(), again * np.abs(losses).sum(), "float32")


# ---- updates ----


def adamw(own: list[Array], grad: Array, decay: float, step: int) -> list[Array]:
    p, m, v = own
    gs = 0.5 * grad
    p = p * (1 - 0.01 * decay)
    m, v = 0.9 * m + 0.1 * gs, 0.999 * v + 0.001 * gs * gs
    change = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return [p - 0.01 * change, m, v]


@pytest.mark.parametrize("dtype", DTYPES)
def test_adamw_of_many_parameters(dtype: str) -> None:
    """More than one launch's on old GPUs, of all sizes around those of a block; float32 states."""
    sizes = [0, 1, 3, 1024, 2047, 2048, 2049, 5000, *range(7, 70), 0]
    n = len(sizes)
    params, grads = ([normal(s, dtype=dtype) for s in sizes] for _ in range(2))
    m, v = [normal(s) for s in sizes], [normal(s).abs() for s in sizes]
    rates = [g.tensor(value, device=DEVICE) for value in (0.01, 3, 0.5)]
    decay = tuple(0.1 * (i % 3) for i in range(n))
    op = AdamW(count=n, weight_decay=decay)
    before = [[wide(t) for t in own] for own in zip(params, m, v, strict=True)]
    outs = run(op, *rates, *params, *grads, *m, *v)
    g.dispatch.update(op, (*rates, *params, *grads, *m, *v))
    for i in range(n):
        wanted = adamw(before[i], wide(grads[i]), decay[i], 3)
        for k, own in enumerate((params[i], m[i], v[i])):
            kind = dtype if k == 0 else "float32"
            agree(own, wanted[k], np.abs(before[i][k]) + np.abs(wanted[k]) + 0.01, kind)
            np.testing.assert_array_equal(wide(own), wide(outs[i + k * n]))


def test_sgd_in_place() -> None:
    p, grad, b = normal(3000), normal(3000), normal(3000)
    rates = [g.tensor(value, device=DEVICE) for value in (0.1, 2, 1.0)]
    buffer = 0.9 * wide(b) + wide(grad)
    wanted = wide(p) - 0.1 * buffer
    before = p._view.native
    op = Sgd(count=1, weight_decay=(0.0,), momentum=0.9)
    g.dispatch.update(op, (*rates, p, grad, b))
    assert p._view.native == before
    agree(p, wanted, np.abs(wanted) + np.abs(buffer), "float32")
    agree(b, buffer, np.abs(buffer) + 1, "float32")


def test_a_parameter_that_is_a_view_is_updated_where_it_lies() -> None:
    whole, grad = normal(6, 8), normal(8, 6)
    wanted = wide(whole) - 0.5 * wide(grad).T
    rates = [g.tensor(value, device=DEVICE) for value in (0.5, 1, 1.0)]
    g.dispatch.update(Sgd(count=1, weight_decay=(0.0,)), (*rates, whole.mT, grad))
    agree(whole, wanted, np.abs(wanted) + 1, "float32")


def test_an_update_is_one_launch() -> None:
    sizes = [(64, 64)] * 40
    params, grads, m, v = ([normal(*s) for s in sizes] for _ in range(4))
    rates = [g.tensor(value, device=DEVICE) for value in (0.1, 2, 1.0)]
    inputs = (*rates, *params, *grads, *m, *(t.abs() for t in v))
    layouts = [t._view.layout for t in inputs]
    op = AdamW(count=40, weight_decay=(0.0,) * 40)
    kernel = g.device_for(DEVICE).kernel(op, layouts, [layouts[3]] * 120)
    assert len(kernel.steps) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", DTYPES)
def test_global_norm(dtype: str) -> None:
    sizes = [0, 1, 5, 16384, 16385, 40_000, 70_001]
    tensors = [normal(s, dtype=dtype) for s in sizes]
    wanted = math.sqrt(sum((wide(t) ** 2).sum() for t in tensors))
    (got,) = run(GlobalNorm(), *tensors)
    assert abs(got.item() - wanted) <= 1e-6 * wanted
    assert run(GlobalNorm(), tensors[0])[0].item() == 0


# ---- scatter_add ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("targets", "columns", "many"),
    [(65, 384, 2000), (11, 5, 3000), (5000, 40, 700), (9000, 264, 300), (3, 8, 100), (1, 1, 70)],
)
def test_an_embedding_s_gradient(targets: int, columns: int, many: int, dtype: str) -> None:
    """Words are as unequal as in a text: the first is a third of all."""
    ids = np.minimum(RNG.geometric(min(0.3, 20 / targets), many) - 1, targets - 1).astype(np.int32)
    ids[::7] = RNG.integers(0, targets, len(ids[::7]))
    grad = normal(many, columns, dtype=dtype)
    table = g.zeros(targets, columns, dtype=dtype, device=DEVICE)
    table.requires_grad_()
    taken = table.take(g.from_numpy(ids, DEVICE))
    taken.backward(grad)
    wanted, terms = np.zeros((targets, columns)), np.zeros((targets, columns))
    np.add.at(wanted, ids, wide(grad))
    np.add.at(terms, ids, np.abs(wide(grad)))
    assert table.grad is not None
    agree(table.grad, wanted, terms, dtype, 16)


@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "uint8"])
@pytest.mark.parametrize("columns", [64, 63])
def test_slices_at_indices(columns: int, dtype: str) -> None:
    """In packs and one at a time, along both axes; zeros for an index that is out of range."""
    values = RNG.integers(0, 100, (40, columns)).astype(np.float32)
    x = g.from_numpy(values, DEVICE).astype(dtype)
    ids = RNG.integers(0, 40, (6, 9)).astype(np.int32)
    for axis in (0, 1):
        got = (x if axis == 0 else x.mT).take(g.from_numpy(ids, DEVICE), axis)
        wanted = values[ids] if axis == 0 else values.T[:, ids]
        np.testing.assert_array_equal(wide(got), wanted)
    ids[0, 0], ids[5, 8] = 40, -1
    wanted = values[np.clip(ids, 0, 39)]
    wanted[0, 0] = wanted[5, 8] = 0
    np.testing.assert_array_equal(wide(x.take(g.from_numpy(ids, DEVICE))), wanted)


def test_scatter_add_by_lists_of_its_own() -> None:
    """Each line has indices of its own, in strided memory, some of them out of range."""
    x, source = normal(4, 90, 3), normal(4, 3, 200).permute(0, 2, 1)
    ids = RNG.integers(-5, 95, (4, 200, 3)).astype(np.int32)
    got = x.scatter_add(g.from_numpy(ids, DEVICE), source, 1)
    wanted, terms = wide(x), np.abs(wide(x))
    for i, j, k in np.ndindex(ids.shape):
        if 0 <= ids[i, j, k] < 90:
            wanted[i, ids[i, j, k], k] += wide(source)[i, j, k]
            terms[i, ids[i, j, k], k] += abs(wide(source)[i, j, k])
    agree(got, wanted, terms, "float32", 16)


def test_the_same_bits_every_time() -> None:
    """Sums that atomics would add up in another order each time."""
    ids = g.from_numpy(RNG.integers(0, 7, 3000).astype(np.int32), DEVICE)
    grad, x = normal(3000, 64, scale=100), normal(3000, 64)
    weight = normal(64)
    index = ids.reshape(-1, 1).expand(3000, 64)

    def results() -> list[Array]:
        made = [g.zeros(7, 64, device=DEVICE).scatter_add(index, grad, 0)]
        made += run(LayerNormBackward(), x, weight, grad)
        made += run(GlobalNorm(), grad, x)
        made += run(CrossEntropy(), x, ids)
        return [t.numpy() for t in made]

    first = results()
    for _ in range(5):
        for a, b in zip(first, results(), strict=True):
            np.testing.assert_array_equal(a, b)

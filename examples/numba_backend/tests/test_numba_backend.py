"""What this backend can check by itself. The proof is `groundup conformance numba`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="the example's backend compiles with Numba: pip install numba")

from groundup_numba.backend import NumbaBackend
from groundup_numba.threads import GRAIN, parallel, pieces
from groundup_numba.walk import walk

import groundup as gu
from groundup import dispatch, nn, optim, support
from groundup.backends.api import Available
from groundup.dtypes import as_dtype
from groundup.errors import DomainError, UnsupportedDtype
from groundup.layout import Layout
from groundup.models.gpt import GPT, GPTConfig
from groundup.nn import functional
from groundup.ops import all_ops
from groundup.ops.samples import Case, cases_of

OPS = sorted(name for name in all_ops() if "::" not in name)
Array = np.ndarray[Any, np.dtype[Any]]


def run(case: Case, device: str) -> list[Array]:
    inputs = tuple(x.view(gu.tensor(x.base, device=device)) for x in case.inputs)
    results = dispatch.apply(case.op, inputs, gu.device_for(device))
    return [y.numpy() for y in (results if isinstance(results, tuple) else (results,))]


def both(function: Callable[[str], gu.Tensor]) -> tuple[Array, Array]:
    """What it gives on the cpu, and here."""
    cpu, numba = (function(device).numpy() for device in ("cpu", "numba"))
    return cpu, numba


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- every op ----


def test_it_is_available() -> None:
    assert isinstance(NumbaBackend().probe(), Available)


def test_no_op_is_missing() -> None:
    assert support.summary(gu.device_for("numba")).missing == []


@pytest.mark.parametrize("name", OPS)
def test_samples_agree_with_the_cpu(name: str) -> None:
    """In every dtype that the op is sampled in and the device has; float64 to float64's digits."""
    op, known = all_ops()[name], gu.device_for("numba").info.dtypes
    for dtype in op.dtypes:
        for case in cases_of(op, dtype) if dtype in known else []:
            wanted = run(case, "cpu")
            if any(as_dtype(each.dtype) not in known for each in wanted):
                continue
            error = 1e-4
            for got, best in zip(run(case, "numba"), wanted, strict=True):
                what = f"{case.op!r} {case.id} {dtype}"
                assert (got.shape, got.dtype) == (best.shape, best.dtype), what
                if best.dtype == np.float64 and name != "normal":  # which is made in float32
                    error = 1e-11
                scale = np.abs(best[np.isfinite(best)]).max(initial=0) if best.size else 0
                near = 0.1 * error * min(max(float(scale), 1.0), 1e4)
                np.testing.assert_allclose(got, best, error, near, err_msg=what)


@pytest.mark.parametrize(
    "name",
    ["softmax", "log_softmax", "gelu", "silu", "layer_norm", "rms_norm", "cross_entropy", "gather",
     "take", "max", "sum"],
)  # fmt: skip
def test_gradients_agree_with_the_cpu(name: str) -> None:
    op, tried = all_ops()[name], 0
    for case in cases_of(op, gu.float32):
        if case.tags & {"special", "nan", "tie", "empty"}:
            continue
        found = []
        for device in ("cpu", "numba"):
            leaves = [gu.tensor(x.base, device=device) for x in case.inputs]
            leaves = [t.requires_grad_() if t.dtype.is_floating else t for t in leaves]
            inputs = tuple(x.view(t) for x, t in zip(case.inputs, leaves, strict=True))
            result = dispatch.apply(case.op, inputs)
            first = result[0] if isinstance(result, tuple) else result
            weight = gu.tensor(numbers(*first.shape), device=device)
            (first * weight).sum().backward()
            found.append([t.grad.numpy() for t in leaves if t.grad is not None])
        tried += 1
        for wanted, got in zip(*found, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4, err_msg=case.id)
    assert tried


# ---- walks, threads, sizes at which work is shared ----


def test_axes_that_are_walked_alike_become_one() -> None:
    dense = Layout((4, 5, 6), (30, 6, 1), gu.float32)
    turned = Layout((4, 5, 6), (1, 4, 20), gu.float32)
    bias = Layout((4, 5, 6), (0, 0, 1), gu.float32)
    number = Layout((4, 5, 6), (0, 0, 0), gu.float32)
    for operands, rows, columns, steps in (
        ((dense,), 1, 120, (1,)), ((dense, number), 1, 120, (1, 0)),
        ((dense, bias), 20, 6, (1, 1)), ((turned,), 20, 6, (20,)),
        ((Layout((), (), gu.float32),), 1, 1, (1,)),
        ((Layout((0, 3), (3, 1), gu.float32),), 1, 0, (1,)),
    ):  # fmt: skip
        found = walk(*operands)
        assert (found.rows, found.columns, found.steps) == (rows, columns, steps)


def test_pieces_cover_everything_once() -> None:
    for count in (0, 1, 7, GRAIN, 3 * GRAIN + 1):
        covered = [i for low, high in pieces(count) for i in range(low, high)]
        assert covered == list(range(count))


def test_an_error_in_one_piece_is_raised_when_all_have_ended() -> None:
    ended = []

    def work(low: int, high: int) -> None:
        if low == 0:
            raise ValueError("first")
        ended.append((low, high))

    with pytest.raises(ValueError, match="first"):
        parallel(work, 8 * GRAIN)
    assert ended == pieces(8 * GRAIN)[1:]


VIEWS: dict[str, Callable[[gu.Tensor], gu.Tensor]] = {
    "dense": lambda x: x, "transposed": lambda x: x.mT, "every other": lambda x: x[:, ::2],
    "flipped": lambda x: x[::-1, ::-1], "odd start": lambda x: x[1:, 3:],
    "expanded": lambda x: x[:1].expand(x.shape), "column": lambda x: x[:, 1:2].expand(x.shape),
}  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_large_views(view: str) -> None:
    """Enough elements for all threads, in numbers that no vector divides."""
    data = numbers(517, 263)

    def compute(device: str) -> gu.Tensor:
        x = VIEWS[view](gu.tensor(data, device=device))
        y = gu.tensor(numbers(*x.shape, seed=1), device=device)
        first = (x > y).where(x * y, x + 2.0).tanh() + x.max(0) - x.sum(0)
        return (
            first * y.mT.clone().mT + x.max(1, keepdims=True) + x.sum(1, keepdims=True) + x.mean()
        )

    wanted, got = both(compute)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


def test_launches_from_several_threads() -> None:
    x = gu.tensor(numbers(300, 400), device="numba")
    w = gu.tensor(numbers(400), device="numba")
    wanted = gu.ops.layer_norm(x.gelu(), w, w).softmax().numpy()
    found: list[Array] = []

    def work() -> None:
        for _ in range(10):
            found.append(gu.ops.layer_norm(x.gelu(), w, w).softmax().numpy())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 40
    assert all(np.array_equal(each, wanted) for each in found)


# ---- numbers ----


def test_nan_and_infinities_in_rows() -> None:
    for width in (1, 3, 16, 100):
        data = numbers(6, width)
        for row, value in enumerate((np.nan, -np.nan, np.inf, -np.inf, 0.0)):
            data[row, width // 2] = value
        data[5] = -np.inf
        for name in ("max", "min", "softmax", "log_softmax", "logsumexp", "argmax"):
            axis = {} if name.endswith("softmax") else {"axis": 1}
            x = {device: gu.tensor(data, device=device) for device in ("cpu", "numba")}
            wanted, got = both(lambda d, x=x, n=name, a=axis: getattr(x[d], n)(**a))
            np.testing.assert_allclose(got, wanted, rtol=1e-5, err_msg=f"{name} {width}")


@pytest.mark.parametrize(("name", "ulps"), [("exp", 1.0), ("tanh", 2.0), ("erf", 3.0)])
def test_float32_formulas_are_accurate(name: str, ulps: float) -> None:
    x = np.concatenate([np.linspace(-90, 90, 40001), np.linspace(-5, 5, 40001), numbers(9999) / 99])
    x = x.astype(np.float32)
    exact = getattr(gu.tensor(x.astype(np.float64), device="cpu"), name)().numpy()
    got = getattr(gu.tensor(x, device="numba"), name)().numpy()
    with np.errstate(over="ignore"):
        wanted = exact.astype(np.float32)
    usual = np.isfinite(wanted) & (np.abs(wanted) > np.finfo(np.float32).tiny)
    spacing = np.spacing(np.abs(wanted[usual])).astype(np.float64)
    assert usual.sum() > 40000
    assert (np.abs(got[usual] - exact[usual]) / spacing).max() <= ulps
    assert np.array_equal(np.isinf(got), np.isinf(wanted))


def test_random_numbers_are_those_of_the_cpu() -> None:
    for size in (0, 1, 6, 100_003):
        gu.manual_seed(5)
        state = gu.random.draw(gu.device_for("cpu")).numpy()
        wanted, got = both(
            lambda d, s=state, n=size: gu.ops.random_bits(gu.tensor(s, device=d), (n,))
        )
        assert np.array_equal(got, wanted)


def test_an_index_out_of_range_changes_nothing() -> None:
    x = gu.tensor(numbers(3, 4), device="numba")
    before = x.numpy()
    for wrong in (-1, 3):
        ids = gu.tensor([[0] * 4, [wrong] * 4], dtype="int32", device="numba")
        with pytest.raises(
            DomainError, match=f"index {wrong} is out of range for axis 0 of size 3"
        ):
            dispatch.update(gu.ops.find("scatter_add")(axis=0), (x, ids, x[:2].clone()))
    assert np.array_equal(x.numpy(), before)


def test_half_precision_is_refused() -> None:
    with pytest.raises(UnsupportedDtype, match="float16"):
        gu.zeros(3, dtype="float16", device="numba")


# ---- training ----


def gpt_losses(device: str) -> list[float]:
    gu.set_default_device(device)
    try:
        gu.manual_seed(3)
        model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=50))
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)
        ids = np.random.default_rng(0).integers(0, 50, (4, 17)).astype(np.int32)
        x, y = gu.tensor(ids[:, :-1].copy()), gu.tensor(ids[:, 1:].copy())
        found = []
        for _ in range(20):
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            nn.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.item())
        return found
    finally:
        gu.set_default_device(None)


def test_a_gpt_learns_as_on_the_cpu() -> None:
    wanted, got = gpt_losses("cpu"), gpt_losses("numba")
    assert wanted[-1] < wanted[0] - 1
    np.testing.assert_allclose(got, wanted, rtol=1e-4)

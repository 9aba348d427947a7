"""What is the CPU backend's own: adopted arrays, threads, BLAS, sums that lose no digits.

That its kernels compute the right numbers is tested with the ops, in the core.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup.backends.devices import device_for
from groundup_cpu_ref import blas, threads

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(autouse=True)
def _on_the_cpu() -> None:
    gu.set_default_device("cpu")


# ---- adopted arrays ----


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x, lambda x: x[1:, ::2], lambda x: x[::-1, ::-3], lambda x: x.T, lambda x: x[1],
        lambda x: x[1, 2, ...],
    ],
)  # fmt: skip
def test_views_of_an_adopted_array_share_its_memory(view: Callable[[Array], Array]) -> None:
    host = view(np.arange(24, dtype=np.float32).reshape(4, 6))
    x = gu.from_dlpack(host)
    flat = x.reshape(1) if not host.shape else x[::-1]
    host[...] = -host
    assert np.array_equal(x.numpy(), host)
    assert np.array_equal(flat.numpy(), host.reshape(1) if not host.shape else host[::-1])


# ---- memory ----


def test_pooled_memory_is_not_reused_while_an_array_on_it_lives() -> None:
    """Exported arrays and views keep a block although their tensor is gone."""
    size = 1 << 18
    x = gu.ones(size)
    exported, view = np.from_dlpack(x), x[size // 2 :]
    del x
    others = [gu.zeros(size) for _ in range(3)]
    assert exported.min() == 1.0
    assert view.sum().item() == size / 2
    pool = device_for("cpu").pool
    before = pool.in_use
    del exported, view, others
    assert before - pool.in_use == 4 * 4 * size


# ---- threads ----


def test_an_error_in_one_piece_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """They write into the same arrays, which must not change after the error was seen."""
    monkeypatch.setattr(threads, "THREADS", 2)
    started, ended = threading.Event(), threading.Event()

    def work(start: int, stop: int) -> None:
        if start == 0:
            started.wait(5)
            raise ValueError("first")
        started.set()
        time.sleep(0.05)
        ended.set()

    with pytest.raises(ValueError, match="first"):
        threads.parallel(work, 2, 1)
    assert ended.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads do not come along, and waiting for them would be for ever."""
    monkeypatch.setattr(threads, "THREADS", 2)
    x = gu.ones(600, 600)
    x.sum()  # starts the pool
    child = os.fork()
    if child == 0:
        done = threading.Thread(target=lambda: os._exit(0 if x.sum().item() == 360_000 else 1))
        done.start()
        done.join(20)
        os._exit(2)  # it hung
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_blas_gets_its_threads_back() -> None:
    from threadpoolctl import ThreadpoolController

    def counts() -> list[int]:
        libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        return [library.get_num_threads() for library in libraries]

    before = counts()
    with blas.single_threaded(), blas.single_threaded():
        assert set(counts()) <= {1}
    assert counts() == before
    with pytest.raises(ValueError, match="inside"), blas.single_threaded():
        raise ValueError("inside")
    assert counts() == before


# ---- products and sums of views ----


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 1, 4, 5), (7, 4, 5)])
def test_a_product_with_an_expanded_stack_of_matrices(shape: tuple[int, ...]) -> None:
    """One matrix for all, but the other operand has fewer matrices than the result."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(shape), rng.standard_normal((5, 6))
    got = gu.tensor(x) @ gu.tensor(y).expand(7, 5, 6)
    assert np.allclose(got.numpy(), x @ np.broadcast_to(y, (7, 5, 6)), atol=1e-12)


def test_sums_over_expanded_rows_lose_no_digits() -> None:
    """BLAS does not read them, and NumPy's own loop adds one term after the other."""
    x = gu.tensor(np.random.default_rng(0).standard_normal((4, 4000)).astype(np.float32))
    x.requires_grad_()
    x.softmax().sum().backward()  # the gradient of the sum is an expanded 1
    assert x.grad is not None
    assert abs(x.grad.numpy()).max() < 1e-9
    row = gu.tensor([0.1]).expand(4000)
    for other in (row, gu.ones(4000).flip()):
        exact = 4000 * float(np.float32(0.1)) * float(other[0].item())
        assert (row @ other).item() == pytest.approx(exact, rel=1e-6)

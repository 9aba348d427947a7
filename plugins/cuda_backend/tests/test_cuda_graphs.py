"""Compiled functions run as CUDA graphs and give what eager ones give."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.models.gpt import GPT, GPTConfig
from groundup.nn.functional import cross_entropy
from groundup.optim import AdamW
from groundup_cuda.backend import CudaBackend

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)
DEVICE = "cuda:0"
CONFIG = GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=50)
STEPS = 6
Array = np.ndarray[Any, np.dtype[Any]]


def training() -> tuple[Callable[..., g.Tensor], GPT]:
    g.manual_seed(3)
    g.set_default_device(DEVICE)
    try:
        model = GPT(CONFIG)
    finally:
        g.set_default_device(None)
    optimizer = AdamW(model.parameters(), lr=3e-3)

    def step(x: g.Tensor, y: g.Tensor) -> g.Tensor:
        loss = cross_entropy(model(x).reshape(-1, 50), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, model


def losses(step: Callable[..., g.Tensor]) -> list[float]:
    ids = np.random.default_rng(0).integers(0, 50, (STEPS, 4, 17)).astype(np.int32)
    pairs = [(batch[:, :-1].copy(), batch[:, 1:].copy()) for batch in ids]
    return [step(g.from_numpy(x, DEVICE), g.from_numpy(y, DEVICE)).item() for x, y in pairs]


def test_a_training_step_has_the_losses_and_weights_of_eager_ones() -> None:
    eager, first = training()
    wanted = losses(eager)
    plain, second = training()
    compiled = g.compile(plain)
    assert losses(compiled) == pytest.approx(wanted, rel=1e-5)
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_allclose(two.detach().numpy(), one.detach().numpy(), rtol=2e-3, atol=2e-5)


def test_runs_are_equal_to_the_bit_launched_recorded_and_replayed() -> None:
    """The first run is launch by launch, the second records, the others replay."""

    @g.compile
    def work(x: g.Tensor, y: g.Tensor) -> g.Tensor:
        return (x @ y).softmax(-1).sum(0) * 3 + x[0]

    rng = np.random.default_rng(1)
    x, y = (g.from_numpy(rng.normal(size=(64, 64)).astype(np.float32), DEVICE) for _ in "xy")
    results = [work(x, y).numpy() for _ in range(5)]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    other = work(y, x).numpy()
    np.testing.assert_array_equal(other, work(y, x).numpy())
    assert not np.array_equal(other, results[0])


def test_other_threads_may_compute_while_a_graph_is_recorded() -> None:
    problems: list[str] = []
    start = threading.Barrier(4)

    def run(number: int) -> None:
        x = g.full((33, number + 2), 1.5, device=DEVICE)

        def double(x: g.Tensor) -> g.Tensor:
            for _ in range(50):
                x = x + 1
            return x @ g.ones(number + 2, 3, device=DEVICE)

        work = g.compile(double) if number % 2 else double
        start.wait(60)
        for _ in range(8):
            if not np.all(work(x).numpy() == 51.5 * (number + 2)):
                problems.append(f"thread {number}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_the_graph_reads_and_writes_what_is_in_memory_now() -> None:
    total = g.zeros(3, device=DEVICE)

    @g.compile
    def add(x: g.Tensor) -> None:
        total.assign_(total + x)

    for value in range(1, 6):
        add(g.full((3,), float(value), device=DEVICE))
    total.assign_(total * 2)
    add(g.ones(3, device=DEVICE))
    assert total.numpy().tolist() == [31.0] * 3

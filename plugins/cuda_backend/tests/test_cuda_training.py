"""The same seed gives the same run as on the cpu."""

from __future__ import annotations

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
CONFIG = GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=50)
BATCH, STEPS = 4, 40


def losses(device: str) -> list[float]:
    g.set_default_device(device)
    try:
        g.manual_seed(3)
        model = GPT(CONFIG)
        optimizer = AdamW(model.parameters(), lr=3e-3)
        rng = np.random.default_rng(0)
        ids = np.sort(rng.integers(0, 50, (STEPS, BATCH, 17)), axis=-1).astype(np.int32)
        return [step(model, optimizer, batch, device) for batch in ids]
    finally:
        g.set_default_device(None)


def step(model: GPT, optimizer: AdamW, batch: np.ndarray, device: str) -> float:
    x, y = (g.from_numpy(part.copy(), device) for part in (batch[:, :-1], batch[:, 1:]))
    loss = cross_entropy(model(x).reshape(-1, 50), y.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_weights_agree() -> None:
    states = []
    for device in ("cpu", "cuda:0"):
        g.set_default_device(device)
        try:
            g.manual_seed(3)
            states.append({n: t.numpy() for n, t in GPT(CONFIG).state_dict().items()})
        finally:
            g.set_default_device(None)
    for name, value in states[0].items():
        np.testing.assert_allclose(states[1][name], value, rtol=1e-6, atol=1e-7)


def test_losses_agree() -> None:
    cpu, cuda = losses("cpu"), losses("cuda:0")
    assert cpu[-1] < cpu[0] - 0.5, "it learns"
    np.testing.assert_allclose(cuda, cpu, rtol=1e-3)

"""Composed ops, their gradients and an optimizer step, against the cpu backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import groundup as g
from groundup import nn, optim
from groundup.backends.api import Unavailable
from groundup_webgpu.backend import WebGpuBackend

PROBE = WebGpuBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"webgpu: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)
F = nn.functional
IDS = np.array([0, 3, 1, 3, 2, 0], np.int32)
CASES: dict[str, tuple[list[tuple[int, ...]], Callable[..., g.Tensor]]] = {
    "softmax": ([(6, 5)], F.softmax),
    "layer_norm": ([(6, 5), (5,), (5,)], F.layer_norm),
    "attention": (
        [(2, 2, 6, 4)] * 3,
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal=True),
    ),
    "cross_entropy": ([(6, 5)], lambda x: F.cross_entropy(x, g.from_numpy(IDS, x.device))),
    "embedding": ([(5, 4)], lambda w: w.take(g.from_numpy(IDS, w.device), axis=0)),
    "linear_gelu": ([(6, 5), (7, 5), (7,)], lambda x, w, b: F.gelu(F.linear(x, w, b))),
}


def gradients(name: str, device: str) -> list[np.ndarray]:
    shapes, function = CASES[name]
    rng = np.random.default_rng(1)
    inputs = []
    for shape in shapes:
        x = g.from_numpy(rng.standard_normal(shape).astype(np.float32), device)
        inputs.append(x.requires_grad_())
    out = function(*inputs)
    weights = rng.standard_normal(out.shape).astype(np.float32)
    (out * g.from_numpy(np.asarray(weights), device)).sum().backward()
    return [out.detach().numpy(), *[x.grad.numpy() for x in inputs if x.grad is not None]]


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    webgpu, cpu = gradients(name, "webgpu:0"), gradients(name, "cpu")
    assert len(cpu) == len(CASES[name][0]) + 1
    for got, wanted in zip(webgpu, cpu, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def stepped(device: str) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    parameters = []
    for shape in ((3, 4), (5,)):
        value = g.from_numpy(rng.standard_normal(shape).astype(np.float32), device)
        parameters.append(nn.Parameter(value))
    adamw = optim.AdamW(parameters, lr=0.01, weight_decay=0.1)
    for _ in range(5):
        adamw.zero_grad()
        (parameters[0].sin().sum() * parameters[1].exp().sum()).backward()
        nn.clip_grad_norm_(parameters, 1.0)
        adamw.step()
    return [p.detach().numpy() for p in parameters]


def test_adamw() -> None:
    for got, wanted in zip(stepped("webgpu:0"), stepped("cpu"), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)

"""Optimizers over many parameters in few dispatches, and sums at repeated places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup import optim
from groundup.backends.api import Kernel
from groundup.dispatch import update
from groundup.layout import Layout
from groundup.ops import REGISTRY
from groundup_webgpu.machine import VARIABLE, machine_of

RANDOM = np.random.default_rng(5)
SHAPES = [(3, 5), (5,), (), (0, 3), (41, 67), (7,), (1,), (2, 2, 2), (129,)]


def normal(*shape: int) -> np.ndarray[Any, np.dtype[Any]]:
    return np.asarray(RANDOM.standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_updates_in_place(machine_device: Any, name: str) -> None:
    n = len(SHAPES)
    decay = tuple(0.1 * i for i in range(n))
    params = {} if name == "adamw" else {"momentum": 0.9, "nesterov": True}
    op = REGISTRY[name](count=n, weight_decay=decay, **params)
    states = op.states
    arrays = [normal(*shape) for _ in range(2 + states) for shape in SHAPES]
    arrays[3 * n :] = [abs(a) for a in arrays[3 * n :]]
    rates = [np.float32(0.01), np.int32(3), np.float32(0.5)]
    on = {}
    for device in ("cpu", machine_device):
        tensors = [g.from_numpy(np.asarray(a).copy(), device) for a in (*rates, *arrays)]
        update(op, tuple(tensors))
        on[str(device)] = [t.numpy() for t in tensors]
    theirs, ours = on.values()
    for mine, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=2e-6)


def test_dispatches_of_adamw(machine_device: Any) -> None:
    n = 9
    op = REGISTRY["adamw"](count=n, weight_decay=(0.0,) * n)
    layouts = [g.zeros(*s, device=machine_device)._view.layout for s in [(), (), (), *[(8,)] * 36]]
    outs = [Layout.contiguous(g.zeros(8).spec)] * 27
    kernel = machine_device.kernel(op, layouts, outs)
    assert isinstance(kernel, Kernel)
    assert kernel.in_place == op.aliases
    together = 4 if machine_device.machine.buffers == 32 else 1
    assert len(kernel._stages) == 1 + -(-n // together)  # type: ignore[attr-defined]
    for stage in kernel._stages:  # type: ignore[attr-defined]
        assert len(stage.operands) <= machine_device.machine.buffers


@pytest.mark.parametrize("start", [3, 99])
def test_an_updated_slice_is_all_that_is_written(machine_device: Any, start: int) -> None:
    x, new = normal(2, 3, 16, 4), normal(2, 3, 1, 4)
    wanted = x.copy()
    wanted[:, :, min(start, 15) : min(start, 15) + 1] = new
    starts = g.tensor([0, 0, start, 0], dtype=g.int32, device=machine_device)
    cache, rows = (g.from_numpy(a, machine_device) for a in (x, new))
    op = REGISTRY["dynamic_update_slice"]()
    machine_device.bound.clear()
    fresh = op(cache, rows, starts)
    np.testing.assert_array_equal(fresh.numpy(), wanted)
    np.testing.assert_array_equal(cache.numpy(), x)
    update(op, (cache, rows, starts))
    np.testing.assert_array_equal(cache.numpy(), wanted)
    parts = [p for key, p in machine_device.bound.items() if key[0]._op is op]
    assert sorted(len(each) for each in parts) == [1, 2]  # in place nothing is copied


def test_global_norm(machine_device: Any) -> None:
    arrays = [normal(*shape) for shape in (*SHAPES, (300, 500))]
    found = REGISTRY["global_norm"]()(*[g.from_numpy(a, machine_device) for a in arrays])
    wanted = np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays))
    assert found.item() == pytest.approx(wanted, rel=1e-6)


def test_training_in_steady_state(machine_device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = g.nn.Sequential(g.nn.Linear(8, 16), g.nn.LayerNorm(16), g.nn.Linear(16, 4))
    model = model.to(machine_device)
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    x = g.from_numpy(normal(6, 8), machine_device)
    y = g.from_numpy(np.array([0, 1, 2, 3, 0, 1], np.int32), machine_device)

    def step() -> float:
        loss = g.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        g.nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made anew")

    losses = [step() for _ in range(4)]
    for name in ("create_bind_group", "create_compute_pipeline"):
        monkeypatch.setattr(type(machine_device._gpu), name, refuse)
    losses += [step() for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("axis", [0, 1])
def test_repeated_places_lose_no_update(machine_device: Any, axis: int) -> None:
    """The gradient of an embedding, of whole numbers: any order gives the same sum."""
    count, rows, width = 1500, 7, 70
    ids = RANDOM.integers(-1, rows + 1, count).astype(np.int32)  # some are out of range
    source = RANDOM.integers(-9, 9, (count, width)).astype(np.float32)
    wanted = np.ones((rows, width), np.float32)
    inside = (ids >= 0) & (ids < rows)
    np.add.at(wanted, ids[inside], source[inside])
    indices = g.from_numpy(ids, machine_device).reshape(count, 1).expand(count, width)
    x = g.ones(rows, width, device=machine_device)
    added = g.from_numpy(source, machine_device)
    if axis:
        x, indices, added = x.mT, indices.mT, added.mT
    found = x.scatter_add(indices, added, axis)
    np.testing.assert_array_equal((found.mT if axis else found).numpy(), wanted)


def test_the_machine_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {
        "max-compute-workgroup-storage-size": 49152, "max-storage-buffers-per-shader-stage": 64,
    }  # fmt: skip
    monkeypatch.delenv(VARIABLE, raising=False)
    assert machine_of(True, limits).software
    monkeypatch.setenv(VARIABLE, "gpu")
    assert (machine_of(True, limits).software, machine_of(True, limits).memory) == (False, 49152)
    monkeypatch.setenv(VARIABLE, "portable")
    assert (machine_of(True, limits).memory, machine_of(True, limits).buffers) == (16384, 8)
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(g.errors.ConfigError, match="GROUNDUP_WEBGPU_MACHINE"):
        machine_of(True, limits)

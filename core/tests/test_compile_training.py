"""Compiled training is eager training, bit for bit: losses, parameters, states, random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import nn, optim, random
from groundup.models.gpt import GPT, GPTConfig
from groundup.nn import functional as F
from groundup.tensor import Tensor

Loss = Callable[[Any, Any, Any], Tensor]
STEPS = 5


class Net:
    """A model, its loss, and batches for it."""

    def __init__(self, model: Any, loss: Loss, x: np.ndarray, y: np.ndarray) -> None:
        self.model, self.loss = model, loss
        self.batches = [(gu.from_numpy(a), gu.from_numpy(b)) for a, b in zip(x, y, strict=True)]


def mlp() -> Net:
    rng = np.random.default_rng(0)
    layers = (nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.LayerNorm(16), nn.Linear(16, 3))
    x = rng.standard_normal((STEPS, 8, 6), np.float32)
    y = rng.integers(0, 3, (STEPS, 8), np.int32)
    return Net(nn.Sequential(*layers), _classify, x, y)


def conv_net() -> Net:
    rng = np.random.default_rng(1)
    layers = (
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3),
    )  # fmt: skip
    x = rng.standard_normal((STEPS, 5, 2, 6, 6), np.float32)
    y = rng.integers(0, 3, (STEPS, 5), np.int32)
    return Net(nn.Sequential(*layers), lambda m, x, y: F.cross_entropy(m(x).flatten(1), y), x, y)


def gpt() -> Net:
    rng = np.random.default_rng(2)
    sizes = GPTConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=20, dropout=0.2)
    x, y = rng.integers(0, 20, (2, STEPS, 3, 8), np.int32)
    return Net(GPT(sizes), lambda model, ids, targets: model(ids, targets), x, y)


def _classify(model: Any, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def sgd(model: Any) -> optim.Optimizer:
    return optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)


def adamw(model: Any) -> optim.Optimizer:
    return optim.AdamW(model.parameters(), lr=0.01)


def trained(net_of: Any, optimizer_of: Any, dtype: str, compiled: bool) -> dict[str, np.ndarray]:
    """Everything that training leaves behind, by name."""
    random.manual_seed(7)
    net = net_of()
    optimizer = optimizer_of(net.model)

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with gu.autocast(dtype):
            loss = net.loss(net.model, x, y)
        loss.backward()
        norm = nn.clip_grad_norm_(net.model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        return loss, norm

    run = gu.compile(step) if compiled else step
    found = {}
    for i, (x, y) in enumerate(net.batches):
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + i)
        loss, norm = run(x, y)
        found |= {f"loss {i}": loss.detach().numpy(), f"norm {i}": norm.numpy()}
    if compiled:
        assert len(run.entries) == 1
        assert run.retraces == []
    found |= {name: t.numpy() for name, t in net.model.state_dict().items()}
    found |= {name: t.numpy() for name, t in optimizer.state_dict().items()}
    return found | {"random": random.get_state()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer_of", [sgd, adamw])
@pytest.mark.parametrize("net_of", [mlp, conv_net, gpt])
def test_training_is_the_same_to_the_bit(net_of: Any, optimizer_of: Any, dtype: str) -> None:
    eager = trained(net_of, optimizer_of, dtype, compiled=False)
    compiled = trained(net_of, optimizer_of, dtype, compiled=True)
    assert eager.keys() == compiled.keys()
    for name, array in eager.items():
        np.testing.assert_array_equal(array, compiled[name], err_msg=name)


def test_gradients_may_stay_and_add_up() -> None:
    """Forward and backward compiled, the rest not: what accumulates is the eager sum."""
    found = []
    for compiled in (False, True):
        random.manual_seed(7)
        net = mlp()
        optimizer = adamw(net.model)

        def micro(x: Tensor, y: Tensor, net: Net = net) -> Tensor:
            loss = net.loss(net.model, x, y)
            loss.backward()
            return loss

        run = gu.compile(micro) if compiled else micro
        for i, (x, y) in enumerate(net.batches):
            run(x, y)
            if i % 2:
                optimizer.step()
                optimizer.zero_grad()
        found.append([t.numpy() for t in net.model.state_dict().values()])
        found[-1] += [p.grad.numpy() for p in net.model.parameters()]
        if compiled:
            assert len(run.entries) == 2  # with and without gradients before
    for eager, replayed in zip(*found, strict=True):
        np.testing.assert_array_equal(eager, replayed)


def test_gradients_of_two_calls_share_no_memory() -> None:
    w = gu.ones(3, 3).requires_grad_()
    backward = gu.compile(lambda x: (w * x).sum().backward())
    backward(gu.full((3, 3), 2.0))
    first, w.grad = w.grad, None
    assert first is not None
    backward(gu.full((3, 3), 5.0))
    assert first.tolist()[0][0] == 2.0
    assert w.grad is not None
    w.grad.assign_(0.0)
    assert first.tolist()[0][0] == 2.0


def test_checkpointed_layers_draw_the_same_masks() -> None:
    found = []
    for compiled in (False, True):
        random.manual_seed(3)
        layer, drop = nn.Linear(4, 4), nn.Dropout(0.5)
        optimizer = sgd(layer)

        def step(x: Tensor, layer: Any = layer, drop: Any = drop, o: Any = optimizer) -> Tensor:
            y = gu.checkpoint(lambda v: drop(layer(v)), x)
            loss = (y * y).sum()
            loss.backward()
            o.step()
            o.zero_grad()
            return loss

        run = gu.compile(step) if compiled else step
        losses = [run(gu.ones(5, 4)).detach().numpy() for _ in range(3)]
        found.append([*losses, layer.weight.detach().numpy(), random.get_state()])
    for eager, replayed in zip(*found, strict=True):
        np.testing.assert_array_equal(eager, replayed)


def test_gradients_of_gradients() -> None:
    def penalty(x: Tensor) -> Tensor:
        w = gu.full((3,), 2.0).requires_grad_()
        (g,) = gu.grad((w * w * x).sum(), [w], create_graph=True)
        assert g is not None
        (h,) = gu.grad((g * g).sum(), [w])
        assert h is not None
        return h

    x = gu.tensor([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(gu.compile(penalty)(x).numpy(), penalty(x).numpy())


def test_an_argument_that_is_a_leaf_gets_its_gradient() -> None:
    backward = gu.compile(lambda w, x: (w * x).sum().backward())
    for value in (2.0, 3.0):
        w = gu.ones(2).requires_grad_()
        backward(w, gu.full((2,), value))
        backward(w, gu.full((2,), value))
        assert w.grad is not None
        assert w.grad.tolist() == [2 * value, 2 * value]


def test_a_parameter_that_sits_out_keeps_its_count() -> None:
    found = []
    for compiled in (False, True):
        random.manual_seed(0)
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)
        optimizer = adamw(nn.ModuleList([first, second]))

        def step(
            x: Tensor, both: bool, a: Any = first, b: Any = second, o: Any = optimizer
        ) -> None:
            y = a(x) + b(x) if both else a(x)
            (y * y).sum().backward()
            o.step()
            o.zero_grad()

        run = gu.compile(step) if compiled else step
        for both in (True, False, True, False, True):
            run(gu.ones(2, 3), both)
        found.append([t.numpy() for t in optimizer.state_dict().values()])
    for eager, replayed in zip(*found, strict=True):
        np.testing.assert_array_equal(eager, replayed)

import numpy as np
import pytest

import groundup as gu
from groundup import nn, optim
from groundup.autocast import autocast
from groundup.checkpoint import checkpoint
from groundup.errors import CheckpointError, ConfigError
from groundup.nn import functional as F
from groundup.optim import GradScaler
from groundup.random import manual_seed, randn

NARROW = ("bfloat16", "float16")


@pytest.fixture(autouse=True)
def seeded() -> None:
    manual_seed(0)


@pytest.mark.parametrize("dtype", NARROW)
def test_each_family_gets_its_dtype(dtype: str) -> None:
    x, w, ids = randn(4, 8), randn(8, 8), gu.tensor([0, 3, 1, 7])
    with autocast(dtype):
        y = x @ w
        assert y.dtype.name == dtype
        assert F.linear(x, w).dtype.name == dtype
        assert F.relu(y).dtype.name == dtype
        assert (y + 1).dtype.name == dtype
        assert (y + x).dtype.name == "float32"
        for wide in (F.softmax(y), F.log_softmax(y), F.cross_entropy(y, ids), y.sum(), y.mean(),
                     y.logsumexp(), F.layer_norm(y, w[0], w[1]), F.mse_loss(y, x)):  # fmt: skip
            assert wide.dtype.name == "float32"
        assert gu.ops.concat([y, x]).dtype.name == "float32"
        assert y.max().dtype.name == dtype
        assert F.embedding(ids, w).dtype.name == "float32"
        assert ids.sum().dtype.name == "int32"
    assert (x @ w).dtype.name == "float32"


def test_attention_and_convolution_are_narrow() -> None:
    q = randn(1, 2, 4, 8)
    with autocast("bfloat16"):
        assert F.scaled_dot_product_attention(q, q, q, causal=True).dtype.name == "bfloat16"
        images = randn(1, 3, 5, 5)
        assert F.conv2d(images, randn(2, 3, 3, 3)).dtype.name == "bfloat16"


def test_float64_is_left_alone() -> None:
    x = gu.ones(2, 2, dtype="float64")
    with autocast("bfloat16"):
        assert (x @ x).dtype.name == "float64"
        assert x.sum().dtype.name == "float64"


def test_float32_changes_nothing() -> None:
    x = randn(3, 3)
    with autocast("float32"):
        inside = (x @ x).softmax()
    np.testing.assert_array_equal(inside.numpy(), (x @ x).softmax().numpy())


def test_nesting_and_errors_put_things_back() -> None:
    x = randn(2, 2)
    with autocast("float16"):
        with autocast("bfloat16"):
            assert (x @ x).dtype.name == "bfloat16"
        assert (x @ x).dtype.name == "float16"
        with pytest.raises(gu.errors.ShapeError):
            x @ randn(3, 3)
        assert (x @ x).dtype.name == "float16"
    with pytest.raises(ConfigError, match="got float64"):
        autocast("float64")


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 4))


@pytest.mark.parametrize("dtype", NARROW)
def test_parameters_and_gradients_stay_float32_and_near(dtype: str) -> None:
    model, x, targets = net(), randn(32, 8), gu.tensor(np.arange(32) % 4)
    F.cross_entropy(model(x), targets).backward()
    wanted = [p.grad.numpy() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    with autocast(dtype):
        loss = F.cross_entropy(model(x), targets)
        loss.backward()  # inside is allowed: gradients of ops keep the dtypes of their ops
    assert loss.dtype.name == "float32"
    for parameter, reference in zip(model.parameters(), wanted, strict=True):
        assert parameter.dtype.name == "float32"
        assert parameter.grad is not None
        assert parameter.grad.dtype.name == "float32"
        error = np.linalg.norm(parameter.grad.numpy() - reference) / np.linalg.norm(reference)
        assert 0 < error < 0.02


def test_checkpointing_recomputes_under_the_same_autocast() -> None:
    model, x = net(), randn(4, 8)
    with autocast("bfloat16"):
        plain = model(x).sum()
        again = checkpoint(model, x).sum()
    grads = []
    for loss in (plain, again):
        model.zero_grad()
        loss.backward()
        grads.append([p.grad.numpy() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*grads, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- loss scaling ----


def test_scaling_saves_gradients_that_float16_would_lose() -> None:
    w = gu.tensor([[1e-4]], requires_grad=True)
    x = gu.tensor([[1e-4]])
    scaler = GradScaler()

    def loss() -> gu.Tensor:
        with autocast("float16"):
            return (x @ w).astype("float32").sum() * 1e-4

    loss().backward()
    assert w.grad is not None
    assert w.grad.item() == 0.0
    w.grad = None
    scaler.scale(loss()).backward()
    optimizer = optim.SGD([w], lr=1.0)
    assert scaler.unscale_(optimizer)
    assert w.grad is not None
    np.testing.assert_allclose(w.grad.item(), 1e-8, rtol=1e-2)


def test_a_step_equals_the_unscaled_one() -> None:
    plain, scaled = (gu.ones(3).requires_grad_() for _ in range(2))
    first, second = optim.AdamW([plain], lr=0.1), optim.AdamW([scaled], lr=0.1)
    scaler = GradScaler(init_scale=1024.0)
    for power in (1, 2, 3):
        for p, optimizer in ((plain, first), (scaled, second)):
            optimizer.zero_grad()
            loss = (p**power * gu.tensor([1.0, 2.0, -3.0])).sum()
            if optimizer is first:
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                if power == 2:
                    scaler.unscale_(optimizer)
                assert scaler.step(optimizer)
                scaler.update()
    np.testing.assert_array_equal(plain.detach().numpy(), scaled.detach().numpy())


def test_infinite_gradients_skip_the_step_and_halve_the_scale() -> None:
    p = gu.ones(2).requires_grad_()
    optimizer = optim.SGD([p], lr=1.0)
    scaler = GradScaler(init_scale=8.0, growth_interval=2)
    for bad in (float("inf"), float("nan")):
        p.grad = gu.tensor([1.0, bad])
        assert not scaler.step(optimizer)
        scaler.update()
    assert p.detach().tolist() == [1.0, 1.0]
    assert scaler.get_scale() == 2.0
    for _ in range(2):
        p.grad = gu.zeros(2)
        assert scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 4.0
    scaler.update()  # nothing stepped since
    assert scaler.get_scale() == 4.0


def test_misuse_is_refused() -> None:
    p = gu.ones(1).requires_grad_()
    optimizer = optim.SGD([p])
    scaler = GradScaler()
    p.grad = gu.ones(1)
    scaler.unscale_(optimizer)
    with pytest.raises(ConfigError, match="already done"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(ConfigError, match=r"call update\(\)"):
        scaler.step(optimizer)
    with pytest.raises(ConfigError, match="GradScaler"):
        GradScaler(init_scale=0)


def test_scaler_state() -> None:
    p = gu.ones(1).requires_grad_()
    optimizer = optim.SGD([p])
    scaler = GradScaler(init_scale=4.0, growth_interval=3)
    for _ in range(2):
        p.grad = gu.zeros(1)
        scaler.step(optimizer)
        scaler.update()
    other = GradScaler(growth_interval=3)
    other.load_state_dict(scaler.state_dict())
    assert other.get_scale() == 4.0
    p.grad = gu.zeros(1)
    other.step(optimizer)
    other.update()
    assert other.get_scale() == 8.0
    with pytest.raises(CheckpointError, match="GradScaler"):
        other.load_state_dict({"scale": "x"})


def test_autocast_is_entered_once() -> None:
    cast = autocast("bfloat16")
    x = gu.ones(2, 2)
    with cast:
        with pytest.raises(ConfigError, match="autocast: this one is already active"):
            cast.__enter__()
        assert (x @ x).dtype is gu.bfloat16
    with cast:
        assert (x @ x).dtype is gu.bfloat16
    assert (x @ x).dtype is gu.float32

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch, nn, optim
from groundup.errors import CheckpointError, ConfigError

SHAPES = ((4, 3), (3,), ())
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam-decay": ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw-decay": ("AdamW", {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.3}),
}


def values(seed: int, scale: float = 1.0) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(0, scale, shape), np.float32) for shape in SHAPES]


def leaves(seed: int = 0) -> list[gu.Tensor]:
    return [gu.tensor(v, requires_grad=True) for v in values(seed)]


def set_grads(params: list[gu.Tensor], seed: int, absent: tuple[int, ...] = ()) -> None:
    for i, (p, g) in enumerate(zip(params, values(seed, 0.5), strict=True)):
        p.grad = None if i in absent else gu.tensor(g)


def host(params: list[gu.Tensor]) -> list[np.ndarray[Any, Any]]:
    return [p.detach().numpy() for p in params]


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_agree_with_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    kind, settings = SETTINGS[name]
    ours, theirs = leaves(), [torch.tensor(v, requires_grad=True) for v in values(0)]
    optimizer = getattr(optim, kind)(ours, **settings)
    reference = getattr(torch.optim, kind)(theirs, **settings)
    for step in range(8):
        # the second parameter sits out some steps, the third comes late: each counts its own steps
        absent = {0: (2,), 1: (1, 2), 3: (1,), 5: (0,)}.get(step, ())
        set_grads(ours, step + 1, absent)
        for i, (p, g) in enumerate(zip(theirs, values(step + 1, 0.5), strict=True)):
            p.grad = None if i in absent else torch.tensor(g)
        optimizer.step()
        reference.step()
        for got, wanted in zip(host(ours), theirs, strict=True):
            np.testing.assert_allclose(got, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_adamw_by_its_formula() -> None:
    p = gu.tensor([1.0, -2.0], requires_grad=True)
    optimizer = optim.AdamW([p], lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)
    x, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for step, g in enumerate(np.array([[0.3, -1.0], [2.0, 0.1], [0.0, 1e-4]]), start=1):
        p.grad = gu.tensor(g.astype(np.float32))
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        x = x * (1 - 0.1 * 0.5)
        x = x - 0.1 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8)
        np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-5)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_one_launch_updates_all_parameters_of_a_group(kind: str, monkeypatch: Any) -> None:
    params = leaves()
    optimizer = getattr(optim, kind)(params)
    launched: list[str] = []
    original = dispatch.update

    def counting(op: Any, inputs: Any) -> None:
        launched.append(op.name)
        original(op, inputs)

    for module in (optim.sgd, optim.adam):
        monkeypatch.setattr(module, "update", counting)
    set_grads(params, 1)
    optimizer.step()
    assert launched == [{"SGD": "sgd"}.get(kind, "adamw")]


def test_updates_are_in_place_and_keep_graphs_honest() -> None:
    (p,) = params = [gu.ones(3).requires_grad_()]
    alias = p.detach()
    loss = (p * p).sum()
    p.grad = gu.ones(3)
    optim.SGD(params, lr=0.5).step()
    assert alias.tolist() == [0.5] * 3
    with pytest.raises(gu.errors.AutogradError, match="overwritten"):
        loss.backward()


def test_groups_have_settings_of_their_own() -> None:
    a, b, c = leaves()
    optimizer = optim.AdamW(
        [{"params": [a, b], "weight_decay": 0.0}, {"params": c, "lr": 0.5}],
        lr=0.1,
        weight_decay=0.2,
    )
    first, second = optimizer.param_groups
    assert (first.lr, first["weight_decay"], first["betas"]) == (0.1, 0.0, (0.9, 0.999))
    assert (second["lr"], second["weight_decay"], second["params"]) == (0.5, 0.2, [c])
    first["lr"], first["weight_decay"] = 0.0, 0.9
    before = host([a, b, c])
    set_grads([a, b, c], 1)
    optimizer.step()
    after = host([a, b, c])
    np.testing.assert_array_equal(after[0], before[0])
    assert after[2] != before[2]
    with pytest.raises(ConfigError, match=r"no 'weight_decy'.*did you mean weight_decay"):
        first["weight_decy"] = 1
    with pytest.raises(ConfigError, match="no 'momentum'"):
        _ = first["momentum"]
    assert "lr=0.5" in repr(optimizer)


def test_a_changed_learning_rate_counts_at_once() -> None:
    p = gu.zeros(2).requires_grad_()
    optimizer = optim.SGD([p], lr=1.0)
    p.grad = gu.ones(2)
    optimizer.step()
    place = optimizer.param_groups[0].lr_tensor(p.device)
    optimizer.param_groups[0].lr = 0.25
    assert (
        optimizer.param_groups[0].lr_tensor(p.device) is place
    )  # a recorded program reads it there
    optimizer.step()
    assert p.detach().tolist() == [-1.25, -1.25]


def test_gradients_of_several_passes_add_up() -> None:
    x = gu.tensor(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    whole, parts = (gu.ones(3).requires_grad_() for _ in range(2))
    (x @ whole).exp().mean().backward()
    for rows in (x[:4], x[4:]):
        ((rows @ parts).exp().mean() / 2).backward()
    assert whole.grad is not None
    assert parts.grad is not None
    np.testing.assert_allclose(parts.grad.numpy(), whole.grad.numpy(), rtol=1e-6)


def test_zero_grad() -> None:
    params = leaves()
    optimizer = optim.SGD(params)
    params[0].sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert params[0].grad is not None
    assert not params[0].grad.numpy().any()
    assert params[1].grad is None
    params[0].sum().backward()  # the 1 that backward starts from was not overwritten
    assert params[0].grad.numpy().tolist() == np.ones((4, 3)).tolist()
    optimizer.zero_grad()
    assert params[0].grad is None
    optimizer.step()  # nothing to do
    assert optimizer.state == {}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_restored_optimizer_goes_on_bit_for_bit(name: str) -> None:
    kind, settings = SETTINGS[name]
    make: Callable[..., optim.Optimizer] = getattr(optim, kind)
    ours = leaves()
    optimizer = make(ours, **settings)
    for step in range(3):
        set_grads(ours, step, absent=(1,) if step == 1 else ())
        optimizer.step()
    optimizer.param_groups[0].lr = 0.0625
    state = {key: t.numpy() for key, t in optimizer.state_dict().items()}
    copies = [gu.tensor(v, requires_grad=True) for v in host(ours)]
    restored = make(copies, **settings)
    restored.load_state_dict(state)
    assert restored.param_groups[0].lr == 0.0625
    for step in range(3, 6):
        for params, target in ((ours, optimizer), (copies, restored)):
            set_grads(params, step)
            target.step()
    for got, wanted in zip(host(copies), host(ours), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_failed_step_changes_nothing() -> None:
    params = leaves()
    optimizer = optim.AdamW(params)
    set_grads(params, 0)
    optimizer.step()
    before = [host(params), {k: t.numpy() for k, t in optimizer.state_dict().items()}]
    params[1].grad = gu.ones(3, dtype="float16")
    with pytest.raises(gu.errors.GroundupError, match=r"parameter 1 is .*its gradient"):
        optimizer.step()
    for got, wanted in zip(host(params), before[0], strict=True):
        np.testing.assert_array_equal(got, wanted)
    for key, tensor in optimizer.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[1][key])


def test_parameters_may_be_frozen_moved_or_given_momentum_later() -> None:
    a, b = gu.ones(2).requires_grad_(), gu.ones(2).requires_grad_()
    optimizer = optim.SGD([{"params": [a, b]}, {"params": []}], lr=0.5)
    assert set(optimizer.state_dict()) == {"lr.0", "lr.1"}
    b.requires_grad_(False)
    a.grad = gu.ones(2)
    optimizer.step()
    optimizer.zero_grad()
    assert b.tolist() == [1.0, 1.0]
    optimizer.param_groups[0]["momentum"] = 0.5
    for _ in range(2):
        a.grad = gu.ones(2)
        optimizer.step()
    assert a.detach().tolist() == [0.5 - 0.5 * 1.0 - 0.5 * 1.5] * 2
    model = nn.Linear(2, 1)
    later = optim.AdamW(model.parameters())
    model.to("float64")
    model(gu.ones(1, 2, dtype="float64")).sum().backward()
    later.step()
    assert later.state[model.weight]["exp_avg"].dtype is gu.dtypes.float64


def test_states_of_another_optimizer_are_refused() -> None:
    params = leaves()
    optimizer = optim.AdamW(params)
    set_grads(params, 0)
    optimizer.step()
    good = {key: t.numpy() for key, t in optimizer.state_dict().items()}
    assert set(good) == {"lr.0"} | {
        f"{i}.{name}" for i in range(3) for name in ("step", "exp_avg", "exp_avg_sq")
    }
    fresh = optim.AdamW(leaves())
    wrong = {key: value for key, value in good.items() if key != "1.exp_avg"}
    with pytest.raises(CheckpointError, match=r"lacks '1\.exp_avg'"):
        fresh.load_state_dict(wrong)
    with pytest.raises(CheckpointError, match=r"unknown '3\.step'"):
        fresh.load_state_dict({**good, "3.step": np.zeros(())})
    with pytest.raises(CheckpointError, match=r"'0\.exp_avg' has shape \(4,\), wanted \(4, 3\)"):
        fresh.load_state_dict({**good, "0.exp_avg": np.zeros(4)})
    with pytest.raises(CheckpointError, match="unknown"):
        optim.SGD(leaves()).load_state_dict(good)
    assert fresh.state == {}


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda p: optim.SGD([]), "there are no parameters"),
        (lambda p: optim.SGD([p, p]), "given twice"),
        (lambda p: optim.SGD([gu.ones(2)]), "not a leaf that requires a gradient"),
        (lambda p: optim.SGD([p * 2]), "not a leaf"),
        (lambda p: optim.SGD(["w"]), "is a str, not a tensor"),
        (lambda p: optim.SGD([{"params": [p], "momentm": 1}]), "unknown .*'momentm'.*momentum"),
        (lambda p: optim.SGD([p], lr=-1.0), "lr must not be negative"),
        (lambda p: optim.SGD([p], lr=float("nan")), "lr must not be negative"),
        (lambda p: optim.SGD([p], momentum=-0.1), "momentum and weight_decay"),
        (lambda p: optim.SGD([p], nesterov=True), "nesterov needs momentum"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), "Adam: betas must be two numbers"),
        (lambda p: optim.AdamW([{"params": [p], "eps": -1}]), "AdamW: eps must not be negative"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(build: Callable[[gu.Tensor], object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(gu.ones(2).requires_grad_())


def test_narrow_parameters_have_wide_states() -> None:
    p = gu.ones(3, dtype="bfloat16").requires_grad_()
    optimizer = optim.AdamW([p], lr=0.25)
    p.grad = gu.ones(3, dtype="bfloat16")
    optimizer.step()
    assert optimizer.state[p]["exp_avg_sq"].dtype is gu.dtypes.float32
    assert p.dtype is gu.dtypes.bfloat16
    assert p.detach().astype("float32").tolist() == [0.74609375] * 3  # 0.7475, rounded once


def test_clipping() -> None:
    params = leaves()
    set_grads(params, 1, absent=(1,))
    grads = [np.asarray(p.grad) for p in params if p.grad is not None]
    wanted = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads))
    norm = nn.clip_grad_norm_(params, 0.1)
    assert norm.shape == ()
    np.testing.assert_allclose(norm.item(), wanted, rtol=1e-6)
    np.testing.assert_allclose(nn.grad_norm(iter(params)).item(), 0.1, rtol=1e-4)
    before = [np.asarray(p.grad) for p in params if p.grad is not None]
    nn.clip_grad_norm_(params, 10.0)
    for p, g in zip([params[0], params[2]], before, strict=True):
        np.testing.assert_array_equal(np.asarray(p.grad), g)
    assert nn.clip_grad_norm_([params[1]], 1.0).item() == 0.0
    assert params[1].grad is None
    assert nn.clip_grad_norm_(params[0], 1.0).item() > 0
    with pytest.raises(ConfigError, match="max_norm must not be negative"):
        nn.clip_grad_norm_(params, -1.0)
    params[0].grad = gu.full((4, 3), float("nan"))
    assert np.isnan(nn.clip_grad_norm_(params, 1.0).item())


def test_a_gradient_scale_clips_without_a_pass_of_its_own() -> None:
    separate, fused = leaves(), leaves()
    first, second = optim.AdamW(separate, lr=0.1), optim.AdamW(fused, lr=0.1)
    for step in range(3):
        set_grads(separate, step)
        set_grads(fused, step)
        nn.clip_grad_norm_(separate, 0.5)
        first.step()
        second.step(grad_scale=nn.clip_factor(nn.grad_norm(fused), 0.5))
    for got, wanted in zip(host(fused), host(separate), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)

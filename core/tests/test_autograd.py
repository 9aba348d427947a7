"""Reverse mode: gradients, their gradients, hooks, checkpoints, anomalies, threads, memory."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import ops
from groundup.errors import AutogradError, ConfigError, NonFiniteError, ShapeError
from groundup.graph import mode


@pytest.fixture(autouse=True)
def _on_the_cpu() -> None:
    gu.set_default_device("cpu")


def leaf(*values: float) -> gu.Tensor:
    return gu.tensor(list(values), requires_grad=True)


def grad_of(x: gu.Tensor) -> list[float]:
    assert x.grad is not None
    return x.grad.tolist()  # type: ignore[no-any-return]


# ---- backward ----


def test_backward_leaves_gradients_on_leaves() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x * y + x).sum().backward()
    assert grad_of(x) == [4.0, 5.0]
    assert grad_of(y) == [1.0, 2.0]


def test_gradients_add_up() -> None:
    x = leaf(1.0, 2.0)
    x.sum().backward()
    (2 * x).sum().backward()
    assert grad_of(x) == [3.0, 3.0]
    x.grad = None
    assert x.grad is None
    x.sum().backward()
    assert grad_of(x) == [1.0, 1.0]


def test_one_tensor_used_often() -> None:
    x = leaf(3.0)
    y = x * x
    z = y * x + y * y
    z.backward()
    assert grad_of(x) == [3 * 9 + 4 * 27]


def test_a_diamond_runs_each_node_once() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2**60 paths
        y = y + y
    y.backward()
    assert grad_of(x) == [2.0**60]


def test_a_deep_graph_needs_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 0.0
    y.backward()
    assert grad_of(x) == [1.0]
    del y


def test_broadcasting_sums_back() -> None:
    x, y = gu.ones(3, 1).requires_grad_(), gu.ones(4).requires_grad_()
    (x * y).backward(gu.ones(3, 4))
    assert grad_of(x) == [[4.0]] * 3
    assert grad_of(y) == [3.0] * 4


def test_backward_with_a_gradient() -> None:
    x = leaf(1.0, 2.0)
    (x * x).backward(gu.tensor([1.0, 10.0]))
    assert grad_of(x) == [2.0, 40.0]
    with pytest.raises(ShapeError, match=r"gradient \(3,\) for an output \(2,\)"):
        (x * x).backward(gu.ones(3))
    with pytest.raises(AutogradError, match=r"non-scalar float32\[2\] must be given"):
        (x * x).backward()


def test_backward_of_what_has_no_graph() -> None:
    with pytest.raises(AutogradError) as caught:
        gu.tensor(1.0).backward()
    assert "does not depend on any tensor that requires a gradient" in str(caught.value)
    assert "requires_grad_()" in str(caught.value)


def test_integers_end_a_graph() -> None:
    x = leaf(1.5, 2.5)
    assert not x.astype("int32").requires_grad
    assert not (x > 2).requires_grad
    assert not x.argmax().requires_grad
    values, indices = x.topk(1)
    assert values.requires_grad
    assert not indices.requires_grad
    with pytest.raises(AutogradError, match="only floats have gradients"):
        gu.tensor([1]).requires_grad_()


def test_gradients_own_their_memory() -> None:
    """Clipping one in place changes no other, nor what later backwards start from."""
    x, y = leaf(1.0, 2.0), leaf(1.0, 2.0)
    given = gu.tensor([1.0, 1.0])
    (x + y).backward(given)
    assert x.grad is not None
    x.grad.assign_(0.0)
    assert grad_of(y) == [1.0, 1.0]
    assert given.tolist() == [1.0, 1.0]
    for make in (lambda t: t.sum(), lambda t: t[0], lambda t: t.mean()):
        t = leaf(1.0)
        make(t).backward()
        assert t.grad is not None
        t.grad.assign_(7.0)
        other = leaf(1.0)
        make(other).backward()
        assert grad_of(other) == [1.0]


# ---- grad, value_and_grad ----


def test_grad_leaves_the_leaves_alone() -> None:
    x, y = leaf(2.0), leaf(3.0)
    z = x * y
    dx, dz = gu.grad(z * z, [x, z])
    assert dx is not None
    assert dz is not None
    assert (dx.tolist(), dz.tolist()) == ([36.0], [12.0])
    assert x.grad is None


def test_grad_of_what_is_not_reached_is_none() -> None:
    x, y = leaf(2.0), leaf(3.0)
    assert gu.grad(x * 2, [x, y])[1] is None
    with pytest.raises(AutogradError, match="does not require a gradient"):
        gu.grad(x * 2, [gu.tensor(1.0)])


def test_grad_stops_at_its_targets() -> None:
    x = leaf(1.0)
    middle = x * 2
    ran: list[str] = []
    middle.register_hook(lambda g: ran.append("middle"))
    top = middle * 3
    gu.grad(top * 1, [top])
    assert ran == []


def test_grad_of_several_outputs() -> None:
    x = leaf(1.0, 2.0)
    (dx,) = gu.grad([x.sum(), (x * x).sum()], [x])
    assert dx is not None
    assert dx.tolist() == [3.0, 5.0]
    with pytest.raises(AutogradError, match="1 outputs but 2 gradients"):
        gu.grad([x.sum()], [x], [None, None])


def test_value_and_grad() -> None:
    def function(x: gu.Tensor, scale: float, y: gu.Tensor) -> gu.Tensor:
        return (x * y * scale).sum()

    x, y = gu.tensor([1.0, 2.0]), gu.tensor([3.0, 4.0])
    value, dx = gu.value_and_grad(function)(x, 2.0, y)
    assert (value.item(), dx.tolist()) == (22.0, [6.0, 8.0])
    _, (dx, dy) = gu.value_and_grad(function, argnums=(0, 2))(x, 2.0, y)
    assert dx.tolist() == [6.0, 8.0]
    assert dy.tolist() == [2.0, 4.0]
    assert not value.requires_grad
    assert not x.requires_grad
    with gu.no_grad():
        assert gu.value_and_grad(function)(x, 2.0, y)[1].tolist() == [6.0, 8.0]


# ---- no_grad, detach ----


def test_no_grad() -> None:
    x = leaf(1.0)
    with gu.no_grad():
        assert not (x * 2).requires_grad
        with gu.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @gu.no_grad()
    def quiet(t: gu.Tensor) -> gu.Tensor:
        """Says so."""
        return t * 2

    assert not quiet(x).requires_grad
    assert quiet.__name__ == "quiet"
    with pytest.raises(ValueError, match="out"), gu.no_grad():
        raise ValueError("out")
    assert mode.grad


def test_detach_shares_memory_and_ends_the_graph() -> None:
    x = leaf(1.0, 2.0)
    y = (x * 2).detach()
    assert not y.requires_grad
    (x * y).sum().backward()
    assert grad_of(x) == [2.0, 4.0]
    z = x.detach()
    z[0] = 9.0
    assert x.tolist() == [9.0, 2.0]


def test_requires_grad_of_computed_tensors_stays() -> None:
    y = leaf(1.0) * 2
    with pytest.raises(AutogradError, match=r"computed, not a leaf"):
        y.requires_grad_(False)
    assert not y.is_leaf
    x = leaf(1.0)
    assert x.is_leaf
    assert not x.requires_grad_(False).requires_grad
    with pytest.raises(AutogradError, match="only a leaf"):
        y.grad = gu.ones(1)
    x = leaf(1.0)
    with pytest.raises(ShapeError, match="grad: tensor is"):
        x.grad = gu.ones(2)


# ---- graphs that are used again ----


def test_a_graph_is_freed_by_backward() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(AutogradError) as caught:
        y.backward()
    assert "already used by a backward and freed" in str(caught.value)
    assert "retain_graph=True" in str(caught.value)


def test_retain_graph() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert grad_of(x) == [8.0]


def test_gradients_of_gradients() -> None:
    x = leaf(2.0)
    y = x**4.0
    for wanted in (32.0, 48.0, 48.0, 24.0):
        (y,) = gu.grad(y, [x], create_graph=True)  # type: ignore[assignment]
        assert y.item() == pytest.approx(wanted)


def test_backward_through_a_gradient() -> None:
    """The penalty of a gradient's norm, as in Wasserstein GANs."""
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (dx,) = gu.grad((x * x * w).sum(), [x], create_graph=True)
    assert dx is not None
    (dx * dx).sum().backward()
    assert grad_of(w) == [2 * 6.0 * 2.0, 2 * 16.0 * 4.0]
    assert grad_of(x) == [2 * 6.0 * 6.0, 2 * 16.0 * 8.0]


def test_second_derivatives_match_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))

    def function(lib: Any, x: Any, y: Any) -> Any:
        return ((x @ y).tanh() * (x @ y)).sum()

    x, y = gu.tensor(a, requires_grad=True), gu.tensor(b, requires_grad=True)
    (dx,) = gu.grad(function(gu, x, y), [x], create_graph=True)
    assert dx is not None
    (dx * dx).sum().backward()
    s, t = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    (ds,) = torch.autograd.grad(function(torch, s, t), [s], create_graph=True)
    (ds * ds).sum().backward()
    for ours, theirs in ((x, s), (y, t)):
        assert ours.grad is not None
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-10)


# ---- overwritten memory ----


def test_an_overwritten_saved_tensor_is_noticed() -> None:
    x, y = leaf(1.0, 2.0), gu.tensor([3.0, 4.0])
    z = (x * y).sum()
    y.assign_(0.0)
    with pytest.raises(AutogradError) as caught:
        z.backward()
    assert "mul: a tensor float32[2] that its gradient needs was overwritten" in str(caught.value)
    assert "call backward before the update" in str(caught.value)


@pytest.mark.parametrize(
    "overwrite",
    [
        lambda y: y[0].assign_(0.0),
        lambda y: y.detach().assign_(0.0),
        lambda y: y.reshape(2, 1).mT.assign_(0.0),
        lambda y: y.__setitem__(1, 5.0),
    ],
)
def test_overwriting_through_a_view_is_noticed(overwrite: Any) -> None:
    x, y = leaf(1.0, 2.0), gu.tensor([3.0, 4.0])
    z = (x * y[:]).sum()
    overwrite(y)
    with pytest.raises(AutogradError, match="was overwritten"):
        z.backward()


def test_overwriting_what_is_not_needed_is_fine() -> None:
    x, y = leaf(1.0), gu.tensor([3.0])
    z = (x + y).sum()
    y.assign_(0.0)
    z.backward()
    assert grad_of(x) == [1.0]


def test_an_overwritten_output_is_noticed() -> None:
    x = leaf(1.0)
    y = x.exp()
    y.detach().assign_(0.0)
    with pytest.raises(AutogradError, match=r"exp: a tensor .* was overwritten"):
        y.backward()


# ---- hooks ----


def test_hooks_see_and_replace_gradients() -> None:
    x = leaf(1.0, 2.0)
    seen: list[list[float]] = []
    y = x * 2
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    (y * 3).sum().backward()
    assert seen == [[3.0, 3.0]]
    assert grad_of(x) == [61.0, 61.0]
    with pytest.raises(AutogradError, match="does not require a gradient"):
        gu.tensor(1.0).register_hook(lambda g: None)


def test_hooks_run_once_on_the_whole_gradient() -> None:
    """Also where parts of it come through a composition or a checkpoint."""
    from groundup.ops.activation import GeluBackward

    def doubled(t: gu.Tensor) -> gu.Tensor:
        return t * 2

    for function in (doubled, lambda t: gu.checkpoint(doubled, t)):
        x, calls = leaf(1.0), []
        x.register_hook(calls.append)
        (function(x) + x * 3).backward()
        assert [g.tolist() for g in calls] == [[5.0]]
    x, calls = leaf(1.0), []
    x.register_hook(calls.append)
    (GeluBackward()(x, gu.ones(1)) + x).backward()
    assert len(calls) == 1


def test_hooks_on_one_of_several_outputs() -> None:
    x = leaf(3.0, 1.0, 2.0)
    first, second = x.split(2)
    first.register_hook(lambda g: g * 100)
    (first.sum() + second.sum()).backward()
    assert grad_of(x) == [100.0, 100.0, 1.0]


def test_a_hook_that_writes_into_its_gradient_changes_nothing_else() -> None:
    """The gradient of a scalar begins as a constant that all tensors share."""
    x, y = gu.tensor(3.0, requires_grad=True), gu.tensor(4.0, requires_grad=True)
    x.register_hook(lambda grad: grad.assign_(5.0))
    total = x + y
    total.register_hook(lambda grad: grad.assign_(2.0))
    x.backward()
    assert x.grad is not None
    assert x.grad.item() == 5.0
    total.backward()
    assert y.grad is not None
    assert y.grad.item() == 2.0
    assert (gu.tensor(1.0) + 1.0).item() == 2.0


# ---- checkpoint ----


def test_checkpoint_computes_the_same_gradients() -> None:
    w = gu.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)

    def block(x: gu.Tensor) -> gu.Tensor:  # closes over w
        return (x @ w).tanh() @ w

    x = gu.tensor([[0.1, 0.2]], requires_grad=True)
    block(block(x)).sum().backward()
    plain = grad_of(x), grad_of(w)
    x.grad = w.grad = None
    gu.checkpoint(block, gu.checkpoint(block, x)).sum().backward()
    assert (grad_of(x), grad_of(w)) == plain


def test_checkpoint_keeps_nothing_between() -> None:
    made: list[weakref.ref[Any]] = []

    def block(x: gu.Tensor) -> gu.Tensor:
        inner = x.exp()
        made.append(weakref.ref(inner._view))
        return inner * inner

    x = leaf(0.5)
    y = gu.checkpoint(block, x)
    assert made[0]() is None
    plain = block(x)
    assert made[1]() is not None, "which is what it saves"
    y.backward()
    assert grad_of(x) == pytest.approx([2 * np.exp(1.0)])
    del plain


def test_checkpoint_draws_the_same_mask_again() -> None:
    x = gu.ones(64, 8).requires_grad_()

    def block(t: gu.Tensor) -> gu.Tensor:
        return t * (gu.rand(64, 8) < 0.5).astype("float32") * t

    gu.manual_seed(3)
    block(x).sum().backward()
    plain, x.grad = grad_of(x), None
    after = gu.rand(3).tolist()
    gu.manual_seed(3)
    y = gu.checkpoint(block, x).sum()
    assert gu.rand(3).tolist() == after, "the second run does not move the generator"
    y.backward()
    assert grad_of(x) == plain


def test_checkpoint_with_several_results_and_other_arguments() -> None:
    def block(x: gu.Tensor, scale: float) -> tuple[gu.Tensor, gu.Tensor]:
        return x * scale, x.argmax()

    x = leaf(1.0, 2.0)
    y, index = gu.checkpoint(block, x, 3.0)
    assert index.item() == 1
    assert not index.requires_grad
    y.sum().backward()
    assert grad_of(x) == [3.0, 3.0]
    assert not gu.checkpoint(lambda t: t * 2, gu.ones(1)).requires_grad


def test_checkpoint_under_grad_and_twice() -> None:
    x = leaf(2.0)
    y = gu.checkpoint(lambda t: t * t * t, x)
    (dx,) = gu.grad(y, [x], create_graph=True)
    assert dx is not None
    assert dx.item() == 12.0
    (ddx,) = gu.grad(dx, [x])
    assert ddx is not None
    assert ddx.item() == 12.0


def test_checkpoint_inside_a_checkpoint() -> None:
    x = leaf(0.3)

    def inner(t: gu.Tensor) -> gu.Tensor:
        return t.sin() * t

    gu.checkpoint(lambda t: gu.checkpoint(inner, t).exp(), x).backward()
    nested, x.grad = grad_of(x), None
    inner(x).exp().backward()
    assert grad_of(x) == nested


def test_checkpoint_of_a_function_that_returns_what_it_was_given() -> None:
    x, y = leaf(3.0), leaf(2.0)
    computed = x * 2
    same, closed, other = gu.checkpoint(lambda given: (given, x, y * 2), computed)
    (same * 10 + closed * 100 + other).sum().backward()
    assert grad_of(x) == [120.0]
    assert grad_of(y) == [2.0]


# ---- anomalies ----


def test_anomaly_mode_names_the_op_that_made_the_first_nan() -> None:
    x = leaf(-1.0, 1.0)
    with gu.detect_anomaly(), pytest.raises(NonFiniteError) as caught:
        (x * 2).log() + x
    assert str(caught.value) == ("log of float32[2] made the first NaN or infinity [float32, cpu]")
    assert (x * 2).log().isnan().tolist() == [True, False], "off again"


def test_anomaly_mode_names_the_gradient_that_made_it() -> None:
    x = leaf(0.0, 1.0)
    with gu.detect_anomaly(), pytest.raises(NonFiniteError) as caught:
        x.sqrt().sum().backward()
    assert "in the gradient of sqrt" in str(caught.value)
    assert "div of" in str(caught.value)


def test_anomaly_mode_blames_no_op_for_what_it_was_given() -> None:
    with gu.detect_anomaly():
        assert (gu.tensor([float("nan")]) * 2).isnan().item()


def test_an_anomaly_detector_is_entered_once() -> None:
    detector = gu.detect_anomaly()
    with detector:
        with pytest.raises(ConfigError, match="detect_anomaly: this one is already active"):
            detector.__enter__()
        assert (gu.ones(1) + 1).item() == 2.0
    with detector:  # one after the other is fine
        assert (gu.ones(1) + 1).item() == 2.0
    assert mode.interceptor is None


# ---- threads ----


def test_two_threads_train_at_once() -> None:
    def train(seed: int, losses: dict[int, list[float]]) -> None:
        rng = np.random.default_rng(seed)
        w = gu.tensor(rng.standard_normal((8, 4)).astype(np.float32), requires_grad=True)
        x = gu.tensor(rng.standard_normal((16, 8)).astype(np.float32))
        history = []
        for _ in range(40):
            loss = ((x @ w).tanh() - 0.5).abs().mean()
            loss.backward()
            history.append(loss.item())
            with gu.no_grad():
                w.assign_(w - 0.1 * w.grad)
            w.grad = None
        losses[seed] = history

    alone: dict[int, list[float]] = {}
    for seed in range(4):
        train(seed, alone)
    together: dict[int, list[float]] = {}
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_no_grad_is_the_threads_own() -> None:
    seen: list[bool] = []
    with gu.no_grad():
        thread = threading.Thread(target=lambda: seen.append((leaf(1.0) * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]


# ---- memory ----


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("run", ["backward", "dropped", "failed"])
def test_a_graph_dies_without_the_garbage_collector(run: str) -> None:
    x = gu.tensor(np.ones((4, 4)), requires_grad=True)
    views: list[weakref.ref[Any]] = []

    def step() -> None:
        y = x.exp().tanh()
        z = ops.softmax(y @ x.mT) + y.sigmoid().sqrt()
        views.extend(weakref.ref(t._view) for t in (y, z))
        total = (z * z).sum()
        if run == "backward":
            total.backward()
        if run == "failed":
            with pytest.raises(AutogradError):
                z.backward()

    step()
    assert [view() for view in views] == [None] * 2


@pytest.mark.usefixtures("no_collector")
def test_backward_frees_what_it_has_used() -> None:
    x = leaf(1.0, 2.0)
    hidden = x.exp()
    view = weakref.ref(hidden._view)
    y = (hidden * hidden).sum()
    del hidden
    assert view() is not None
    y.backward()
    assert view() is None, "though y is alive"
    assert y.requires_grad

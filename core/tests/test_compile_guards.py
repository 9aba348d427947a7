"""When a compiled function is traced anew, why, and when it is not."""

from __future__ import annotations

import copy
import logging
from collections import namedtuple
from typing import Any

import pytest

import groundup as gu
from groundup import nn, optim
from groundup.tensor import Tensor

SCALE = 2.0


def test_a_new_shape_or_dtype_retraces_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    run = gu.compile(lambda x, y: x + y)
    with caplog.at_level(logging.INFO, "groundup.compile"):
        run(gu.ones(2), gu.ones(2))
        run(gu.ones(2), gu.zeros(2))
        assert run.retraces == []
        run(gu.ones(3), gu.ones(3))
        run(gu.ones(3), gu.ones(3, dtype="int32"))
    assert run.retraces == ["x: float32[3], was float32[2]", "y: int32[3], was float32[3]"]
    assert "y: int32[3], was float32[3]" in caplog.text
    run(gu.ones(2), gu.ones(2))
    assert len(run.entries) == 3  # the first is still there


def test_numbers_are_part_of_the_program() -> None:
    run = gu.compile(lambda x, n, how="sum": (x * n).sum() if how == "sum" else x * n)
    x = gu.ones(3)
    assert float(run(x, 2)) == 6
    assert float(run(x, 3)) == 9
    assert float(run(x, 3.0)) == 9
    assert run(x, 2, how="all").tolist() == [2, 2, 2]
    assert run.retraces == ["n: 3, was 2", "n: 3.0, was 3", "n: 2, was 3.0"]
    assert len(run.entries) == 4
    assert float(run(x, -0.0)) == 0
    assert len(run.entries) == 5
    run(x, 0.0)
    assert len(run.entries) == 6


def test_many_retraces_warn_with_the_argument() -> None:
    run = gu.compile(lambda x, step: x * step)
    for step in range(9):
        run(gu.ones(1), step)
    with pytest.warns(UserWarning, match="traced 10 times, the last time because of step: 9"):
        run(gu.ones(1), 9)
    run(gu.ones(1), 10)  # it is said once
    run(gu.ones(1), 11)
    assert len(run.retraces) == 11


def test_closures_globals_and_attributes_are_watched() -> None:
    global SCALE
    factor, weights = 3.0, [1.0]

    class Model:
        bias = 1.0

        def __init__(self) -> None:
            self.offset, self.unused = 1.0, 0

        def __call__(self, x: Tensor) -> Tensor:
            return x * factor * SCALE * weights[0] + self.offset

    model = Model()
    run = gu.compile(model.__call__)
    x = gu.ones(1)
    assert run(x).item() == 7
    model.unused = 5
    assert run(x).item() == 7
    assert run.retraces == []
    factor = 4.0
    assert run(x).item() == 9
    SCALE = 3.0
    assert run(x).item() == 13
    model.offset = 0.0
    assert run(x).item() == 12
    weights[0] = 2.0
    assert run(x).item() == 24
    assert len(run.retraces) == 4
    for reason, word in zip(run.retraces, ("factor", "SCALE", "offset", "weights"), strict=True):
        assert word in reason
    assert len(run.entries) == 1  # the stale ones are gone
    SCALE = 2.0


def test_modules_are_watched_by_their_attributes() -> None:
    inner = nn.Dropout(1.0)
    model = nn.Sequential(nn.Linear(2, 2), inner)
    run = gu.compile(model)
    x = gu.ones(1, 2)
    assert run(x).tolist() == [[0, 0]]
    inner.p = 0.0
    assert run(x).tolist() != [[0, 0]]
    inner.p = 1.0
    run(x)
    model.eval()
    assert run(x).tolist() != [[0, 0]]
    assert len(run.retraces) == 3
    assert "Dropout" in run.retraces[0]
    model.train(False)  # as it is
    run(x)
    model[0].weight = nn.Parameter(gu.zeros(2, 2))
    model[0].bias = nn.Parameter(gu.zeros(2))
    assert run(x).tolist() == [[0, 0]]
    model.to("float64")
    assert str(run(x.to("float64")).dtype) == "float64"


def test_marks_and_hooks_of_leaves_are_watched() -> None:
    w = gu.ones(1).requires_grad_()

    def step(x: Tensor) -> None:
        y = w * x
        if y.requires_grad:
            y.sum().backward()

    run = gu.compile(step)
    run(gu.ones(1))
    assert w.grad is not None
    w.grad = None
    w.register_hook(lambda g: g * 5)
    run(gu.ones(1))
    assert w.grad.tolist() == [5]
    w.requires_grad_(False)
    run(gu.ones(1))
    w.requires_grad_()
    run(gu.ones(1))
    assert w.grad.tolist() == [1]


def test_learning_rates_do_not_retrace_and_other_settings_do() -> None:
    w = gu.zeros(1).requires_grad_()
    optimizer = optim.SGD([w], lr=1.0)
    scheduler = optim.LRScheduler(optimizer, optim.linear(1.0, 0.0, 2))

    def step(x: Tensor) -> None:
        (w * x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    run = gu.compile(step)
    for wanted in (-1.0, -1.5, -1.5):
        run(gu.ones(1))
        assert w.item() == wanted
        scheduler.step()
    assert run.retraces == []
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.param_groups[0]["weight_decay"] = 1.0
    run(gu.ones(1))
    assert w.item() == -1.0
    assert run.retraces == ["the settings of SGD"]


def test_state_that_is_loaded_is_used() -> None:
    w = gu.zeros(1).requires_grad_()
    optimizer = optim.SGD([w], lr=1.0, momentum=1.0)
    run = gu.compile(lambda x: ((w * x).sum().backward(), optimizer.step(), optimizer.zero_grad()))
    run(gu.ones(1))
    saved = {name: t.numpy() for name, t in optimizer.state_dict().items()}
    run(gu.ones(1))
    assert w.item() == -3
    optimizer.load_state_dict(saved)
    run(gu.ones(1))
    assert w.item() == -5


def test_no_grad_and_autocast_are_part_of_the_key() -> None:
    w = gu.ones(2, 2).requires_grad_()
    run = gu.compile(lambda x: x @ w)
    x = gu.ones(2, 2)
    assert run(x).requires_grad
    with gu.no_grad():
        assert not run(x).requires_grad
    with gu.autocast("bfloat16"):
        assert str(run(x).dtype) == "bfloat16"
        with gu.autocast("float32"):
            assert str(run(x).dtype) == "float32"
    assert str(run(x).dtype) == "float32"
    assert len(run.entries) == 4


def test_anomaly_detection_sees_every_op() -> None:
    run = gu.compile(lambda x: x.log().sum())
    with gu.detect_anomaly(), pytest.raises(gu.errors.NonFiniteError):
        run(gu.zeros(2))
    assert run.entries == []


def test_methods_nesting_and_trees() -> None:
    Pair = namedtuple("Pair", "first second")

    class Model(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 2)

        @gu.compile
        def forward(self, batch: dict[str, Any], *, extra: list[Tensor]) -> Any:
            inner = double(batch["x"])
            return {"sum": inner + extra[0], "pair": Pair(inner, [3, "text", None])}

    factor = 2
    double = gu.compile(lambda x: x * factor)
    one, two = Model(), Model()
    for model in (one, two):
        found = model({"x": gu.ones(2)}, extra=[gu.ones(2)])
        assert found["sum"].tolist() == [3, 3]
        assert found["pair"].first.tolist() == [2, 2]
        assert found["pair"].second == [3, "text", None]
    assert double.entries == []  # it became part of the outer program
    factor = 3
    assert one({"x": gu.ones(2)}, extra=[gu.ones(2)])["sum"].tolist() == [4, 4]
    factor = 2
    assert len(Model.forward.entries) == 2


def test_a_compiled_module_is_still_a_module() -> None:
    model = gu.compile(nn.Linear(2, 3))
    assert len(list(model.parameters())) == 2
    assert model(gu.ones(2)).shape == (3,)
    assert "compiled" in repr(model)
    assert gu.compile is not None
    assert "compile" in dir(gu)


def test_random_numbers_go_on() -> None:
    gu.manual_seed(1)
    eager = [gu.rand(2).tolist() for _ in range(4)]
    gu.manual_seed(1)
    draw = gu.compile(lambda: gu.rand(2))
    compiled = [draw().tolist(), gu.rand(2).tolist(), draw().tolist(), gu.rand(2).tolist()]
    assert compiled == eager
    gu.manual_seed(1)
    assert draw().tolist() == eager[0]


def test_a_copy_has_programs_of_its_own() -> None:
    """As of a module that keeps its compiled function in itself."""

    class Fast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.run = gu.compile(self.layer)

    model, x = Fast(), gu.ones(1, 2)
    model.run(x)
    for copied in (copy.copy(model.run), copy.deepcopy(model).run):
        assert len(copied.entries) == 0
        copied(x)
        assert (len(copied.entries), len(model.run.entries)) == (1, 1)
    twin = copy.deepcopy(model)
    with gu.no_grad():
        for parameter in twin.parameters():
            parameter.assign_(parameter * 0)
    assert twin.run(x).tolist() == [[0, 0]]
    assert model.run(x).tolist() == model.layer(x).tolist() != [[0, 0]]

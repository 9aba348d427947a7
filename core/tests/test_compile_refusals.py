"""What a program cannot contain is refused with the user's line, and nothing has changed then."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import nn, optim, random
from groundup.errors import DomainError, ShapeError, TraceError
from groundup.tensor import Tensor

HERE = Path(__file__).name

READS = {
    "item": lambda x: x.sum().item(),
    "numpy": lambda x: x.numpy(),
    "tolist": lambda x: x.tolist(),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.sum()),
    "bool": lambda x: x if x.sum() > 0 else -x,
    "index": lambda x: [1, 2, 3][x.sum().astype("int32")],
    "print": lambda x: str(x),
    "asarray": lambda x: np.asarray(x),
    "dlpack": lambda x: np.from_dlpack(x),
    "isfinite": lambda x: math.isfinite(x.sum()),
}


@pytest.mark.parametrize("name", READS)
def test_reads_by_the_host_are_refused_with_the_line(name: str) -> None:
    with pytest.raises(TraceError, match=f"{HERE}:.*read in a compiled function") as error:
        gu.compile(READS[name])(gu.ones(3))
    assert "return the tensor" in str(error.value)


def test_a_refusal_that_the_function_catches_holds_all_the_same() -> None:
    def sly(x: Tensor) -> Tensor:
        try:
            return x * float(x.sum())
        except TraceError:
            return x * 0

    with pytest.raises(TraceError, match="read in a compiled function"):
        gu.compile(sly)(gu.ones(2))


def test_reads_of_captured_tensors_too() -> None:
    w = gu.ones(())
    with pytest.raises(TraceError, match="read in a compiled function"):
        gu.compile(lambda x: x * w.item())(gu.ones(3))
    assert w.item() == 1.0


def test_arrays_must_be_made_before() -> None:
    array = np.ones(3, np.float32)
    for function in (gu.from_numpy, gu.tensor, gu.from_dlpack):
        with pytest.raises(TraceError, match="becomes a tensor"):
            gu.compile(lambda x, f=function: x + f(array))(gu.ones(3))
    with pytest.raises(TraceError, match="a is a NumPy array"):
        gu.compile(lambda a: a)(array)
    with pytest.raises(TraceError, match="becomes a tensor"):
        gu.compile(lambda x: x[np.array([0, 1])])(gu.ones(3))
    assert gu.compile(lambda x: x[[2, 0]])(gu.tensor([1.0, 2.0, 3.0])).tolist() == [3, 1]


class Counter:
    """Some user's object."""

    def __init__(self) -> None:
        self.count, self.kept = 0, []

    def bump(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * 2

    def keep(self, x: Tensor) -> Tensor:
        self.kept = x * 2
        return x


def test_changes_of_python_state_are_refused() -> None:
    counter, seen, total = Counter(), [], 0

    def append(x: Tensor) -> Tensor:
        seen.append(x * 2)
        return x

    def rebind(x: Tensor) -> Tensor:
        nonlocal total
        total += 1
        return x

    def argument(x: Tensor, given: Counter) -> Tensor:
        return given.bump(x)

    for function, args, name in (
        (counter.bump, (), "self.count"), (counter.keep, (), "self.kept"), (append, (), "seen"),
        (rebind, (), "total"), (argument, (Counter(),), "given.count"),
    ):  # fmt: skip
        with pytest.raises(TraceError, match=rf"{HERE}.*changes {name}"):
            gu.compile(function)(gu.ones(2), *args)
    assert (counter.count, counter.kept, seen, total) == (0, [], [], 0)


def test_changes_of_modules_and_optimizers_are_refused() -> None:
    layer = nn.Linear(2, 2)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)

    def attribute(x: Tensor) -> None:
        layer.seen = x

    def mark(x: Tensor) -> None:
        layer.weight.requires_grad_(False)

    def rate(x: Tensor) -> None:
        optimizer.param_groups[0]["lr"] = 0.5

    def decay(x: Tensor) -> None:
        optimizer.param_groups[0]["weight_decay"] = 0.5

    for change in (
        attribute, mark, rate, decay, lambda x: layer.eval(), lambda x: layer.to("float16"),
        lambda x: layer.weight.register_hook(lambda g: g), lambda x: random.Generator(1),
        lambda x: random.set_state(np.zeros(4, np.int32)),
        lambda x: optimizer.load_state_dict(optimizer.state_dict()),
    ):  # fmt: skip
        with pytest.raises(TraceError, match=HERE):
            gu.compile(change)(gu.ones(2))
    assert layer.training
    assert layer.weight.requires_grad
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert not hasattr(layer, "seen")
    gu.compile(lambda x: layer.train())  # as it is already: no change


def test_a_traced_tensor_that_escapes_is_useless_and_says_so() -> None:
    kept = Counter()

    def hide(x: Tensor) -> Tensor:
        vars(kept).setdefault("deep", [[]])[0].append(x * 2)
        return x

    kept.deep = [[]]  # two levels down: not looked at
    run = gu.compile(hide)
    run(gu.ones(2))
    (escaped,) = kept.deep[0]
    for use in (lambda: escaped + 1, lambda: escaped.numpy(), lambda: escaped[0] * 2,
                lambda: gu.ones(2).assign_(escaped), lambda: escaped.sum()):  # fmt: skip
        with pytest.raises(TraceError, match="no memory"):
            use()


def test_an_exception_leaves_everything_as_it_was() -> None:
    random.manual_seed(5)
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    optimizer = optim.AdamW(model.parameters())
    model(gu.ones(2, 3)).sum().backward()
    grads = [p.grad for p in model.parameters()]
    versions = [p._view.version for p in model.parameters()]
    before = [p.numpy() for p in model.state_dict().values()]
    state = random.get_state()

    def step(x: Tensor) -> None:
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        model(x[:, :2])

    for _ in range(2):
        with pytest.raises(ShapeError, match="in 0"):
            gu.compile(step)(gu.ones(2, 3))
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    assert [p._view.version for p in model.parameters()] == versions
    assert optimizer.state == {}
    np.testing.assert_array_equal(random.get_state(), state)
    for array, p in zip(before, model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(array, p.numpy())
    model(gu.ones(2, 3)).sum().backward()  # and all of it still works
    optimizer.step()


def test_an_error_of_a_run_leaves_the_program_usable() -> None:
    table = gu.ones(4, 2)
    look = gu.compile(lambda ids: table.take(ids))
    good = gu.tensor([0, 3])
    look(good)
    with pytest.raises(DomainError):
        look(gu.tensor([0, 4]))
    assert look(good).tolist() == [[1, 1], [1, 1]]


def test_graphs_do_not_cross_the_border() -> None:
    w = gu.ones(2).requires_grad_()
    computed = w * 2
    with pytest.raises(TraceError, match=r"captured float32.2. is the result of recorded ops"):
        gu.compile(lambda x: x * computed)(gu.ones(2))
    with pytest.raises(TraceError, match="x is the result of recorded ops"):
        gu.compile(lambda x: x * 2)(computed)
    loss = gu.compile(lambda x: (w * x).sum())(gu.ones(2))
    assert loss.requires_grad
    with pytest.raises(gu.errors.AutogradError, match="compiled function"):
        loss.backward()
    with gu.no_grad():
        assert gu.compile(lambda x: x * computed)(gu.ones(2)).tolist() == [2, 2]


def test_results_must_be_plain() -> None:
    with pytest.raises(TraceError, match="returns a Counter"):
        gu.compile(lambda x: Counter())(gu.ones(2))


def test_devices_do_not_mix() -> None:
    with pytest.raises(TraceError, match="one device"):
        gu.compile(lambda x, y: x)(gu.ones(2), gu.ones(2, device="null"))
    with pytest.raises(TraceError, match="null"):
        gu.compile(lambda x: gu.ones(2, device="null"))(gu.ones(2))
    with pytest.raises(TraceError, match="moved to another device"):
        gu.compile(lambda x: x.to("null"))(gu.ones(2))


def test_fp16_scaling_reads_the_host(monkeypatch: Any) -> None:
    w = gu.ones(2).requires_grad_()
    optimizer, scaler = optim.SGD([w]), optim.GradScaler()

    def step(x: Tensor) -> None:
        scaler.scale((w * x).sum()).backward()
        scaler.step(optimizer)

    with pytest.raises(TraceError, match="read in a compiled function"):
        gu.compile(step)(gu.ones(2))
    assert w.grad is None

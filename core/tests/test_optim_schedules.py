import json
import math
from collections.abc import Callable

import pytest

import groundup as gu
from groundup import optim
from groundup.errors import CheckpointError, ConfigError
from groundup.optim import LRScheduler, constant, cosine, linear, sequential, warmup


def optimizer(*rates: float) -> optim.SGD:
    return optim.SGD([{"params": [gu.ones(1).requires_grad_()], "lr": lr} for lr in rates])


def test_shapes_of_the_schedules() -> None:
    assert [constant(0.5)(s) for s in (0, 9)] == [0.5, 0.5]
    assert [linear(1.0, 0.0, 4)(s) for s in range(6)] == [1, 0.75, 0.5, 0.25, 0, 0]
    assert [warmup(3)(s) for s in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert warmup(0)(0) == 1
    half = cosine(10, floor=0.1)
    assert half(0) == 1
    assert half(5) == pytest.approx(0.55)
    assert half(3) == pytest.approx(0.1 + 0.9 * (1 + math.cos(0.3 * math.pi)) / 2)
    assert half(10) == pytest.approx(0.1)
    assert half(99) == pytest.approx(0.1)


def test_sequential_restarts_each_schedule_at_its_milestone() -> None:
    both = sequential([warmup(4), cosine(10), constant(0.3)], [4, 14])
    assert [both(s) for s in range(4)] == [0.2, 0.4, 0.6, 0.8]
    assert both(4) == 1
    assert both(9) == pytest.approx(0.5)
    assert both(14) == 0.3
    assert sequential([constant(2.0)], [])(5) == 2.0


def test_scheduler_applies_the_factor_to_each_groups_own_rate() -> None:
    target = optimizer(1.0, 0.1)
    scheduler = LRScheduler(target, linear(1.0, 0.0, 2))
    assert scheduler.get_last_lr() == [1.0, 0.1]
    scheduler.step()
    assert [g.lr for g in target.param_groups] == [0.5, 0.05]
    each = LRScheduler(optimizer(1.0, 1.0), [constant(0.5), warmup(1)])
    assert each.get_last_lr() == [0.5, 0.5]
    each.step()
    assert each.get_last_lr() == [0.5, 1.0]


def test_scheduler_matches_pytorchs_cosine() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=7, eta_min=0.03)
    scheduler = LRScheduler(optimizer(0.3), cosine(7, floor=0.1))
    for _ in range(7):
        theirs.step()
        reference.step()
        scheduler.step()
        assert scheduler.get_last_lr() == pytest.approx(reference.get_last_lr())


def test_state_goes_through_json() -> None:
    target = optimizer(0.4)
    scheduler = LRScheduler(target, cosine(8))
    for _ in range(3):
        scheduler.step()
    state = json.loads(json.dumps(scheduler.state_dict()))
    resumed = LRScheduler(optimizer(0.123), cosine(8))
    resumed.load_state_dict(state)
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    resumed.step()
    scheduler.step()
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    for bad in (
        {},
        {"last_step": 1},
        {"last_step": "x", "base_lrs": [1]},
        {"last_step": 1, "base_lrs": [1, 2]},
    ):
        with pytest.raises(CheckpointError, match="LRScheduler"):
            resumed.load_state_dict(bad)
    assert resumed.last_step == 4


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: cosine(0), "cosine: steps must be at least 1"),
        (lambda: linear(1, 0, -1), "linear: steps"),
        (lambda: warmup(-1), "warmup: steps must be at least 0"),
        (lambda: sequential([constant()], [3]), "1 schedules need 0 rising milestones"),
        (lambda: sequential([constant()] * 3, [5, 3]), "rising milestones"),
        (lambda: LRScheduler(optimizer(1.0), [constant(), constant()]), "2 schedules for 1 groups"),
    ],
)  # fmt: skip
def test_refusals(build: Callable[[], object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build()

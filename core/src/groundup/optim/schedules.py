"""Learning rate schedules: pure functions from step to factor, and LRScheduler to apply them.

    schedule = sequential([warmup(100), cosine(900, floor=0.1)], [100])
    scheduler = LRScheduler(optimizer, schedule)

Steps count from 0.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from groundup.errors import CheckpointError, ConfigError
from groundup.optim.optimizer import Optimizer

Schedule: TypeAlias = Callable[[int], float]


def constant(factor: float = 1.0) -> Schedule:
    """`factor` at every step."""
    return lambda step: factor


def linear(start: float, end: float, steps: int) -> Schedule:
    """From `start` at step 0 in a straight line to `end` at `steps`, and `end` from then on."""
    _check_steps("linear", steps)

    def factor(step: int) -> float:
        return start + (end - start) * min(step / steps, 1.0)

    return factor


def warmup(steps: int) -> Schedule:
    """(step + 1) / (steps + 1) up to 1: never 0, so that the first step already learns."""
    _check_steps("warmup", steps, least=0)

    def factor(step: int) -> float:
        return min((step + 1) / (steps + 1), 1.0)

    return factor


def cosine(steps: int, floor: float = 0.0) -> Schedule:
    """From 1 at step 0 along half a cosine to `floor` at `steps` (Loshchilov and Hutter, 2017)."""
    _check_steps("cosine", steps)

    def factor(step: int) -> float:
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))

    return factor


def sequential(schedules: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """One after the other: schedule i + 1 begins, at its own step 0, at step `milestones[i]`.

    Raises ConfigError unless there is one milestone between each two, in rising order.
    """
    if len(milestones) != len(schedules) - 1 or list(milestones) != sorted(milestones):
        raise ConfigError(
            f"sequential: {len(schedules)} schedules need {len(schedules) - 1} rising milestones, "
            f"got {list(milestones)}"
        )

    def factor(step: int) -> float:
        index = bisect_right(milestones, step)
        return schedules[index](step - milestones[index - 1] if index else step)

    return factor


class LRScheduler:
    """Sets each group's learning rate to its initial one times the schedule's factor.

    The factor of step 0 applies at once; call `step` after each `optimizer.step`. Several schedules
    are for one group each. Raises ConfigError if their number is another.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule | Sequence[Schedule]) -> None:
        groups = optimizer.param_groups
        schedules = [schedule] * len(groups) if callable(schedule) else list(schedule)
        if len(schedules) != len(groups):
            raise ConfigError(f"LRScheduler: {len(schedules)} schedules for {len(groups)} groups")
        self.optimizer, self.schedules = optimizer, schedules
        self.base_lrs = [group.lr for group in groups]
        self.last_step = 0
        self._apply()

    def step(self) -> None:
        """Go on to the next step."""
        self.last_step += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [group.lr for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The step and the initial rates: numbers, for a JSON file."""
        return {"last_step": self.last_step, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`. Raises CheckpointError, and then nothing has changed."""
        try:
            step, rates = int(state["last_step"]), [float(rate) for rate in state["base_lrs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"LRScheduler: no valid state: {error!r}") from None
        if len(rates) != len(self.base_lrs):
            raise CheckpointError(
                f"LRScheduler: {len(rates)} rates for {len(self.base_lrs)} groups"
            )
        self.last_step, self.base_lrs = step, rates
        self._apply()

    def _apply(self) -> None:
        groups = zip(self.optimizer.param_groups, self.schedules, self.base_lrs, strict=True)
        for group, schedule, base in groups:
            group.lr = base * schedule(self.last_step)


def _check_steps(name: str, steps: int, least: int = 1) -> None:
    if steps < least:
        raise ConfigError(f"{name}: steps must be at least {least}, got {steps}")

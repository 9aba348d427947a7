"""GradScaler: dynamic loss scaling for float16 (Micikevicius et al., 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from groundup import dispatch, ops
from groundup.dtypes import float32
from groundup.errors import CheckpointError, ConfigError
from groundup.graph import Setting
from groundup.optim.optimizer import Optimizer
from groundup.tensor import Tensor


class GradScaler:
    """Multiplies the loss, so that small float16 gradients do not vanish, and divides them again.

        scaler.scale(loss).backward()
        scaler.step(optimizer)  # skipped if a gradient is NaN or infinite
        scaler.update()  # halves the scale then, doubles it after `growth_interval` good steps

    Call `unscale_(optimizer)` before clipping. Each step reads one number back from the device:
    whether the gradients are finite. bfloat16 has float32's range and needs no scaling.
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        if not (
            init_scale > 0 and growth_factor >= 1 and 0 < backoff_factor <= 1 <= growth_interval
        ):
            raise ConfigError(
                "GradScaler: scale > 0, growth >= 1, backoff in (0, 1], interval >= 1"
            )
        self.growth_factor, self.backoff_factor = growth_factor, backoff_factor
        self.growth_interval = growth_interval
        self._scale = float(init_scale)
        self._good_steps = 0
        # since the last update: whether the gradients were finite, and which optimizers stepped
        self._finite: dict[Optimizer, bool] = {}
        self._stepped: set[Optimizer] = set()

    def get_scale(self) -> float:
        """The scale now."""
        return self._scale

    def scale(self, loss: Tensor) -> Tensor:
        """loss times the scale, in float32."""
        return loss.astype(float32) * self._scale

    def unscale_(self, optimizer: Optimizer) -> bool:
        """Divide the optimizer's gradients by the scale; returns whether all are finite.

        Raises ConfigError if they were already divided since the last `update`.
        """
        if optimizer in self._finite:
            raise ConfigError("unscale_: already done since the last update()")
        with Setting(grad=False):
            for group in optimizer.param_groups:
                for parameter in group.params:
                    if parameter.grad is not None:
                        parameter.grad = parameter.grad * (1 / self._scale)
        self._finite[optimizer] = _all_finite(optimizer)
        return self._finite[optimizer]

    def step(self, optimizer: Optimizer) -> bool:
        """`optimizer.step()` with unscaled gradients if all are finite; returns whether it did.

        Raises ConfigError if it was already called since the last `update`.
        """
        if optimizer in self._stepped:
            raise ConfigError("GradScaler.step: call update() after each step")
        self._stepped.add(optimizer)
        unscaled = optimizer in self._finite
        finite = self._finite.setdefault(optimizer, unscaled or _all_finite(optimizer))
        if not finite:
            return False
        optimizer.step(grad_scale=None if unscaled else _inverse(self._scale, optimizer))
        return True

    def update(self) -> None:
        """Adapt the scale to what this iteration's steps saw."""
        if not self._finite:
            return
        if all(self._finite.values()):
            self._good_steps += 1
            if self._good_steps == self.growth_interval:
                self._scale, self._good_steps = self._scale * self.growth_factor, 0
        else:
            self._scale, self._good_steps = self._scale * self.backoff_factor, 0
        self._finite.clear()
        self._stepped.clear()

    def state_dict(self) -> dict[str, Any]:
        """The scale and the number of good steps: numbers, for a JSON file."""
        return {"scale": self._scale, "good_steps": self._good_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`. Raises CheckpointError, and then nothing has changed."""
        try:
            scale, good = float(state["scale"]), int(state["good_steps"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"GradScaler: no valid state: {error!r}") from None
        self._scale, self._good_steps = scale, good


def _all_finite(optimizer: Optimizer) -> bool:
    """One reduction over all gradients, and one number read back."""
    grads = [
        p.grad.detach() for g in optimizer.param_groups for p in g.params if p.grad is not None
    ]
    return not grads or bool(np.isfinite(ops.global_norm(*grads).item()))


def _inverse(scale: float, optimizer: Optimizer) -> Tensor:
    device = optimizer.param_groups[0].params[0].device
    return dispatch.constant(1 / scale, float32, (), device)

"""Adam and AdamW, each one launch over all parameters of a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from groundup.dispatch import update
from groundup.errors import ConfigError
from groundup.ops import optimizer_ops
from groundup.optim.groups import Params
from groundup.optim.optimizer import Batch, Optimizer


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    p = p - lr * weight_decay * p, then p = p - lr * m / (sqrt(v) + eps), with m and v the running
    means of g and g^2 (weights `betas`), corrected for their start at 0. Raises ConfigError for
    settings out of range.
    """

    slots = ("exp_avg", "exp_avg_sq")
    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def _check_options(self, options: Mapping[str, Any]) -> None:
        name, betas = type(self).__name__, options["betas"]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ConfigError(f"{name}: betas must be two numbers in [0, 1), got {betas}")
        for setting in ("eps", "weight_decay"):
            if not options[setting] >= 0:
                raise ConfigError(f"{name}: {setting} must not be negative, got {options[setting]}")

    def _update(self, options: Mapping[str, Any], batch: Batch) -> None:
        count = len(batch.params)
        op = optimizer_ops.AdamW(
            count=count,
            weight_decay=(float(options["weight_decay"]),) * count,
            beta1=float(options["betas"][0]),
            beta2=float(options["betas"][1]),
            eps=float(options["eps"]),
            decoupled=self.decoupled,
        )
        moments = (*batch.slot("exp_avg"), *batch.slot("exp_avg_sq"))
        update(op, (batch.lr, batch.step, batch.scale, *batch.params, *batch.grads, *moments))


class Adam(AdamW):
    """Adam (Kingma and Ba, 2015): AdamW, but g contains weight_decay * p and p is not decayed."""

    decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

"""SGD with momentum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundup.dispatch import update
from groundup.errors import ConfigError
from groundup.ops.optimizer_ops import Sgd
from groundup.optim.groups import Params
from groundup.optim.optimizer import Batch, Optimizer


class SGD(Optimizer):
    """p = p - lr * g, with momentum p = p - lr * b where b = momentum * b + (1 - dampening) * g.

    g contains weight_decay * p. As PyTorch's; see `groundup.ops.optimizer_ops.Sgd`. Raises
    ConfigError for settings out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr, "momentum": momentum, "dampening": dampening,
                "weight_decay": weight_decay, "nesterov": nesterov,
            },
        )  # fmt: skip

    def _check_options(self, options: Mapping[str, Any]) -> None:
        momentum, decay = options["momentum"], options["weight_decay"]
        if not (momentum >= 0 and decay >= 0):
            raise ConfigError(
                f"SGD: momentum and weight_decay must not be negative, got {momentum} and {decay}"
            )
        if options["nesterov"] and (not momentum or options["dampening"]):
            raise ConfigError("SGD: nesterov needs momentum and no dampening")

    def _slots(self, options: Mapping[str, Any]) -> Sequence[str]:
        return ("momentum_buffer",) if options["momentum"] else ()

    def _update(self, options: Mapping[str, Any], batch: Batch) -> None:
        count = len(batch.params)
        op = Sgd(
            count=count,
            weight_decay=(float(options["weight_decay"]),) * count,
            momentum=float(options["momentum"]),
            dampening=float(options["dampening"]),
            nesterov=bool(options["nesterov"]),
        )
        buffers = batch.slot("momentum_buffer") if options["momentum"] else []
        update(op, (batch.lr, batch.step, batch.scale, *batch.params, *batch.grads, *buffers))

"""Losses as modules."""

from __future__ import annotations

from groundup import ops
from groundup.nn.module import Module
from groundup.tensor import Tensor


class CrossEntropyLoss(Module):
    """-log softmax(logits)[target], for logits (..., C) and integer targets (...).

    `reduction` is "mean" (over targets other than `ignore_index`), "sum" or "none".
    """

    def __init__(self, ignore_index: int = -100, reduction: str = "mean") -> None:
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return ops.cross_entropy(
            logits, targets, ignore_index=self.ignore_index, reduction=self.reduction
        )

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}, reduction={self.reduction!r}"


class MSELoss(Module):
    """(x - target)^2; `reduction` is "mean", "sum" or "none"."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.mse_loss(x, target, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"

"""The optimizers of level 3 in float64, from the papers' formulas, for `Value`s by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from groundup_conformance.training.float64 import Array, Value

Values = Mapping[str, Value]


class Descent:
    """p = p - lr * b, with b = momentum * b + g and g = grad + decay * p; b starts as g.

    Sutskever et al., 2013, with the learning rate outside. Without momentum plain descent.
    """

    def __init__(self, momentum: float = 0.0, decay: float = 0.0) -> None:
        self.momentum, self.decay = momentum, decay
        self._buffers: dict[str, Array] = {}

    def step(self, values: Values, lr: float, scale: float = 1.0) -> None:
        """Update every value by its gradient times `scale`."""
        for name, value in values.items():
            grad = scale * value.grad + self.decay * value.data
            buffer = self.momentum * self._buffers[name] + grad if name in self._buffers else grad
            self._buffers[name] = buffer
            value.data = value.data - lr * buffer


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    def __init__(
        self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, decay: float = 0.01
    ) -> None:
        self.beta1, self.beta2, self.eps, self.decay = beta1, beta2, eps, decay
        self._count = 0
        self._first: dict[str, Array] = {}
        self._second: dict[str, Array] = {}

    def step(self, values: Values, lr: float, scale: float = 1.0) -> None:
        """Update every value by its gradient times `scale`."""
        self._count += 1
        for name, value in values.items():
            grad = scale * value.grad
            zeros = np.zeros_like(grad)
            m = self.beta1 * self._first.get(name, zeros) + (1 - self.beta1) * grad
            v = self.beta2 * self._second.get(name, zeros) + (1 - self.beta2) * grad**2
            self._first[name], self._second[name] = m, v
            m = m / (1 - self.beta1**self._count)
            v = v / (1 - self.beta2**self._count)
            value.data = value.data * (1 - lr * self.decay) - lr * m / (np.sqrt(v) + self.eps)


def clip(values: Values, largest: float) -> float:
    """What gradients are multiplied by so that their common norm is at most `largest`."""
    norm = np.sqrt(sum(float((value.grad**2).sum()) for value in values.values()))
    return float(min(1.0, largest / (norm + 1e-6)))

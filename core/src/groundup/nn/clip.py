"""Clipping gradients by their common norm (Pascanu et al., 2013)."""

from __future__ import annotations

from collections.abc import Iterable

from groundup import creation, ops
from groundup.errors import ConfigError
from groundup.graph import Setting
from groundup.spans import span
from groundup.tensor import Tensor


@span("optimizer")
def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients so that their common 2-norm is at most `max_norm`; returns the old norm.

    The norm stays on the device (rank 0, float32): nothing waits. A NaN makes all gradients NaN, an
    infinity makes finite ones 0: look at the norm. Raises ConfigError for a negative `max_norm`.
    """
    chosen = [p for p in _listed(parameters) if p.grad is not None]
    norm = grad_norm(chosen)
    scale = clip_factor(norm, max_norm)
    with Setting(grad=False):
        for parameter in chosen:
            assert parameter.grad is not None
            parameter.grad = parameter.grad * scale.astype(parameter.grad.dtype)
    return norm


@span("optimizer")
def grad_norm(parameters: Tensor | Iterable[Tensor]) -> Tensor:
    """The 2-norm of all gradients together: rank 0, float32, on the device. 0 if there are none."""
    grads = [p.grad.detach() for p in _listed(parameters) if p.grad is not None]
    return ops.global_norm(*grads) if grads else creation.zeros(())


@span("optimizer")
def clip_factor(norm: Tensor, max_norm: float) -> Tensor:
    """min(1, max_norm / (norm + 1e-6)): `Optimizer.step(grad_scale=...)` takes it to clip for free.

    Raises ConfigError for a negative `max_norm`.
    """
    if not max_norm >= 0:
        raise ConfigError(f"clip: max_norm must not be negative, got {max_norm}")
    return ops.clip_scale(norm, max_norm)


def _listed(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)

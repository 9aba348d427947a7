"""Layers as functions, under PyTorch's names: `import groundup.nn.functional as F`.

Most are the ops themselves. Those that draw random numbers take a `generator`, by default the one
of the tensor's device.
"""

from __future__ import annotations

from groundup import ops
from groundup.errors import ConfigError
from groundup.ops import (
    avg_pool2d,
    batch_norm,
    conv1d,
    conv2d,
    conv_transpose2d,
    cross_entropy,
    gelu,
    group_norm,
    layer_norm,
    linear,
    log_softmax,
    max_pool2d,
    mse_loss,
    nll_loss,
    one_hot,
    pad,
    relu,
    rms_norm,
    sigmoid,
    silu,
    softmax,
    tanh,
)  # fmt: skip
from groundup.random import Generator, draw
from groundup.tensor import Tensor


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """Rows of weight (n, d) chosen by integer ids of any shape. Raises DTypeError for other ids."""
    return ops.take(weight, ids, axis=0)


def dropout(
    x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """In training, each element 0 with probability p, the others times 1 / (1 - p); else x itself.

    Raises ConfigError unless 0 <= p <= 1.
    """
    if not training or probability(p, "dropout") == 0:
        return x
    return ops.dropout(x, draw(x.device, generator), p)


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    generator: Generator | None = None,
) -> Tensor:
    """softmax(q k^T * scale) v: see `groundup.ops.scaled_dot_product_attention`. (B, H, T, D).

    Raises ConfigError unless 0 <= dropout <= 1.
    """
    state = draw(q.device, generator) if probability(dropout, "attention") else None
    return ops.scaled_dot_product_attention(
        q, k, v, mask, causal=causal, scale=scale, dropout=dropout, state=state
    )


def probability(p: float, name: str) -> float:
    """p itself. Raises ConfigError, naming `name`, unless it lies in [0, 1]."""
    if not 0 <= p <= 1:
        raise ConfigError(f"{name}: a probability lies in [0, 1], got {p}")
    return p


__all__ = [
    "avg_pool2d", "batch_norm", "conv1d", "conv2d", "conv_transpose2d", "cross_entropy", "dropout",
    "embedding", "gelu", "group_norm", "layer_norm", "linear", "log_softmax", "max_pool2d",
    "mse_loss", "nll_loss", "one_hot", "pad", "relu", "rms_norm", "scaled_dot_product_attention",
    "sigmoid", "silu", "softmax", "tanh",
]  # fmt: skip

"""Linear, Embedding, Identity."""

from __future__ import annotations

import math

from groundup import creation, ops
from groundup.backends.devices import DeviceLike
from groundup.dtypes import DTypeLike, float32
from groundup.errors import ConfigError
from groundup.nn import init
from groundup.nn.module import Module
from groundup.tensor import Tensor


class Linear(Module):
    """y = x @ weight.T + bias for x (..., in_features); weight is (out_features, in_features).

    Both start uniform in +-1/sqrt(in_features), as PyTorch's do.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        self.in_features, self.out_features = in_features, out_features
        self.weight = blank(out_features, in_features, device=device, dtype=dtype)
        self.bias = blank(out_features, device=device, dtype=dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        spread(self.in_features, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        has_bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={has_bias}"


class Embedding(Module):
    """Rows of weight (num_embeddings, embedding_dim), chosen by integer ids of any shape.

    Starts standard normal. The row of `padding_idx` starts at 0 and gets no gradient.
    """

    weight: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ConfigError(
                f"Embedding: padding_idx {padding_idx} is not in 0..{num_embeddings - 1}"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = blank(num_embeddings, embedding_dim, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init.zeros_(self.weight.detach()[self.padding_idx])

    def forward(self, ids: Tensor) -> Tensor:
        rows = ops.take(self.weight, ids, axis=0)
        if self.padding_idx is None or not rows.requires_grad:
            return rows
        return (ids == self.padding_idx).unsqueeze(-1).where(rows.detach(), rows)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Identity(Module):
    """y = x."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def blank(*shape: int, device: DeviceLike, dtype: DTypeLike) -> Tensor:
    """A parameter that `reset_parameters` will fill. Raises ConfigError for a negative size."""
    if any(size < 0 for size in shape):
        raise ConfigError(f"a layer's sizes must not be negative, got {shape}")
    return creation.empty(shape, dtype=dtype, device=device).requires_grad_()


def spread(fan_in: int, *parameters: Tensor | None) -> None:
    """Fill each uniformly in +-1/sqrt(fan_in), as PyTorch starts its layers."""
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    for parameter in parameters:
        if parameter is not None:
            init.uniform_(parameter, -bound, bound)

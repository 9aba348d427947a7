"""LayerNorm, RMSNorm, GroupNorm, BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from groundup import creation, ops
from groundup.backends.devices import DeviceLike
from groundup.dtypes import DTypeLike, float32, int32
from groundup.errors import ConfigError, ShapeError
from groundup.graph import Setting
from groundup.nn.module import Module
from groundup.tensor import Tensor


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes (Ba et al., 2016).

    `normalized_shape` is their size, or their sizes.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        *,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
        self.weight = _ones(self.normalized_shape, device, dtype)
        self.bias: Tensor | None = _zeros(self.normalized_shape, device, dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if len(self.normalized_shape) == 1:
            return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)
        rows = _rows(x, self.normalized_shape, "LayerNorm")
        bias = None if self.bias is None else self.bias.flatten()
        y = ops.layer_norm(rows, self.weight.flatten(), bias, eps=self.eps)
        return y.reshape(x.shape)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axes (Zhang and Sennrich, 2019)."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-6,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
        self.weight = _ones(self.normalized_shape, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.normalized_shape) == 1:
            return ops.rms_norm(x, self.weight, eps=self.eps)
        rows = _rows(x, self.normalized_shape, "RMSNorm")
        return ops.rms_norm(rows, self.weight.flatten(), eps=self.eps).reshape(x.shape)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """Each sample's channels (axis 1) normalised in `num_groups` groups (Wu and He, 2018)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ConfigError(
                f"GroupNorm: {num_channels} channels do not split in {num_groups} groups"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = _ones((num_channels,), device, dtype)
        self.bias = _zeros((num_channels,), device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.weight, self.bias, self.num_groups, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


class BatchNorm(Module):
    """Each channel (axis 1) normalised over the batch and all positions (Ioffe and Szegedy, 2015).

    In training mode by the batch's own mean and variance, of which the buffers keep a running
    average (of the unbiased variance, weight `momentum`); in evaluation mode by the buffers. This
    is the base of BatchNorm1d and BatchNorm2d, which say what ranks they take.
    """

    ranks: tuple[int, ...] = ()
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = _ones((num_features,), device, dtype)
        self.bias = _zeros((num_features,), device, dtype)
        sizes = (num_features,)
        self.register_buffer("running_mean", creation.zeros(sizes, dtype=dtype, device=device))
        self.register_buffer("running_var", creation.ones(sizes, dtype=dtype, device=device))
        self.register_buffer("num_batches_tracked", creation.zeros((), dtype=int32, device=device))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: x must have {self.num_features} channels on axis 1 "
                f"and rank {' or '.join(map(str, self.ranks))}, got {x.spec}"
            )
        if not self.training:
            return self._normal(x, self.running_mean, self.running_var)
        axes = (0, *range(2, x.ndim))
        count = prod(x.shape[a] for a in axes)
        if count < 2:
            raise ShapeError(
                f"{type(self).__name__}: one value per channel has no variance, got {x.spec}"
            )
        wide = x.astype(float32) if x.dtype.bits < 32 else x
        mean, var = wide.mean(axis=axes), wide.var(axis=axes)
        y = self._normal(x, mean.astype(self.weight.dtype), var.astype(self.weight.dtype))
        self._track(mean.detach(), var.detach() * (count / (count - 1)))
        return y

    def _normal(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return ops.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)

    def _track(self, mean: Tensor, var: Tensor) -> None:
        """Move the running averages towards this batch; last, so that an error changes nothing."""
        with Setting(grad=False):
            for running, now in ((self.running_mean, mean), (self.running_var, var)):
                share = now.astype(running.dtype) * self.momentum
                running.assign_(running * (1 - self.momentum) + share)
            self.num_batches_tracked.assign_(self.num_batches_tracked + 1)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(BatchNorm):
    """Batch normalisation of x (N, C) or (N, C, L): by `BatchNorm`'s rule."""

    ranks = (2, 3)


class BatchNorm2d(BatchNorm):
    """Batch normalisation of x (N, C, H, W): by `BatchNorm`'s rule."""

    ranks = (4,)


def _shape(sizes: int | Sequence[int]) -> tuple[int, ...]:
    return (sizes,) if isinstance(sizes, int) else tuple(sizes)


def _ones(shape: tuple[int, ...], device: DeviceLike, dtype: DTypeLike) -> Tensor:
    return creation.ones(shape, dtype=dtype, device=device).requires_grad_()


def _zeros(shape: tuple[int, ...], device: DeviceLike, dtype: DTypeLike) -> Tensor:
    return creation.zeros(shape, dtype=dtype, device=device).requires_grad_()


def _rows(x: Tensor, normalized: tuple[int, ...], layer: str) -> Tensor:
    """x with the normalised axes joined into its last."""
    if x.shape[x.ndim - len(normalized) :] != normalized or len(normalized) > x.ndim:
        raise ShapeError(f"{layer}: the last axes of x must be {normalized}, got {x.spec}")
    return x.flatten(x.ndim - len(normalized))

"""Conv1d, Conv2d, ConvTranspose2d, MaxPool2d, AvgPool2d."""

from __future__ import annotations

from math import prod
from typing import ClassVar, TypeAlias

from groundup.backends.devices import DeviceLike
from groundup.dtypes import DTypeLike, float32
from groundup.errors import ConfigError
from groundup.nn import functional as F
from groundup.nn.linear import blank, spread
from groundup.nn.module import Module
from groundup.tensor import Tensor

Size: TypeAlias = int | tuple[int, int]


class Conv(Module):
    """What the convolutions share; see Conv1d, Conv2d and ConvTranspose2d.

    Weight and bias start uniform in +-1/sqrt(fan_in), as PyTorch's do. Raises ConfigError for
    channels that do not split into `groups`.
    """

    axes: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ConfigError(
                f"{type(self).__name__}: {in_channels} and {out_channels} channels "
                f"do not split in {groups} groups"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = (
            (kernel_size,) * self.axes if isinstance(kernel_size, int) else kernel_size
        )
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = blank(*self._weight_shape(), device=device, dtype=dtype)
        self.bias = blank(out_channels, device=device, dtype=dtype) if bias else None
        self.reset_parameters()

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        spread(prod(self.weight.shape[1:]), self.weight, self.bias)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
            if getattr(self, name) != usual:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts) + ("" if self.bias is not None else ", bias=False")


class Conv1d(Conv):
    """Convolution (correlation) of x (N, in, L) with weight (out, in / groups, kernel)."""

    axes = 1

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(
            x, self.weight, self.bias,
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups,
        )  # fmt: skip


class Conv2d(Conv):
    """Convolution (correlation) of x (N, in, H, W) with weight (out, in / groups, kh, kw)."""

    axes = 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(
            x, self.weight, self.bias,
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups,
        )  # fmt: skip


class ConvTranspose2d(Conv):
    """The transpose (gradient) of Conv2d: x (N, in, H, W), weight (in, out / groups, kh, kw).

    `output_padding` rows and columns are added at one end of the result, to tell apart the sizes
    that the forward convolution's stride maps to one.
    """

    axes = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        self.output_padding = output_padding
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            device=device, dtype=dtype,
        )  # fmt: skip

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(
            x, self.weight, self.bias,
            stride=self.stride, padding=self.padding, output_padding=self.output_padding,
            dilation=self.dilation, groups=self.groups,
        )  # fmt: skip


class Pool2d(Module):
    """What the poolings share: windows of `kernel_size`, every `stride` (default: side by side)."""

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(Pool2d):
    """The maximum of each window of x (N, C, H, W), padded with -inf."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)


class AvgPool2d(Pool2d):
    """The mean of each window of x (N, C, H, W), padded with zeros that count."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)

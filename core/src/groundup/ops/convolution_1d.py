"""Convolution in one dimension: conv2d over images of height 1."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from groundup.errors import ShapeError
from groundup.layout import Spec
from groundup.ops.convolution import (
    CASES,
    Conv2d,
    Convolution,
    Grads,
    Sizes,
    conv_cost,
    input_gradient,
    weight_gradient,
)
from groundup.ops.op import Cost, Ctx
from groundup.ops.samples import BadCase, Case, Make
from groundup.ops.windows import sizes
from groundup.shapes import Shape

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["conv1d"]


class Conv1d(Convolution, name="conv1d", family="contraction"):
    """conv2d with one axis: x (N, C, L), weight (O, C / groups, K), bias (O,) or none."""

    stride: Shape = (1,)
    padding: Shape = (0,)
    dilation: Shape = (1,)
    saves = ("x", "weight")

    def infer(self, x: Spec, weight: Spec, bias: Spec | None = None) -> Spec:
        self.check(3, x, weight, bias, weight.shape[0] if weight.rank else 0)
        self.check_channels(x, weight)
        counts = self.windows(weight.shape[2:]).counts(self.name, x.shape[2:])
        return Spec((x.shape[0], weight.shape[0], *counts), x.dtype)

    def compose(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        vectors = () if bias is None else (bias,)
        return self._flat()(x.unsqueeze(2), weight.unsqueeze(2), *vectors).squeeze(2)

    def vjp(self, ctx: Ctx, grad: Tensor) -> Grads:
        op = self._flat()
        x, weight, dy = (t.unsqueeze(2) for t in (*ctx.saved, grad))
        dx = input_gradient(op, weight, dy, x.shape) if ctx.needs[0] else None
        dweight = weight_gradient(op, x, dy, weight.shape) if ctx.needs[1] else None
        dbias = grad.sum((0, 2)) if len(ctx.needs) > 2 and ctx.needs[2] else None
        found = [None if t is None else t.squeeze(2) for t in (dx, dweight)]
        return (*found, dbias)[: len(ctx.needs)]

    def _flat(self) -> Conv2d:
        """The conv2d over images of height 1."""
        return Conv2d(
            stride=(1, *self.stride), padding=(0, *self.padding),
            dilation=(1, *self.dilation), groups=self.groups,
        )  # fmt: skip

    def cost(self, *specs: Spec) -> Cost:
        out = self.infer(*specs)
        return conv_cost(2 * out.size * prod(specs[1].shape[1:]), *specs, out)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, image, weight, settings in CASES:
            flat: dict[str, Any] = {k: v if k == "groups" else v[1:] for k, v in settings.items()}
            x, w = (*image[:2], image[3]), (*weight[:2], weight[3])
            tags = frozenset({"empty"} if "empty" in name else ())
            operands = (make.normal(*x), make.normal(*w), make.normal(w[0]))
            yield Case(cls(**flat), operands, name, tags)
        x_view = make.normal(7, 2, 3, view=lambda x: x.T)
        weight_view = make.normal(4, 4, 3, view=lambda w: w[:, ::2])
        yield Case(cls(), (x_view, weight_view), "views", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(1, 2, 4)
        yield BadCase(cls(), (x, make.normal(3, 1, 3)), ShapeError, "does not fit weight")
        yield BadCase(cls(), (x, make.normal(3, 2, 5)), ShapeError, "does not fit")
        yield BadCase(cls(), (make.normal(2, 4), make.normal(3, 2, 3)), ShapeError, "rank 3")


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of x (N, C, L) with weight (O, C / groups, K), plus bias (O,).

    Raises ShapeError, DTypeError.
    """
    op = Conv1d(
        stride=sizes(stride, 1, "conv1d: stride"), padding=sizes(padding, 1, "conv1d: padding"),
        dilation=sizes(dilation, 1, "conv1d: dilation"), groups=groups,
    )  # fmt: skip
    return op(x, weight) if bias is None else op(x, weight, bias)

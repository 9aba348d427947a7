"""Convolutions in two dimensions, transposed convolution, and the gradient of the weight.

conv2d, conv_transpose2d and conv2d_backward_weight are views of one trilinear form: the gradients
of each are the other two, to any order. What the field calls convolution is cross-correlation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Final

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import CONTRACTION
from groundup.ops.assembly import stack
from groundup.ops.normalization import check_vectors
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make
from groundup.ops.softmax import widened
from groundup.ops.windows import Windows, sizes
from groundup.shapes import Shape

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["conv2d", "conv_transpose2d"]

Sizes = int | Sequence[int]
Grads = tuple["Tensor | None", ...]


class Convolution(Op):
    """The settings of all: per axis stride, zero padding at both ends, dilation; and groups."""

    stride: Shape = (1, 1)
    padding: Shape = (0, 0)
    dilation: Shape = (1, 1)
    groups: int = 1
    accuracy = CONTRACTION

    def windows(self, kernel: Shape) -> Windows:
        """The windows that a kernel of that size sees."""
        return Windows(kernel, self.stride, self.padding, self.dilation)

    def forward(self) -> Conv2d:
        """The conv2d with these settings."""
        return Conv2d(
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )

    def check(self, rank: int, x: Spec, weight: Spec, bias: Spec | None, outer: int) -> None:
        """Raises DTypeError or ShapeError unless dtypes, ranks and the bias's size agree."""
        if not x.dtype.is_floating:
            hint = "use x.astype(groundup.float32)"
            raise DTypeError(f"{self.name}: x must be floating-point, got {x}", hint=hint)
        second = self.inputs[1]
        if x.rank != rank or weight.rank != rank:
            raise ShapeError(
                f"{self.name}: x and {second} must have rank {rank}, "
                f"got {x.shape} and {weight.shape}"
            )
        if min(self.groups, *weight.shape[2:]) < 1:
            raise ShapeError(
                f"{self.name}: groups ({self.groups}) and the sizes of {second} {weight.shape[2:]}"
                " must be at least 1"
            )
        if weight.dtype is not x.dtype:
            hint = f"use {second}.astype(groundup.{x.dtype})"
            raise DTypeError(f"{self.name}: x is {x} but {second} is {weight}", hint=hint)
        if bias is not None:
            check_vectors(self.name, x, (outer,), {"bias": bias})

    def check_channels(self, x: Spec, weight: Spec) -> None:
        """Raises ShapeError unless the channels of conv2d's x and weight agree."""
        if x.shape[1] != weight.shape[1] * self.groups or weight.shape[0] % self.groups:
            raise ShapeError(
                f"{self.name}: x {x.shape} does not fit weight {weight.shape}: with {self.groups} "
                f"groups, weight must be ({self.groups} n, {x.shape[1]} / {self.groups}, ...)"
            )


class Conv2d(Convolution, name="conv2d", family="contraction"):
    """out[n, o, v, u] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[n, c, s v + d i - p, *].

    * is s u + d j - p; s, d and p are stride, dilation and padding.
    x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) or none. Outside of x are zeros. With
    groups, output channels of group g see only the input channels of group g.
    """

    saves = ("x", "weight")

    def infer(self, x: Spec, weight: Spec, bias: Spec | None = None) -> Spec:
        self.check(4, x, weight, bias, weight.shape[0] if weight.rank else 0)
        self.check_channels(x, weight)
        counts = self.windows(weight.shape[2:]).counts(self.name, x.shape[2:])
        return Spec((x.shape[0], weight.shape[0], *counts), x.dtype)

    def compose(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        n, o, *counts = self.infer(x.spec, weight.spec).shape
        groups, inner, area = self.groups, weight.shape[1], prod(counts)
        kernel = widened(weight).reshape(groups, o // groups, *weight.shape[1:])
        total: Tensor | None = None
        for i, j, tap in self.windows(weight.shape[2:]).taps(widened(x), tuple(counts)):
            part = kernel[:, :, :, i, j] @ tap.reshape(n, groups, inner, area)
            total = part if total is None else total + part
        assert total is not None, "a kernel has at least one tap"
        out = total.reshape(n, o, *counts)
        return (out if bias is None else out + bias.reshape(o, 1, 1)).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> Grads:
        x, weight = ctx.saved
        dx = input_gradient(self, weight, grad, x.shape) if ctx.needs[0] else None
        dweight = weight_gradient(self, x, grad, weight.shape) if ctx.needs[1] else None
        dbias = grad.sum((0, 2, 3)) if len(ctx.needs) > 2 and ctx.needs[2] else None
        return (dx, dweight, dbias)[: len(ctx.needs)]

    def cost(self, *specs: Spec) -> Cost:
        out = self.infer(*specs)
        return conv_cost(2 * out.size * prod(specs[1].shape[1:]), *specs, out)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, x, weight, settings in CASES:
            tags = frozenset({"empty"} if "empty" in name else ())
            operands = (make.normal(*x), make.normal(*weight))
            yield Case(cls(**settings), operands, name, tags)
            bias = make.normal(weight[0])
            yield Case(cls(**settings), (*operands, bias), f"{name}-bias", tags)
        x_view = make.normal(5, 6, 2, 2, view=lambda x: x.T)
        weight_view = make.normal(3, 4, 3, 3, view=lambda w: w[:, ::2, ::-1])
        yield Case(cls(), (x_view, weight_view), "views", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x, weight = make.normal(1, 2, 4, 4), make.normal(3, 2, 3, 3)
        yield BadCase(cls(), (x, make.normal(3, 1, 3, 3)), ShapeError, "with 1 groups")
        yield BadCase(cls(groups=2), (x, make.normal(3, 1, 3, 3)), ShapeError, "with 2 groups")
        yield BadCase(cls(), (x, make.normal(3, 2, 5, 3)), ShapeError, "does not fit")
        yield BadCase(cls(), (make.normal(2, 4, 4), weight), ShapeError, "rank 4")
        yield BadCase(cls(), (x, weight, make.normal(2)), ShapeError, "bias must have shape (3,)")
        yield BadCase(cls(stride=(0, 1)), (x, weight), ShapeError, "at least 1")
        yield BadCase(cls(), (make.of(dt.int32, 1, 2, 4, 4), weight), DTypeError, "floating-point")


class ConvTranspose2d(Convolution, name="conv_transpose2d", family="contraction"):
    """The transpose of conv2d: x (N, C, H, W), weight (C, O / groups, kh, kw), bias (O,) or none.

    out is the gradient that conv2d with this weight would give an input of size
    (H - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1, plus bias.
    """

    output_padding: Shape = (0, 0)
    saves = ("x", "weight")

    def infer(self, x: Spec, weight: Spec, bias: Spec | None = None) -> Spec:
        outer = weight.shape[1] * self.groups if weight.rank == 4 else 0
        self.check(4, x, weight, bias, outer)
        self.windows(weight.shape[2:]).check(self.name)
        if x.shape[1] != weight.shape[0] or weight.shape[0] % self.groups:
            raise ShapeError(
                f"{self.name}: x {x.shape} does not fit weight {weight.shape}: with {self.groups} "
                f"groups, weight must be ({x.shape[1]}, O / {self.groups}, kh, kw)"
            )
        size = []
        for n, k, s, p, d, extra in zip(
            x.shape[2:], weight.shape[2:], self.stride, self.padding, self.dilation,
            self.output_padding, strict=True,
        ):  # fmt: skip
            if not 0 <= extra < s:
                raise ShapeError(f"{self.name}: output_padding {extra} must be below stride {s}")
            size.append((n - 1) * s - 2 * p + d * (k - 1) + extra + 1)
        if min(size) < 1 or 0 in x.shape[2:]:
            raise ShapeError(f"{self.name}: x {x.shape} and padding {self.padding} leave no output")
        return Spec((x.shape[0], outer, *size), x.dtype)

    def compose(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Each tap's products, spread by the stride, are added where they belong.

        conv2d of a spread x would multiply the zeros in between, and 0 times infinity is NaN.
        """
        n, o, *counts = self.infer(x.spec, weight.spec).shape
        groups, inner, area = self.groups, x.shape[1] // self.groups, prod(x.shape[2:])
        rows = widened(x).reshape(n, groups, inner, area)
        kernel = widened(weight).reshape(groups, inner, o // groups, *weight.shape[2:])
        whole = [c + 2 * p for c, p in zip(counts, self.padding, strict=True)]
        spans = [(m - 1) * s + 1 for m, s in zip(x.shape[2:], self.stride, strict=True)]
        total: Tensor | None = None
        for i, j in product(*map(range, weight.shape[2:])):
            part = (kernel[:, :, :, i, j].mT @ rows).reshape(n, o, *x.shape[2:])
            before = (i * self.dilation[0], j * self.dilation[1])
            after = [w - b - span for w, b, span in zip(whole, before, spans, strict=True)]
            gaps = (0, 0, *[s - 1 for s in self.stride])
            part = part.pad((0, 0, *before), (0, 0, *after), interior=gaps)
            total = part if total is None else total + part
        assert total is not None, "a kernel has at least one tap"
        (top, left), (height, width) = self.padding, counts
        out = total[:, :, top : top + height, left : left + width]
        out = out if bias is None else out + bias.reshape(o, 1, 1)
        return out.astype(x.dtype).contiguous()

    def vjp(self, ctx: Ctx, grad: Tensor) -> Grads:
        x, weight = ctx.saved
        forward = self.forward()
        dx = forward(grad, weight) if ctx.needs[0] else None
        dweight = weight_gradient(forward, grad, x, weight.shape) if ctx.needs[1] else None
        dbias = grad.sum((0, 2, 3)) if len(ctx.needs) > 2 and ctx.needs[2] else None
        return (dx, dweight, dbias)[: len(ctx.needs)]

    def cost(self, *specs: Spec) -> Cost:
        return conv_cost(2 * specs[0].size * prod(specs[1].shape[1:]), *specs, self.infer(*specs))

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, image, weight, settings in CASES:
            forward = cls(**settings).forward()
            out = forward.infer(Spec(image, make.dtype), Spec(weight, make.dtype))
            extra = leftover(forward, image, out.shape, weight)
            operands = (make.normal(*out.shape), make.normal(*weight))
            tags = frozenset({"empty"} if "empty" in name else ())
            yield Case(cls(**settings, output_padding=extra), operands, name, tags)
        biased = (make.normal(2, 4, 3, 2), make.normal(4, 2, 2, 3), make.normal(4))
        yield Case(cls(stride=(2, 1), groups=2, output_padding=(1, 0)), biased, "bias")
        views = (make.normal(3, 4, 2, 2, view=lambda x: x.T), make.normal(2, 1, 2, 2))
        yield Case(cls(), views, "view", frozenset({"view"}))
        yield Case(cls(padding=(2, 0)), (make.normal(1, 1, 4, 3), make.normal(1, 2, 2, 1)), "crop")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x, weight = make.normal(1, 2, 4, 4), make.normal(2, 3, 3, 3)
        yield BadCase(cls(), (x, make.normal(3, 2, 3, 3)), ShapeError, "weight must be (2,")
        yield BadCase(cls(output_padding=(1, 0)), (x, weight), ShapeError, "below stride 1")
        yield BadCase(cls(padding=(3, 0)), (x, weight), ShapeError, "leave no output")
        yield BadCase(cls(), (x, weight, make.normal(2)), ShapeError, "bias must have shape (3,)")


class Conv2dBackwardWeight(Convolution, name="conv2d_backward_weight", family="contraction"):
    """conv2d's gradient of weight (O, C / groups, *kernel): x (N, C, H, W), grad (N, O, V, U)."""

    kernel: Shape
    saves = ("x", "grad")

    def infer(self, x: Spec, grad: Spec) -> Spec:
        self.check(4, x, grad, None, 0)
        counts = self.windows(self.kernel).counts(self.name, x.shape[2:])
        if grad.shape[:1] + grad.shape[2:] != (x.shape[0], *counts):
            wanted = f"({x.shape[0]}, O, {counts[0]}, {counts[1]})"
            raise ShapeError(f"{self.name}: grad must be {wanted} for {x}, got {grad}")
        if x.shape[1] % self.groups or grad.shape[1] % self.groups:
            raise ShapeError(f"{self.name}: {self.groups} groups do not divide {x} and {grad}")
        return Spec((grad.shape[1], x.shape[1] // self.groups, *self.kernel), x.dtype)

    def compose(self, x: Tensor, grad: Tensor) -> Tensor:
        n, o, *counts = grad.shape
        groups, inner, area = self.groups, x.shape[1] // self.groups, prod(counts)
        # Positions of all images side by side: one product per tap and group.
        dy = widened(grad).reshape(n, groups, o // groups, area).permute(1, 2, 0, 3)
        dy = dy.reshape(groups, o // groups, n * area)
        parts = []
        for _, _, tap in self.windows(self.kernel).taps(widened(x), tuple(counts)):
            rows = tap.reshape(n, groups, inner, area).permute(1, 0, 3, 2)
            parts.append(dy @ rows.reshape(groups, n * area, inner))
        return stack(parts, axis=-1).reshape(o, inner, *self.kernel).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> Grads:
        x, dy = ctx.saved
        forward = self.forward()
        dx = input_gradient(forward, grad, dy, x.shape) if ctx.needs[0] else None
        return dx, forward(x, grad) if ctx.needs[1] else None

    def cost(self, x: Spec, grad: Spec) -> Cost:
        out = self.infer(x, grad)
        return conv_cost(2 * grad.size * prod(out.shape[1:]), x, grad, out)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, x, weight, settings in CASES:
            op = cls(kernel=weight[2:], **settings)
            out = op.forward().infer(Spec(x, make.dtype), Spec(weight, make.dtype))
            operands = (make.normal(*x), make.normal(*out.shape))
            tags = frozenset({"empty"} if "empty" in name else ())
            yield Case(op, operands, name, tags)
        x_view = make.normal(5, 4, 2, 1, view=lambda x: x.T)
        grad_view = make.normal(1, 3, 6, 4, view=lambda g: g[:, :, ::2, ::-1])
        yield Case(cls(kernel=(2, 2)), (x_view, grad_view), "views", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        bad = (make.normal(1, 2, 4, 4), make.normal(1, 3, 4, 4))
        yield BadCase(cls(kernel=(3, 3)), bad, ShapeError, "grad must be (1, O, 2, 2)")


def input_gradient(op: Conv2d, weight: Tensor, grad: Tensor, shape: Shape) -> Tensor:
    """The gradient of conv2d's x, which has that shape."""
    transposed = ConvTranspose2d(
        stride=op.stride, padding=op.padding, dilation=op.dilation, groups=op.groups,
        output_padding=leftover(op, shape, grad.shape, weight.shape),
    )  # fmt: skip
    return transposed(grad, weight)


def weight_gradient(op: Conv2d, x: Tensor, grad: Tensor, shape: Shape) -> Tensor:
    """The gradient of conv2d's weight, which has that shape."""
    backward = Conv2dBackwardWeight(
        stride=op.stride, padding=op.padding, dilation=op.dilation, groups=op.groups,
        kernel=shape[2:],
    )  # fmt: skip
    return backward(x, grad)


def leftover(op: Conv2d, image: Shape, out: Shape, weight: Shape) -> Shape:
    """The last rows and columns that no window starts at: conv_transpose2d's output_padding."""
    return tuple(
        n + 2 * p - d * (k - 1) - 1 - (count - 1) * s
        for n, count, k, s, p, d in zip(
            image[2:], out[2:], weight[2:], op.stride, op.padding, op.dilation, strict=True
        )
    )


def conv_cost(flops: int, *specs: Spec) -> Cost:
    """The arithmetic, and every operand moved once."""
    return Cost(flops, sum(spec.nbytes for spec in specs))


CASES: Final[tuple[tuple[str, Shape, Shape, dict[str, Any]], ...]] = (
    # name, x, weight, settings
    ("plain", (2, 3, 6, 5), (4, 3, 3, 2), {}),
    ("same", (1, 2, 5, 5), (3, 2, 3, 3), {"padding": (1, 1)}),
    ("strided", (2, 2, 7, 8), (3, 2, 3, 3), {"stride": (2, 3), "padding": (1, 0)}),
    ("dilated", (1, 2, 8, 7), (2, 2, 3, 2), {"dilation": (2, 3)}),
    ("all", (2, 2, 9, 8), (2, 2, 2, 3), {"stride": (2, 2), "padding": (1, 2), "dilation": (3, 2)}),
    ("groups", (2, 4, 5, 4), (6, 2, 2, 2), {"groups": 2}),
    ("depthwise", (1, 3, 5, 5), (3, 1, 3, 3), {"groups": 3, "padding": (1, 1)}),
    ("pointwise", (2, 3, 4, 4), (5, 3, 1, 1), {}),
    ("patches", (1, 2, 7, 9), (4, 2, 3, 3), {"stride": (3, 3)}),
    ("one", (1, 1, 1, 1), (1, 1, 1, 1), {}),
    ("wide-padding", (1, 1, 2, 3), (1, 1, 2, 1), {"padding": (3, 1)}),
    ("empty-batch", (0, 2, 4, 4), (3, 2, 3, 3), {}),
    ("pointwise-strided", (2, 3, 5, 4), (5, 3, 1, 1), {"stride": (2, 1)}),
    ("pointwise-padded", (1, 2, 3, 4), (3, 2, 1, 1), {"padding": (1, 0)}),
)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of x (N, C, H, W) with weight (O, C / groups, kh, kw), plus bias (O,).

    Raises ShapeError, DTypeError.
    """
    op = Conv2d(
        stride=sizes(stride, 2, "conv2d: stride"), padding=sizes(padding, 2, "conv2d: padding"),
        dilation=sizes(dilation, 2, "conv2d: dilation"), groups=groups,
    )  # fmt: skip
    return op(x, weight) if bias is None else op(x, weight, bias)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """The transpose of conv2d: x (N, C, H, W), weight (C, O / groups, kh, kw), plus bias (O,).

    Raises ShapeError, DTypeError.
    """
    name = "conv_transpose2d"
    op = ConvTranspose2d(
        stride=sizes(stride, 2, f"{name}: stride"), padding=sizes(padding, 2, f"{name}: padding"),
        dilation=sizes(dilation, 2, f"{name}: dilation"), groups=groups,
        output_padding=sizes(output_padding, 2, f"{name}: output_padding"),
    )  # fmt: skip
    return op(x, weight) if bias is None else op(x, weight, bias)

"""Pools over windows of the last two axes: the largest value, the mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED, EXACT
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make
from groundup.ops.softmax import widened
from groundup.ops.windows import Windows, sizes
from groundup.shapes import Shape

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["avg_pool2d", "max_pool2d"]

Sizes = int | Sequence[int]


class Pool(Op):
    """x (N, C, H, W) and the windows' settings. Padding is at most half the kernel."""

    kernel: Shape
    stride: Shape
    padding: Shape = (0, 0)

    @property
    def windows(self) -> Windows:
        """The windows; pools have no dilation."""
        return Windows(self.kernel, self.stride, self.padding, (1, 1))

    def pooled(self, x: Spec) -> Spec:
        """The result's spec. Raises DTypeError or ShapeError."""
        if not x.dtype.is_floating:
            hint = "use x.astype(groundup.float32)"
            raise DTypeError(f"{self.name}: x must be floating-point, got {x}", hint=hint)
        if x.rank != 4:
            raise ShapeError(f"{self.name}: x must be (N, C, H, W), got {x.shape}")
        if any(2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)):
            raise ShapeError(
                f"{self.name}: padding {self.padding} is more than half of kernel {self.kernel}"
            )
        return Spec((*x.shape[:2], *self.windows.counts(self.name, x.shape[2:])), x.dtype)

    def cost(self, *specs: Spec) -> Cost:
        out = self.infer(*specs)
        small = min(out.size, *[spec.size for spec in specs])
        flops = self.kernel[0] * self.kernel[1] * small
        return Cost(flops, sum(spec.nbytes for spec in (*specs, out)))


class MaxPool2d(Pool, name="max_pool2d", family="contraction"):
    """The largest value of each window; NaN if it holds one. Padding counts as -inf.

    The gradient goes to the first of equal values.
    """

    accuracy = EXACT
    saves = ("x", "out")

    def infer(self, x: Spec) -> Spec:
        return self.pooled(x)

    def compose(self, x: Tensor) -> Tensor:
        counts = self.infer(x.spec).shape[2:]
        out: Tensor | None = None
        for _, _, tap in self.windows.taps(x, counts, -float("inf")):
            out = tap if out is None else out.maximum(tap)
        assert out is not None, "a window has at least one tap"
        return out

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        x, out = ctx.saved
        op = MaxPool2dBackward(kernel=self.kernel, stride=self.stride, padding=self.padding)
        return (op(x, out, grad),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape, kernel, stride, padding in _CASES:
            op = cls(kernel=kernel, stride=stride, padding=padding)
            tags = frozenset({"empty"} if "empty" in name else ())
            yield Case(op, (make.distinct(*shape),), name, tags)
        op = cls(kernel=(2, 2), stride=(1, 1))
        view = make.distinct(5, 4, 2, 1, view=lambda x: x.T)
        yield Case(op, (view,), "view", frozenset({"view"}))
        ties = [[[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]]
        yield Case(op, (make.values(ties),), "ties", frozenset({"tie"}))
        nan, inf = float("nan"), float("inf")
        special = [[[[nan, 1.0, 2.0], [0.0, inf, 3.0], [1.0, -inf, 4.0]]]]
        yield Case(op, (make.values(special),), "special", frozenset({"nan", "special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        op = cls(kernel=(2, 2), stride=(2, 2))
        yield BadCase(op, (make.normal(2, 4, 4),), ShapeError, "(N, C, H, W)")
        yield BadCase(op, (make.normal(1, 1, 1, 4),), ShapeError, "does not fit")
        yield BadCase(op, (make.of(dt.int32, 1, 1, 4, 4),), DTypeError, "floating-point")
        padded = cls(kernel=(2, 2), stride=(2, 2), padding=(2, 0))
        yield BadCase(padded, (make.normal(1, 1, 4, 4),), ShapeError, "more than half")
        bad = cls(kernel=(2, 2), stride=(0, 2))
        yield BadCase(bad, (make.normal(1, 1, 4, 4),), ShapeError, "at least 1")


class MaxPool2dBackward(Pool, name="max_pool2d_backward", family="contraction"):
    """grad (N, C, Ho, Wo) added where x (N, C, H, W) has the value `out` first in each window."""

    accuracy = COMPOSED
    saves = ("x", "out", "grad")
    outputs = ("dx",)

    def infer(self, x: Spec, out: Spec, grad: Spec) -> Spec:
        wanted = self.pooled(x)
        if out is not wanted or grad is not wanted:
            raise ShapeError(f"{self.name}: out and grad must be {wanted}, got {out} and {grad}")
        return x

    def compose(self, x: Tensor, out: Tensor, grad: Tensor) -> Tensor:
        dy = widened(grad)
        met: Tensor | None = None  # windows whose maximum was found
        dx: Tensor | None = None
        for i, j, tap in self.windows.taps(x, out.shape[2:], -float("inf")):
            hit = (tap == out).logical_or(tap.isnan())
            first = hit if met is None else hit.logical_and(met.logical_not())
            met = hit if met is None else hit.logical_or(met)
            part = self.windows.spread(first.where(dy, 0), (i, j), x.shape[2:])
            dx = part if dx is None else dx + part
        assert dx is not None, "a window has at least one tap"
        return dx.astype(x.dtype)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape, kernel, stride, padding in _CASES:
            op = cls(kernel=kernel, stride=stride, padding=padding)
            tags = frozenset({"empty"} if "empty" in name else ())
            out = op.pooled(Spec(shape, make.dtype)).shape
            # Whole numbers in a few values, so that some windows hold `out` and some hold it twice.
            x = make.values((np.arange(prod(shape)) * 7 % 5).reshape(shape))
            wanted = make.values(np.full(out, 3.0))
            yield Case(op, (x, wanted, make.normal(*out)), name, tags | {"tie"})
        op = cls(kernel=(2, 2), stride=(1, 1))
        view = make.normal(4, 3, 2, 1, view=lambda x: x.T)
        far = make.values(np.full((1, 2, 2, 3), 9.0))
        yield Case(op, (view, far, make.normal(1, 2, 2, 3)), "unmet", frozenset({"view"}))
        op = cls(kernel=(2, 2), stride=(2, 2), padding=(1, 1))
        x = make.values([[[[np.inf, 1.0], [2.0, 3.0]]]])
        yield Case(op, (x, x, make.normal(1, 1, 2, 2)), "padded-inf", frozenset({"special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        op = cls(kernel=(2, 2), stride=(2, 2))
        inputs = (make.normal(1, 1, 4, 4), make.normal(1, 1, 2, 2), make.normal(1, 1, 4, 4))
        yield BadCase(op, inputs, ShapeError, "out and grad must be")


class AvgPool2d(Pool, name="avg_pool2d", family="contraction"):
    """The mean of each window; padding counts as zeros."""

    accuracy = COMPOSED

    def infer(self, x: Spec) -> Spec:
        return self.pooled(x)

    def compose(self, x: Tensor) -> Tensor:
        counts = self.infer(x.spec).shape[2:]
        total: Tensor | None = None
        for _, _, tap in self.windows.taps(widened(x), counts):
            total = tap if total is None else total + tap
        assert total is not None, "a window has at least one tap"
        return (total / (self.kernel[0] * self.kernel[1])).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        size = ctx.specs[0].shape[2:]
        op = AvgPool2dBackward(
            kernel=self.kernel, stride=self.stride, padding=self.padding, size=size
        )
        return (op(grad),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape, kernel, stride, padding in _CASES:
            op = cls(kernel=kernel, stride=stride, padding=padding)
            tags = frozenset({"empty"} if "empty" in name else ())
            yield Case(op, (make.normal(*shape),), name, tags)
        view = make.normal(5, 4, 2, 1, view=lambda x: x.T)
        yield Case(cls(kernel=(2, 2), stride=(1, 1)), (view,), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        op = cls(kernel=(3, 3), stride=(1, 1))
        yield BadCase(op, (make.normal(1, 1, 2, 4),), ShapeError, "does not fit")
        yield BadCase(op, (make.of(dt.int32, 1, 1, 4, 4),), DTypeError, "floating-point")


class AvgPool2dBackward(Pool, name="avg_pool2d_backward", family="contraction"):
    """The gradient of avg_pool2d for x (N, C, *size): grad shared out over its windows."""

    size: Shape
    accuracy = COMPOSED

    def infer(self, grad: Spec) -> Spec:
        x = Spec((*grad.shape[:2], *self.size), grad.dtype)
        wanted = self.pooled(x)
        if grad is not wanted:
            raise ShapeError(f"{self.name}: grad must be {wanted}, got {grad}")
        return x

    def compose(self, grad: Tensor) -> Tensor:
        share = widened(grad) / (self.kernel[0] * self.kernel[1])
        taps = [(i, j) for i in range(self.kernel[0]) for j in range(self.kernel[1])]
        total = self.windows.spread(share, taps[0], self.size)
        for tap in taps[1:]:
            total = total + self.windows.spread(share, tap, self.size)
        return total.astype(grad.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        op = AvgPool2d(kernel=self.kernel, stride=self.stride, padding=self.padding)
        return (op(grad),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape, kernel, stride, padding in _CASES:
            op = cls(kernel=kernel, stride=stride, padding=padding, size=shape[2:])
            tags = frozenset({"empty"} if "empty" in name else ())
            yield Case(op, (make.normal(*op.pooled(Spec(shape, make.dtype)).shape),), name, tags)
        op = cls(kernel=(2, 2), stride=(2, 1), size=(6, 4))
        view = make.normal(3, 3, 2, 1, view=lambda x: x.T)
        yield Case(op, (view,), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        op = cls(kernel=(2, 2), stride=(2, 2), size=(4, 4))
        yield BadCase(op, (make.normal(1, 1, 3, 2),), ShapeError, "grad must be")


_CASES: Final[tuple[tuple[str, Shape, Shape, Shape, Shape], ...]] = (
    # name, x, kernel, stride, padding
    ("plain", (2, 3, 4, 6), (2, 2), (2, 2), (0, 0)),
    ("overlap", (1, 2, 5, 5), (3, 2), (1, 1), (0, 0)),
    ("padded", (1, 2, 5, 4), (3, 3), (2, 2), (1, 1)),
    ("leftover", (1, 1, 7, 8), (2, 3), (2, 3), (0, 1)),
    ("gaps", (1, 1, 7, 7), (1, 2), (3, 3), (0, 0)),
    ("one", (1, 1, 1, 1), (1, 1), (1, 1), (0, 0)),
    ("empty", (0, 2, 4, 4), (2, 2), (2, 2), (0, 0)),
)


def max_pool2d(
    x: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0
) -> Tensor:
    """The largest value of each window of x (N, C, H, W); `stride` is the kernel's size by default.

    Raises ShapeError, DTypeError.
    """
    return MaxPool2d(**_settings("max_pool2d", kernel_size, stride, padding))(x)


def avg_pool2d(
    x: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0
) -> Tensor:
    """The mean of each window of x (N, C, H, W); `stride` is the kernel's size by default.

    Padding counts as zeros. Raises ShapeError, DTypeError.
    """
    return AvgPool2d(**_settings("avg_pool2d", kernel_size, stride, padding))(x)


def _settings(name: str, kernel: Sizes, stride: Sizes | None, padding: Sizes) -> dict[str, Shape]:
    return {
        "kernel": sizes(kernel, 2, f"{name}: kernel_size"),
        "stride": sizes(kernel if stride is None else stride, 2, f"{name}: stride"),
        "padding": sizes(padding, 2, f"{name}: padding"),
    }

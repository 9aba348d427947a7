"""Normalisation of each row (the last axis): layer_norm, rms_norm, and both behind a residual add.

The gradients are ops of their own: they make dx, dweight and dbias in one pass over the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, ClassVar

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make, Operand
from groundup.ops.softmax import widened

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["add_layer_norm", "add_rms_norm", "layer_norm", "rms_norm"]

Grads = tuple["Tensor | None", ...]


class RowNorm(Op):
    """What the four share: x (..., D) and vectors (D,) of one floating dtype, and their samples."""

    eps: float = 1e-5
    accuracy = COMPOSED
    residual: ClassVar[bool] = False  # whether a second x, to be added first, is an input
    vectors: ClassVar[int] = 2  # weight and bias, or weight alone

    def cost(self, *specs: Spec) -> Cost:
        outs = self.infer_all(*specs)
        return Cost(8 * specs[0].size, sum(spec.nbytes for spec in (*specs, *outs)))

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        def case(name: str, x: Operand, *tags: str, eps: float = 1e-5) -> Case:
            shape = x.array.shape
            twice = (x, make.normal(*shape)) if cls.residual else (x,)
            vectors = [make.normal(shape[-1]) for _ in range(cls.vectors)]
            return Case(cls(eps=eps), (*twice, *vectors), name, frozenset(tags))

        yield case("matrix", make.normal(5, 7))
        yield case("batched", make.normal(2, 3, 8))
        yield case("vector", make.normal(33))
        yield case("odd", make.normal(3, 1023))
        yield case("one-wide", make.normal(3, 1), eps=0.1)
        yield case("eps", make.normal(4, 6), eps=0.5)
        yield case("constant", make.values([[2.0] * 8, [0.0] * 8]), "tie", eps=0.1)
        yield case("empty-rows", make.normal(0, 4), "empty")
        yield case("empty-width", make.normal(3, 0), "empty")
        yield case("transposed", make.normal(8, 3, view=lambda x: x.mT), "view")
        yield case("sliced", make.normal(6, 16, view=lambda x: x[1:5, ::2]), "view")
        yield case("flipped", make.normal(4, 8, view=lambda x: x[::-1, ::-1]), "view")
        yield case("large", make.normal(4, 8, scale=100.0), "scale")
        yield case("small", make.normal(4, 8, scale=1e-3), "scale")
        nan, inf = float("nan"), float("inf")
        special = [[nan, 1.0, 2.0, 3.0], [inf, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]]
        yield case("special", make.values(special), "nan", "special")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        def bad(x: Operand, width: int, error: type[ShapeError | DTypeError], text: str) -> BadCase:
            lead = (x, x) if cls.residual else (x,)
            vectors = [make.normal(width) for _ in range(cls.vectors)]
            return BadCase(cls(), (*lead, *vectors), error, text)

        yield bad(make.normal(2, 3), 4, ShapeError, "weight must have shape (3,), got (4,)")
        yield bad(make.normal(), 1, ShapeError, "rank 0")
        yield bad(make.of(dt.int32, 2, 3), 3, DTypeError, "floating-point")


class RowNormBackward(RowNorm):
    """The gradients of x and of the vectors, from x, weight and the results' gradients."""

    grads: ClassVar[int] = 1  # of the norm, and of the sum that it is of

    def infer(self, x: Spec, weight: Spec, grad: Spec) -> tuple[Spec, ...]:
        return self.gradients(x, weight, grad=grad)

    def gradients(self, x: Spec, weight: Spec, **grads: Spec) -> tuple[Spec, ...]:
        """Those of the inputs: each is like its own. Raises ShapeError, DTypeError."""
        for which, grad in grads.items():
            if grad is not x:
                raise ShapeError(f"{self.name}: {which} must be {x}, got {grad}")
        check_rows(self.name, x, weight=weight)
        return (x,) + (weight,) * (len(self.outputs) - 1)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for case in super().samples(make):
            x, weight = case.inputs[:2]
            grads = [make.normal(*x.array.shape) for _ in range(cls.grads)]
            yield Case(case.op, (x, weight, *grads), case.id, case.tags)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        right = (make.normal(2, 3), make.normal(3), *[make.normal(2, 3)] * (cls.grads - 1))
        which = "grad" if cls.grads == 1 else "grad_sum"
        yield BadCase(cls(), (*right, make.normal(3, 3)), ShapeError, f"{which} must be")


class LayerNorm(RowNorm, name="layer_norm", family="normalization"):
    """(x - mean(x)) / sqrt(var(x) + eps) * weight + bias over the last axis; bias may be absent.

    x (..., D), weight (D,), bias (D,). The variance divides by D. (Ba, Kiros and Hinton, 2016.)
    """

    saves = ("x", "weight")

    def infer(self, x: Spec, weight: Spec, bias: Spec | None = None) -> Spec:
        return check_rows(self.name, x, weight=weight, bias=bias)

    def compose(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return _layer_norm(widened(x), weight, bias, self.eps).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> Grads:
        x, weight = ctx.saved
        return LayerNormBackward(eps=self.eps).many(x, weight, grad)[: len(ctx.needs)]

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        yield Case(cls(), (make.normal(3, 5), make.normal(5)), "no-bias")


class LayerNormBackward(RowNormBackward, name="layer_norm_backward", family="normalization"):
    """Gradients of layer_norm. With y = (x - mean) / sqrt(var + eps) and g = grad * weight:

    dx = (g - mean(g) - y mean(g y)) / sqrt(var + eps), dweight = sum(grad y), dbias = sum(grad).
    """

    saves = ("x", "weight", "grad")
    outputs = ("dx", "dweight", "dbias")
    differentiable = (0, 1, 2)

    def compose(self, x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        rows, dy = as_matrix(widened(x)), as_matrix(widened(grad))
        centred = rows - rows.mean(-1, keepdims=True)
        scale = ((centred * centred).mean(-1, keepdims=True) + self.eps).rsqrt()
        y, g = centred * scale, dy * weight
        dx = (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True)) * scale
        sums = (dy * y).sum(0).astype(x.dtype), dy.sum(0).astype(x.dtype)
        return dx.reshape(x.shape).astype(x.dtype), *sums


class RMSNorm(RowNorm, name="rms_norm", family="normalization"):
    """x / sqrt(mean(x * x) + eps) * weight over the last axis: x (..., D), weight (D,).

    (Zhang and Sennrich, 2019.)
    """

    eps: float = 1e-6
    saves = ("x", "weight")
    vectors = 1

    def infer(self, x: Spec, weight: Spec) -> Spec:
        return check_rows(self.name, x, weight=weight)

    def compose(self, x: Tensor, weight: Tensor) -> Tensor:
        return _rms_norm(widened(x), weight, self.eps).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> Grads:
        x, weight = ctx.saved
        return RMSNormBackward(eps=self.eps).many(x, weight, grad)


class RMSNormBackward(RowNormBackward, name="rms_norm_backward", family="normalization"):
    """Gradients of rms_norm. With y = x / sqrt(mean(x * x) + eps) and g = grad * weight:

    dx = (g - y mean(g y)) / sqrt(mean(x * x) + eps), dweight = sum(grad y).
    """

    eps: float = 1e-6
    saves = ("x", "weight", "grad")
    outputs = ("dx", "dweight")
    differentiable = (0, 1)
    vectors = 1

    def compose(self, x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        rows, dy = as_matrix(widened(x)), as_matrix(widened(grad))
        scale = ((rows * rows).mean(-1, keepdims=True) + self.eps).rsqrt()
        y, g = rows * scale, dy * weight
        dx = (g - y * (g * y).mean(-1, keepdims=True)) * scale
        return dx.reshape(x.shape).astype(x.dtype), (dy * y).sum(0).astype(x.dtype)


class AddLayerNorm(RowNorm, name="add_layer_norm", family="normalization"):
    """h = x + residual; returns layer_norm(h, weight, bias) and h. bias may be absent."""

    saves = ("sum", "weight")
    outputs = ("out", "sum")
    differentiable = (0, 1)
    residual = True

    def infer(
        self, x: Spec, residual: Spec, weight: Spec, bias: Spec | None = None
    ) -> tuple[Spec, Spec]:
        _check_residual(self.name, x, residual)
        return check_rows(self.name, x, weight=weight, bias=bias), x

    def compose(
        self, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        total = widened(x) + widened(residual)
        vectors = [widened(vector) for vector in (weight, bias) if vector is not None]
        out = LayerNorm(eps=self.eps)(total, *vectors)
        return out.astype(x.dtype), total.astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor, grad_sum: Tensor) -> Grads:
        total, weight = ctx.saved
        dx, *vectors = LayerNormBackward(eps=self.eps).many(total, weight, grad)
        dx = dx + grad_sum
        return (dx, dx, *vectors)[: len(ctx.needs)]


class AddRMSNorm(RowNorm, name="add_rms_norm", family="normalization"):
    """h = x + residual; returns rms_norm(h, weight) and h."""

    eps: float = 1e-6
    saves = ("sum", "weight")
    outputs = ("out", "sum")
    differentiable = (0, 1)
    residual = True
    vectors = 1

    def infer(self, x: Spec, residual: Spec, weight: Spec) -> tuple[Spec, Spec]:
        _check_residual(self.name, x, residual)
        return check_rows(self.name, x, weight=weight), x

    def compose(self, x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        total = widened(x) + widened(residual)
        out = RMSNorm(eps=self.eps)(total, widened(weight))
        return out.astype(x.dtype), total.astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor, grad_sum: Tensor) -> Grads:
        total, weight = ctx.saved
        dx, dweight = RMSNormBackward(eps=self.eps).many(total, weight, grad)
        dx = dx + grad_sum
        return dx, dx, dweight


class AddLayerNormBackward(RowNormBackward, name="add_layer_norm_backward", family="normalization"):
    """Gradients of add_layer_norm, whose sum is x: dx = layer_norm_backward's dx + grad_sum.

    `grad` is that of the norm and `grad_sum` that of the sum; dx belongs to both terms of the sum.
    """

    saves = ("x", "weight", "grad", "grad_sum")
    outputs = ("dx", "dweight", "dbias")
    differentiable = (0, 1, 2)
    grads = 2

    def infer(  # type: ignore[override]
        self, x: Spec, weight: Spec, grad: Spec, grad_sum: Spec
    ) -> tuple[Spec, ...]:
        return self.gradients(x, weight, grad=grad, grad_sum=grad_sum)

    def compose(
        self, x: Tensor, weight: Tensor, grad: Tensor, grad_sum: Tensor
    ) -> tuple[Tensor, ...]:
        return _with_sum(LayerNormBackward(eps=self.eps), x, weight, grad, grad_sum)


class AddRMSNormBackward(RowNormBackward, name="add_rms_norm_backward", family="normalization"):
    """Gradients of add_rms_norm, whose sum is x: dx = rms_norm_backward's dx + grad_sum."""

    eps: float = 1e-6
    saves = ("x", "weight", "grad", "grad_sum")
    outputs = ("dx", "dweight")
    differentiable = (0, 1)
    vectors = 1
    grads = 2

    def infer(  # type: ignore[override]
        self, x: Spec, weight: Spec, grad: Spec, grad_sum: Spec
    ) -> tuple[Spec, ...]:
        return self.gradients(x, weight, grad=grad, grad_sum=grad_sum)

    def compose(
        self, x: Tensor, weight: Tensor, grad: Tensor, grad_sum: Tensor
    ) -> tuple[Tensor, ...]:
        return _with_sum(RMSNormBackward(eps=self.eps), x, weight, grad, grad_sum)


def check_rows(name: str, x: Spec, **vectors: Spec | None) -> Spec:
    """x, if it is (..., D) and every vector (D,), of one floating dtype; else a typed error."""
    if not x.dtype.is_floating:
        hint = "use x.astype(groundup.float32)"
        raise DTypeError(f"{name}: x must be floating-point, got {x}", hint=hint)
    if not x.rank:
        raise ShapeError(f"{name}: x must be (..., D), got rank 0")
    return check_vectors(name, x, x.shape[-1:], vectors)


def check_vectors(
    name: str, x: Spec, shape: tuple[int, ...], vectors: dict[str, Spec | None]
) -> Spec:
    """x, if every vector has that shape and x's dtype; else a typed error that names it."""
    for which, spec in vectors.items():
        if spec is None:
            continue
        if spec.dtype is not x.dtype:
            hint = f"use {which}.astype(groundup.{x.dtype})"
            raise DTypeError(f"{name}: x is {x} but {which} is {spec}", hint=hint)
        if spec.shape != shape:
            raise ShapeError(f"{name}: {which} must have shape {shape}, got {spec.shape}")
    return x


def as_matrix(x: Tensor) -> Tensor:
    """x (..., D) as rows of D; rank 1 is one row."""
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _check_residual(name: str, x: Spec, residual: Spec) -> None:
    if residual.shape != x.shape:
        raise ShapeError(f"{name}: x is {x} but residual is {residual}")
    if residual.dtype is not x.dtype:
        hint = f"use residual.astype(groundup.{x.dtype})"
        raise DTypeError(f"{name}: x is {x} but residual is {residual}", hint=hint)


def _with_sum(
    op: RowNormBackward, x: Tensor, weight: Tensor, grad: Tensor, grad_sum: Tensor
) -> tuple[Tensor, ...]:
    """The gradients that `op` makes, and grad_sum in dx; rounded once."""
    dx, *vectors = op.many(widened(x), widened(weight), widened(grad))
    results = (dx + widened(grad_sum), *vectors)
    return tuple(result.astype(x.dtype) for result in results)


def _layer_norm(wide: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    centred = wide - wide.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    scaled = centred * (variance + eps).rsqrt() * weight
    return scaled if bias is None else scaled + bias


def _rms_norm(wide: Tensor, weight: Tensor, eps: float) -> Tensor:
    return wide * ((wide * wide).mean(-1, keepdims=True) + eps).rsqrt() * weight


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Each row of x (..., D) with mean 0 and variance 1, times weight (D,), plus bias (D,).

    Raises ShapeError, DTypeError.
    """
    op = LayerNorm(eps=eps)
    return op(x, weight) if bias is None else op(x, weight, bias)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """Each row of x (..., D) with root mean square 1, times weight (D,).

    Raises ShapeError, DTypeError.
    """
    return RMSNorm(eps=eps)(x, weight)


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """layer_norm(x + residual) and x + residual, in one pass. Raises ShapeError, DTypeError."""
    vectors = (weight,) if bias is None else (weight, bias)
    out, total = AddLayerNorm(eps=eps).many(x, residual, *vectors)
    return out, total


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """rms_norm(x + residual) and x + residual, in one pass. Raises ShapeError, DTypeError."""
    out, total = AddRMSNorm(eps=eps).many(x, residual, weight)
    return out, total

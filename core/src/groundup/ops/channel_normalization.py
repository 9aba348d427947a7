"""Normalisation of channels (axis 1): batch_norm by given statistics, group_norm by its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED
from groundup.ops.normalization import check_vectors
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make, Operand
from groundup.ops.softmax import widened

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["batch_norm", "group_norm"]

Grads = tuple["Tensor | None", ...]


class ChannelNorm(Op):
    """x (N, C, ...) and vectors (C,), all of one floating dtype."""

    eps: float = 1e-5
    accuracy = COMPOSED

    def check(self, x: Spec, **vectors: Spec) -> Spec:
        """x, if everything fits. Raises DTypeError or ShapeError."""
        if not x.dtype.is_floating:
            hint = "use x.astype(groundup.float32)"
            raise DTypeError(f"{self.name}: x must be floating-point, got {x}", hint=hint)
        if x.rank < 2:
            raise ShapeError(f"{self.name}: x must be (N, C, ...), got {x.shape}")
        return check_vectors(self.name, x, x.shape[1:2], {**vectors})

    def cost(self, *specs: Spec) -> Cost:
        outs = self.infer_all(*specs)
        return Cost(6 * specs[0].size, sum(spec.nbytes for spec in (*specs, *outs)))


class BatchNorm(ChannelNorm, name="batch_norm", family="normalization"):
    """(x - mean) / sqrt(var + eps) * weight + bias, by channel: x (N, C, ...), the others (C,).

    mean and var are inputs: a batch's own or running ones. (Ioffe and Szegedy, 2015.)
    """

    saves = ("x", "mean", "var", "weight")

    def infer(self, x: Spec, mean: Spec, var: Spec, weight: Spec, bias: Spec) -> Spec:
        return self.check(x, mean=mean, var=var, weight=weight, bias=bias)

    def compose(self, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        centred = widened(x) - _beside(mean, x)
        scaled = centred * _beside((widened(var) + self.eps).rsqrt() * weight, x)
        return (scaled + _beside(bias, x)).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> Grads:
        return BatchNormBackward(eps=self.eps).many(*ctx.saved, grad)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, x, tags in _images(make):
            yield Case(cls(), (x, *_statistics(make, x), *_pair(make, x)), name, tags)
        x = make.normal(2, 3, 4)
        yield Case(cls(eps=0.5), (x, *_statistics(make, x), *_pair(make, x)), "eps")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x, good, bad = make.normal(2, 3, 4), make.normal(3), make.normal(4)
        yield BadCase(cls(), (x, bad, good, good, good), ShapeError, "mean must have shape (3,)")
        yield BadCase(cls(), (x, good, good, good, bad), ShapeError, "bias must have shape (3,)")
        yield BadCase(cls(), (good, good, good, good, good), ShapeError, "(N, C, ...)")
        ints = make.of(dt.int32, 2, 3)
        yield BadCase(cls(), (ints, good, good, good, good), DTypeError, "floating-point")


class BatchNormBackward(ChannelNorm, name="batch_norm_backward", family="normalization"):
    """Gradients of batch_norm. With s = 1 / sqrt(var + eps) and sums over all but the channels:

    dx = grad weight s, dmean = -sum(grad) weight s, dweight = sum(grad (x - mean)) s,
    dvar = -sum(grad (x - mean)) weight s^3 / 2, dbias = sum(grad).
    """

    saves = ("x", "mean", "var", "weight", "grad")
    outputs = ("dx", "dmean", "dvar", "dweight", "dbias")
    differentiable = (0, 1, 2, 3, 4)

    def infer(self, x: Spec, mean: Spec, var: Spec, weight: Spec, grad: Spec) -> tuple[Spec, ...]:
        if grad is not x:
            raise ShapeError(f"{self.name}: grad must be {x}, got {grad}")
        return (self.check(x, mean=mean, var=var, weight=weight), *[weight] * 4)

    def compose(
        self, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, grad: Tensor
    ) -> tuple[Tensor, ...]:
        dy, scale = widened(grad), (widened(var) + self.eps).rsqrt()
        rest = (0, *range(2, x.ndim))
        total = dy.sum(rest)
        moment = (dy * (widened(x) - _beside(mean, x))).sum(rest)
        slope = scale * weight
        wide = (
            dy * _beside(slope, x), -total * slope, moment * slope * scale * scale * -0.5,
            moment * scale, total,
        )  # fmt: skip
        return tuple(t.astype(x.dtype) for t in wide)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, x, tags in _images(make):
            weight, _ = _pair(make, x)
            grad = make.normal(*x.array.shape)
            yield Case(cls(), (x, *_statistics(make, x), weight, grad), name, tags)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        vector = make.normal(3)
        inputs = (make.normal(2, 3), vector, vector, vector, make.normal(3, 3))
        yield BadCase(cls(), inputs, ShapeError, "grad must be")


class GroupNorm(ChannelNorm, name="group_norm", family="normalization"):
    """Each sample's channels in `groups` groups, each of mean 0, variance 1; then * weight + bias.

    x (N, C, ...), weight and bias (C,). The variance divides by the group's size.
    (Wu and He, 2018.)
    """

    groups: int
    saves = ("x", "weight")

    def infer(self, x: Spec, weight: Spec, bias: Spec) -> Spec:
        _check_groups(self.name, x, self.groups)
        return self.check(x, weight=weight, bias=bias)

    def compose(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        centred = _by_group(widened(x), self.groups)
        centred = centred - centred.mean(-1, keepdims=True)
        scale = ((centred * centred).mean(-1, keepdims=True) + self.eps).rsqrt()
        y = (centred * scale).reshape(x.shape)
        return (y * _beside(weight, x) + _beside(bias, x)).astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> Grads:
        return GroupNormBackward(groups=self.groups, eps=self.eps).many(*ctx.saved, grad)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, x, tags in _images(make):
            for groups in {1, x.array.shape[1]}:
                op = cls(groups=groups, eps=0.1)
                yield Case(op, (x, *_pair(make, x)), f"{name}-{groups}", tags)
        x = make.normal(2, 6, 5)
        yield Case(cls(groups=2), (x, *_pair(make, x)), "pairs")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x, good = make.normal(2, 4, 3), make.normal(4)
        yield BadCase(cls(groups=3), (x, good, good), ShapeError, "3 groups do not divide")
        yield BadCase(cls(groups=0), (x, good, good), ShapeError, "0 groups do not divide")
        yield BadCase(cls(groups=2), (x, make.normal(3), good), ShapeError, "weight must have")


class GroupNormBackward(ChannelNorm, name="group_norm_backward", family="normalization"):
    """Gradients of group_norm, as layer_norm's over each group: dx, dweight, dbias."""

    groups: int
    saves = ("x", "weight", "grad")
    outputs = ("dx", "dweight", "dbias")
    differentiable = (0, 1, 2)

    def infer(self, x: Spec, weight: Spec, grad: Spec) -> tuple[Spec, ...]:
        if grad is not x:
            raise ShapeError(f"{self.name}: grad must be {x}, got {grad}")
        _check_groups(self.name, x, self.groups)
        return self.check(x, weight=weight), weight, weight

    def compose(self, x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        centred = _by_group(widened(x), self.groups)
        centred = centred - centred.mean(-1, keepdims=True)
        scale = ((centred * centred).mean(-1, keepdims=True) + self.eps).rsqrt()
        y, dy = centred * scale, widened(grad)
        g = _by_group(dy * _beside(weight, x), self.groups)
        dx = (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True)) * scale
        rest = (0, *range(2, x.ndim))
        wide = dx.reshape(x.shape), (dy * y.reshape(x.shape)).sum(rest), dy.sum(rest)
        return tuple(t.astype(x.dtype) for t in wide)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, x, tags in _images(make):
            weight, _ = _pair(make, x)
            op = cls(groups=x.array.shape[1], eps=0.1)
            yield Case(op, (x, weight, make.normal(*x.array.shape)), name, tags)
        inputs = (make.normal(2, 6, 5), make.normal(6), make.normal(2, 6, 5))
        yield Case(cls(groups=2), inputs, "pairs")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        inputs = (make.normal(2, 3), make.normal(3), make.normal(3, 3))
        yield BadCase(cls(groups=1), inputs, ShapeError, "grad must be")


def _beside(vector: Tensor, x: Tensor) -> Tensor:
    """A vector (C,) that broadcasts against x (N, C, ...), wide enough to sum in."""
    return widened(vector).reshape(x.shape[1], *[1] * (x.ndim - 2))


def _by_group(x: Tensor, groups: int) -> Tensor:
    """x (N, C, ...) as (N, groups, elements of a group)."""
    n = x.shape[0]
    return x.reshape(n, groups, x.size // (n * groups) if x.size else 0)


def _check_groups(name: str, x: Spec, groups: int) -> None:
    if groups < 1 or x.rank < 2 or x.shape[1] % groups:
        raise ShapeError(f"{name}: {groups} groups do not divide the channels of {x}")


def _images(make: Make) -> Iterator[tuple[str, Operand, frozenset[str]]]:
    """x of the samples."""
    yield "image", make.normal(2, 3, 4, 5), frozenset()
    yield "sequence", make.normal(3, 2, 7), frozenset()
    yield "matrix", make.normal(5, 3), frozenset()
    yield "one", make.normal(1, 1, 1), frozenset()
    yield "empty", make.normal(0, 3, 4), frozenset({"empty"})
    yield "empty-area", make.normal(2, 3, 0), frozenset({"empty"})
    yield "view", make.normal(5, 4, 3, 2, view=lambda x: x.T), frozenset({"view"})
    yield "large", make.normal(2, 2, 6, scale=100.0), frozenset({"scale"})
    special = [[[float("nan"), 1.0], [1.0, 2.0]], [[0.0, 1.0], [float("inf"), 2.0]]]
    yield "special", make.values(special), frozenset({"nan", "special"})


def _statistics(make: Make, x: Operand) -> tuple[Operand, Operand]:
    channels = x.array.shape[1]
    return make.normal(channels), make.uniform(0.5, 2.0, channels)


def _pair(make: Make, x: Operand) -> tuple[Operand, Operand]:
    channels = x.array.shape[1]
    return make.normal(channels), make.normal(channels)


def batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> Tensor:
    """x (N, C, ...) normalised by mean (C,) and var (C,), times weight (C,), plus bias (C,).

    Raises ShapeError, DTypeError.
    """
    return BatchNorm(eps=eps)(x, mean, var, weight, bias)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float = 1e-5) -> Tensor:
    """Each group of channels of each sample of x (N, C, ...) normalised; weight and bias are (C,).

    Raises ShapeError, DTypeError.
    """
    return GroupNorm(groups=groups, eps=eps)(x, weight, bias)

"""Losses: cross_entropy with its fused gradient, nll_loss, mse_loss; meanings as in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from groundup import dtypes as dt
from groundup.dtypes import DType
from groundup.errors import ConfigError, DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make, Operand

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["cross_entropy", "mse_loss", "nll_loss"]

REDUCTIONS = ("mean", "sum", "none")
Tags: TypeAlias = AbstractSet[str]


def wide(dtype: DType) -> DType:
    """The dtype that sums are kept in: float32 for the 16-bit floats."""
    return dt.float32 if dtype.bits < 32 else dtype


class ClassLoss(Op):
    """What losses over class ids share. Scores are (..., C), targets integers of shape (...)."""

    ignore_index: int = -100
    reduction: str = "mean"
    accuracy = COMPOSED

    def loss_spec(self, scores: Spec, target: Spec, names: tuple[str, str]) -> Spec:
        """The loss's Spec. Raises ShapeError or DTypeError."""
        if not scores.rank or target.shape != scores.shape[:-1]:
            raise ShapeError(
                f"{self.name}: {names[0]} must be (..., C) and {names[1]} (...), "
                f"got {scores} and {target}"
            )
        if target.dtype.kind != "int":
            raise DTypeError(
                f"{self.name}: {names[1]} must hold integer class ids, got {target}",
                hint="use target.astype(groundup.int32)",
            )
        if not scores.dtype.is_floating:
            raise DTypeError(f"{self.name}: {names[0]} must be floating, got {scores}")
        return Spec(target.shape if self.reduction == "none" else (), scores.dtype)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        shapes = {
            "matrix": (5, 7), "batched": (2, 3, 11), "one-class": (4, 1), "vector": (9,),
            "odd": (33, 257), "empty": (0, 5),
        }  # fmt: skip
        for reduction in REDUCTIONS:
            for name, shape in shapes.items():
                if reduction != "mean" and name in ("batched", "odd"):
                    continue
                target = make.ints(0, shape[-1], *shape[:-1])
                tags = {"empty", "nan"} if name == "empty" else set()
                yield cls._case(make.normal(*shape, scale=3.0), target, f"{reduction}-{name}",
                                tags, reduction=reduction)  # fmt: skip
            ignored = Operand(np.array([1, -100, 3, -100], np.int32))
            yield cls._case(make.normal(4, 5), ignored, f"{reduction}-ignored",
                            reduction=reduction)  # fmt: skip
        one_class = Operand(np.array([0, -100, 0], np.int32))
        yield cls._case(make.normal(3, 1), one_class, "one-class-ignored")
        none = Operand(np.full(3, 2, np.int32))
        yield cls._case(make.normal(3, 4), none, "all-ignored", {"nan"}, ignore_index=2)
        ids = Operand(np.array([2, 0, 1], np.int64), lambda t: t[::-1])
        views = make.normal(6, 3, view=lambda x: x[::2])
        yield cls._case(views, ids, "views", {"view"})
        yield cls._case(make.normal(4, 3, view=lambda x: x.mT), ids, "transposed", {"view"})

    @classmethod
    def _case(
        cls,
        scores: Operand,
        target: Operand,
        name: str,
        tags: Tags = frozenset(),
        **params: Any,
    ) -> Case:
        return Case(cls(**params), (scores, target), name, frozenset(tags))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        op = cls()
        ids = make.ints(0, 3, 4)
        yield BadCase(op, (make.normal(4, 5, 3), ids), ShapeError, "must be (..., C)")
        yield BadCase(op, (make.normal(4, 3), make.normal(4)), DTypeError, "integer class ids")
        yield BadCase(op, (make.of(dt.int32, 4, 3), ids), DTypeError, "must be floating")


def _valid(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Which rows count, and target ids with 0 in place of the ignored ones."""
    target = target.astype(dt.int32)
    valid = target != ignore_index
    return valid, valid.where(target, 0)


def _reduce(losses: Tensor, valid: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / valid.astype(losses.dtype).sum()


def _row_factor(grad: Tensor, valid: Tensor, reduction: str) -> Tensor:
    """What each row's loss gets of the gradient of the reduced loss; 0 for ignored rows."""
    if reduction == "mean":
        grad = grad / valid.astype(grad.dtype).sum()
    return valid.where(grad, 0)


class CrossEntropy(ClassLoss, name="cross_entropy", family="loss"):
    """loss = logsumexp(logits) - logits[target], over the last axis; natural logarithm.

    `reduction`: "mean" over the rows whose target is not `ignore_index` (NaN if there are none),
    "sum", or "none". Ignored rows have loss and gradient 0. The second output is each row's
    logsumexp, from which the gradient makes softmax without another pass. 16-bit floats accumulate
    in float32. (PyTorch `cross_entropy`, with classes on the last axis.)
    """

    outputs = ("loss", "logsumexp")
    differentiable = (0, 1)
    saves = ("logits", "target", "logsumexp")

    def infer(self, logits: Spec, target: Spec) -> tuple[Spec, Spec]:
        loss = self.loss_spec(logits, target, ("logits", "target"))
        if not logits.shape[-1]:
            raise ShapeError(f"cross_entropy: logits {logits} have no classes")
        return loss, Spec(target.shape, wide(logits.dtype))

    def compose(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        valid, ids = _valid(target, self.ignore_index)
        x = logits.astype(wide(logits.dtype))
        top = x.max(axis=-1, keepdims=True)
        shifted = x - top
        log_sum = shifted.exp().sum(axis=-1).log()
        picked = shifted.gather(ids.unsqueeze(-1), axis=-1).squeeze(-1)
        losses = valid.where(log_sum - picked, 0)
        loss = _reduce(losses, valid, self.reduction).astype(logits.dtype)
        return loss, log_sum + top.squeeze(-1)

    def vjp(self, ctx: Ctx, grad: Tensor, grad_logsumexp: Tensor) -> tuple[Tensor, None]:
        logits, target, logsumexp = ctx.saved
        op = CrossEntropyBackward(ignore_index=self.ignore_index, reduction=self.reduction)
        return op(logits, target, logsumexp, grad, grad_logsumexp), None

    def cost(self, logits: Spec, target: Spec) -> Cost:
        return Cost(4 * logits.size, logits.nbytes + target.nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        special = np.array([[np.nan, 0, 1], [np.inf, 0, 1], [-np.inf, 0, 1], [-np.inf] * 3])
        target = Operand(np.array([1, 1, 1, 0], np.int32))
        tags = {"nan", "special"}
        yield cls._case(make.values(special), target, "special", tags, reduction="none")
        big = np.array([[6e4, -6e4, 0], [1e-6, 0, -1e-6], [300, 300, 300], [0, 0, 0]])
        yield cls._case(make.values(big), target, "extreme", {"special"}, reduction="none")


class CrossEntropyBackward(ClassLoss, name="cross_entropy_backward", family="loss"):
    """(exp(logits - logsumexp) - onehot(target)) * g + exp(logits - logsumexp) * grad_logsumexp.

    g is `grad`, divided by the number of counted rows for "mean"; 0 for ignored rows. One pass.
    """

    saves = ("logits", "target", "logsumexp", "grad", "grad_logsumexp")

    def infer(
        self, logits: Spec, target: Spec, logsumexp: Spec, grad: Spec, grad_logsumexp: Spec
    ) -> Spec:
        loss = self.loss_spec(logits, target, ("logits", "target"))
        if grad != loss:
            raise ShapeError(f"cross_entropy_backward: grad must be {loss}, got {grad}")
        for name, spec in (("logsumexp", logsumexp), ("grad_logsumexp", grad_logsumexp)):
            if spec.shape != target.shape:
                raise ShapeError(f"{self.name}: {name} must be {target.shape}, got {spec}")
        return logits

    def compose(
        self,
        logits: Tensor,
        target: Tensor,
        logsumexp: Tensor,
        grad: Tensor,
        grad_logsumexp: Tensor,
    ) -> Tensor:
        from groundup.ops.masking import one_hot

        valid, ids = _valid(target, self.ignore_index)
        x = logits.astype(wide(logits.dtype))
        g = _row_factor(grad.astype(x.dtype), valid, self.reduction)
        softmax = (x - logsumexp.unsqueeze(-1)).exp()
        factor = (g + grad_logsumexp).unsqueeze(-1)
        # Rows that do not count get exactly 0, though 0 * NaN is NaN.
        counts = (valid | (grad_logsumexp != 0)).unsqueeze(-1)
        spread = counts.where(softmax * factor, 0)
        chosen = one_hot(ids, logits.shape[-1]).astype(x.dtype) * g.unsqueeze(-1)
        return (spread - chosen).astype(logits.dtype)

    def cost(
        self, logits: Spec, target: Spec, logsumexp: Spec, grad: Spec, grad_logsumexp: Spec
    ) -> Cost:
        return Cost(4 * logits.size, 2 * logits.nbytes + target.nbytes + logsumexp.nbytes)

    @classmethod
    def _case(
        cls,
        scores: Operand,
        target: Operand,
        name: str,
        tags: Tags = frozenset(),
        **params: Any,
    ) -> Case:
        """The logsumexp that belongs to the scores, and gradients that are not constant."""
        op = cls(**params)
        x = scores.array.astype(np.float64)
        kind = np.float64 if scores.base.dtype == np.float64 else np.float32
        logsumexp = np.log(np.exp(x).sum(-1))
        shape = target.array.shape if op.reduction == "none" else ()
        grad = Operand(np.full(shape, 0.75, scores.base.dtype))
        row, dsum = (Operand(np.asarray(values, kind)) for values in (logsumexp, logsumexp / 8))
        return Case(op, (scores, target, row, grad, dsum), name, frozenset(tags))

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from super().samples(make)
        ids = Operand(np.array([1, -100, 2], np.int32))
        usual = cls._case(make.normal(3, 4), ids, "silent", {"nan", "special"})
        scores, target, row, grad, _ = usual.inputs
        scores.base[1] = np.nan  # of a row that gets no gradient
        zeros = Operand(np.zeros_like(row.base))
        yield Case(usual.op, (scores, target, row, grad, zeros), usual.id, usual.tags)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        row = Operand(np.zeros(4, np.float32))
        ids = make.ints(0, 3, 4)
        op = cls()
        bad = (make.normal(4, 3), ids, row, make.normal(4), row)
        yield BadCase(op, bad, ShapeError, "grad must be")
        short = Operand(np.zeros(3, np.float32))
        bad = (make.normal(4, 3), ids, short, make.normal(), row)
        yield BadCase(op, bad, ShapeError, "logsumexp must be (4,)")


class NllLoss(ClassLoss, name="nll_loss", family="loss"):
    """-log_probs[target] over the last axis. `reduction` and `ignore_index` as in cross_entropy."""

    saves = ("target",)

    def infer(self, log_probs: Spec, target: Spec) -> Spec:
        return self.loss_spec(log_probs, target, ("log_probs", "target"))

    def compose(self, log_probs: Tensor, target: Tensor) -> Tensor:
        valid, ids = _valid(target, self.ignore_index)
        picked = log_probs.gather(ids.unsqueeze(-1), axis=-1).squeeze(-1)
        losses = valid.where(-picked.astype(wide(log_probs.dtype)), 0)
        return _reduce(losses, valid, self.reduction).astype(log_probs.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor, None]:
        from groundup.ops.masking import one_hot

        (target,) = ctx.saved
        scores = ctx.specs[0]
        valid, ids = _valid(target, self.ignore_index)
        g = _row_factor(grad.astype(wide(scores.dtype)), valid, self.reduction)
        chosen = one_hot(ids, scores.shape[-1]).astype(g.dtype) > 0
        return chosen.where(-g.unsqueeze(-1), 0).astype(scores.dtype), None

    def cost(self, log_probs: Spec, target: Spec) -> Cost:
        return Cost(target.size, target.nbytes + target.size * log_probs.dtype.itemsize)


class MseLoss(Op, name="mse_loss", family="loss"):
    """(x - target)^2: its mean or sum over all elements, or each. The mean of nothing is NaN."""

    reduction: str = "mean"
    accuracy = COMPOSED
    saves = ("x", "target")

    def infer(self, x: Spec, target: Spec) -> Spec:
        if x.shape != target.shape:
            raise ShapeError(f"mse_loss: x is {x}, target is {target}: shapes differ")
        if x.dtype is not target.dtype or not x.dtype.is_floating:
            raise DTypeError(f"mse_loss: x is {x}, target is {target}: needs one float dtype")
        return x if self.reduction == "none" else Spec((), x.dtype)

    def cost(self, x: Spec, target: Spec) -> Cost:
        """A difference, a square and a sum per element."""
        return Cost(3 * x.size, x.nbytes + target.nbytes + self.infer(x, target).nbytes)

    def compose(self, x: Tensor, target: Tensor) -> Tensor:
        error = x.astype(wide(x.dtype)) - target.astype(wide(x.dtype))
        square = error * error
        if self.reduction == "mean":
            square = square.mean()
        elif self.reduction == "sum":
            square = square.sum()
        return square.astype(x.dtype)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, target = ctx.saved
        scale = 2.0 / max(x.size, 1) if self.reduction == "mean" else 2.0
        kind = wide(x.dtype)
        dx = ((x.astype(kind) - target.astype(kind)) * (grad.astype(kind) * scale)).astype(x.dtype)
        return dx, -dx if ctx.needs[1] else None

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for reduction in REDUCTIONS:
            op = cls(reduction=reduction)
            for name, shape in (("matrix", (4, 5)), ("scalar", ()), ("odd", (1023,))):
                yield Case(op, (make.normal(*shape), make.normal(*shape)), f"{reduction}-{name}")
            empty = (make.normal(0, 3), make.normal(0, 3))
            yield Case(op, empty, f"{reduction}-empty", frozenset({"empty", "nan"}))
            turned = make.normal(5, 3, view=lambda x: x.mT)
            views = (turned, make.normal(3, 10, view=lambda x: x[:, ::2]))
            yield Case(op, views, f"{reduction}-views", frozenset({"view"}))
        special = (make.values([np.nan, np.inf, 1]), make.values([0, 1, -np.inf]))
        yield Case(cls(reduction="none"), special, "special", frozenset({"nan", "special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(), (make.normal(3), make.normal(4)), ShapeError, "shapes differ")
        ints = (make.of(dt.int32, 3), make.of(dt.int32, 3))
        yield BadCase(cls(), ints, DTypeError, "one float dtype")


def _known(op: str, reduction: str) -> str:
    if reduction not in REDUCTIONS:
        raise ConfigError(f"{op}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return reduction


def cross_entropy(
    logits: Tensor, target: Tensor, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """logsumexp(logits) - logits[target] over the last axis. logits (..., C), target int (...).

    Raises ShapeError, DTypeError, ConfigError; DomainError on the CPU for an id outside [0, C).
    """
    op = CrossEntropy(ignore_index=ignore_index, reduction=_known("cross_entropy", reduction))
    return op.many(logits, target)[0]


def nll_loss(
    log_probs: Tensor, target: Tensor, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-log_probs[target] over the last axis. log_probs (..., C), target int (...).

    Raises as `cross_entropy`.
    """
    op = NllLoss(ignore_index=ignore_index, reduction=_known("nll_loss", reduction))
    return op(log_probs, target)


def mse_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - target)^2: its mean, sum, or each element. Equal shapes and float dtypes.

    Raises ShapeError, DTypeError, ConfigError.
    """
    return MseLoss(reduction=_known("mse_loss", reduction))(x, target)

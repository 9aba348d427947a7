"""Optimizer updates, each one op over all parameters: sgd, adamw; and what clipping needs.

They are pure: they return new values and declare in `aliases` which input's memory each may take
over. `groundup.dispatch.update` applies them in place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup import dtypes as dt
from groundup.errors import ConfigError, DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED
from groundup.ops.loss import wide
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make, Operand
from groundup.shapes import Shape

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["adamw", "clip_scale", "global_norm", "sgd"]

_SHAPES: tuple[tuple[Shape, ...], ...] = (
    ((3, 5), (5,), ()),
    ((1,),),
    ((0, 3), (7,)),
    ((257, 129),),
)
_SCALARS = ("lr", "step", "scale")


class Update(Op):
    """What the optimizer ops share.

    Inputs are (lr, step, scale, *params, *grads, *states): `lr`, `step` and `scale` hold one number
    each, so that a recorded program can be replayed while they change. `step` counts from 1;
    gradients are multiplied by `scale` first (clipping, loss scaling). Arithmetic is float32 for
    16-bit floats; states may be float32 beside parameters of 16 bits.
    """

    count: int
    weight_decay: tuple[float, ...]  # one per parameter
    outputs = ("tensors",)
    differentiable = ()
    accuracy = COMPOSED

    @property
    def states(self) -> int:
        """How many state tensors each parameter has."""
        raise NotImplementedError

    @property
    def aliases(self) -> Mapping[int, int]:  # type: ignore[override]
        """Outputs (*params, *states) take over their inputs; gradients are only read."""
        params = {i: 3 + i for i in range(self.count)}
        first = 3 + 2 * self.count
        return params | {self.count + i: first + i for i in range(self.states * self.count)}

    def infer(self, lr: Spec, step: Spec, scale: Spec, *tensors: Spec) -> tuple[Spec, ...]:
        self._check_counts(tensors)
        for name, spec in zip(_SCALARS, (lr, step, scale), strict=True):
            if spec.size != 1:
                raise ShapeError(f"{self.name}: {name} must hold one number, got {spec}")
        params, grads, states = self.parts(tensors)
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            if not param.dtype.is_floating:
                raise DTypeError(f"{self.name}: parameter {i} must be floating, got {param}")
            if grad != param:
                raise ShapeError(f"{self.name}: parameter {i} is {param}, its gradient {grad}")
        for i, state in enumerate(states):
            param = params[i % self.count]
            if state.shape != param.shape or state.dtype not in (param.dtype, wide(param.dtype)):
                which = f"parameter {i % self.count}"
                raise ShapeError(f"{self.name}: {which} is {param}, its state {state}")
        return (*params, *states)

    def _check_counts(self, tensors: Sequence[Spec]) -> None:
        wanted = self.count * (2 + self.states)
        if self.count < 1 or len(tensors) != wanted:
            raise ShapeError(
                f"{self.name}: {self.count} parameters need {wanted} tensors, got {len(tensors)}"
            )
        if len(self.weight_decay) != self.count:
            raise ConfigError(f"{self.name}: weight_decay must have one number per parameter")

    def parts(self, tensors: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """(params, grads, states)."""
        n = self.count
        return tensors[:n], tensors[n : 2 * n], tensors[2 * n :]

    def compose(
        self, lr: Tensor, step: Tensor, scale: Tensor, *tensors: Tensor
    ) -> Tensor | tuple[Tensor, ...]:
        params, grads, states = self.parts(tensors)
        rates = [number.reshape(()).astype(dt.float32) for number in (lr, step, scale)]
        columns: list[list[Tensor]] = []
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            kind = wide(param.dtype)
            own = [param, *states[i :: self.count]]
            decay = self.weight_decay[i]
            wide_rates = [number.astype(kind) for number in rates]
            new = self.one(decay, wide_rates, grad.astype(kind), [t.astype(kind) for t in own])
            columns.append([t.astype(old.dtype) for t, old in zip(new, own, strict=True)])
        results = tuple(t for row in zip(*columns, strict=True) for t in row)
        return results if len(results) > 1 else results[0]

    def one(
        self, decay: float, rates: Sequence[Tensor], grad: Tensor, own: Sequence[Tensor]
    ) -> list[Tensor]:
        """The new parameter and states of one parameter."""
        raise NotImplementedError

    def cost(self, lr: Spec, step: Spec, scale: Spec, *tensors: Spec) -> Cost:
        written = self.infer(lr, step, scale, *tensors)
        moved = sum(spec.nbytes for spec in (*tensors, *written))
        return Cost(12 * sum(spec.size for spec in tensors[: self.count]), moved)

    @classmethod
    def cases(cls, make: Make, name: str, **params: Any) -> Iterator[Case]:
        """One case for each set of shapes."""
        for shapes in _SHAPES:
            n = len(shapes)
            decay = tuple(0.1 * (i + 1) for i in range(n))
            op = cls(count=n, weight_decay=params.get("weight_decay", decay[:n]), **{
                key: value for key, value in params.items() if key != "weight_decay"
            })  # fmt: skip
            tags = {"empty"} if (0, 3) in shapes else set()
            tensors = [make.normal(*shape) for _ in range(2 + op.states) for shape in shapes]
            for index in range(3 * n, len(tensors)):  # second moments are not negative
                tensors[index] = Operand(abs(tensors[index].base))
            sizes = "+".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
            yield Case(op, (*_numbers(), *tensors), f"{name}-{sizes}", frozenset(tags))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        op = cls(count=1, weight_decay=(0.0,))
        yield BadCase(op, (*_numbers(), make.normal(3)), ShapeError, "1 parameters need")
        states = [make.normal(3) for _ in range(op.states)]
        bad = (*_numbers(), make.normal(3), make.normal(4), *states)
        yield BadCase(op, bad, ShapeError, "its gradient")
        bad = (make.of(dt.float32, 2), *_numbers()[1:], make.normal(3), make.normal(3), *states)
        yield BadCase(op, bad, ShapeError, "lr must hold one number")


def _numbers(step: int = 3) -> tuple[Operand, Operand, Operand]:
    values = (np.float32(0.01), np.int32(step), np.float32(0.5))
    return tuple(Operand(np.asarray(value)) for value in values)  # type: ignore[return-value]


def _views(make: Make) -> tuple[Operand, Operand]:
    """A parameter and a gradient that are not row-major."""
    return make.normal(4, 3, view=lambda x: x.mT), make.normal(3, 8, view=lambda x: x[:, ::2])


class Sgd(Update, name="sgd", family="optimizer"):
    """Stochastic gradient descent, as PyTorch's SGD (Sutskever et al., 2013, with lr outside).

    g = scale * grad + weight_decay * p; with momentum: b = momentum * b + (1 - dampening) * g, but
    b = g at step 1; g = g + momentum * b if nesterov else b; p = p - lr * g. One state (b) per
    parameter if momentum is not 0, else none.
    """

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @property
    def states(self) -> int:
        return 1 if self.momentum else 0

    def one(
        self, decay: float, rates: Sequence[Tensor], grad: Tensor, own: Sequence[Tensor]
    ) -> list[Tensor]:
        lr, step, scale = rates
        param, g = own[0], grad * scale
        if decay:
            g = g + param * decay
        if not self.momentum:
            return [param - g * lr]
        buffer = (step <= 1).where(g, own[1] * self.momentum + g * (1 - self.dampening))
        g = g + buffer * self.momentum if self.nesterov else buffer
        return [param - g * lr, buffer]

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from cls.cases(make, "plain")
        yield from cls.cases(make, "momentum", momentum=0.9, dampening=0.1)
        yield from cls.cases(make, "nesterov", momentum=0.9, nesterov=True)
        op = cls(count=1, weight_decay=(0.0,), momentum=0.9, dampening=0.5)
        three = (make.normal(6), make.normal(6), make.normal(6))
        yield Case(op, (*_numbers(step=1), *three), "first-step")
        yield Case(op, (*_numbers(step=2), *three), "second-step")
        op = cls(count=1, weight_decay=(0.1,))
        yield Case(op, (*_numbers(), *_views(make)), "view", frozenset({"view"}))


class AdamW(Update, name="adamw", family="optimizer"):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019; Kingma and Ba, 2015).

    g = scale * grad; p = p - lr * weight_decay * p; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 -
    beta2) g^2; p = p - lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps). With
    `decoupled=False`, Adam: g = g + weight_decay * p instead. Two states: all m, then all v.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    decoupled: bool = True

    @property
    def states(self) -> int:
        return 2

    def one(
        self, decay: float, rates: Sequence[Tensor], grad: Tensor, own: Sequence[Tensor]
    ) -> list[Tensor]:
        lr, step, scale = rates
        param, m, v = own
        g = grad * scale
        if decay and self.decoupled:
            param = param * (1 - lr * decay)
        elif decay:
            g = g + param * decay
        m = m * self.beta1 + g * (1 - self.beta1)
        v = v * self.beta2 + g * g * (1 - self.beta2)
        size = lr / bias_correction(self.beta1, step)
        root = (v / bias_correction(self.beta2, step)).sqrt()
        return [param - m * size / (root + self.eps), m, v]

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield from cls.cases(make, "decay")
        yield from cls.cases(make, "adam", decoupled=False, beta1=0.8, beta2=0.95, eps=1e-6)
        op = cls(count=1, weight_decay=(0.0,))
        zeros = [Operand(np.zeros(6, make.dtype.numpy)) for _ in range(2)]
        yield Case(op, (*_numbers(step=1), make.normal(6), make.normal(6), *zeros), "first-step")
        view = _views(make)
        moments = (make.normal(3, 4), Operand(abs(make.normal(3, 4).base)))
        yield Case(op, (*_numbers(), *view, *moments), "view", frozenset({"view"}))
        op = cls(count=1, weight_decay=(0.1,), beta1=0.0)
        yield Case(op, (*_numbers(), *[make.normal(5)] * 3, Operand(abs(make.normal(5).base))),
                   "no-beta1")  # fmt: skip


def bias_correction(beta: float, step: Tensor) -> Tensor:
    """1 - beta^step, without the cancellation that 1 - 0.999^1 has in float32."""
    return -(step * (math.log(beta) if beta else -math.inf)).expm1()


class GlobalNorm(Op, name="global_norm", family="optimizer"):
    """sqrt of the sum of squares of all elements of all tensors: one float32 number.

    Squares accumulate in float32 or better. NaN and infinity reach the result.
    """

    saves = ("tensors", "norm")
    outputs = ("norm",)
    accuracy = COMPOSED

    def infer(self, *tensors: Spec) -> Spec:
        for i, spec in enumerate(tensors):
            if not spec.dtype.is_floating:
                raise DTypeError(f"global_norm: tensor {i} must be floating, got {spec}")
        return Spec((), dt.float32)

    def compose(self, *tensors: Tensor) -> Tensor:
        total: Tensor | None = None
        for t in tensors:
            x = t.astype(dt.float32)
            square = (x * x).sum()
            total = square if total is None else total + square
        assert total is not None
        return total.sqrt()

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, norm = ctx.saved
        factor = (norm == 0).where(0, grad / norm)
        return tuple(
            (t.astype(dt.float32) * factor).astype(t.dtype) if needed else None
            for t, needed in zip(tensors, ctx.needs, strict=True)
        )

    def cost(self, *tensors: Spec) -> Cost:
        return Cost(2 * sum(t.size for t in tensors), sum(t.nbytes for t in tensors))

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for shapes in _SHAPES:
            sizes = "+".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
            yield Case(cls(), tuple(make.normal(*shape) for shape in shapes), sizes)
        views = (make.normal(5, 4, view=lambda x: x.mT), make.normal(9, view=lambda x: x[::-2]))
        yield Case(cls(), views, "views", frozenset({"view"}))
        special = (make.values([1.0, np.nan]), make.values([2.0, np.inf]))
        yield Case(cls(), special, "nan", frozenset({"nan", "special"}))
        yield Case(cls(), special[1:], "inf", frozenset({"special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        bad = (make.normal(3), make.of(dt.int32, 2))
        yield BadCase(cls(), bad, DTypeError, "tensor 1 must be floating")


def global_norm(*tensors: Tensor) -> Tensor:
    """The Euclidean norm of all elements of all tensors, 0-d float32. Raises DTypeError."""
    return GlobalNorm()(*tensors)


def clip_scale(norm: Tensor, max_norm: float) -> Tensor:
    """min(1, max_norm / (norm + 1e-6)): what gradients of that norm are multiplied by (PyTorch)."""
    return (max_norm / (norm + 1e-6)).minimum(1.0)


def sgd(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor],
    rates: tuple[Tensor, Tensor, Tensor],
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Tensor, ...]:
    """(*params, *buffers) after one step, as new tensors; `rates` are 0-d (lr, step, scale).

    `buffers` are empty without momentum. Raises ShapeError, DTypeError.
    """
    op = Sgd(
        count=len(params), weight_decay=(float(weight_decay),) * len(params),
        momentum=float(momentum), dampening=float(dampening), nesterov=nesterov,
    )  # fmt: skip
    return _many(op, (*rates, *params, *grads, *buffers))


def adamw(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    moments: tuple[Sequence[Tensor], Sequence[Tensor]],
    rates: tuple[Tensor, Tensor, Tensor],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[Tensor, ...]:
    """(*params, *first moments, *second moments) after one step, as new tensors.

    `rates` are 0-d (lr, step, scale). Raises ShapeError, DTypeError.
    """
    op = AdamW(
        count=len(params), weight_decay=(float(weight_decay),) * len(params),
        beta1=float(betas[0]), beta2=float(betas[1]), eps=float(eps),
    )  # fmt: skip
    return _many(op, (*rates, *params, *grads, *moments[0], *moments[1]))


def _many(op: Op, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    results: Any = op.many(*inputs)
    return results if isinstance(results, tuple) else (results,)

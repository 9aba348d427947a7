"""Training runs of level 3: the same steps on a device and in float64.

A `Runner` turns a step, a function of tensors, into what is called each time; so every case runs
compiled as well, with the passes that users get.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Final, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

import groundup as gu
from groundup import autocast, nn, optim
from groundup.backends.api import Device
from groundup.dtypes import DType, bfloat16, float16, float32
from groundup.optim.optimizer import Optimizer
from groundup.tensor import Tensor
from groundup_conformance.training import steps
from groundup_conformance.training.float64 import Array, Value
from groundup_conformance.training.models import NETWORKS, Network, Parameters

Step: TypeAlias = Callable[[Tensor, Tensor], Any]
Runner: TypeAlias = Callable[[Step], Step]
Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

STEPS: Final = 200
_WARMUP, _LARGEST_NORM = 10, 1.0


def eager(step: Step) -> Step:
    """The step as it is."""
    return step


RUNNERS: Final[Mapping[str, Runner]] = {"eager": eager, "compiled": gu.compile}


@attrs.frozen
class Recipe:
    """An optimizer with its float64 counterpart; `clips` adds clipping by the global norm."""

    name: str
    lr: float
    make: Callable[[Sequence[Tensor]], Optimizer]
    reference: Callable[[], steps.Descent | steps.AdamW]
    clips: bool = False

    def rate(self, step: int) -> float:
        """A warm-up, then a cut by half: a device that keeps an old rate is found out."""
        rate = self.lr * min(1.0, (step + 1) / _WARMUP) * (1.0 if step < STEPS // 2 else 0.5)
        return float(np.float32(rate))


RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe("sgd", 0.06, lambda p: optim.SGD(p, 0.06), steps.Descent),
        Recipe(
            "momentum", 0.03,
            lambda p: optim.SGD(p, 0.03, momentum=0.9, weight_decay=1e-3),
            lambda: steps.Descent(momentum=0.9, decay=1e-3),
        ),
        Recipe(
            "adamw", 3e-3,
            lambda p: optim.AdamW(p, 3e-3, betas=(0.9, 0.95), weight_decay=0.1),
            lambda: steps.AdamW(beta2=0.95, decay=0.1),
            clips=True,
        ),
    )
}  # fmt: skip


@attrs.frozen
class Precision:
    """What contractions compute in, how many steps are compared, what losses are multiplied by."""

    dtype: DType
    steps: int
    loss_scale: float = 1.0  # against small gradients becoming 0 in float16

    def context(self) -> AbstractContextManager[Any]:
        """Autocast, unless it would change nothing."""
        return nullcontext() if self.dtype is float32 else autocast(self.dtype)


FULL: Final = Precision(float32, STEPS)
PRECISIONS: Final = {
    precision.dtype.name: precision
    for precision in (FULL, Precision(bfloat16, 60), Precision(float16, 60, 256.0))
}


@attrs.frozen(eq=False)
class Trace:
    """What a run showed: the loss of each step, the first gradients, parameters after one step."""

    losses: npt.NDArray[Any]
    gradients: Arrays
    after_one: Arrays
    final: Arrays


# ---- on a device ----


def make_step(
    network: nn.Module, optimizer: Optimizer, recipe: Recipe, precision: Precision = FULL
) -> Step:
    """One update; returns the loss and the gradients of all parameters."""
    parameters = list(network.parameters())
    loss_scale = precision.loss_scale

    def step(x: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        with precision.context():
            loss: Tensor = network(x, targets)
        (loss * loss_scale if loss_scale != 1 else loss).backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        optimizer.step(grad_scale=_factor(parameters, recipe, loss_scale))
        optimizer.zero_grad()
        return (loss.detach(), *gradients)

    return step


def _factor(parameters: Sequence[Tensor], recipe: Recipe, loss_scale: float) -> Tensor | None:
    """What the optimizer multiplies gradients by: clipping, and undoing the scale of the loss."""
    if recipe.clips:
        norm = nn.grad_norm(parameters) / loss_scale
        return nn.clip_factor(norm, _LARGEST_NORM) / loss_scale
    return None if loss_scale == 1 else gu.full((), 1 / loss_scale, device=parameters[0].device)


def train(
    network: Network,
    recipe: Recipe,
    device: Device,
    runner: Runner = eager,
    precision: Precision = FULL,
) -> Trace:
    """The run on `device`."""
    module = network.made(device)
    names = [name for name, _ in module.named_parameters()]
    optimizer = recipe.make(list(module.parameters()))
    step = runner(make_step(module, optimizer, recipe, precision))
    losses: list[float] = []
    gradients: Arrays = {}
    after_one: Arrays = {}
    for number in range(precision.steps):
        optimizer.param_groups[0]["lr"] = recipe.rate(number)
        loss, *grads = step(*tensors(network, number, device))
        losses.append(float(loss.item()))
        if number == 0:
            unscaled = [grad.numpy() / np.float32(precision.loss_scale) for grad in grads]
            gradients = dict(zip(names, unscaled, strict=True))
            after_one = state(module)
    return Trace(np.array(losses, np.float32), gradients, after_one, state(module))


def tensors(network: Network, number: int, device: Device) -> tuple[Tensor, Tensor]:
    """Batch `number` on `device`."""
    x, targets = network.batch(number)
    return gu.from_numpy(x, device), gu.from_numpy(targets, device)


def state(module: nn.Module) -> Arrays:
    """The values of all parameters."""
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


# ---- in float64 ----


@cache
def wanted(network: str, recipe: str) -> Trace:
    """The same run in float64; computed once per process."""
    return reference(NETWORKS[network], RECIPES[recipe])


def reference(network: Network, recipe: Recipe, count: int = STEPS) -> Trace:
    """`count` steps in float64, from the same float32 bytes."""
    values = {name: Value(array) for name, array in initial(network).items()}
    optimizer = recipe.reference()
    losses: list[float] = []
    gradients: Arrays = {}
    after_one: Arrays = {}
    for number in range(count):
        for value in values.values():
            value.grad = np.zeros_like(value.data)
        loss = network.reference(values, *network.batch(number))
        loss.backward()
        losses.append(float(loss.data))
        if number == 0:
            gradients = {name: value.grad for name, value in values.items()}
        optimizer.step(values, recipe.rate(number), _scale(values, recipe))
        if number == 0:
            after_one = {name: value.data for name, value in values.items()}
    final = {name: value.data for name, value in values.items()}
    return Trace(np.array(losses), gradients, after_one, final)


def first_update(network: Network, recipe: Recipe, gradients: Mapping[str, Array]) -> Arrays:
    """The parameters after one step along `gradients`, in float64."""
    values = {name: Value(array) for name, array in initial(network).items()}
    for name, value in values.items():
        value.grad = gradients[name]
    recipe.reference().step(values, recipe.rate(0), _scale(values, recipe))
    return {name: value.data for name, value in values.items()}


def _scale(values: Mapping[str, Value], recipe: Recipe) -> float:
    return steps.clip(values, _LARGEST_NORM) if recipe.clips else 1.0


def initial(network: Network) -> Parameters:
    """The network's initial parameters, by way of a module that computes nothing."""
    return network.initial(network.build(gu.device_for("null")))

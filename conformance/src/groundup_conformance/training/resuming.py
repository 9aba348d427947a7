"""Level 3: a run that was saved and continued computes the bits of one that was not interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt

from groundup import nn, random
from groundup.backends.api import Device
from groundup.nn import functional as F
from groundup.serialization import load_arrays, save_arrays
from groundup.tensor import Tensor
from groundup_conformance.training.models import NETWORKS, Network
from groundup_conformance.training.runs import (
    RECIPES,
    Recipe,
    Runner,
    make_step,
    tensors,
)

BEFORE: Final = 6  # steps, then the run is saved; as many follow
_SEED: Final = 20


class _WithDropout(nn.Module):
    """A network whose input loses a tenth: its random state is part of the run."""

    def __init__(self, inner: nn.Module) -> None:
        self.inner = inner

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        """The inner network's loss."""
        loss: Tensor = self.inner(F.dropout(x, 0.1, self.training), targets)
        return loss


@attrs.define(eq=False)
class Run:
    """Everything that changes while training."""

    network: Network
    module: nn.Module
    optimizer: Any
    step: Any
    device: Device
    number: int = 0

    @classmethod
    def begin(cls, network: Network, recipe: Recipe, device: Device, runner: Runner) -> Run:
        """A run from the initial parameters; where the input is floats, with dropout."""
        module = network.made(device)
        if network.batch(0)[0].dtype == np.float32:
            module = _WithDropout(module)
        optimizer = recipe.make(list(module.parameters()))
        step = runner(make_step(module, optimizer, recipe))
        return cls(network, module, optimizer, step, device)

    def advance(self, count: int) -> list[float]:
        """The losses of the next `count` steps."""
        losses = []
        for _ in range(count):
            loss, *_ = self.step(*tensors(self.network, self.number, self.device))
            losses.append(float(loss.item()))
            self.number += 1
        return losses

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Parameters, buffers, the optimizer's state, the random state."""
        parts = {"model": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}
        found = {f"{part}.{k}": t.numpy() for part, kept in parts.items() for k, t in kept.items()}
        return found | {"random": random.get_state(self.device)}

    def restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Go to where `arrays` was called."""
        for part, owner in (("model.", self.module), ("optimizer.", self.optimizer)):
            owner.load_state_dict(
                {k.removeprefix(part): a for k, a in arrays.items() if k.startswith(part)}
            )
        random.set_state(arrays["random"], self.device)
        self.number = BEFORE


def difference(
    network: str, recipe: str, device: Device, runner: Runner, folder: Path
) -> str | None:
    """What a resumed run did differently from an uninterrupted one, None if nothing."""
    before = random.get_state(device)
    try:
        return _difference(NETWORKS[network], RECIPES[recipe], device, runner, folder)
    finally:
        random.set_state(before, device)


def _difference(
    network: Network, recipe: Recipe, device: Device, runner: Runner, folder: Path
) -> str | None:
    file = folder / "state.safetensors"
    random.default_generator(device).manual_seed(_SEED)
    whole = Run.begin(network, recipe, device, runner)
    whole.advance(BEFORE)
    save_arrays(file, whole.arrays())
    wanted = whole.advance(BEFORE)
    end = whole.arrays()

    random.default_generator(device).manual_seed(_SEED + 1)  # what the file holds must undo it
    resumed = Run.begin(network, recipe, device, runner)
    resumed.advance(1)
    resumed.restore(load_arrays(file)[0])
    got = resumed.advance(BEFORE)
    if got != wanted:
        step = next(i for i, (a, b) in enumerate(zip(got, wanted, strict=True)) if a != b)
        return f"the loss of step {step} after resuming is {got[step]!r}, was {wanted[step]!r}"
    for name, array in resumed.arrays().items():
        if array.tobytes() != end[name].tobytes():
            return f"{name} ends up different from a run that was not interrupted"
    return None

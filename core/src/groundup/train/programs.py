"""What a run's step is as a program, and what memory it takes, before anything is trained.

On the device `null` nothing is computed, so the answer comes at once, for any size of model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from groundup.backends import null
from groundup.backends.api import Device
from groundup.backends.devices import by_default
from groundup.errors import ConfigError
from groundup.program.executable import Executable
from groundup.train.config import TrainConfig
from groundup.train.dataset import Dataset
from groundup.train.session import Session

MOST: Final = 1 << 20  # sequences per step: no more are tried


@attrs.frozen(eq=False)
class Traced:
    """The programs of a training step: name, how often it runs in a step, program."""

    programs: Sequence[tuple[str, int, Executable]]
    parameters: int  # how many numbers
    parameter_bytes: int
    device: Device

    @property
    def state_bytes(self) -> int:
        """Of what outlives a step: parameters, optimizer state, random states."""
        views = {id(v): v for _, _, each in self.programs for v in each.state.values()}
        return sum(view.layout.spec.nbytes for view in views.values())

    @property
    def peak(self) -> int:
        """Bytes that were in use at once: state, arenas, a batch, results."""
        return self.device.pool.peak


def trace_step(config: TrainConfig, dataset: Dataset, device: Device) -> Traced:
    """The step that `groundup train` would compile, traced and run twice on `device`.

    Weights are drawn there, too. Raises ConfigError for a run whose steps are not compiled.
    """
    with by_default(device):
        session = Session(config, dataset, device)
        if not session.compiled:
            reason = "--no-compile" if not config.compile else "--dtype float16"
            raise ConfigError(f"there is no program: with {reason}, steps run eagerly")
        for _ in range(2):
            session.advance()
    parameters = list(session.model.parameters())
    return Traced(
        session.programs(),
        session.model.num_parameters(),
        sum(p.spec.nbytes for p in parameters),
        device,
    )


def largest_batch(config: TrainConfig, dataset: Dataset, memory: int) -> int:
    """The largest `batch_size`, up to `MOST`, whose step takes at most `memory` bytes; 0 if none.

    Found by halving, with a trace for each try.
    """

    def fits(batch_size: int) -> bool:
        tried = config.changed({"batch_size": batch_size})
        return trace_step(tried, dataset, null.fresh()).peak <= memory

    if not fits(1):
        return 0
    good, bad = 1, 2
    while bad <= MOST and fits(bad):
        good, bad = bad, 2 * bad
    bad = min(bad, MOST + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good

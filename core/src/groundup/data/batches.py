"""Training batches: random windows of the tokens, the same ones for ever for a seed and a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from groundup.data.tokens import IntArray
from groundup.errors import ConfigError, DataError

Ids = npt.NDArray[np.int32]


class Batches:
    """`batch(step)` is a function of seed and step alone, so resuming needs no state but the step.

    Offsets come from NumPy's counter-based Philox4x64-10, raw: the key is the seed, the step is
    in the counter. NumPy guarantees the raw stream of a bit generator for all versions and
    platforms (not that of `Generator.integers`). Source: Salmon et al., "Parallel random numbers:
    as easy as 1, 2, 3", 2011.
    """

    def __init__(
        self, tokens: IntArray, batch_size: int, context: int, seed: int, name: str = "the data"
    ) -> None:
        """Batches of `batch_size` windows of `context` ids out of `tokens` (N,), N > context.

        `tokens` may be a memory map; nothing is copied. `name` is what errors call them.

        Raises ConfigError for a size below 1 or a seed outside [0, 2^64), DataError when `tokens`
        is too short for one window and the id that follows it.
        """
        if batch_size < 1 or context < 1:
            raise ConfigError(
                f"batch size and context must be at least 1, got {batch_size} and {context}"
            )
        if not 0 <= seed < 2**64:
            raise ConfigError(f"the seed must be at least 0 and below 2^64, got {seed}")
        if len(tokens) < context + 1:
            raise DataError(
                f"{name} has {len(tokens)} tokens, but a context of {context} needs {context + 1}",
                hint=_way_out(len(tokens)),
            )
        self.tokens = np.asarray(tokens)
        self.batch_size = batch_size
        self.context = context
        self.seed = seed

    def batch(self, step: int) -> tuple[Ids, Ids]:
        """Inputs and targets of `step`: int32 (batch_size, context) each, targets one id ahead.

        Raises ConfigError for a negative step.
        """
        if step < 0:
            raise ConfigError(f"a batch's step must be at least 0, got {step}")
        offsets = self._offsets(step)
        windows = self.tokens[offsets[:, None] + np.arange(self.context + 1)]  # (B, T + 1)
        return windows[:, :-1].astype(np.int32, "C"), windows[:, 1:].astype(np.int32, "C")

    def _offsets(self, step: int) -> npt.NDArray[np.int64]:
        """Where the windows of `step` begin: (batch_size,), each in [0, N - context)."""
        # The low 64 bits of the counter run within a step, so steps never share random numbers. The
        # remainder's bias towards small offsets is N / 2^64, which nobody can measure.
        stream = np.random.Philox(key=self.seed, counter=int(step) << 64)
        choices = np.uint64(len(self.tokens) - self.context)
        return (stream.random_raw(self.batch_size) % choices).astype(np.int64)


def _way_out(length: int) -> str:
    if length < 2:
        return "give more data"
    return f"use --block-size {length - 1} or less, or give more data"

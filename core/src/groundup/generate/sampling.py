"""From logits to the next token: temperature, top-k, top-p, and one random number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from groundup.errors import ConfigError, NonFiniteError

Logits = npt.NDArray[np.floating]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose; the names are Hugging Face's. Raises ConfigError for a value out of range."""

    temperature: float = 1.0  # 0: always the most likely token
    top_k: int | None = None  # only among the k most likely
    top_p: float | None = None  # only among the fewest whose probabilities reach p

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ConfigError(f"--temperature must be at least 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"--top-k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"--top-p must be above 0 and at most 1, got {self.top_p}")


def choose(logits: Logits, sampling: Sampling, chance: float) -> int:
    """The id that `chance`, uniform in [0, 1), picks from `logits` (V,) by inversion.

    Raises NonFiniteError for logits that hold a NaN or an infinity.
    """
    if not np.isfinite(logits).all():
        raise NonFiniteError("the model's logits are not finite; its weights are damaged")
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    probabilities = distribution(logits, sampling)
    heights = np.cumsum(probabilities)
    # Rounding may leave the last height a little off 1: scale chance instead.
    picked = int(np.searchsorted(heights, chance * heights[-1], side="right"))
    return min(picked, int(np.flatnonzero(probabilities)[-1]))


def distribution(logits: Logits, sampling: Sampling) -> Probabilities:
    """Probabilities (V,) after temperature, top-k and top-p (in that order, as Hugging Face's).

    Source of top-p: Holtzman et al., "The curious case of neural text degeneration", 2020.
    """
    scaled = logits.astype(np.float64) - float(logits.max())
    with np.errstate(over="ignore"):  # a tiny temperature makes -inf, which is a probability of 0
        scaled = scaled / sampling.temperature
    order = np.argsort(-scaled, kind="stable")  # most likely first; ties in order of id
    kept = len(order) if sampling.top_k is None else min(sampling.top_k, len(order))
    weights = np.exp(scaled[order])
    weights[kept:] = 0
    weights /= weights.sum()
    if sampling.top_p is not None:
        before = np.cumsum(weights) - weights  # what is more likely than each
        weights[before >= sampling.top_p] = 0
        weights /= weights.sum()
    probabilities = np.empty_like(weights)
    probabilities[order] = weights
    return probabilities

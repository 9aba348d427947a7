"""Two runs compared: by the ratios of each row between two libraries, which noise moves least."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from math import exp, log
from pathlib import Path
from typing import Any

import attrs

from groundup.errors import ConfigError


@attrs.frozen
class Pair:
    """One ratio in two runs: of the medians, and of the best rounds."""

    row: str
    peer: str
    regime: str
    before: float
    after: float
    best_before: float
    best_after: float

    @property
    def change(self) -> float:
        """How far apart the two are: 0.1 for 10 %, either way."""
        return apart(self.before, self.after)


@attrs.frozen
class Agreement:
    """How two runs agree on the ratios of some rows. Distances are 0.1 for 10 %, either way."""

    peer: str
    rows: str
    count: int
    before: float  # median over the rows
    after: float
    best_apart: float  # the same for ratios of the best rounds
    drift: float  # geometric mean of after / before
    typical: float  # median of the rows' own changes
    close: int  # rows whose ratio changed by at most 10 %

    @property
    def apart(self) -> float:
        """How far the median ratios are apart."""
        return apart(self.before, self.after)


def apart(one: float, two: float) -> float:
    """0.1 for 10 %, either way."""
    return max(one / two, two / one) - 1


def load(path: Path) -> dict[str, Any]:
    """A run's JSON. Raises ConfigError for a file that is none."""
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or "benchmarks" not in found:
            raise ValueError("no benchmarks in it")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no run of groundup bench: {error}") from error
    return found


def pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Pair]:
    """Every ratio that both runs have."""
    earlier = dict(_ratios(before))
    for key, (regime, ratio) in _ratios(after):
        if key in earlier:
            old = earlier[key][1]
            yield Pair(*key, regime, old["median"], ratio["median"], old["best"], ratio["best"])


def agreements(found: Sequence[Pair], within: float = 0.1) -> Iterator[Agreement]:
    """For each peer: over all rows, then by regime."""
    for peer in dict.fromkeys(pair.peer for pair in found):
        here = [pair for pair in found if pair.peer == peer]
        for regime in [None, *dict.fromkeys(pair.regime for pair in here)]:
            chosen = [p for p in here if regime in (None, p.regime)]
            yield Agreement(
                peer=peer,
                rows=regime or "all",
                count=len(chosen),
                before=statistics.median(p.before for p in chosen),
                after=statistics.median(p.after for p in chosen),
                best_apart=apart(
                    statistics.median(p.best_before for p in chosen),
                    statistics.median(p.best_after for p in chosen),
                ),
                drift=exp(statistics.fmean(log(p.after / p.before) for p in chosen)),
                typical=statistics.median(p.change for p in chosen),
                close=sum(p.change <= within for p in chosen),
            )


def text(found: Sequence[Pair]) -> str:
    """A line for each peer and regime."""
    lines = [
        f"/{a.peer} {a.rows}: median ratio {a.before:.3f}, then {a.after:.3f} ({a.apart:.1%} "
        f"apart; of the best rounds {a.best_apart:.1%}); geometric mean of changes {a.drift:.3f}; "
        f"a row's own change: median {a.typical:.1%}, {a.close} of {a.count} within 10%"
        for a in agreements(found)
    ]
    return "\n".join(lines) or "no row has a ratio in both runs"


def _ratios(
    run: Mapping[str, Any],
) -> Iterator[tuple[tuple[str, str], tuple[str, Mapping[str, float]]]]:
    for row in run["benchmarks"]:
        info = row["extra_info"]
        for peer, ratio in info.get("ratio", {}).items():
            yield (f"{row['group']} {info['backend']}", peer), (info["regime"], ratio)

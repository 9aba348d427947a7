"""The scorecard: what a run of the suite found, as data; everything else is made from it."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import attrs
import numpy as np

from groundup._version import __version__
from groundup.errors import ConfigError
from groundup.files import atomic_write
from groundup.ops.op import Op

SCHEMA: Final = 1
Status: TypeAlias = Literal["passed", "failed", "waived", "blocked", "unsupported"]
STATUSES: Final[tuple[Status, ...]] = ("passed", "failed", "waived", "blocked", "unsupported")
Card: TypeAlias = dict[str, Any]


@attrs.frozen
class Result:
    """What came of one case. `level` is None for the cases of a track."""

    id: str
    status: Status
    level: int | None
    track: str | None = None
    ratio: float | None = None
    ulp: float | None = None
    seconds: float = 0.0
    reason: str = ""


@attrs.frozen
class Run:
    """What was run: on which device, how much of the suite."""

    backend: str
    distribution: str
    device: str
    profile: str
    level: int | None
    tracks: Sequence[str]
    selection: Mapping[str, str]  # filters that leave cases out; empty for a whole run
    families: Mapping[str, str]  # op -> family
    ops: str  # fingerprint of the registry
    seconds: float = 0.0
    problems: Sequence[str] = ()


def make(run: Run, results: Iterable[Result]) -> Card:
    """The scorecard as JSON data."""
    rows = sorted(results, key=lambda r: (r.level is None, r.level or 0, r.id))
    levels = sorted({r.level for r in rows if r.level is not None})
    tracks = sorted({r.track for r in rows if r.track is not None})
    return {
        "schema": SCHEMA,
        "suite": metadata.version("groundup-conformance"),
        "core": __version__,
        "backend": run.backend,
        "distribution": run.distribution,
        "device": run.device,
        "profile": run.profile,
        "level": run.level,
        "tracks": list(run.tracks),
        "selection": dict(run.selection),
        "ops": run.ops,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "seconds": round(run.seconds, 1),
        "problems": list(run.problems),
        "totals": _count(rows),
        "levels": {str(n): _count([r for r in rows if r.level == n]) for n in levels},
        "by_track": {t: _count([r for r in rows if r.track == t]) for t in tracks},
        "families": {op: run.families.get(op, op) for op in sorted({_op(r.id) for r in rows})},
        "cases": [_row(r) for r in rows],
    }


def reached(card: Card) -> int | None:
    """The highest level that holds with all below it: whole, nothing failed, waived or blocked."""
    if card["selection"]:
        return None
    best = None
    for number in range(4):
        counts = card["levels"].get(str(number))
        bad = counts is None or any(counts[s] for s in ("failed", "waived", "blocked"))
        if bad or not counts["passed"]:
            break
        best = number
    return best


def write(card: Card, path: Path) -> None:
    """As JSON, one case a line, so that two scorecards can be compared by eye."""
    head = {key: value for key, value in card.items() if key != "cases"}
    text = json.dumps(head, indent=1)[:-2]
    rows = ",\n  ".join(json.dumps(row, allow_nan=False) for row in card["cases"])
    with atomic_write(path) as temporary:
        temporary.write_text(f'{text},\n "cases": [\n  {rows}\n ]\n}}\n', encoding="utf-8")


def load(path: Path) -> Card:
    """A scorecard from its file. Raises ConfigError for anything else."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    fault = _fault(card)
    if fault:
        raise ConfigError(f"{path} is no scorecard: {fault}")
    return card  # type: ignore[no-any-return]


def schema() -> dict[str, Any]:
    """The JSON Schema of scorecards."""
    file = resources.files("groundup_conformance") / "schema" / f"scorecard-{SCHEMA}.json"
    return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _fault(card: Any) -> str | None:
    """What keeps data from being a scorecard that this version can read, None if nothing does."""
    if not isinstance(card, dict):
        return "it is no JSON object"
    if card.get("schema") != SCHEMA:
        return f"its schema is {card.get('schema')!r}, this version reads {SCHEMA}"
    missing = [key for key in schema()["required"] if key not in card]
    return f"it lacks {', '.join(missing)}" if missing else None


def fingerprint(ops: Mapping[str, type[Op]]) -> str:
    """Four digits that change when an op is added, removed, or takes other inputs or parameters.

    So a scorecard cannot speak for ops that were not there yet.
    """
    text = ";".join(
        f"{name}{inspect.signature(op.infer)}{sorted(op.fields)}"
        for name, op in sorted(ops.items())
    )
    return hashlib.sha256(text.encode()).hexdigest()[:4]


def _count(rows: Sequence[Result]) -> dict[str, int]:
    counts = Counter(r.status for r in rows)
    return {status: counts[status] for status in STATUSES}


def _row(r: Result) -> Card:
    row: Card = {
        "id": r.id,
        "status": r.status,
        "ratio": _short(r.ratio),
        "ulp": _short(r.ulp),
        "seconds": round(r.seconds, 4),
    }
    if r.level is not None:
        row["level"] = r.level
    if r.track is not None:
        row["track"] = r.track
    if r.reason:
        row["reason"] = r.reason
    return row


def _short(value: float | None) -> float | None:
    """Four digits; None for what JSON has no number for."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def _op(case: str) -> str:
    return case.partition("[")[0]

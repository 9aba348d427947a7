"""Drawings of a run: the roofline of each device with every op on it, ratios between libraries.

Each as PNG and as SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from groundup.files import atomic_write
from groundup_conformance.bench.report import shortened

Row = Mapping[str, Any]
_MARKS: Final = {"launch": "x", "cache": "o", "memory": "s"}
_MOST_BARS: Final = 60


def draw(rows: Sequence[Row], summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write all drawings that the rows give. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, ceilings in summary["ceilings"].items():
        own = [row for row in rows if row["backend"] == ceilings["device"]]
        if own and ceilings["memory"]:
            file = folder / f"roofline-{name.replace(':', '-')}"
            written += _save(_roofline(own, ceilings), file)
    bars = _ratios(rows)
    if bars:
        written += _save(_bars(bars), folder / "ratios")
    return written


def _roofline(rows: Sequence[Row], ceilings: Mapping[str, Any]) -> Any:
    figure, axes = _figure(9, 6)
    best = max(ceilings["memory"].values())
    fastest = max((max(by.values()) for by in ceilings["bandwidth"].values()), default=best)
    drawn = [row for row in rows if row["flops"] and row["bytes"]]
    lowest = min((row["flops"] / row["bytes"] for row in drawn), default=0.1) / 2
    highest = max((row["flops"] / row["bytes"] for row in drawn), default=10) * 2
    for rate, style, label in ((best, "-", "memory"), (fastest, "--", "best cache")):
        tops = ceilings["flops"].values()
        top = max(tops) if tops else rate * highest
        knee = top / rate
        xs = [lowest, min(max(knee, lowest), highest), highest]
        axes.plot(xs, [min(rate * x, top) / 1e9 for x in xs], f"k{style}", lw=1, label=label)
    for regime in dict.fromkeys(row["regime"] for row in drawn):
        here = [row for row in drawn if row["regime"] == regime]
        xs = [row["flops"] / row["bytes"] for row in here]
        ys = [row["flops"] / row["device_seconds"] / 1e9 for row in here]
        axes.scatter(xs, ys, s=18, marker=_MARKS.get(regime, "^"), label=regime, alpha=0.7)
    for row in {row["op"]: row for row in drawn}.values():  # one name per op, or none can be read
        at = (row["flops"] / row["bytes"], row["flops"] / row["device_seconds"] / 1e9)
        axes.annotate(row["op"], at, fontsize=5, xytext=(2, 2), textcoords="offset points")
    axes.set(
        xscale="log", yscale="log", xlabel="flops per byte", ylabel="GFLOP/s",
        title=f"{ceilings['device']}: {ceilings['description']}",
    )  # fmt: skip
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3, which="both", lw=0.4)
    return figure


def _ratios(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """group -> {who: time over the first backend's, or over a peer's}."""
    found: dict[str, dict[str, float]] = {}
    first: dict[str, Row] = {}
    for row in rows:
        known = first.setdefault(row["group"], row)
        bars = found.setdefault(row["group"], {})
        for peer, ratio in row["ratio"].items():
            bars[f"{row['backend']}/{peer}"] = ratio["median"]
        if known is not row:
            key = f"{row['backend']}/{known['backend']}"
            bars[key] = row["device_seconds"] / known["device_seconds"]
    return {group: bars for group, bars in found.items() if bars}


def _bars(found: Mapping[str, Mapping[str, float]]) -> Any:
    """The groups with the largest and the smallest ratios; below 1 the first one is quicker."""
    names = sorted(found, key=lambda group: max(found[group].values()))
    if len(names) > _MOST_BARS:
        names = names[: _MOST_BARS // 2] + names[-_MOST_BARS // 2 :]
    kinds = list(dict.fromkeys(kind for group in names for kind in found[group]))
    figure, axes = _figure(9, 1 + 0.2 * len(names) * max(1, len(kinds) / 2))
    height = 0.8 / len(kinds)
    for place, kind in enumerate(kinds):
        here = [(i, found[group][kind]) for i, group in enumerate(names) if kind in found[group]]
        at = [i + place * height for i, _ in here]
        axes.barh(at, [value - 1 for _, value in here], height, left=1, label=kind)
    axes.axvline(1, color="k", lw=0.8)
    axes.set(xscale="log", xlabel="time / time (left of 1: the first is quicker)")
    axes.set_yticks(range(len(names)), [shortened(name, 48) for name in names], fontsize=6)
    axes.legend(fontsize=7)
    return figure


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, file: Path) -> list[Path]:
    paths = [file.with_name(f"{file.name}.{kind}") for kind in ("png", "svg")]
    for path in paths:
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=150, format=path.suffix[1:])
    return paths

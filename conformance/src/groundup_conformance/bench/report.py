"""The rows of a run as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Row = Mapping[str, Any]
_HEAD: Final = (
    "op/dtype/shape", "backend", "device", "cold", "call", "GB/s", "TFLOP/s", "of", "ceiling",
)  # fmt: skip
_UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def render(rows: Sequence[Row], summary: Mapping[str, Any]) -> str:
    """One line per row; then the ceilings and what the peers are."""
    peers = list(dict.fromkeys(name for row in rows for name in row["ratio"]))
    table = [[*_HEAD, *[f"/{peer}" for peer in peers]]]
    table += [_line(row, peers) for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    left = (0, 1, 8)
    lines = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    return "\n".join([*lines, "", *_notes(summary)])


def _line(row: Row, peers: Sequence[str]) -> list[str]:
    cells = [
        shortened(row["group"]),
        row["backend"],
        seconds(row["device_seconds"]),
        seconds(row["cold_seconds"]) if "cold_seconds" in row else "",
        seconds(row["wall_seconds"]),
        f"{row['gbs']:.1f}",
        f"{row['tflops']:.3f}",
        f"{row['share']:.0%}",
        row["ceiling"],
    ]
    return cells + [ratio(row["ratio"].get(peer)) for peer in peers]


def _notes(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, known in summary["ceilings"].items():
        memory = ", ".join(f"{kind} {rate / 1e9:.1f}" for kind, rate in known["memory"].items())
        rates = ", ".join(f"{dtype} {rate / 1e12:.3f}" for dtype, rate in known["flops"].items())
        start = f"; launch {seconds(known['launch'])}" if known["launch"] else ""
        lines.append(f"{name} ({known['description']}): GB/s {memory}; TFLOP/s {rates}{start}")
        lines += [f"beside {name}: {text}" for text in summary["peers"].get(name, [])]
    return lines + [f"no {peer}: {reason}" for peer, reason in summary["absent"].items()]


def shortened(name: str, most: int = 60) -> str:
    """A group's name that leaves room for the figures."""
    return name if len(name) <= most else f"{name[: most - 2]}.."


def seconds(value: float) -> str:
    """12.3 us."""
    for unit, name in _UNITS:
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value / 1e-9:.2g} ns"


def ratio(found: Mapping[str, float] | None) -> str:
    """1.32 [1.21, 1.50]: the median and the quartiles."""
    if found is None:
        return ""
    return f"{found['median']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"

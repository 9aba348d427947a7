"""What the terminal, the page and the Markdown show: families by dtypes, failures, worst ratios."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from groundup_conformance.ids import parse
from groundup_conformance.scorecard import STATUSES, Card, reached


@attrs.define
class Cell:
    """The cases of one family in one dtype."""

    counts: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(STATUSES, 0))
    ratio: float = 0.0

    @property
    def run(self) -> int:
        """How many were run, or should have been."""
        return sum(self.counts.values()) - self.counts["unsupported"]

    def __str__(self) -> str:
        if not self.run:
            return "-"
        mark = "!" if self.counts["failed"] else ""
        return f"{self.counts['passed']}/{self.run} {self.ratio:.2g}{mark}"


@attrs.frozen
class Row:
    """One family: a cell for each dtype, and what was left out."""

    family: str
    cells: dict[str, Cell]

    def total(self, status: str) -> int:
        """Cases of that status."""
        return sum(cell.counts[status] for cell in self.cells.values())


def rows(card: Card) -> tuple[list[str], list[Row]]:
    """(dtypes, rows), both in a fixed order."""
    order = [
        "float32",
        "float16",
        "bfloat16",
        "float64",
        "int32",
        "int64",
        "int8",
        "uint8",
        "bool",
        "-",
    ]
    found: dict[str, Row] = {}
    for case in card["cases"]:
        name = parse(case["id"])
        family = card["families"].get(name.op, name.op)
        row = found.setdefault(family, Row(family, {}))
        cell = row.cells.setdefault(name.dtype, Cell())
        cell.counts[case["status"]] += 1
        cell.ratio = max(cell.ratio, case["ratio"] or 0.0)
    used = {dtype for row in found.values() for dtype in row.cells if row.cells[dtype].run}
    columns = [d for d in order if d in used] + sorted(used - set(order))
    return columns, sorted(found.values(), key=lambda row: row.family)


def failures(card: Card) -> list[Card]:
    """The cases that failed, in order."""
    return [case for case in card["cases"] if case["status"] == "failed"]


def narrowest(card: Card, count: int = 5) -> list[Card]:
    """The passing cases that are nearest to their budget."""
    passed = [c for c in card["cases"] if c["status"] == "passed" and c["ratio"] is not None]
    return sorted(passed, key=lambda case: -case["ratio"])[:count]


def verdict(card: Card) -> str:
    """One line: which level holds."""
    best = reached(card)
    if card["selection"]:
        filters = " ".join(f"--{name} {value}" for name, value in card["selection"].items())
        return f"a part of the suite ({filters}): no level is claimed"
    if best is None:
        return "no level is reached" if card["levels"] else "tracks only"
    return f"level {best} is reached" + ("" if best == card["level"] else ", not the one asked for")


def summary(card: Card) -> str:
    """The totals in one line."""
    return ", ".join(f"{card['totals'][status]} {status}" for status in STATUSES)


def columns_of(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose cells stand below each other; the first column is left, the others right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]

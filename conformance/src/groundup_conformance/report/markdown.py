"""The scorecard as Markdown, for a README or a release."""

from __future__ import annotations

from groundup_conformance.report import table
from groundup_conformance.scorecard import Card


def render(card: Card) -> str:
    """A heading, the table of families, the verdict."""
    dtypes, rows = table.rows(card)
    head = ["family", *dtypes]
    body = [[r.family, *[str(r.cells.get(d, table.Cell())) for d in dtypes]] for r in rows]
    lines = [_line(head), _line(["---", *["---:"] * len(dtypes)]), *map(_line, body)]
    return "\n".join(
        [
            f"### {card['backend']}: {table.verdict(card)}",
            "",
            f"{card['device']}; {card['distribution']}, suite {card['suite']}, profile "
            f"{card['profile']}. Cells: passed/run, largest error over its budget.",
            "",
            *lines,
            "",
            f"{table.summary(card)}.",
            "",
        ]
    )


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"

"""The scorecard as one page without anything beside it."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Final

from groundup.files import atomic_write
from groundup_conformance.report import badge, table
from groundup_conformance.scorecard import STATUSES, Card

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.2rem .7rem;text-align:right}
th:first-child,td:first-child{text-align:left}tr:nth-child(even){background:#f5f5f5}
th{border-bottom:2px solid #ccc}.failed{color:#b3261e;font-weight:600}.none{color:#999}
code{font-size:.9em}details{margin:.5rem 0}summary{cursor:pointer}
"""
_MOST: Final = 500  # cases of one status that are listed


def render(card: Card) -> str:
    """The page."""
    title = f"{card['backend']}: {table.verdict(card)}"
    facts = (
        ("device", card["device"]),
        ("package", card["distribution"]),
        ("suite", f"{card['suite']}, ops {card['ops']}"),
        ("profile", card["profile"]),
        ("run", f"{card['seconds']} s, {card['platform']}, Python {card['python']}"),
    )
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1><p>{badge.render(card)}</p><table>",
        *[f"<tr><td>{escape(k)}<td style='text-align:left'>{escape(v)}" for k, v in facts],
        f"</table><p>{escape(table.summary(card))}</p>",
        *[f"<p class=failed>{escape(problem)}</p>" for problem in card["problems"]],
        _families(card),
        "<p>Cells: passed/run, and the largest error over its budget.</p>",
        *[_listing(card, status) for status in STATUSES if status not in ("passed", "unsupported")],
        _nearest(card),
        "</html>\n",
    ]
    return "\n".join(parts)


def write(card: Card, path: Path) -> None:
    """The page as a file."""
    with atomic_write(path) as temporary:
        temporary.write_text(render(card), encoding="utf-8")


def _families(card: Card) -> str:
    dtypes, rows = table.rows(card)
    lines = ["<table><tr><th>family" + "".join(f"<th>{escape(d)}" for d in dtypes)]
    for row in rows:
        cells = [row.cells.get(dtype, table.Cell()) for dtype in dtypes]
        lines.append(f"<tr><td>{escape(row.family)}" + "".join(_cell(cell) for cell in cells))
    return "\n".join([*lines, "</table>"])


def _cell(cell: table.Cell) -> str:
    kind = "failed" if cell.counts["failed"] else "none" if not cell.run else ""
    return f"<td class='{kind}'>{escape(str(cell))}"


def _listing(card: Card, status: str) -> str:
    cases = [case for case in card["cases"] if case["status"] == status]
    if not cases:
        return ""
    lines = [
        f"<li><code>{escape(case['id'])}</code> {escape(case.get('reason', ''))}"
        for case in cases[:_MOST]
    ]
    more = f"<p>and {len(cases) - _MOST} more</p>" if len(cases) > _MOST else ""
    opened = " open" if status == "failed" else ""
    return (
        f"<details{opened}><summary>{len(cases)} {status}</summary><ul>"
        + "\n".join(lines)
        + f"</ul>{more}</details>"
    )


def _nearest(card: Card) -> str:
    lines = [
        f"<tr><td><code>{escape(case['id'])}</code><td>{case['ratio']:.3g}"
        for case in table.narrowest(card, 10)
    ]
    return "<h2>Nearest to their budget</h2><table>" + "\n".join(lines) + "</table>"

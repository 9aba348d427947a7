"""A badge in SVG: what level a backend has, in which dtypes, with how many waivers."""

from __future__ import annotations

from html import escape
from pathlib import Path

from groundup.files import atomic_write
from groundup_conformance.report import table
from groundup_conformance.scorecard import Card, reached

_GREEN, _AMBER, _RED = "#2e7d32", "#b26a00", "#b3261e"
_LETTER = 6.6  # width of one in Verdana 11


def text(card: Card) -> str:
    """What the badge says."""
    best = reached(card)
    dtypes, _ = table.rows(card)
    passed = [track for track, c in card["by_track"].items() if c["passed"] and not c["failed"]]
    level = "no level" if best is None else f"L{best}"
    plus = "".join(f"+{track}" for track in passed)
    floats = " ".join(d for d in dtypes if d.startswith(("float", "bfloat")))
    waived = card["totals"]["waived"]
    return " · ".join(
        [f"{level}{plus}", floats, card["profile"], f"ops {card['ops']}", f"{waived} waivers"]
    )


def render(card: Card) -> str:
    """The SVG."""
    left, right = f"groundup {card['backend']}", text(card)
    color = _RED if reached(card) is None else _AMBER if card["totals"]["waived"] else _GREEN
    one, two = (int(len(part) * _LETTER) + 14 for part in (left, right))
    title = escape(f"{left}: {right}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{one + two}" height="20" role="img" '
        f'aria-label="{title}"><title>{title}</title>'
        f'<rect width="{one}" height="20" fill="#444"/>'
        f'<rect x="{one}" width="{two}" height="20" fill="{color}"/>'
        '<g fill="#fff" font-family="Verdana,sans-serif" font-size="11">'
        f'<text x="7" y="14">{escape(left)}</text>'
        f'<text x="{one + 7}" y="14">{escape(right)}</text></g></svg>\n'
    )


def write(card: Card, path: Path) -> None:
    """The SVG as a file."""
    with atomic_write(path) as temporary:
        temporary.write_text(render(card), encoding="utf-8")

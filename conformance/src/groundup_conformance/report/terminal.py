"""The scorecard in a terminal."""

from __future__ import annotations

from groundup_conformance.report import table
from groundup_conformance.scorecard import Card

_MOST = 20  # failures that are listed


def render(card: Card) -> str:
    """Who was tested, a line per family, what failed, what came near its budget, the verdict."""
    lines = [
        f"groundup-conformance {card['suite']}  {card['distribution']}  profile {card['profile']}",
        card["device"],
        "",
        *_table(card),
        "",
    ]
    failed = table.failures(card)
    for case in failed[:_MOST]:
        ratio = f" ratio {case['ratio']:.3g}" if case["ratio"] is not None else ""
        lines.append(f"FAILED {case['id']}{ratio}: {case.get('reason', '')}"[:240])
    if len(failed) > _MOST:
        lines.append(f"... and {len(failed) - _MOST} more")
    lines += [f"PROBLEM {problem}" for problem in card["problems"]]
    if not failed:
        near = table.narrowest(card)
        lines += [f"nearest to its budget: {c['ratio']:.2f} {c['id']}" for c in near[:3]]
    tracks = [f"track {name}: {_counts(counts)}" for name, counts in card["by_track"].items()]
    levels = [f"level {name}: {_counts(counts)}" for name, counts in card["levels"].items()]
    lines += [*levels, *tracks, f"{table.summary(card)} in {card['seconds']} s"]
    return "\n".join([*lines, table.verdict(card)])


def _table(card: Card) -> list[str]:
    dtypes, rows = table.rows(card)
    rest = ("blocked", "waived", "unsupported")
    head = ["family", *dtypes, *rest]
    body = [
        [
            row.family,
            *[str(row.cells.get(dtype, table.Cell())) for dtype in dtypes],
            *[str(row.total(status)) for status in rest],
        ]
        for row in rows
    ]
    return table.columns_of([head, *body])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nothing"

"""A profile's summary as tables for a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from groundup.profiler.summary import OpRow, Summary
from groundup.units import in_bytes, scaled

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH: Final = 110


def render(summary: Summary, limit: int) -> str:
    """Ops, modules and lanes, the `limit` largest rows of the first two, and totals."""
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, width=_WIDTH)
    for table in (_ops(summary, limit), _modules(summary, limit), _lanes(summary)):
        console.print(table)
    for line in _totals(summary):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return text.getvalue()


def _ops(summary: Summary, limit: int) -> Table:
    rows = summary.ops
    measured = any(row.device_seconds is not None for row in rows)
    columns = ["op", "device", "calls", "launches", "host ms", "host %"]
    columns += ["device ms"] if measured else []
    table = _table("ops", [*columns, "flops", "bytes", "flop/s", "B/s"], names=2)
    shown = rows[:limit]
    if rows[limit:]:
        shown.append(_together(rows[limit:]))
    for row in shown:
        times = [_ms(row.seconds), _share(row.seconds, summary.seconds)]
        times += [_ms(row.device_seconds)] if measured else []
        amounts = (row.flops, row.bytes, row.rate(row.flops), row.rate(row.bytes))
        work = [scaled(amount) if amount else "" for amount in amounts]
        counts = [str(row.calls), str(row.launches)]
        table.add_row(row.name, row.device, *counts, *times, *work)
    return table


def _together(rows: Sequence[OpRow]) -> OpRow:
    total = OpRow(f"{len(rows)} more", "")
    for row in rows:
        total.calls += row.calls
        total.launches += row.launches
        total.seconds += row.seconds
    return total


def _modules(summary: Summary, limit: int) -> Table:
    rows = summary.modules(each_layer=False)
    measured = any(row.device_seconds is not None for row in rows)
    columns = ["module", "class", "calls", "launches", "forward ms", "backward ms", "host %"]
    title = "modules, without those within them; * is all layers of a list"
    table = _table(title, columns + (["device ms"] if measured else []), names=2)
    for row in rows[:limit]:
        times = [_ms(row.forward), _ms(row.backward)]
        times += [_share(row.forward + row.backward, summary.seconds)]
        times += [_ms(row.device_seconds)] if measured else []
        table.add_row(row.path, row.kind, str(row.calls), str(row.launches), *times)
    return table


def _lanes(summary: Summary) -> Table:
    columns = ["lane", "launches", "host ms", "host %", "in ops and waits", "Python between ms"]
    table = _table("lanes", columns, names=1)
    for row in summary.lanes:
        times = [_ms(row.seconds), _share(row.seconds, summary.seconds)]
        inside = [_share(row.work, row.seconds), _ms(row.seconds - row.work)]
        table.add_row(row.name, str(row.launches), *times, *inside)
    return table


def _totals(summary: Summary) -> Iterator[str]:
    counts = summary.counts
    yield (
        f"{summary.seconds:.3f} s, {summary.work:.1%} of it in ops, waits and compilations; "
        f"{counts.launches:,} launches, {counts.compiled:,} kernels compiled, "
        f"{counts.allocations:,} allocations of {in_bytes(counts.bytes_allocated)}, "
        f"{counts.waits:,} waits for a device"
    )
    for name, peak in summary.peak_memory.items():
        yield f"peak memory of {name}'s pool: {in_bytes(peak)}"
    if any(row.device_seconds is not None for row in summary.ops):
        yield (
            "host ms is wall time, which includes waiting for each launch to be timed. device ms "
            "is time on the device, by its own clock or, if it has none, by the host's. "
            "Rates are by device ms where there is one."
        )
    else:
        yield "host ms is wall time; no device time was measured, rates are by host ms."


def _table(title: str, columns: Sequence[str], names: int) -> Table:
    """The first `names` columns are texts, the others numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < names else "right", no_wrap=i >= names)
    return table


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.2f}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""

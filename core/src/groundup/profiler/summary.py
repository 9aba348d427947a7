"""From events to rows: what took how long, by op, by module and by lane."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final, TypeVar

import attrs

from groundup.ops.op import Cost, Op
from groundup.profiler.counting import Counts
from groundup.profiler.recording import Event

_NUMBER: Final = re.compile(r"(?<![^.])\d+(?![^.])")  # a whole part of a path
Row = TypeVar("Row")
# Work that a program asks for, as against the Python around it.
_WORK: Final = ("op", "wait", "compile", "plan", "allocate", "trace")


@attrs.define
class OpRow:
    """All calls of one op on one device; waits, compilations and the like have rows of their own.

    `flops` and `bytes` are those of the ops that launched kernels, by their own `cost`: the least
    work they could do. An op that the device composes leaves them to its parts.
    """

    name: str
    device: str
    calls: int = 0
    launches: int = 0
    seconds: float = 0.0  # on the host, without nested ops
    device_seconds: float | None = None
    flops: int = 0
    bytes: int = 0

    def rate(self, amount: int) -> float:
        """`amount` (flops or bytes) per second, of the device if measured."""
        seconds = self.seconds if self.device_seconds is None else self.device_seconds
        return amount / seconds if seconds else 0.0


@attrs.define
class ModuleRow:
    """One module, or all layers of one name; what is in modules within it is in their rows."""

    path: str
    kind: str  # its class; "" for a module of a compiled program, which does not call it
    calls: int = 0
    forward: float = 0.0  # host seconds
    backward: float = 0.0
    device_seconds: float | None = None
    launches: int = 0


@attrs.define
class LaneRow:
    """One lane. `seconds` is all of it, `work` the part in ops, waits and compilations."""

    name: str
    seconds: float = 0.0
    work: float = 0.0
    launches: int = 0


class Summary:
    """A profile in numbers. Rows come with the most time first; times are seconds."""

    def __init__(
        self, events: Sequence[Event], seconds: float, counts: Counts, kinds: Mapping[str, str]
    ) -> None:
        """`kinds` are the classes of modules by path."""
        self.events = events
        self.seconds = seconds
        self.counts = counts
        self._kinds = kinds

    @cached_property
    def ops(self) -> list[OpRow]:
        """By op and device."""
        rows: dict[tuple[str, str], OpRow] = {}
        costs: dict[tuple[object, ...], Cost] = {}
        for event in self.events:
            if event.kind not in _WORK:
                continue
            name = event.name if event.kind in ("op", "wait") else f"({event.kind})"
            device = "" if event.device is None else event.device.info.name
            row = rows.setdefault((name, device), OpRow(name, device))
            row.calls += 1
            row.seconds += event.own_seconds
            row.device_seconds = _sum(row.device_seconds, event.device_seconds)
            if event.op is not None and event.launches and not event.parts:
                cost = _cost(event, event.op, costs)
                row.launches += event.launches
                row.flops += cost.flops
                row.bytes += cost.bytes
        return _sorted(rows.values(), lambda row: row.seconds)

    def modules(self, each_layer: bool = True) -> list[ModuleRow]:
        """By path and class; without `each_layer`, h.0.ln_1 and h.1.ln_1 are one row, h.*.ln_1."""
        rows: dict[tuple[str, str], ModuleRow] = {}
        for event in self.events:
            if not event.module:
                continue
            path, kind = event.module, self._kinds.get(event.module, "")
            path = path if each_layer else _NUMBER.sub("*", path)
            row = rows.setdefault((path, kind), ModuleRow(path, kind))
            row.calls += event.kind == "module"
            if event.lane == "backward":
                row.backward += event.own_seconds
            else:
                row.forward += event.own_seconds
            row.device_seconds = _sum(row.device_seconds, event.device_seconds)
            if event.op is not None and not event.parts:
                row.launches += event.launches
        return _sorted(rows.values(), lambda row: row.forward + row.backward)

    @cached_property
    def lanes(self) -> list[LaneRow]:
        """By lane; "other" is in none, and includes the time between all events."""
        rows: dict[str, LaneRow] = {}
        for event in self.events:
            row = rows.setdefault(event.lane, LaneRow(event.lane))
            row.seconds += event.own_seconds
            if event.kind in _WORK:
                row.work += event.own_seconds
            if event.op is not None and not event.parts:
                row.launches += event.launches
        other = rows.setdefault("other", LaneRow("other"))
        other.seconds += self.seconds - sum(row.seconds for row in rows.values())
        return _sorted(rows.values(), lambda row: row.seconds)

    @property
    def work(self) -> float:
        """The share of the time that is in ops, waits, compilations and allocations, 0 to 1."""
        return sum(row.work for row in self.lanes) / self.seconds if self.seconds else 0.0

    @property
    def peak_memory(self) -> Mapping[str, int]:
        """Bytes of each device's pool that were in use at most, as seen at the ends of ops."""
        peaks: dict[str, int] = {}
        for event in self.events:
            if event.device is not None:
                name = event.device.info.name
                peaks[name] = max(peaks.get(name, 0), event.memory)
        return peaks


def _cost(event: Event, op: Op, known: dict[tuple[object, ...], Cost]) -> Cost:
    key = (op, *event.inputs)
    if key not in known:
        known[key] = op.cost(*event.inputs)
    return known[key]


def _sum(total: float | None, more: float | None) -> float | None:
    """Of what was measured; None if nothing was."""
    if more is None:
        return total
    return more if total is None else total + more


def _sorted(rows: Iterable[Row], size: Callable[[Row], float]) -> list[Row]:
    return sorted(rows, key=size, reverse=True)

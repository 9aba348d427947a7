"""A profile as a file of the trace event format, for chrome://tracing and https://ui.perfetto.dev.

Source: "Trace Event Format", https://chromium.googlesource.com/catapult (docs: complete events "X",
counters "C", metadata "M"; times are in microseconds). Lanes are threads of one process; each
device with measured times is a process of its own, whose launches stand where the host made them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from groundup.files import StrPath, atomic_write
from groundup.profiler.recording import Event
from groundup.profiler.whereabouts import OTHER
from groundup.spans import LANES

_HOST: Final = 1  # process number; devices follow
_LANES: Final = (*LANES, OTHER)


def write(path: StrPath, events: Sequence[Event]) -> None:
    """Write all events. Raises CheckpointError naming the path if that fails."""
    found = {"traceEvents": list(trace_events(events)), "displayTimeUnit": "ms"}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(found), "utf-8")


def trace_events(events: Sequence[Event]) -> Iterator[dict[str, Any]]:
    """The entries of `traceEvents`."""
    yield from _named(_HOST, "host", dict(enumerate(_LANES)))
    devices = {e.device.info.name for e in events if e.device and e.device_seconds is not None}
    pids = {name: _HOST + 1 + i for i, name in enumerate(sorted(devices))}
    for name, pid in pids.items():
        yield from _named(pid, name, {0: "kernels"})
    memory: dict[str, int] = {}
    for event in sorted(events, key=lambda e: e.end):
        yield _complete(event, _HOST, _LANES.index(event.lane), event.seconds)
        if event.device is None:
            continue
        name = event.device.info.name
        if event.device_seconds is not None:
            yield _complete(event, pids[name], 0, event.device_seconds)
        if memory.get(name) != event.memory:
            memory[name] = event.memory
            yield {
                "name": f"memory of {name}", "ph": "C", "pid": _HOST, "tid": 0,
                "ts": event.end * 1e6, "args": {"bytes in use": event.memory},
            }  # fmt: skip


def _named(pid: int, process: str, threads: dict[int, str]) -> Iterator[dict[str, Any]]:
    common = {"ph": "M", "pid": pid}
    yield {"name": "process_name", "tid": 0, "args": {"name": process}, **common}
    for tid, name in threads.items():
        yield {"name": "thread_name", "tid": tid, "args": {"name": name}, **common}
        yield {"name": "thread_sort_index", "tid": tid, "args": {"sort_index": tid}, **common}


def _complete(event: Event, pid: int, tid: int, seconds: float) -> dict[str, Any]:
    return {
        "name": event.name if event.kind != "plan" else f"lower {event.name}",
        "cat": event.kind, "ph": "X", "pid": pid, "tid": tid,
        "ts": event.start * 1e6, "dur": seconds * 1e6, "args": _details(event),
    }  # fmt: skip


def _details(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if event.module:
        found["module"] = event.module
    if event.op is not None:
        found["op"] = repr(event.op)
        found["inputs"] = [repr(spec) for spec in event.inputs]
        found["launches"] = event.launches
        if event.launches and not event.parts:
            cost = event.op.cost(*event.inputs)
            found |= {"flops": cost.flops, "bytes": cost.bytes}
    if event.device_seconds is not None:
        found["device_us"] = event.device_seconds * 1e6
    return found

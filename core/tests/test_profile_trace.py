"""The trace file, read by the rules of the trace event format."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import groundup as gu
from groundup import nn
from groundup.errors import CheckpointError


@pytest.fixture
def trace(tmp_path: Path) -> dict[str, Any]:
    gu.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).to("cpu")
    with gu.profile(device_time=True) as p:
        with gu.span("data"):
            x = gu.ones(4, 2, device="cpu")
        (model(x) ** 2).mean().backward()
        x.numpy()
    p.write_trace(tmp_path / "trace.json")
    found: dict[str, Any] = json.loads((tmp_path / "trace.json").read_text("utf-8"))
    return found


def events(trace: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


def test_every_event_has_what_its_phase_demands(trace: dict[str, Any]) -> None:
    assert isinstance(trace["traceEvents"], list)
    assert trace["displayTimeUnit"] in ("ms", "ns")
    for event in trace["traceEvents"]:
        assert event["ph"] in ("X", "C", "M")
        assert isinstance(event["name"], str)
        assert event["name"]
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["args"], dict)
        if event["ph"] != "M":
            assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert isinstance(event["cat"], str)
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())


def test_events_of_one_thread_nest(trace: dict[str, Any]) -> None:
    """Viewers draw a thread's events as a stack: they may lie within another, not overlap it."""
    threads = defaultdict(list)
    for event in events(trace, "X"):
        threads[event["pid"], event["tid"]].append((event["ts"], -event["dur"]))
    for spans in threads.values():
        stack: list[float] = []
        for start, minus in sorted(spans):
            end = start - minus
            while stack and stack[-1] <= start + 1e-3:
                stack.pop()
            assert not stack or end <= stack[-1] + 1e-3
            stack.append(end)


def test_lanes_and_devices_are_named(trace: dict[str, Any]) -> None:
    named = [e for e in events(trace, "M") if e["name"] == "thread_name"]
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in named}
    used = {lanes[e["pid"], e["tid"]] for e in events(trace, "X")}
    assert {"data", "forward", "backward", "kernels"} <= used
    processes = [e["args"]["name"] for e in events(trace, "M") if e["name"] == "process_name"]
    assert processes == ["host", "cpu"]


def test_ops_carry_what_is_known_of_them(trace: dict[str, Any]) -> None:
    linear = next(e for e in events(trace, "X") if e["name"] == "linear")
    assert linear["cat"] == "op"
    args = linear["args"]
    assert args["module"] == "0"
    assert args["inputs"] == ["float32[4, 2]", "float32[3, 2]", "float32[3]"]
    assert (args["launches"], args["bytes"]) == (1, 4 * (8 + 6 + 3 + 12))
    assert args["flops"] > 0
    assert args["device_us"] > 0


def test_memory_is_a_counter_in_time_order(trace: dict[str, Any]) -> None:
    counters = events(trace, "C")
    assert counters
    assert {e["name"] for e in counters} == {"memory of cpu"}
    times = [e["ts"] for e in counters]
    assert times == sorted(times)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with gu.profile() as p:
        pass
    with pytest.raises(CheckpointError, match="missing"):
        p.write_trace(tmp_path / "missing" / "trace.json")

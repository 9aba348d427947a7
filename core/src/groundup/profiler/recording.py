"""What a profile records: one event for every op, module, span, wait and compilation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from groundup.layout import Spec
from groundup.profiler.whereabouts import OTHER, Whereabouts
from groundup.spans import current

if TYPE_CHECKING:
    from groundup.backends.api import Device
    from groundup.graph import Node
    from groundup.ops.op import Op
    from groundup.tensor import Tensor

_FREE: Final = (OTHER, "compiled")  # lanes that a program's nodes may take over
_clock: Final = time.perf_counter


class ProgramNode(Protocol):
    """A node of a compiled program, which stands above this module."""

    op: Any
    inputs: Sequence[Any]
    scope: str
    lane: str


@attrs.define(eq=False)
class Event:
    """A stretch of the thread's time. Seconds count from the beginning of the profile."""

    kind: str  # "op", "module", "wait", "compile", "plan", "allocate", "trace" or "span"
    name: str
    lane: str
    module: str  # the path of the module that it belongs to, "" for none
    start: float
    end: float = 0.0
    inside: float = 0.0  # seconds of the events within it
    op: Op | None = None
    inputs: tuple[Spec, ...] = ()
    device: Device | None = None
    launches: int = 0  # its own and those of ops within it
    parts: int = 0  # ops within it: it is composed of them
    device_seconds: float | None = None  # None: not measured
    memory: int = 0  # bytes of the device's pool in use at the end

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return self.end - self.start

    @property
    def own_seconds(self) -> float:
        """Without the events within it."""
        return self.end - self.start - self.inside


class Recording:
    """The recorder of `groundup.spans` that keeps all events, in the order of their beginnings."""

    def __init__(self, meet: Callable[[Device], None]) -> None:
        """`meet` is called with every device before its first op."""
        self.events: list[Event] = []
        self.devices: list[Device] = []
        self._meet = meet
        self.began = _clock()
        self.ended = 0.0
        self._stack: list[Event] = []
        self._here = Whereabouts()

    @property
    def kinds(self) -> dict[str, str]:
        """The class of the module with a path."""
        return self._here.kinds

    def finish(self) -> None:
        """The profile ends."""
        self.ended = _clock() - self.began

    # ---- what spans.Recorder asks for ----

    def begin(self, kind: str, name: str) -> None:
        """A span begins; see `groundup.spans`. Within a trace nothing is recorded: nothing runs."""
        if kind == "trace":
            current.recorder = None
        event = self._push(Event(kind, name, self._here.lane, self._here.module, 0.0))
        self._here.span(kind, name)
        event.lane = self._here.lane
        self._start()

    def begin_module(self, module: Any) -> None:
        """A module is called."""
        event = self._push(Event("module", "", "", "", 0.0))
        self._here.call(module)
        event.name = event.module = self._here.module
        event.lane = self._here.lane
        self._start()

    def begin_update(self, op: Op, inputs: tuple[Tensor, ...]) -> None:
        """An op runs in place."""
        self.begin_op(op, inputs, None)

    def begin_launch(self, node: ProgramNode, device: Device) -> None:
        """A launch of a compiled program: nodes know where they were traced."""
        self._greet(device)
        lane = self._here.lane
        if lane in _FREE:
            lane = node.lane or "compiled"
        specs = tuple([value.spec for value in node.inputs])
        event = Event("op", node.op.label, lane, node.scope, 0.0, op=node.op, inputs=specs)
        event.device, event.launches = device, device.launches
        self._push(event)
        self._start()

    def at(self, node: Node) -> None:
        """The ops that follow are the gradient of `node`, and belong to the module that made it."""
        self._here.gradient_of(node)

    def end(self) -> None:
        """What began last has ended."""
        now = _clock() - self.began
        event = self._stack.pop()
        self._here.leave()
        event.end = now
        if event.kind == "trace":
            current.recorder = self
        if self._stack:
            self._stack[-1].inside += now - event.start
        device = event.device
        if device is not None:
            event.launches = device.launches - event.launches
            event.memory = device.pool.in_use

    # ---- ops ----

    def begin_op(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> None:
        """An op is applied."""
        if inputs:
            device = inputs[0]._device
        assert device is not None
        self._greet(device)
        specs = tuple([t._view.layout.spec for t in inputs])
        if self._stack and self._stack[-1].op is not None:
            self._stack[-1].parts += 1
        here = self._here
        event = Event("op", op.label, here.lane, here.module, 0.0, 0.0, 0.0, op, specs, device)
        event.launches = device.launches
        self._push(event)
        self._start()

    def note_results(self, results: Any) -> None:
        """What the op gave: its graph nodes belong to the module that is running."""
        recorded = self._here.made(results)
        if recorded and self._stack[-1].lane == OTHER:
            self._stack[-1].lane = "forward"

    def add_device_seconds(self, seconds: float) -> None:
        """Of a launch of the op that is running."""
        event = self._stack[-1]
        event.device_seconds = (event.device_seconds or 0.0) + seconds

    # ---- inside ----

    def _greet(self, device: Device) -> None:
        if device not in self.devices:
            self.devices.append(device)
            self._meet(device)

    def _push(self, event: Event) -> Event:
        self._here.enter()
        self._stack.append(event)
        self.events.append(event)
        return event

    def _start(self) -> None:
        """The clock is read last, so that keeping books counts as time outside the event."""
        self._stack[-1].start = _clock() - self.began

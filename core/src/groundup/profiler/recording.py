"""What a profile records: one event for every op, module, span, wait and compilation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from groundup.layout import Spec
from groundup.spans import LANES, current

if TYPE_CHECKING:
    from groundup.backends.api import Device
    from groundup.graph import Node
    from groundup.ops.op import Op
    from groundup.tensor import Tensor

OTHER: Final = "other"  # the lane of what is on no other
_FREE: Final = (OTHER, "forward")  # lanes that a span may take over
_clock: Final = time.perf_counter


class ProgramNode(Protocol):
    """A node of a compiled program, which stands above this module."""

    op: Any
    inputs: Sequence[Any]
    scope: str


@attrs.define(eq=False)
class Event:
    """A stretch of the thread's time. Seconds count from the beginning of the profile."""

    kind: str  # "op", "module", "wait", "compile", "plan", "allocate", "trace", "copy" or "span"
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
        self._stack: list[tuple[Event, str, str]] = []  # with the lane and module before it
        self._lane = OTHER
        self._module = ""
        self._roots: list[Any] = []  # kept, since paths go by identity
        self._paths: dict[int, str] = {}
        self.kinds: dict[str, str] = {}  # the class of the module with a path
        self._made_in: dict[int, str] = {}  # graph node -> module

    def finish(self) -> None:
        """The profile ends."""
        self.ended = _clock() - self.began

    # ---- what spans.Recorder asks for ----

    def begin(self, kind: str, name: str) -> None:
        """A span begins; see `groundup.spans`. Within a trace nothing is recorded: nothing runs."""
        if kind == "trace":
            current.recorder = None
        self._push(Event(kind, name, self._lane, self._module, 0.0))
        if kind == "span" and name in LANES and self._lane in _FREE:
            self._lane = self._stack[-1][0].lane = name
        self._start()

    def begin_module(self, module: Any) -> None:
        """A module is called."""
        path = self._path(module)
        self._push(Event("module", path, self._lane, path, 0.0))
        self._module = path
        if self._lane == OTHER:
            self._lane = self._stack[-1][0].lane = "forward"
        self._start()

    def begin_update(self, op: Op, inputs: tuple[Tensor, ...]) -> None:
        """An op runs in place."""
        self.begin_op(op, inputs, None)

    def begin_launch(self, node: ProgramNode | None, device: Device) -> None:
        """A launch of a compiled program: nodes know the module that they were traced in."""
        self._greet(device)
        lane = "compiled" if self._lane == OTHER else self._lane
        event = Event("op", "assign", lane, "", 0.0, device=device, launches=device.launches)
        if node is not None:
            event.name, event.op, event.module = node.op.name, node.op, node.scope
            event.inputs = tuple([value.spec for value in node.inputs])
        self._push(event)
        self._start()

    def at(self, node: Node) -> None:
        """The ops that follow are the gradient of `node`, and belong to the module that made it."""
        self._module = self._made_in.get(node.sequence, "")

    def end(self) -> None:
        """What began last has ended."""
        now = _clock() - self.began
        event, self._lane, self._module = self._stack.pop()
        event.end = now
        if event.kind == "trace":
            current.recorder = self
        if self._stack:
            self._stack[-1][0].inside += now - event.start
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
        if self._stack and self._stack[-1][0].op is not None:
            self._stack[-1][0].parts += 1
        event = Event("op", op.name, self._lane, self._module, 0.0, 0.0, 0.0, op, specs, device)
        event.launches = device.launches
        self._push(event)
        self._start()

    def note_results(self, results: Any) -> None:
        """What the op gave: its graph nodes belong to the module that is running."""
        for t in results if isinstance(results, tuple) else (results,):
            node = t._node
            if node is not None and node.sequence:  # not a leaf
                self._made_in[node.sequence] = self._module
                event = self._stack[-1][0]
                if event.lane == OTHER:
                    event.lane = "forward"

    def add_device_seconds(self, seconds: float) -> None:
        """Of a launch of the op that is running."""
        event = self._stack[-1][0]
        event.device_seconds = (event.device_seconds or 0.0) + seconds

    # ---- inside ----

    def _greet(self, device: Device) -> None:
        if device not in self.devices:
            self.devices.append(device)
            self._meet(device)

    def _push(self, event: Event) -> None:
        self._stack.append((event, self._lane, self._module))
        self.events.append(event)

    def _start(self) -> None:
        """The clock is read last, so that keeping books counts as time outside the event."""
        self._stack[-1][0].start = _clock() - self.began

    def _path(self, module: Any) -> str:
        found = self._paths.get(id(module))
        if found is None:
            self._learn(module)
            found = self._paths[id(module)]
        return found

    def _learn(self, root: Any) -> None:
        """Name a module that nobody has named yet, and all below it, as `named_modules` does."""
        kind = type(root).__name__
        prefix = f"{kind}." if self._roots else ""
        self._roots.append(root)
        for path, module in root.named_modules():
            name = self._paths.setdefault(id(module), f"{prefix}{path}" if path else kind)
            self.kinds.setdefault(name, type(module).__name__)

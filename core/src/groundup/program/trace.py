"""Tracing: run a function once on tensors without memory, and write down what it does.

The tracer stands where ops would run, below autocast and other interceptors, so it sees what a
device would: primitives, ops with native kernels, and the parts of the others. Backward passes and
optimizers go the same way. What does not pass there (writes, gradients, random states, reads by
the host, attributes of modules) is told to it by `graph.mode.trace`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final, NoReturn, TypeVar

import attrs

from groundup import dispatch
from groundup.backends.api import Device, View
from groundup.errors import TraceError
from groundup.graph import Leaf, Node, Setting, beneath, mode
from groundup.layout import Layout, Spec
from groundup.ops.creation import Full
from groundup.ops.lower import Adjust, Compose, MakeView
from groundup.ops.movement import Assign, Contiguous, Expand
from groundup.ops.op import Op
from groundup.ops.rounding import Cast
from groundup.profiler.whereabouts import OTHER, Follower
from groundup.program import program as ir
from groundup.program.guards import Guards
from groundup.program.program import Effect, Program, Value
from groundup.program.storage import Storage, derived, has_memory, symbolic
from groundup.program.views import PutView, StridedView
from groundup.spans import current
from groundup.tensor import Tensor

T = TypeVar("T")
# Modules of groundup that users would call their own code: frames there are named in errors.
_USER_PARTS: Final = ("groundup.models", "groundup.train", "groundup.generate", "groundup.data")


@attrs.define(eq=False)
class LeafGrad:
    """A leaf from outside whose gradient the function reads or writes."""

    leaf: Leaf
    argument: int | None  # which tensor argument is the leaf; None: it is captured
    before: Tensor | None  # its gradient before the trace
    given: Tensor | None = None  # stands for `before` during the trace
    spec: Spec | None = None


class Tracer:
    """One trace. It is `graph.mode.trace` while it runs (see `graph.Trace` for its methods)."""

    def __init__(self) -> None:
        self.device: Device | None = None
        self.inputs: list[Value] = []
        self.names: dict[Value, str] = {}
        self.nodes: list[ir.Node] = []
        self.captured: dict[int, Storage] = {}  # by the identity of the root view
        self.guards = Guards()
        self.grads: dict[int, LeafGrad] = {}  # by the identity of the leaf
        self._outer_leaves: dict[int, int | None] = {}  # known ones, with their argument
        self._literals: set[int] = set()
        self._undo: list[Callable[[], None]] = []
        self._follower = Follower()
        self._here = self._follower.here
        self._refused: TraceError | None = None
        self._keep: list[object] = []  # what is known by its identity must not die meanwhile

    # ---- running ----

    def run(self, function: Callable[[], Any]) -> Any:
        """`function()` traced. After an error everything is as it was before."""

        def traced() -> Any:
            recorder, current.recorder = current.recorder, self._follower
            try:
                with Setting(trace=self), beneath(self.handle):
                    result = function()
            finally:
                current.recorder = recorder
            if self._refused is not None:  # the function caught it, and went another way
                raise self._refused
            return result

        return self.guarded(traced)

    def guarded(self, function: Callable[[], T]) -> T:
        """`function()`; if it raises, what the trace changed is taken back."""
        try:
            return function()
        except BaseException:
            for action in reversed(self._undo):
                action()
            self.restore()
            raise

    def restore(self) -> None:
        """Gradients and versions of outside tensors as they were before the trace."""
        for entry in self.grads.values():
            entry.leaf.grad = entry.before
        for storage in self.captured.values():
            storage.root.version = storage.version

    # ---- values ----

    def input(self, spec: Spec, name: str) -> Tensor:
        """A new input of the program, as a tensor."""
        assert self.device is not None
        value = Value(Layout.contiguous(spec))
        self.inputs.append(value)
        self.names[value] = name
        return self.stand_in(value)

    def stand_in(self, value: Value) -> Tensor:
        """A tensor that holds a value of the program."""
        assert self.device is not None
        return Tensor(symbolic(value.layout, value), self.device, None, 0)

    def value(self, view: View) -> Value:
        """What the view shows now, as a value of the program."""
        storage = self._storage(view.root or view)
        root = storage.root
        if view.layout is storage.value.layout and view.offset == root.offset:
            return storage.value
        assert self.device is not None
        offset = (view.offset - root.offset) // self.device.info.itemsize(view.layout.dtype)
        key = (view.layout, offset)
        if key not in storage.windows:
            layout = view.layout
            op = StridedView(shape=layout.shape, strides=layout.strides, offset=offset)
            storage.windows[key] = self._emit(op, (storage.value,), (layout,))[0]
        return storage.windows[key]

    def _storage(self, root: View) -> Storage:
        buffer = root.buffer
        if type(buffer) is Storage:
            return buffer
        found = self.captured.get(id(root))
        if found is None:
            found = self.captured[id(root)] = self._capture(root)
        return found

    def _capture(self, root: View) -> Storage:
        """Memory from outside: a Python number that the core keeps as a constant, or state."""
        if isinstance(root, dispatch.Number):
            op = Full(shape=(), value=root.number, dtype=root.layout.dtype)
            return Storage(root, self._emit(op, (), (root.layout,))[0])
        value = Value(root.layout)
        return Storage(root, value, value)

    def _emit(
        self, op: Op, inputs: tuple[Value, ...], layouts: Sequence[Layout]
    ) -> tuple[Value, ...]:
        outputs = tuple([Value(layout) for layout in layouts])
        lane = self._here.lane
        lane = "" if lane == OTHER else lane
        self.nodes.append(ir.Node(op, inputs, outputs, self._here.module, lane))
        return outputs

    # ---- ops ----

    def handle(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
        """Instead of `dispatch.run`: the same decisions, written down."""
        device = self._on(inputs[0]._device if inputs else device)
        recorded = False
        for t in inputs:
            if t._device is not device:
                raise dispatch.mismatch(op, inputs)
            recorded = recorded or t._node is not None
            self._see(t)
        outer = self._here.lane
        if outer == OTHER and recorded and mode.grad and op.differentiable:
            self._here.lane = "forward"
        results = self._written_down(op, inputs, device, recorded)
        self._here.lane = outer
        self._here.made(results)
        return results

    def _written_down(
        self, op: Op, inputs: tuple[Tensor, ...], device: Device, recorded: bool
    ) -> Any:
        signature = (op, *[t._view.layout for t in inputs])
        plan = device.plans.get(signature) or dispatch.make_plan(op, signature, device)
        kind = type(plan)
        if kind is Adjust:
            return self.handle(op, self._adjusted(plan, inputs), device)
        if kind is Compose:
            return dispatch.compose(op, inputs, device, recorded and mode.grad)
        if kind is MakeView:
            view = inputs[0]._view
            outs = tuple([derived(view, layout, at) for layout, at in plan.views])
        else:
            values = tuple([self.value(t._view) for t in inputs])
            made = self._emit(op, values, plan.outputs)
            outs = tuple([symbolic(value.layout, value) for value in made])
        if recorded and mode.grad and op.differentiable:
            return dispatch.record(op, inputs, outs, device)
        tensors = tuple([Tensor(view, device, None, 0) for view in outs])
        return tensors if len(tensors) > 1 else tensors[0]

    def _on(self, device: Device | None) -> Device:
        assert device is not None, "a creation op needs a device"
        if self.device is None:
            self.device = device
        if device is not self.device:
            self.refuse(
                f"ops run on {self.device.info.name} and on {device.info.name}",
                "a compiled function has one device",
            )
        return device

    def _adjusted(self, plan: Adjust, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        changed = []
        for t, (dtype, shape) in zip(inputs, plan.changes, strict=True):
            if dtype is not None:
                t = self.handle(Cast(dtype=dtype), (t,), None)
            if shape is not None:
                t = self.handle(Expand(shape=shape), (t,), None)
            changed.append(t)
        return tuple(changed)

    def _see(self, t: Tensor) -> None:
        """Note what a tensor from outside is, since the program is bound to it."""
        if not has_memory(t._view):
            return
        node = t._node
        if isinstance(node, Node) and mode.grad and node.kept is not None:
            self.refuse(
                f"a captured {t.spec} is the result of recorded ops outside",
                "detach() it, or compute it inside the compiled function",
            )
        if isinstance(node, Leaf):
            self._outer_leaves.setdefault(id(node), None)
        self.guards.captured(t)

    # ---- what does not come by as an op: see graph.Trace ----

    def update(self, op: Op, inputs: tuple[Tensor, ...]) -> None:
        """The op, and its aliased outputs written into the storages that they replace."""
        with Setting(grad=False):
            if type(op) is Assign:
                self._on(inputs[0]._device)
                op.infer(inputs[0].spec, inputs[1].spec)
                self._see(inputs[0])
                self._see(inputs[1])
                self._write(inputs[0]._view, self.value(inputs[1]._view))
                return
            results = self.handle(op, inputs, None)
        results = results if isinstance(results, tuple) else (results,)
        for output, index in op.aliases.items():
            self._write(inputs[index]._view, self.value(results[output]._view))

    def _write(self, view: View, value: Value) -> None:
        storage = self._storage(view.root or view)
        root = storage.root
        if view.layout is root.layout and view.offset == root.offset and root.layout.is_row_major:
            if value.layout is not root.layout:
                value = self._emit(Contiguous(), (value,), (root.layout,))[0]
            storage.write(value)
            return
        if not root.layout.is_row_major:
            self.refuse("memory of another library with strides is written", "clone() it first")
        assert self.device is not None
        offset = (view.offset - root.offset) // self.device.info.itemsize(view.layout.dtype)
        layout = view.layout
        op = PutView(shape=layout.shape, strides=layout.strides, offset=offset)
        storage.write(self._emit(op, (storage.value, value), (root.layout,))[0])

    def owns(self, tensor: Tensor) -> bool:
        """Whether the tensor has no memory."""
        return not has_memory(tensor._view)

    def uses(self, device: Device) -> bool:
        """Whether it is the program's device; the first that is asked for is."""
        return self.device is None or device is self.device

    def keep(self, tensor: Tensor) -> None:
        """A literal: a constant, and what is written to it does not outlive the run."""
        self._keep.append(tensor)
        self._literals.add(id(tensor._view))

    def touch(self, leaf: Leaf, owner: Tensor | None) -> None:
        """Put an input of the program in place of a gradient from before the call."""
        if id(leaf) in self.grads:
            return
        if owner is not None and has_memory(owner._view):
            self._outer_leaves.setdefault(id(leaf), None)
            self.guards.captured(owner)
        if id(leaf) not in self._outer_leaves:
            return  # it was made in the function, and ends with it
        entry = LeafGrad(leaf, self._outer_leaves[id(leaf)], leaf.grad)
        self.grads[id(leaf)] = entry
        if entry.before is not None:
            self._on(entry.before.device)
            entry.spec = entry.before.spec
            entry.given = leaf.grad = self.input(entry.spec, f"grad.{len(self.grads) - 1}")

    def argument_leaf(self, leaf: Leaf, index: int, before: Tensor | None) -> None:
        """A tensor argument is a leaf; `leaf` stands for it, with its gradient."""
        self._outer_leaves[id(leaf)] = index
        leaf.grad = before
        self._keep.append(leaf)

    def watch(self, name: str, read: Callable[[], object], *keep: object) -> None:
        """Trace anew when `read` gives something else."""
        self.guards.watch(name, read, *keep)

    def enter(self, module: Any) -> None:
        """The program depends on the attributes of a module that is called."""
        self.guards.module(module)

    def undo(self, action: Callable[[], None]) -> None:
        """Called if the trace fails."""
        self._undo.append(action)

    def refuse(self, what: str, hint: str) -> NoReturn:
        """Raises TraceError with the user's line."""
        self._refused = TraceError(f"{user_line()}: {what} in a compiled function", hint=hint)
        raise self._refused

    # ---- the end ----

    def finish(self, outputs: Sequence[View], names: dict[int, str]) -> Program:
        """The program. `names` are of captured tensors, by the identity of their root view."""
        values = tuple(map(self.value, outputs))
        state = [s for s in self.captured.values() if s.captured is not None]
        effects = tuple(
            Effect(s.captured, s.value)
            for s in state
            if s.captured is not None and s.written and id(s.root) not in self._literals
        )
        for storage in state:
            if storage.captured is not None and id(storage.root) in names:
                self.names[storage.captured] = names[id(storage.root)]
        captured = tuple(s.captured for s in state if s.captured is not None)
        inputs = tuple(self.inputs)
        return Program(inputs, captured, tuple(self.nodes), values, effects, names=self.names)

    def state(self) -> dict[Value, View]:
        """The memory of each captured value."""
        return {s.captured: s.root for s in self.captured.values() if s.captured is not None}

    def is_literal(self, tensor: Tensor) -> bool:
        """Whether a tensor with memory was made by the function itself."""
        return id(tensor._view.root or tensor._view) in self._literals


def user_line() -> str:
    """file:line of the innermost frame that is not groundup's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_ours(module: str) -> bool:
    inside = module == "groundup" or module.startswith("groundup.")
    return inside and not module.startswith(_USER_PARTS)

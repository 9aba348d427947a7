"""The recorded graph: nodes, leaves and the per-thread mode. `dispatch` writes it, `autograd`
reads it.

A tensor points to the node that made it; a node points to the nodes of its inputs, never to its own
outputs, so a graph holds no cycle and dies with the last tensor that needs it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

from groundup.errors import AutogradError, ConfigError
from groundup.layout import Spec

if TYPE_CHECKING:
    from groundup.backends.api import Device, View
    from groundup.ops.op import Op
    from groundup.tensor import Tensor

Hook: TypeAlias = Callable[["Tensor"], "Tensor | None"]
Interceptor: TypeAlias = Callable[["Op", tuple["Tensor", ...], "Device | None"], Any]
_sequence = itertools.count(1)
_changes = itertools.count(1)


def next_sequence() -> int:
    """A number that grows with every node: inputs of a node always have smaller ones."""
    return next(_sequence)


class Trace(Protocol):
    """A function being traced into a program, as seen from below: what must be told to it.

    Ops reach it by the interceptor. The rest of what a function does passes by there: it is told
    here, so that it is recorded, undone, or refused with the user's line.
    """

    def update(self, op: Op, inputs: tuple[Tensor, ...]) -> None:
        """Instead of `dispatch.update`."""

    def owns(self, tensor: Tensor) -> bool:
        """Whether the tensor was made by the trace and has no memory."""

    def uses(self, device: Device) -> bool:
        """Whether the device is the one of the traced program."""

    def keep(self, tensor: Tensor) -> None:
        """A tensor with memory was made of Python data: a constant of the program."""

    def touch(self, leaf: Leaf, owner: Tensor | None) -> None:
        """The gradient of a leaf (of the tensor `owner`, if known) is about to be used."""

    def watch(self, name: str, read: Callable[[], object], *keep: object) -> None:
        """The program depends on what `read` gives: it is traced anew when that changes.

        `keep` are objects that must live on, since `read` goes by their identity.
        """

    def enter(self, module: object) -> None:
        """A module is called."""

    def undo(self, action: Callable[[], None]) -> None:
        """How to take back a change of Python state, if the trace fails."""

    def refuse(self, what: str, hint: str) -> NoReturn:
        """Raises TraceError that names the user's line."""


class Mode(threading.local):
    """What the current thread does with ops. One attribute, `interceptor`, serves all that look
    on; `trace` is told what ops do not show.
    """

    interceptor: Interceptor | None = None
    grad: bool = True
    trace: Trace | None = None


mode = Mode()


class Changes:
    """Whether Python state that programs depend on (modules, settings, leaves) may have changed.

    `count` grows with every change, so a program looks closer only when it differs.
    """

    count: int = 0

    def note(self) -> None:
        """Something changed."""
        self.count = next(_changes)


changes = Changes()


def outside_trace() -> Setting:
    """A context in which ops run at once: for state that begins to exist while tracing."""
    return Setting(interceptor=None, trace=None)


class Leaf:
    """Where gradients end: a tensor that the user marked. Holds its gradient and hooks."""

    __slots__ = ("grad", "hooks")
    sequence = 0

    def __init__(self) -> None:
        self.grad: Tensor | None = None
        self.hooks: list[Hook] = []


class Saved:
    """One tensor kept for backward: an input as it is, or an output as a bare view (no cycle)."""

    __slots__ = ("output", "tensor", "version", "view")

    def __init__(self, view: View, tensor: Tensor | None, output: int) -> None:
        self.view = view
        self.tensor = tensor
        self.output = output
        self.version = (view.root or view).version

    def check(self, name: str) -> None:
        """Raises AutogradError if the storage was written since."""
        now = (self.view.root or self.view).version
        if now != self.version:
            raise AutogradError(
                f"{name}: a tensor {self.view.layout.spec} that its gradient needs was overwritten "
                f"(version {self.version}, now {now})",
                hint="call backward before the update, or update a clone",
            )


class Node:
    """One op in the graph; also the `Ctx` that its `vjp` reads."""

    __slots__ = (
        "device",
        "edges",
        "hooks",
        "kept",
        "needs",
        "op",
        "outs",
        "sequence",
        "specs",
        "wrap",
    )

    def __init__(
        self,
        op: Op,
        inputs: Sequence[Tensor],
        outs: Sequence[View],
        wrap: Callable[[View, Device, Node, int], Tensor],
    ) -> None:
        self.op = op
        self.sequence = next(_sequence)
        self.device = inputs[0].device
        edges: list[tuple[Node | Leaf, int] | None] = []
        needs: list[bool] = []
        for t in inputs:
            node = t._node
            edges.append(None if node is None else (node, t._index))
            needs.append(node is not None)
        self.edges = edges
        self.needs = tuple(needs)
        self.specs: tuple[Spec, ...] = tuple([t._view.layout.spec for t in inputs])
        self.outs: tuple[Spec, ...] = tuple([view.layout.spec for view in outs])
        self.hooks: dict[int, list[Hook]] | None = None
        self.kept: list[Saved] | None = _keep(op, inputs, outs)
        self.wrap = wrap

    @property
    def saved(self) -> tuple[Tensor, ...]:
        """The tensors named by `op.saves`. Raises AutogradError if freed or overwritten."""
        if self.kept is None:
            raise AutogradError(
                f"{self.op.name}: the graph was already used by a backward and freed",
                hint="pass retain_graph=True to the first backward",
            )
        found = []
        for item in self.kept:
            item.check(self.op.name)
            tensor = item.tensor
            if tensor is None:
                tensor = self.wrap(item.view, self.device, self, item.output)
            found.append(tensor)
        return tuple(found)


def _keep(op: Op, inputs: Sequence[Tensor], outs: Sequence[View]) -> list[Saved]:
    kept: list[Saved] = []
    for name in op.saves:
        if name in op.outputs:
            index = op.outputs.index(name)
            kept.append(Saved(outs[index], None, index))
            continue
        position = op.inputs.index(name)
        rest = op.variadic and position == len(op.inputs) - 1
        # An optional trailing input that was not given is not saved: vjp unpacks `x, *rest`.
        for t in inputs[position:] if rest else inputs[position : position + 1]:
            kept.append(Saved(t._view, t, 0))
    return kept


class Setting:
    """A context manager, usable as decorator, that sets one attribute of the mode for a while."""

    def __init__(self, **values: Any) -> None:
        self._values = values
        self._stack: list[dict[str, Any]] = []

    def __enter__(self) -> None:
        self._stack.append({name: getattr(mode, name) for name in self._values})
        for name, value in self._values.items():
            setattr(mode, name, value)

    def __exit__(self, *_: object) -> None:
        for name, value in self._stack.pop().items():
            setattr(mode, name, value)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, run under this setting."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with Setting(**self._values):
                return function(*args, **kwargs)

        return wrapped


class Intercept:
    """While active, ops go to `handle(op, inputs, device)`; inside it, to what was active
    before. An instance serves one `with` at a time: ConfigError where it is entered twice.
    """

    watches_only = False  # whether it lets all ops run as they are

    def __init__(self, handle: Interceptor) -> None:
        self._handle = handle
        self._outer: Interceptor | None = None
        self._active = False

    def __enter__(self) -> None:
        if self._active:
            name = type(self).__name__
            raise ConfigError(f"{name}: this one is already active", hint=f"make another {name}")
        self._active = True
        self._outer = mode.interceptor
        mode.interceptor = self._run

    def __exit__(self, *_: object) -> None:
        self._active = False
        mode.interceptor = self._outer

    def _run(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
        mode.interceptor = self._outer
        try:
            return self._handle(op, inputs, device)
        finally:
            mode.interceptor = self._run


def observers() -> list[Intercept]:
    """The active interceptors, the innermost first. Raises ConfigError for one of another make."""
    found = []
    current = mode.interceptor
    while current is not None:
        observer = getattr(current, "__self__", None)
        if not isinstance(observer, Intercept):
            raise ConfigError(f"an interceptor must be an Intercept, not {current!r}")
        found.append(observer)
        current = observer._outer
    return found


@contextlib.contextmanager
def beneath(handle: Interceptor) -> Iterator[None]:
    """While inside, ops that have passed all active interceptors go to `handle` instead of running.

    `handle` stays active while it runs: the ops of a composition come to it too.
    """
    active = observers()
    if not active:
        with Setting(interceptor=handle):
            yield
        return
    outermost = active[-1]
    outermost._outer = handle
    try:
        yield
    finally:
        outermost._outer = None

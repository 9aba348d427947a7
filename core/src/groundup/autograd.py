"""Reverse-mode differentiation: backward, grad, value_and_grad, checkpoint, anomaly mode.

Nodes run in order of falling sequence number, so each runs once, after everything that uses its
outputs.
Gradients are computed by ops on tensors, hence gradients of gradients need nothing extra.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from groundup import dispatch
from groundup.errors import AutogradError, NonFiniteError, ShapeError
from groundup.graph import Hook, Intercept, Leaf, Node, Setting, mode, next_sequence
from groundup.layout import Spec
from groundup.ops.op import Op, has
from groundup.spans import current, span

if TYPE_CHECKING:
    from groundup.backends.api import Device, View
    from groundup.tensor import Tensor

Edge: TypeAlias = tuple[Node | Leaf, int]


class no_grad(Setting):  # noqa: N801 - PyTorch's name
    """`with no_grad():` or `@no_grad()`: ops are not recorded."""

    def __init__(self) -> None:
        super().__init__(grad=False)


class enable_grad(Setting):  # noqa: N801
    """`with enable_grad():` records ops again inside `no_grad`."""

    def __init__(self) -> None:
        super().__init__(grad=True)


@span("backward")
def backward(
    outputs: Sequence[Tensor],
    grads: Sequence[Tensor | None] | None = None,
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Add the gradients of `outputs` to `.grad` of every leaf that they depend on.

    `grads` are the gradients of the outputs, 1 for scalars by default. Raises AutogradError if an
    output has no graph or its graph was freed, ShapeError if a gradient has another shape.
    """
    roots = _roots(outputs, grads)
    found = push_gradients(roots, None, 1, retain_graph or create_graph, create_graph)
    for (leaf, _), total in _finished(found, roots, create_graph).items():
        assert isinstance(leaf, Leaf)
        if mode.trace is not None:
            mode.trace.touch(leaf, None)
        leaf.grad = total if leaf.grad is None else leaf.grad + total


@span("backward")
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor | None] | None = None,
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`, None where they do not depend on one.

    `create_graph` makes the result differentiable. `.grad` of leaves is untouched.
    """
    outs = [outputs] if not isinstance(outputs, Sequence) else list(outputs)
    targets: set[Edge] = set()
    for t in inputs:
        if t._node is None:
            raise AutogradError(f"grad: an input {t.spec} does not require a gradient")
        targets.add((t._node, t._index))
    floor = min((node.sequence for node, _ in targets), default=1)
    roots = _roots(outs, grads)
    found = push_gradients(roots, targets, floor, retain_graph or create_graph, create_graph)
    found = _finished(found, roots, create_graph)
    return tuple(found.get((t._node, t._index)) for t in inputs)  # type: ignore[arg-type]


def value_and_grad(
    function: Callable[..., Tensor], argnums: int | Sequence[int] = 0
) -> Callable[..., tuple[Tensor, Any]]:
    """A function that returns `function(*args)` and its gradients by the arguments `argnums`.

    The value must be a scalar. One argnum gives one gradient, several a tuple.
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def wrapped(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        given = list(args)
        for number in numbers:
            given[number] = given[number].detach().requires_grad_()
        with enable_grad():
            value = function(*given, **kwargs)
        found = grad(value, [given[number] for number in numbers])
        return value.detach(), found[0] if isinstance(argnums, int) else found

    return wrapped


def _roots(
    outputs: Sequence[Tensor], grads: Sequence[Tensor | None] | None
) -> list[tuple[Edge, Tensor]]:
    grads = [None] * len(outputs) if grads is None else grads
    if len(grads) != len(outputs):
        raise AutogradError(f"backward: {len(outputs)} outputs but {len(grads)} gradients")
    roots = []
    for t, given in zip(outputs, grads, strict=True):
        if t._node is None:
            raise AutogradError(
                f"backward: {t.spec} does not depend on any tensor that requires a gradient",
                hint="call requires_grad_() on an input, and do not run under no_grad",
            )
        if given is None:
            if t.size != 1:
                raise AutogradError(
                    f"backward: the gradient of a non-scalar {t.spec} must be given",
                    hint="reduce it to a scalar, or pass the gradient",
                )
            given = dispatch.constant(1.0, t.dtype, t.shape, t.device)
        elif given.shape != t.shape:
            raise ShapeError(f"backward: gradient {given.shape} for an output {t.shape}")
        roots.append(((t._node, t._index), given))
    return roots


def push_gradients(
    roots: Sequence[tuple[Edge, Tensor]],
    targets: set[Edge] | None,
    floor: int,
    retain: bool,
    create: bool,
) -> dict[Edge, Tensor]:
    """Push gradients down to `targets` (None: to all leaves), running no node older than
    `floor`.
    """
    found: dict[Edge, Tensor] = {}
    pending: dict[Node, list[Tensor | None]] = {}
    heap: list[tuple[int, Node]] = []

    def push(edge: Edge, value: Tensor) -> None:
        node, index = edge
        wanted = isinstance(node, Leaf) if targets is None else edge in targets
        if wanted and (isinstance(node, Leaf) or node.sequence < floor):
            found[edge] = found[edge] + value if edge in found else value
        if isinstance(node, Leaf) or node.sequence < floor:
            return
        slots = pending.get(node)
        if slots is None:
            slots = pending[node] = [None] * len(node.outs)
            heapq.heappush(heap, (-node.sequence, node))
        previous = slots[index]
        slots[index] = value if previous is None else previous + value

    recorder = current.recorder
    with Setting(grad=create):
        for edge, given in roots:
            push(edge, given)
        while heap:
            node = heapq.heappop(heap)[1]
            grads = _hooked(node, pending.pop(node))
            for index, value in enumerate(grads):
                if value is not None and targets is not None and (node, index) in targets:
                    found[node, index] = value
            if targets is not None and node.sequence <= floor:
                continue  # nothing older is a target
            if recorder is not None:
                recorder.at(node)
            for into, value in zip(node.edges, _vjp(node, grads, create), strict=False):
                if into is not None and value is not None:
                    push(into, value)
            if not retain:
                node.kept = None
    return found


def _finished(
    found: dict[Edge, Tensor], roots: Sequence[tuple[Edge, Tensor]], create: bool
) -> dict[Edge, Tensor]:
    """Gradients as their owners get them: hooks of leaves have run, and none shares memory.

    Clipping one in place must change no other, nor what the caller passed in. This is not part of
    `push_gradients`, which also runs for a part of a graph, where a leaf's gradient is not whole.
    """
    taken = {_storage(given) for _, given in roots}
    with Setting(grad=create):
        for edge, value in found.items():
            if isinstance(edge[0], Leaf):
                value = _call_hooks(edge[0].hooks, value)
            if _storage(value) in taken or not _fills_storage(value):
                value = value.clone()
            taken.add(_storage(value))
            found[edge] = value
    return found


def _storage(t: Tensor) -> View:
    return t._view.root or t._view


def _fills_storage(t: Tensor) -> bool:
    """Whether t is the only use of its memory: not a slice, nor an expanded or cached constant."""
    view = t._view
    if view.root is None:
        return True
    return t.size > 1 and view.layout.is_row_major and view.root.layout.size == t.size


def _hooked(node: Node, grads: list[Tensor | None]) -> list[Tensor | None]:
    if node.hooks is None:
        return grads
    return [
        None if value is None else _call_hooks(node.hooks.get(index, []), value)
        for index, value in enumerate(grads)
    ]


def _call_hooks(hooks: Sequence[Hook], value: Tensor) -> Tensor:
    if hooks:
        value = value.clone()  # other gradients, or a cached constant, may lie in the same memory
    for hook in tuple(hooks):
        replaced = hook(value)
        value = value if replaced is None else replaced
    return value


def _vjp(node: Node, grads: list[Tensor | None], create: bool) -> Sequence[Tensor | None]:
    op = node.op
    given = [
        _zeros(node.outs[i], node) if grads[i] is None else grads[i] for i in op.differentiable
    ]
    try:
        if has(op, "vjp"):
            results: Sequence[Tensor | None] = op.vjp(node, *given)
        else:
            results = _through_composition(node, given, create)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"{error.message} in the gradient of {op!r}", hint=error.hint
        ) from None
    if len(results) != len(node.edges):
        raise AutogradError(
            f"{op!r}: vjp gave {len(results)} gradients for {len(node.edges)} inputs"
        )
    for value, spec in zip(results, node.specs, strict=False):
        if value is not None and value.shape != spec.shape:
            raise AutogradError(f"{op!r}: vjp gave a gradient {value.shape} for an input {spec}")
    return results


def _zeros(spec: Spec, node: Node) -> Tensor:
    return dispatch.constant(0.0, spec.dtype, spec.shape, node.device)


def _through_composition(
    node: Node, grads: Sequence[Tensor | None], create: bool
) -> Sequence[Tensor | None]:
    """The gradient of a composite that defines none: record its composition and differentiate
    that.
    """
    inputs = node.saved
    floor = next_sequence()
    with enable_grad():
        results = node.op.compose(*inputs)
    outs = results if isinstance(results, tuple) else (results,)
    pairs = [(outs[i], g) for i, g in zip(node.op.differentiable, grads, strict=True)]
    roots = [((t._node, t._index), g) for t, g in pairs if t._node is not None and g is not None]
    targets = {edge for edge in node.edges if edge is not None}
    found = push_gradients(roots, targets, floor, create, create)
    # A tensor that was given twice has one edge: its whole gradient goes to the first place.
    return [None if edge is None else found.pop(edge, None) for edge in node.edges]


class detect_anomaly(Intercept):  # noqa: N801
    """While active, the first op that makes a NaN or infinity from finite inputs raises
    NonFiniteError.

    It reads every result back, so it is slow; gradients are checked where `backward` runs inside
    it.
    """

    def __init__(self) -> None:
        super().__init__(_checked)


def _checked(op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
    results = dispatch.apply(op, inputs, device)
    for out in results if isinstance(results, tuple) else (results,):
        if _finite(out) or not all(_finite(t) for t in inputs):
            continue
        shapes = ", ".join(repr(t.spec) for t in inputs)
        raise NonFiniteError(
            f"{op!r} of {shapes} made the first NaN or infinity "
            f"[{out.dtype}, {out.device.info.name}]"
        )
    return results


def _finite(t: Tensor) -> bool:
    if not t.dtype.is_floating:
        return True
    host = t.detach().numpy()
    return bool(np.isfinite(host.astype(np.float64)).all())

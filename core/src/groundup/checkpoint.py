"""Activation checkpointing: keep the inputs of a function, compute its insides again for backward.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from groundup import dispatch, random
from groundup.autograd import Edge, push_gradients
from groundup.graph import Interceptor, Leaf, Node, Setting, mode, next_sequence

if TYPE_CHECKING:
    from groundup.tensor import Tensor


def checkpoint(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` (a Tensor or a tuple), keeping no intermediate tensor for backward.

    Gradients reach the arguments and whatever tensors the function closes over. Random state and
    autocast are put back for the second run, so dropout draws the same mask.
    """
    if not mode.grad:
        return function(*args)
    state, interceptor, floor = random.snapshot(), mode.interceptor, next_sequence()
    results = function(*args)
    outs: tuple[Tensor, ...] = results if isinstance(results, tuple) else (results,)
    edges = _boundary(outs, floor)
    if not edges:
        return results
    segment = _Segment(function, args, edges, outs, (state, interceptor))
    node = _node(segment, outs)
    wrapped = tuple(
        dispatch.make(t._view, t.device, node if t._node is not None else None, i)
        for i, t in enumerate(outs)
    )
    return wrapped if isinstance(results, tuple) else wrapped[0]


class _Segment:
    """Stands where a node keeps its op: its `vjp` runs the function a second time, recorded."""

    name = "checkpoint"
    saves = ()

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        edges: list[Edge],
        outs: Sequence[Tensor],
        context: tuple[Any, Interceptor | None],
    ) -> None:
        self.function, self.args, self.edges, self.context = function, args, edges, context
        self.differentiable = tuple(i for i, t in enumerate(outs) if t._node is not None)

    def vjp(self, ctx: Node, *grads: Tensor) -> Sequence[Tensor | None]:
        state, interceptor = self.context
        create, floor = mode.grad, next_sequence()
        with random.restored(state), Setting(grad=True, interceptor=interceptor):
            results = self.function(*self.args)
        outs = results if isinstance(results, tuple) else (results,)
        roots = [
            ((outs[i]._node, outs[i]._index), g)
            for i, g in zip(self.differentiable, grads, strict=True)
        ]
        found = push_gradients(roots, set(self.edges), floor, create, create)
        return [found.get(edge) for edge in self.edges]

    def __repr__(self) -> str:
        return f"checkpoint({getattr(self.function, '__qualname__', self.function)})"


def _node(segment: Any, outs: Sequence[Tensor]) -> Node:
    node = Node(segment, outs[:1], [t._view for t in outs], dispatch.make)
    node.edges = list(segment.edges)
    node.needs = (True,) * len(node.edges)
    node.specs = ()
    node.kept = None
    return node


def _boundary(outs: Sequence[Tensor], floor: int) -> list[Edge]:
    """The edges that lead out of the segment, to older nodes and to leaves.

    A result that the function was given, or closes over, is such an edge itself.
    """
    found: dict[Edge, None] = {}
    waiting: list[Edge | None] = [(t._node, t._index) for t in outs if t._node is not None]
    seen: set[Node] = set()
    while waiting:
        edge = waiting.pop()
        if edge is None:
            continue
        node = edge[0]
        if isinstance(node, Leaf) or node.sequence < floor:
            found[edge] = None
        elif node not in seen:
            seen.add(node)
            waiting += node.edges
    return list(found)

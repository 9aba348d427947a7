"""Views and copies: copies of what is row-major already, and views that show everything."""

from __future__ import annotations

from collections.abc import Sequence

from groundup.layout import Layout
from groundup.ops.movement import Assign, Contiguous
from groundup.program.passes.rewriting import rewrite
from groundup.program.program import Node, Program, Value
from groundup.program.views import PutView, StridedView


def remove_copies(program: Program) -> Program:
    """Values never change, so a row-major value needs no copy of itself.

    - contiguous(x) and assign(_, x) are x where x has the copy's layout;
    - a view that shows the whole of a row-major value, in its shape, is that value;
    - put_view of a window that is the whole of the base is the value put there.
    """
    return rewrite(program, _rule)


def _rule(node: Node, producers: dict[Value, Node]) -> Sequence[Value] | None:
    op = node.op
    source: Value | None = None
    if type(op) is Contiguous:
        source = node.inputs[0]
    elif type(op) is Assign:
        source = node.inputs[1]
    elif type(op) is StridedView and _is_whole(op, node.inputs[0].layout):
        source = node.inputs[0]
    elif type(op) is PutView and _is_whole(op, node.inputs[0].layout):
        source = node.inputs[1]
    if source is None or source.layout is not node.outputs[0].layout:
        return None
    return (source,)


def _is_whole(op: StridedView | PutView, base: Layout) -> bool:
    shown = Layout(op.shape, op.strides, base.dtype)
    return op.offset == 0 and base.is_row_major and shown.is_row_major and op.shape == base.shape

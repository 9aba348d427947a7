"""View simplification: a view of a view is a view of what lies beneath."""

from __future__ import annotations

import attrs

from groundup.program.program import Node, Program, Value
from groundup.program.views import StridedView


def simplify_views(program: Program) -> Program:
    """Every view shows a value that is none. Strides count the elements of that memory already, so
    only offsets add up; views in between end up unread.
    """
    shown: dict[Value, Node] = {}

    def simplified(node: Node) -> Node:
        if type(node.op) is not StridedView:
            return node
        under = shown.get(node.inputs[0])
        if under is not None:
            op = node.op
            offset = op.offset + under.op.offset  # type: ignore[attr-defined]
            op = StridedView(shape=op.shape, strides=op.strides, offset=offset)
            node = attrs.evolve(node, op=op, inputs=under.inputs)
        shown[node.outputs[0]] = node
        return node

    setup = tuple(map(simplified, program.setup))
    return attrs.evolve(program, setup=setup, nodes=tuple(map(simplified, program.nodes)))
